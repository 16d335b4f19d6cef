"""SSDLite: SSD for phones, on MobileNets, whose heads and extra layers are depthwise separable convolutions.

Sandler et al. 2018: MobileNetV2 (section 6.2); Howard et al. 2019: Searching for MobileNetV3 (section 6.3); in torchvision's form,
whose checkpoints fit.
"""

import keras

from tfzoo.backbones.freezing import STAGES, freeze_backbone
from tfzoo.backbones.mobilenet_v2 import mobilenet_v2_features
from tfzoo.backbones.mobilenet_v3 import mobilenet_v3_large_features
from tfzoo.errors import InputError
from tfzoo.layers.convolution import conv_norm_relu, convolution
from tfzoo.layers.normalization import IMAGENET_MEAN, IMAGENET_STD
from tfzoo.layers.priors import PriorBoxes
from tfzoo.models.base import check_options
from tfzoo.models.detector import check_counts
from tfzoo.models.ssd import MultiBoxDetector, multibox_heads

BACKBONES = ("mobilenet_v3_large", "mobilenetv2")
CUT = 13  # the block of MobileNetV3 that strides last
EXTRAS = (512, 256, 256, 128)
LEAST_CHANNELS = 16  # of an extra layer, whatever the width
LEVELS = 2 + len(EXTRAS)
SMALLEST, LARGEST = 0.2, 0.95  # scales of the first and last level's default boxes
RATIOS = (2, 3)  # their aspect ratios
NORM = {"epsilon": 1e-3, "momentum": 0.97}


