"""SSD: default boxes of many shapes on maps of several sizes, each scored and moved by one convolution.

Liu, Anguelov, Erhan, Szegedy, Reed, Fu, Berg 2016: SSD: Single Shot MultiBox Detector; SSD300 in torchvision's form, whose
checkpoints fit.
"""

import dataclasses

import keras
from keras import ops

from tfzoo.backbones.freezing import STAGES, freeze_backbone
from tfzoo.backbones.vgg import CONVOLUTIONS, max_pool, vgg16_features
from tfzoo.errors import InputError
from tfzoo.layers import atrous
from tfzoo.layers.box_coder import BoxCoder
from tfzoo.layers.boxes import box_area, box_iou, clip_boxes
from tfzoo.layers.convolution import pad_symmetrically
from tfzoo.layers.l2_normalization import L2Normalization
from tfzoo.layers.matcher import BACKGROUND, match, matched_boxes, matched_labels
from tfzoo.layers.priors import PriorBoxes
from tfzoo.losses.hard_negatives import hard_negatives
from tfzoo.losses.smooth_l1 import smooth_l1
from tfzoo.models.base import check_options
from tfzoo.models.detector import lists_background
from tfzoo.models.fixed_size import FixedSizeDetector

MATCHING_IOU = 0.5
NEGATIVES_PER_POSITIVE = 3.0
MOST_CANDIDATES = 2000  # of all classes together, of those that are the best of their class: what NMS looks at
FEW_CANDIDATES = 1000  # up to which torchvision runs one NMS over all classes


class MultiBoxDetector(FixedSizeDetector):
    """Base of the detectors with default boxes, a softmax over classes and background, and mined negatives.

    A subclass gives ``build_network``, ``prior_boxes``, ``feature_sizes`` and ``input_side``. Of each class the
    ``topk_candidates`` best boxes above ``score_thresh`` go into NMS, of all together 2000 at most. ``cls_logits`` has C + 1
    columns, the background first.

    Where the first class name is "__background__", as in torchvision's checkpoints, that is column 0: there are C columns, labels
    count from the background's 0, and 0 is never answered. The option ``background_listed`` keeps that.
    """

    background_column = True  # a checkpoint's columns are its classes and, first, the background
    coder = BoxCoder((10.0, 10.0, 5.0, 5.0))
    box_rule, score_rule = "deltas", "softmax"

    def __init__(self, num_classes, class_names=None, background_listed=None, **kwargs):
        if background_listed is None:
            background_listed = lists_background(class_names)
        super().__init__(num_classes, class_names=class_names, background_listed=background_listed, **kwargs)

    @staticmethod
    def prior_boxes(**options) -> PriorBoxes:
        raise NotImplementedError

    @staticmethod
    def feature_sizes(**options) -> list:
        """Sides of the square maps, from fine to coarse."""
        raise NotImplementedError

    def anchors(self, image_size):
        """The default boxes, a NumPy array float32 [A, 4]; the size is always the network's one."""
        side = self.input_side(**self.options)
        sizes = [(cells, cells) for cells in self.feature_sizes(**self.options)]
        return self.prior_boxes(**self.options).grid(sizes, (side, side))

    # === Loss ===

    def head_losses(self, heads, boxes, labels, real, anchors):
        """Equation 1: smooth L1 and cross-entropy, both over the number of default boxes that stand for an object."""
        anchors = ops.convert_to_tensor(anchors)
        matched = match_with_best_prior(boxes, real, anchors, MATCHING_IOU)
        positive = matched >= 0
        counts = ops.cast(positive, "float32")
        normalizer = ops.maximum(ops.sum(counts), 1.0)

        columns = ops.where(positive, matched_labels(labels, matched) + self._first_column, 0)
        entropy = ops.sparse_categorical_crossentropy(columns, heads["cls_logits"], from_logits=True)
        negative = hard_negatives(entropy, positive, NEGATIVES_PER_POSITIVE)
        chosen = ops.cast(ops.logical_or(positive, negative), "float32")

        truth = ops.where(positive[..., None], matched_boxes(boxes, matched), anchors)
        errors = smooth_l1(heads["bbox_regression"] - self.coder.encode(truth, anchors))
        return {
            "classification": ops.sum(chosen * entropy) / normalizer,
            "box": ops.sum(counts[..., None] * errors) / normalizer,
            "foreground": ops.mean(ops.sum(counts, axis=1)),
        }

    @property
    def _first_column(self):
        """The column of label 0."""
        return 0 if self.options["background_listed"] else 1

    # === Answer ===

    def box_numbers(self):
        return {"weights": self.coder.weights}

    def anchor_groups(self, padded):
        return None

    def decoding(self, image_size):
        return super().decoding(image_size) | {"first_label": 1 - self._first_column}

    def candidates(self, heads, anchors, image_size):
        probabilities = ops.softmax(heads["cls_logits"], axis=-1)[..., 1:]
        boxes = clip_boxes(self.coder.decode(heads["bbox_regression"], ops.convert_to_tensor(anchors)), *image_size)
        empty = box_area(boxes) <= 0
        scores, index, labels = best_of_each_class(probabilities, empty, self.topk_candidates, self.score_thresh)
        return ops.take_along_axis(boxes, index[..., None], axis=1), scores, labels + 1 - self._first_column


