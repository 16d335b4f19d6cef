"""Which of a backbone's layers learn: its last stages, counted as torchvision does (``trainable_backbone_layers``)."""

import keras

from tfzoo.errors import InputError

# What the layers' names of each stage begin with, behind a prefix, from coarse to fine. Names are compared with a "_" at their end.
STAGES = {
    "resnet50": (("layer4.",), ("layer3.",), ("layer2.",), ("layer1.",), ("conv1_", "bn1_")),
    "mobilenet_v3_large": (
        ("16.",),
        ("13.", "14.", "15."),
        ("7.", "8.", "9.", "10.", "11.", "12."),
        ("4.", "5.", "6."),
        ("2.", "3."),
        ("0.", "1."),
    ),
    "mobilenetv2": (
        ("Conv_1_", *(f"block_{block}_" for block in range(13, 17))),
        tuple(f"block_{block}_" for block in range(6, 13)),
        tuple(f"block_{block}_" for block in range(3, 6)),
        tuple(f"block_{block}_" for block in range(1, 3)),
        ("Conv1_", "bn_Conv1_", "expanded_conv_"),
    ),
    "vgg16": tuple((f"block{block}_",) for block in (5, 4, 3, 2, 1)),
}

KERAS_NAMED = ("mobilenetv2", "vgg16")  # backbones whose layers bear Keras's names, without a prefix


def freeze_backbone(model, stages, trainable=None, frozen_norms=False, prefix="") -> None:
    """Sets which of a backbone's layers learn; other layers stay as they are.

    Args:
        model: that holds the backbone.
        stages: as in ``STAGES``.
        trainable: how many of the stages learn, the first ones of ``stages``; None: all.
        frozen_norms: norms keep their statistics, factors and offsets.
        prefix: before each name.

    Raises:
        InputError: another number of stages than there are.
    """
    trainable = len(stages) if trainable is None else trainable
    if isinstance(trainable, bool) or trainable not in range(len(stages) + 1):
        raise InputError(f"trainable_backbone_layers is {trainable}: it must be 0 to {len(stages)}.")
    starts = [tuple(prefix + name for name in stage) for stage in stages]
    frozen = sum(starts[trainable:], ())
    for layer in model.layers:
        name = f"{layer.name}_"
        if name.startswith(sum(starts, ())):
            norm = isinstance(layer, keras.layers.BatchNormalization)
            layer.trainable = not name.startswith(frozen) and not (norm and frozen_norms)