@keras.saving.register_keras_serializable("tfzoo")
class SSDLite(MultiBoxDetector):
    """SSDLite on MobileNetV3-Large or MobileNetV2.

    Heads read the backbone at stride 16 (the expansion inside the block that strides last), at stride 32, and four coarser maps.

    Args:
        num_classes, class_names, ...: see ``Detector``.
        backbone: "mobilenet_v3_large" or "mobilenetv2".
        size: the side that pictures are stretched to.
        width_multiplier: factor on the channels.
        reduced_tail: half the channels in the last blocks of MobileNetV3 (section 6.3); the published detector has it, backbones
            published for ImageNet have not. Nothing to MobileNetV2.
        trainable_backbone_layers: how many of the stages learn (of MobileNetV3 6, of MobileNetV2 5), from the last one on;
            None: all.
    """

    class_layers = {f"head.classification_head.module_list.{level}.1": 2 + 2 * len(RATIOS) for level in range(LEVELS)}
    backbone_prefix = "backbone.features."

    def __init__(
        self,
        num_classes,
        backbone="mobilenet_v3_large",
        size=320,
        width_multiplier=1.0,
        reduced_tail=True,
        trainable_backbone_layers=None,
        image_mean=(127.5, 127.5, 127.5),
        image_std=(127.5, 127.5, 127.5),
        score_thresh=0.001,
        nms_thresh=0.55,
        detections_per_img=300,
        topk_candidates=300,
        **kwargs,
    ):
        check_options(width_multiplier)
        if backbone not in BACKBONES:
            raise InputError(f"backbone is '{backbone}': it must be one of {', '.join(BACKBONES)}.")
        check_counts(size=size)
        super().__init__(
            num_classes,
            backbone=backbone,
            size=size,
            width_multiplier=width_multiplier,
            reduced_tail=reduced_tail,
            trainable_backbone_layers=trainable_backbone_layers,
            image_mean=image_mean,
            image_std=image_std,
            score_thresh=score_thresh,
            nms_thresh=nms_thresh,
            detections_per_img=detections_per_img,
            topk_candidates=topk_candidates,
            **kwargs,
        )
        freeze_backbone(self, _stages(backbone), trainable_backbone_layers)

    @classmethod
    def checkpoint_options(cls, options, whole):
        """A backbone that was published for ImageNet has the whole tail, and another normalisation."""
        return {} if whole else {"reduced_tail": False, "image_mean": IMAGENET_MEAN, "image_std": IMAGENET_STD}

    @staticmethod
    def backbone_key(key):
        """Where torchvision's SSDLite keeps what is ``key`` in MobileNetV3's ``features``: block 13 is cut behind its expansion."""
        block, _, inner = key.partition(".")
        if int(block) < CUT:
            return f"backbone.features.0.{key}"
        if int(block) > CUT:
            return f"backbone.features.1.{int(block) - CUT}" + (f".{inner}" if inner else "")
        inner = inner.removeprefix("block.")
        if inner.partition(".")[0] == "0":
            return f"backbone.features.0.{CUT}{inner.removeprefix('0')}"
        return f"backbone.features.1.0.{inner}"

    @staticmethod
    def input_side(size, **options):
        return size

    @staticmethod
    def prior_boxes(**options):
        step = (LARGEST - SMALLEST) / (LEVELS - 1)
        return PriorBoxes([RATIOS] * LEVELS, [*(SMALLEST + step * level for level in range(LEVELS)), 1.0])

    @staticmethod
    def feature_sizes(size, **options):
        return [-(-size // 2 ** (4 + level)) for level in range(LEVELS)]

    @staticmethod
    def build_network(pixels, num_classes, backbone, size, width_multiplier, reduced_tail, background_listed, **options):
        # === Backbone ===
        maps = _backbone(pixels, backbone, width_multiplier, reduced_tail)

        # === Coarser maps ===
        for index, channels in enumerate(EXTRAS):
            filters = max(LEAST_CHANNELS, int(channels * width_multiplier))
            maps.append(_extra(maps[-1], filters, f"backbone.extra.{index}"))

        # === Heads ===
        columns = num_classes + (not background_listed)
        return multibox_heads(maps, SSDLite.prior_boxes().per_cell, columns, _predict)


def _stages(backbone):
    """As in ``freezing.STAGES``; block 13 of MobileNetV3 is in two parts here."""
    if backbone == "mobilenetv2":
        return STAGES[backbone]
    return tuple(tuple(name for block in stage for name in _names(int(block[:-1]))) for stage in STAGES[backbone])


def _names(block):
    before, behind = f"{SSDLite.backbone_prefix}0.{block}.", f"{SSDLite.backbone_prefix}1.{block - CUT}."
    return (before, behind) if block == CUT else (before,) if block < CUT else (behind,)


def _backbone(pixels, backbone, width_multiplier, reduced_tail):
    """The maps at strides 16 and 32."""
    if backbone == "mobilenetv2":
        features = mobilenet_v2_features(pixels, width_multiplier, last_convolution=True)
        return [features["block_13_expand_relu"], features["out_relu"]]
    names = {"reduced_tail": reduced_tail, "prefix": SSDLite.backbone_key, "momentum": NORM["momentum"]}
    features = mobilenet_v3_large_features(pixels, width_multiplier, **names)
    return [features["13.block.0"], features["16"]]


def _extra(x, filters, name):
    """1x1, depthwise 3x3 with stride 2, 1x1, each with normalisation and ReLU6."""
    x = _conv_norm_relu6(x, filters // 2, 1, f"{name}.0")
    x = _conv_norm_relu6(x, None, 3, f"{name}.1", stride=2, depthwise=True)
    return _conv_norm_relu6(x, filters, 1, f"{name}.2")


def _predict(x, filters, name):
    """Depthwise 3x3 with normalisation and ReLU6, then 1x1."""
    x = _conv_norm_relu6(x, None, 3, f"{name}.0", depthwise=True)
    return convolution(x, filters, 1, f"{name}.1", initializer=_start)


def _conv_norm_relu6(x, filters, size, name, **options):
    x = conv_norm_relu(x, filters, size, name, activation=None, initializer=_start, **NORM, **options)
    return keras.layers.ReLU(6, name=f"{name}.relu6")(x)


def _start():
    return keras.initializers.RandomNormal(stddev=0.03)