def match_with_best_prior(boxes, real, anchors, threshold):
    """SSD's matching (section 2.2): a default box stands for what it overlaps by the threshold or more; each box has its best one.

    Args:
        boxes: float32 [B, N, 4]; real: bool [B, N], the others match nothing.
        anchors: float32 [A, 4].
        threshold: IoU.

    Returns:
        int32 [B, A]: index of the box or ``matcher.BACKGROUND``. Where two boxes have one best prior the later one gets it.
    """
    matched = match(boxes, real, anchors, threshold, threshold)
    iou = box_iou(boxes, anchors)
    touched = ops.logical_and(real, ops.max(iou, axis=2) > 0)
    best = ops.where(touched, ops.cast(ops.argmax(iou, axis=2), "int32"), -1)
    index = ops.arange(ops.shape(boxes)[1], dtype="int32")[None, :, None]
    is_best = best[..., None] == ops.arange(ops.shape(anchors)[0], dtype="int32")
    claimed = ops.max(ops.where(is_best, index, BACKGROUND), axis=1)
    return ops.where(claimed >= 0, claimed, matched)


def best_of_each_class(scores, empty, k, score_thresh):
    """The best ``k`` anchors of each class, then the ``MOST_CANDIDATES`` best of all of these.

    A box without an area, which a head makes beyond the picture's border, overlaps nothing, so NMS would keep every one. Of these
    only the best one goes on: of each class, and where there are few candidates, of all. So does torchvision's NMS in plain
    PyTorch, in which the IoU of two such boxes, 0 / 0, is not below the threshold.

    Args:
        scores: float32 [B, A, K].
        empty: bool [B, A], boxes without an area.
        score_thresh: candidates that do not exceed it get the score -1.

    Returns:
        scores float32 [B, M], anchors int32 [B, M] and labels int32 [B, M], 0 to K - 1.
    """
    anchors, classes = scores.shape[1:]
    k, empty = min(k, anchors), ops.cast(empty, "float32")
    values, index = ops.top_k(ops.transpose(scores, (0, 2, 1)), k)
    values = ops.reshape(ops.where(values > score_thresh, values, -1.0), (-1, classes * k))
    index = ops.reshape(ops.cast(index, "int32"), (-1, classes * k))
    few = ops.sum(ops.cast(values > 0, "float32"), axis=1, keepdims=True) <= FEW_CANDIDATES

    empties = ops.reshape(ops.take_along_axis(empty, index, axis=1), (-1, classes, k))
    values = ops.where(ops.reshape(_but_the_first(empties), (-1, classes * k)), -1.0, values)
    values, place = ops.top_k(values, min(MOST_CANDIDATES, classes * k))
    place = ops.cast(place, "int32")
    index = ops.take_along_axis(index, place, axis=1)
    values = ops.where(ops.logical_and(few, _but_the_first(ops.take_along_axis(empty, index, axis=1))), -1.0, values)
    return values, index, place // k


