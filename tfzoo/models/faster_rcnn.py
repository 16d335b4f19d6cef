"""Faster R-CNN: a network proposes regions, a second one looks at each of them; on a pyramid, or on one map.

Ren, He, Girshick, Sun 2015: Faster R-CNN; on a feature pyramid: Lin et al. 2017 (FPN), section 4, in torchvision's forms, whose
checkpoints fit. The second form ("version 2", after Li et al. 2021) has two convolutions before the proposals, four in the box
head, and batch normalisation in the heads and the pyramid.
"""

import dataclasses

import keras

from tfzoo.backbones import feature_pyramid
from tfzoo.backbones.freezing import KERAS_NAMED, STAGES, freeze_backbone
from tfzoo.backbones.mobilenet_v3 import mobilenet_v3_large_features
from tfzoo.backbones.vgg import vgg16_features
from tfzoo.errors import InputError
from tfzoo.layers.anchors import AnchorGenerator
from tfzoo.layers.convolution import conv_norm_relu, uniform_fan_in
from tfzoo.layers.flattened_dense import FlattenedDense
from tfzoo.layers.fpn import feature_pyramid_network
from tfzoo.layers.roi_align import assign_levels, roi_align
from tfzoo.layers.roi_pool import roi_pool
from tfzoo.layers.rpn import rpn_head
from tfzoo.models.base import check_options
from tfzoo.models.region_detector import BOX_SIZE
from tfzoo.models.two_stage import TwoStageDetector

RATIOS = (0.5, 1.0, 2.0)
SIDES = (32, 64, 128, 256, 512)  # of anchors, pixels


