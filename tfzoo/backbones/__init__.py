"""Encoders. Each module states its feature contract: names, strides, channels; ``PYRAMIDS`` offers them under one interface."""

import importlib

from tfzoo.errors import InputError, nearest

# name: function, its fixed arguments, the names of the finest features to use at strides 2, 4, 8, 16 and 32
PYRAMIDS = {
    "resnet50": ("resnet:resnet_features", {"depth": 50}, ("stem", "layer1", "layer2", "layer3", "layer4")),
    "resnet101": ("resnet:resnet_features", {"depth": 101}, ("stem", "layer1", "layer2", "layer3", "layer4")),
    "mobilenetv2": (
        "mobilenet_v2:mobilenet_v2_features",
        {},
        ("expanded_conv_project_BN", "block_2_add", "block_5_add", "block_12_add", "block_16_project_BN"),
    ),
}


def feature_pyramid(backbone, pixels, width_multiplier=1.0, output_stride=32, **options) -> list:
    """Returns five feature maps, from fine to coarse, at strides 2, 4, 8, 16 and 32, none coarser than ``output_stride``.

    ``options`` are the backbone's own.

    Raises:
        InputError: there is no such backbone.
    """
    if backbone not in PYRAMIDS:
        raise InputError(f"There is no backbone '{backbone}': it is one of {', '.join(PYRAMIDS)}.{nearest(backbone, PYRAMIDS)}")
    place, arguments, names = PYRAMIDS[backbone]
    module, function = place.split(":")
    build = getattr(importlib.import_module(f"tfzoo.backbones.{module}"), function)
    features = build(pixels, width_multiplier=width_multiplier, output_stride=output_stride, **arguments, **options)
    return [features[name] for name in names]