def _but_the_first(flags):
    """Which of the ones along the last axis are not its first one; flags are 0.0 or 1.0."""
    return ops.logical_and(flags > 0, ops.cumsum(flags, axis=-1) > 1)


def multibox_heads(features, per_cell, columns, predict):
    """Returns {"cls_logits": [B, A, columns], "bbox_regression": [B, A, 4]} for maps [B, H, W, C], all levels one after the other.

    Args:
        per_cell: number of default boxes in a cell, for each level.
        predict: called on (map, filters, name), returns a map of so many channels.
    """
    return {
        "cls_logits": _head(features, per_cell, columns, predict, "head.classification_head"),
        "bbox_regression": _head(features, per_cell, 4, predict, "head.regression_head"),
    }


def _head(features, per_cell, columns, predict, name):
    levels = []
    for index, (x, count) in enumerate(zip(features, per_cell, strict=True)):
        x = predict(x, count * columns, f"{name}.module_list.{index}")
        levels.append(keras.layers.Reshape((-1, columns), name=f"{name}.boxes.{index}")(x))
    return keras.layers.Concatenate(axis=1, name=name)(levels)


# === SSD on VGG16 ===


@dataclasses.dataclass(frozen=True)
class Form:
    """What the size of the network's input decides.

    Attributes:
        scales, aspect_ratios, steps: of the default boxes, see ``PriorBoxes``; the paper's for COCO (section 3.4).
        feature_sizes: sides of the maps.
        extras: (squeezed channels, channels, kernel, stride, padding) of each pair of convolutions behind fc7.
    """

    scales: tuple
    aspect_ratios: tuple
    steps: tuple
    feature_sizes: tuple
    extras: tuple


_HALVING = ((256, 512, 3, 2, 1), (128, 256, 3, 2, 1))
FORMS = {
    300: Form(
        scales=(0.07, 0.15, 0.33, 0.51, 0.69, 0.87, 1.05),
        aspect_ratios=((2,), (2, 3), (2, 3), (2, 3), (2,), (2,)),
        steps=(8, 16, 32, 64, 100, 300),
        feature_sizes=(38, 19, 10, 5, 3, 1),
        extras=(*_HALVING, (128, 256, 3, 1, 0), (128, 256, 3, 1, 0)),
    ),
    512: Form(
        scales=(0.04, 0.1, 0.26, 0.42, 0.58, 0.74, 0.9, 1.06),
        aspect_ratios=((2,), (2, 3), (2, 3), (2, 3), (2, 3), (2,), (2,)),
        steps=(8, 16, 32, 64, 128, 256, 512),
        feature_sizes=(64, 32, 16, 8, 4, 2, 1),
        extras=(*_HALVING, (128, 256, 3, 2, 1), (128, 256, 3, 2, 1), (128, 256, 4, 1, 1)),
    ),
}
# VGG16's convolutions in torchvision's checkpoint: up to conv4_3 in one module, conv5 in the next.
VGG_NAMES = (
    *(f"backbone.features.{index}" for index in (0, 2, 5, 7, 10, 12, 14, 17, 19, 21)),
    *(f"backbone.extra.0.{index}" for index in (1, 3, 5)),
)
VGG_STAGES = tuple(
    tuple(f"{ours}_" for name, ours in zip(CONVOLUTIONS, VGG_NAMES, strict=True) if name.startswith(stage))
    for stage in STAGES["vgg16"]
)