@dataclasses.dataclass(frozen=True)
class Pyramid:
    """The maps of a first stage.

    Attributes:
        strides: of the maps that regions are read from.
        generator: the anchors.
        finest: the level, log2 of the stride, of the first map.
        extra: one more map, of half the last one's sides, for proposals alone.
        pooled: regions are read by RoIPool, not by RoIAlign.
    """

    strides: tuple
    generator: AnchorGenerator
    finest: int
    extra: bool = True
    pooled: bool = False

    @property
    def maps(self) -> int:
        """How many maps regions are read from. Of two of one stride only the first one is."""
        return len(set(self.strides))

    def with_anchors(self, sizes):
        """The same maps with anchors of other sizes; an InputError where they are too few or too many."""
        levels = len(self.strides) + self.extra
        if len(self.generator.sizes[0]) > 1:
            return dataclasses.replace(self, generator=AnchorGenerator([sizes] * levels, RATIOS))
        if len(sizes) != levels:
            raise InputError(f"anchor_sizes has {len(sizes)} sizes and the pyramid {levels} levels: give one for each.")
        return dataclasses.replace(self, generator=AnchorGenerator([(side,) for side in sizes], RATIOS))

    def grid(self, image_size):
        """The anchors, float32 [A, 4], and how many of them each level has, for (height, width) of the network's input."""
        sizes = [tuple(side // stride for side in image_size) for stride in self.strides]
        if self.extra:
            sizes.append(tuple((side + 1) // 2 for side in sizes[-1]))
        counts = [height * width * self.generator.per_cell for height, width in sizes]
        return self.generator.grid(sizes, image_size), counts

    def read(self, maps, boxes, size):
        """Maps [B, R, size, size, C] of boxes [B, R, 4] in pixels of the network's input."""
        if self.pooled:
            return roi_pool(maps[0], boxes, size, 1 / self.strides[0])
        levels = assign_levels(boxes, self.finest, self.finest + len(maps) - 1) if len(maps) > 1 else None
        return roi_align(maps, boxes, size, [1 / stride for stride in self.strides[: len(maps)]], levels=levels)


FPN = Pyramid((4, 8, 16, 32), AnchorGenerator([(side,) for side in SIDES], RATIOS), finest=2)
PYRAMIDS = {
    "resnet50": FPN,
    "mobilenetv2": FPN,
    "mobilenet_v3_large": Pyramid((32, 32), AnchorGenerator([SIDES] * 3, RATIOS), finest=5),
    "vgg16": Pyramid((16,), AnchorGenerator([(128, 256, 512)], RATIOS), finest=4, extra=False, pooled=True),
}
PUBLISHED_SIZES = {800: 1333, 320: 640}  # min_size: max_size


@keras.saving.register_keras_serializable("tfzoo")
class FasterRCNN(TwoStageDetector):
    """Faster R-CNN.

    Args:
        num_classes, class_names, min_size, box_score_thresh, ...: see ``TwoStageDetector``. A torchvision checkpoint has 91, its
            first one the background.
        backbone: "resnet50", "mobilenetv2" or "mobilenet_v3_large", with a pyramid; "vgg16": the paper's form, nine anchors a cell
            of conv5_3, RoIPool, two layers of 4096 with dropout.
        version: 1 or 2, see the module.
        anchor_sizes: sides of square anchors in pixels, fine to coarse, in place of the published ones: one for each of the five
            levels on ResNet-50 and MobileNetV2, else as many as wanted, all on every level.
        published_size: shorter side that the published checkpoint takes; at 320 it keeps 150 proposals.
        width_multiplier: factor on the channels of the backbone, of the pyramid (256) and of the heads.
        norm_epsilon: of the backbone's norms; the published first form on a ResNet has 0.
        frozen_norms: the backbone's norms stay as they are, as torchvision has them where it starts from trained weights.
        trainable_backbone_layers: how many of the backbone's stages learn (of MobileNetV3 6, of others 5), from the last one on;
            None: all.
        rpn_pre_nms_top_n_test, ...: see ``TwoStageDetector``; None: as published.
    """

    backbone_prefix = "backbone.body."
    class_layers = {"roi_heads.box_predictor.cls_score": 1, "roi_heads.box_predictor.bbox_pred": 4}  # channels for each class

    def __init__(
        self,
        num_classes,
        backbone="resnet50",
        version=1,
        anchor_sizes=None,
        published_size=800,
        width_multiplier=1.0,
        norm_epsilon=1e-5,
        frozen_norms=False,
        trainable_backbone_layers=None,
        rpn_pre_nms_top_n_test=None,
        rpn_post_nms_top_n_test=None,
        rpn_score_thresh=None,
        **kwargs,
    ):
        check_options(width_multiplier)
        check_known("backbone", backbone, PYRAMIDS)
        check_known("version", version, (1, 2))
        check_known("published_size", published_size, PUBLISHED_SIZES)
        few = published_size == 320
        super().__init__(
            num_classes,
            backbone=backbone,
            version=version,
            anchor_sizes=anchor_sizes and tuple(anchor_sizes),
            published_size=published_size,
            width_multiplier=width_multiplier,
            norm_epsilon=norm_epsilon,
            frozen_norms=frozen_norms,
            trainable_backbone_layers=trainable_backbone_layers,
            rpn_pre_nms_top_n_test=_first_given(rpn_pre_nms_top_n_test, 150 if few else 1000),
            rpn_post_nms_top_n_test=_first_given(rpn_post_nms_top_n_test, 150 if few else 1000),
            rpn_score_thresh=_first_given(rpn_score_thresh, 0.05 if backbone == "mobilenet_v3_large" else 0.0),
            **kwargs,
        )
        freeze_stages(self, backbone, trainable_backbone_layers, frozen_norms)

    @classmethod
    def checkpoint_options(cls, options, whole):
        """torchvision's: the input's size, three stages that learn, and norms that a small batch cannot upset.

        The first form on a ResNet was trained with an epsilon of 0, the second one with norms that learn.
        """
        brought = {"trainable_backbone_layers": 3, "frozen_norms": options.get("version", 1) == 1}
        if not whole:
            return brought
        side = options.get("published_size", 800)
        zero = brought["frozen_norms"] and options.get("backbone", "resnet50") == "resnet50"
        return brought | {"min_size": side, "max_size": PUBLISHED_SIZES[side]} | ({"norm_epsilon": 0.0} if zero else {})

    @staticmethod
    def pyramid(backbone, anchor_sizes, **options):
        return PYRAMIDS[backbone].with_anchors(anchor_sizes) if anchor_sizes else PYRAMIDS[backbone]

    @staticmethod
    def build_first_stage(pixels, backbone, version, anchor_sizes, width_multiplier, norm_epsilon, **options):
        shape = FasterRCNN.pyramid(backbone, anchor_sizes)
        levels = pyramid_levels(pixels, backbone, version, width_multiplier, norm_epsilon)
        head = rpn_head(levels, levels[0].shape[-1], shape.generator.per_cell, depth=version)
        return levels[: shape.maps], *head

    def build_box_stage(self, channels, columns):
        return box_stage(channels, columns, **self.options)


def check_known(name, value, known):
    """Raises an InputError unless the option's value is one of those known."""
    if value not in known:
        raise InputError(f"{name} is {value!r}: it must be one of {', '.join(map(str, known))}.")


def freeze_stages(model, backbone, trainable_backbone_layers, frozen_norms):
    """Lets the last stages of the backbone learn, None: all; see ``freeze_backbone``."""
    prefix = "" if backbone in KERAS_NAMED else FasterRCNN.backbone_prefix
    freeze_backbone(model, STAGES[backbone], trainable_backbone_layers, frozen_norms, prefix)


def pyramid_levels(pixels, backbone, version, width_multiplier, norm_epsilon) -> list:
    """The maps of normalised pixels, fine to coarse: those that regions are read from, and the extra one, where there is one."""
    shape = PYRAMIDS[backbone]
    if not shape.extra:
        return [vgg16_features(pixels, width_multiplier)["conv5"]]
    return feature_pyramid_network(
        _features(backbone, pixels, width_multiplier, norm_epsilon),
        scaled(256, width_multiplier),
        "pool",
        steps=[b // a for a, b in zip(shape.strides, shape.strides[1:], strict=False)],
        batch_norm=version == 2,
    )


def box_stage(channels, columns, backbone, version, width_multiplier, class_agnostic_boxes, **options):
    """The box head and its predictors, see ``RegionDetector.build_box_stage``."""
    name = "roi_heads.box_head"
    x = inputs = keras.Input((BOX_SIZE, BOX_SIZE, channels), name="box_regions")
    if backbone == "vgg16":
        x = _fully_connected(x, scaled(4096, width_multiplier), name, dropout=0.5)
    elif version == 1:
        x = _fully_connected(x, scaled(1024, width_multiplier), name)
    else:
        x = _convolutions(x, channels, scaled(1024, width_multiplier), name)
    name = "roi_heads.box_predictor"
    sets = 1 if class_agnostic_boxes else columns
    outputs = {
        "class_logits": _dense(columns, 0.01, f"{name}.cls_score")(x),
        "box_regression": _dense(4 * sets, 0.001, f"{name}.bbox_pred")(x),
    }
    return keras.Model(inputs, outputs, name="box_stage")


def _first_given(value, default):
    return default if value is None else value


def scaled(channels, width_multiplier) -> int:
    """A number of channels at this width, 1 at least."""
    return max(round(channels * width_multiplier), 1)


def _features(backbone, pixels, width_multiplier, norm_epsilon):
    """The maps that the pyramid is built on, from fine to coarse."""
    prefix = FasterRCNN.backbone_prefix
    if backbone == "mobilenet_v3_large":
        features = mobilenet_v3_large_features(pixels, width_multiplier, prefix=prefix, epsilon=norm_epsilon)
        return [features["13"], features["16"]]
    names = {"prefix": prefix, "epsilon": norm_epsilon} if backbone.startswith("resnet") else {}
    return feature_pyramid(backbone, pixels, width_multiplier, **names)[1:]


def _fully_connected(x, width, name, dropout=0.0):
    """Two dense layers with ReLU (Girshick 2015, section 2.1)."""
    x = FlattenedDense(width, kernel_initializer=uniform_fan_in(), name=f"{name}.fc6")(x)
    x = keras.layers.ReLU(name=f"{name}.fc6.relu")(x)
    x = keras.layers.Dropout(dropout, name=f"{name}.fc6.dropout")(x) if dropout else x
    x = keras.layers.Dense(width, kernel_initializer=uniform_fan_in(), name=f"{name}.fc7")(x)
    x = keras.layers.ReLU(name=f"{name}.fc7.relu")(x)
    return keras.layers.Dropout(dropout, name=f"{name}.fc7.dropout")(x) if dropout else x


def _convolutions(x, channels, width, name):
    """Four convolutions with normalisation, and one dense layer (Wu & He 2018, Group Normalization, section 4.2: "4conv1fc")."""
    for index in range(4):
        x = conv_norm_relu(x, channels, 3, f"{name}.{index}")
    x = FlattenedDense(width, kernel_initializer=uniform_fan_in(), name=f"{name}.5")(x)
    return keras.layers.ReLU(name=f"{name}.6")(x)


def _dense(units, deviation, name):
    return keras.layers.Dense(units, kernel_initializer=keras.initializers.RandomNormal(stddev=deviation), name=name)
