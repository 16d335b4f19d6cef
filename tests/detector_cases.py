"""The one-shot detectors that tests build: small forms of every name, and which of them `make test` asks."""

import pytest

import tfzoo

# Small forms, quick to build and to overfit.
CASES = {
    "retinanet_resnet50_fpn": {"width_multiplier": 0.125},
    "retinanet_resnet50_fpn_v2": {"width_multiplier": 0.125},
    "retinanet_mobilenetv2_fpn": {"width_multiplier": 0.125},
    "fcos_resnet50_fpn": {"width_multiplier": 0.125},
    "ssd300_vgg16": {"width_multiplier": 0.125, "batch_norm": True},
    "ssd512_vgg16": {"width_multiplier": 0.125, "batch_norm": True},
    "ssdlite320_mobilenet_v3_large": {"width_multiplier": 0.25},
    "ssdlite320_mobilenetv2": {"width_multiplier": 0.25},
    "yolov1_tiny": {"width_multiplier": 0.125, "grid": 5},
    "yolov2_darknet19": {"width_multiplier": 0.125},
}


def small(name, classes=3, **options):
    """A small form of the detector, with random weights."""
    return tfzoo.create_model(name, num_classes=classes, **{**CASES[name], **options})


def detectors(quick):
    """Parametrizes a test by ``name``, over all of them; those that are not in ``quick`` are slow tests."""
    return pytest.mark.parametrize("name", [n if n in quick else pytest.param(n, marks=pytest.mark.slow) for n in sorted(CASES)])
