"""The segmenters that tests build: small forms of every name, and which of them `make test` asks."""

import pytest

import tfzoo

# Small forms, quick to build and to overfit.
NARROW, NARROW_VGG = {"width_multiplier": 0.125, "dropout": 0.0}, {"width_multiplier": 0.125, "dropout": 0.0, "batch_norm": True}
CASES = {
    "unet": NARROW,
    "unet_resnet50": {"width_multiplier": 0.25, "dropout": 0.0},
    "unet_mobilenetv2": {"width_multiplier": 0.25, "dropout": 0.0},
    "fcn32s_vgg16": NARROW_VGG,
    "fcn16s_vgg16": NARROW_VGG,
    "fcn8s_vgg16": NARROW_VGG,
    "fcn_resnet50": NARROW,
    "fcn_resnet101": NARROW,
    "segnet_vgg16": {"width_multiplier": 0.125},
    "segnet_basic": {"width_multiplier": 0.25},
    "deconvnet_vgg16": {"width_multiplier": 0.25},
    "dilated_vgg16": NARROW_VGG,
    "deeplab_largefov_vgg16": NARROW_VGG,
    "deeplabv2_resnet101": {"width_multiplier": 0.125},
    "deeplabv3_resnet50": NARROW,
    "deeplabv3_resnet101": NARROW,
    "deeplabv3_mobilenet_v3_large": {"width_multiplier": 0.25, "dropout": 0.0},
    "deeplabv3plus_resnet50": NARROW,
    "deeplabv3plus_mobilenetv2": {"width_multiplier": 0.25, "dropout": 0.0},
    "lraspp_mobilenet_v3_large": {"width_multiplier": 0.25},
    "enet": {"dropout": 0.0},
    "pspnet_resnet50": NARROW,
}
# One of each class, on its smallest backbone: what `make test` asks; `make test-all` asks everything of all names.
EACH_FILE = {"unet", "unet_mobilenetv2", "fcn8s_vgg16", "fcn_resnet50", "segnet_basic", "segnet_vgg16", "deconvnet_vgg16",
             "dilated_vgg16", "deeplab_largefov_vgg16", "deeplabv3_mobilenet_v3_large", "deeplabv3plus_mobilenetv2",
             "lraspp_mobilenet_v3_large", "enet", "pspnet_resnet50"}  # fmt: skip


def segmenters(quick):
    """Parametrizes a test by ``name``, over all segmenters; those that are not in ``quick`` are slow tests."""
    names = tfzoo.list_models("semantic")
    return pytest.mark.parametrize("name", [n if n in quick else pytest.param(n, marks=pytest.mark.slow) for n in names])