@keras.saving.register_keras_serializable("tfzoo")
class SSD(MultiBoxDetector):
    """SSD300 and SSD512 on VGG16 (figure 2).

    Args:
        num_classes, class_names, ...: see ``Detector``.
        size: 300 or 512, the side that pictures are stretched to.
        width_multiplier: factor on the channels.
        batch_norm: batch normalisation after each convolution but the heads', for training from scratch; published weights have
            none.
        trainable_backbone_layers: how many of VGG16's five blocks learn, from the last one on; None: all. What follows them does.
    """

    class_layers = {  # and the default boxes in a cell of SSD300, then of SSD512's last level
        f"head.classification_head.module_list.{level}": boxes for level, boxes in enumerate((4, 6, 6, 6, 4, 4, 4))
    }
    vgg16_layers = dict(zip(CONVOLUTIONS, VGG_NAMES, strict=True))  # Keras's names of the backbone's layers, and ours

    def __init__(
        self,
        num_classes,
        size=300,
        width_multiplier=1.0,
        batch_norm=False,
        trainable_backbone_layers=None,
        image_mean=(0.48235 * 255, 0.45882 * 255, 0.40784 * 255),
        image_std=(1.0, 1.0, 1.0),
        score_thresh=0.01,
        nms_thresh=0.45,
        detections_per_img=200,
        topk_candidates=400,
        **kwargs,
    ):
        check_options(width_multiplier, batch_norm)
        if size not in FORMS:
            raise InputError(f"size is {size}: it must be one of {', '.join(map(str, FORMS))}.")
        super().__init__(
            num_classes,
            size=size,
            width_multiplier=width_multiplier,
            batch_norm=batch_norm,
            trainable_backbone_layers=trainable_backbone_layers,
            image_mean=image_mean,
            image_std=image_std,
            score_thresh=score_thresh,
            nms_thresh=nms_thresh,
            detections_per_img=detections_per_img,
            topk_candidates=topk_candidates,
            **kwargs,
        )
        freeze_backbone(self, VGG_STAGES, trainable_backbone_layers)

    @classmethod
    def checkpoint_options(cls, options, whole):
        """torchvision's: all blocks learn but the first one."""
        return {"trainable_backbone_layers": 4}

    @staticmethod
    def input_side(size, **options):
        return size

    @staticmethod
    def prior_boxes(size, **options):
        form = FORMS[size]
        return PriorBoxes(form.aspect_ratios, form.scales, form.steps)

    @staticmethod
    def feature_sizes(size, **options):
        return FORMS[size].feature_sizes

    @staticmethod
    def build_network(pixels, num_classes, size, width_multiplier, batch_norm, background_listed, **options):
        def widen(channels):
            return max(round(channels * width_multiplier), 1)

        # === Backbone ===
        features = vgg16_features(pixels, width_multiplier, batch_norm, pool=_pool, names=VGG_NAMES)
        maps = [L2Normalization(name="backbone")(features["conv4"])]
        x = convolution(features["pool5"], widen(1024), 3, "backbone.extra.0.7.1", batch_norm, dilation=6)
        maps.append(convolution(x, widen(1024), 1, "backbone.extra.0.7.3", batch_norm))

        # === Coarser maps ===
        for index, (squeezed, channels, kernel, stride, padding) in enumerate(FORMS[size].extras, start=1):
            name = f"backbone.extra.{index}"
            x = convolution(maps[-1], widen(squeezed), 1, f"{name}.0", batch_norm)
            maps.append(convolution(x, widen(channels), kernel, f"{name}.2", batch_norm, stride, padding=padding))

        # === Heads ===
        def predict(x, filters, name):
            return keras.layers.Conv2D(filters, 3, padding="same", name=name)(x)

        per_cell = SSD.prior_boxes(size).per_cell
        return multibox_heads(maps, per_cell, num_classes + (not background_listed), predict)


def _pool(x, name):
    """VGG's 2x2 poolings, but the last one, which keeps the size of the map."""
    if name == "block5_pool":
        return keras.layers.MaxPooling2D(3, strides=1, padding="same", name=name)(x)
    return max_pool(x, name)


def convolution(x, filters, kernel, name, batch_norm, stride=1, dilation=1, padding=None):
    """Convolution, (batch normalisation,) ReLU. ``padding``: pixels on each side; None: as many as keep the size at stride 1."""
    if padding is None:
        x, mode = pad_symmetrically(x, kernel, stride, dilation, name)
    else:
        x, mode = (keras.layers.ZeroPadding2D(padding, name=f"{name}.pad")(x) if padding else x), "valid"
    x = atrous.Conv2D(filters, kernel, strides=stride, dilation_rate=dilation, padding=mode, use_bias=not batch_norm, name=name)(x)
    if batch_norm:
        x = keras.layers.BatchNormalization(name=f"{name}_bn")(x)
    return keras.layers.ReLU(name=f"{name}_relu")(x)
