"""FCOS: every place inside a box predicts it, by the distances to its four sides; no anchors of many shapes.

Tian, Shen, Chen, He 2019: FCOS: Fully Convolutional One-Stage Object Detection; in torchvision's form, whose checkpoints fit: group
normalisation in the towers, centre sampling, the centre-ness beside the distances, scores are square roots of products.
"""

import math

import keras
from keras import ops

from tfzoo.layers.anchors import AnchorGenerator
from tfzoo.layers.boxes import box_area, generalized_iou, to_centre
from tfzoo.layers.detection_head import over_levels, small_convolution, tower
from tfzoo.layers.matcher import BACKGROUND, matched_boxes, matched_labels
from tfzoo.losses.focal import dense_focal_loss
from tfzoo.models.base import check_options
from tfzoo.models.pyramid_detector import FINEST_STRIDE, LEVELS, PRIOR, PyramidDetector, pyramid

STRIDES = [FINEST_STRIDE * 2**level for level in range(LEVELS)]
POINTS = AnchorGenerator([(stride,) for stride in STRIDES], (1.0,))  # a square of the stride's side at each place
FAR = 1e8


@keras.saving.register_keras_serializable("tfzoo")
class FCOS(PyramidDetector):
    """FCOS (figure 2 of the paper), P3 to P7.

    Args:
        num_classes, class_names, min_size, score_thresh, ...: see ``Detector``. A torchvision checkpoint has 91, its first one
            never labelled.
        width_multiplier: factor on the channels of the backbone, of the pyramid and of the towers (256).
        norm_epsilon, frozen_norms, trainable_backbone_layers: see ``RetinaNet``.
        center_sampling_radius: a place learns a box if it is at most so many strides from its centre.
        topk_candidates: pairs of place and class on each level that are looked at.
    """

    generator = POINTS
    class_layers = ("head.classification_head.cls_logits",)
    box_rule, score_rule = "distances", "sigmoid_and_centerness"
    loss_names = ("classification", "box", "centerness")

    def __init__(
        self,
        num_classes,
        width_multiplier=1.0,
        norm_epsilon=1e-5,
        frozen_norms=False,
        trainable_backbone_layers=None,
        center_sampling_radius=1.5,
        score_thresh=0.2,
        nms_thresh=0.6,
        detections_per_img=100,
        **kwargs,
    ):
        check_options(width_multiplier)
        super().__init__(
            num_classes,
            width_multiplier=width_multiplier,
            norm_epsilon=norm_epsilon,
            frozen_norms=frozen_norms,
            trainable_backbone_layers=trainable_backbone_layers,
            center_sampling_radius=center_sampling_radius,
            score_thresh=score_thresh,
            nms_thresh=nms_thresh,
            detections_per_img=detections_per_img,
            **kwargs,
        )

    @staticmethod
    def build_network(pixels, num_classes, backbone, width_multiplier, norm_epsilon, **options):
        # === Backbone and pyramid ===
        levels, width = pyramid(pixels, backbone, "p5", width_multiplier, norm_epsilon)

        # === Heads ===
        form = {"group_norm": True, "spacing": 3}
        name = "head.classification_head"
        scores = small_convolution(num_classes, f"{name}.cls_logits", bias=-math.log((1 - PRIOR) / PRIOR))
        logits = over_levels(levels, [*tower(width, 4, f"{name}.conv", **form), scores], num_classes, name)
        name = "head.regression_head"
        layers = tower(width, 4, f"{name}.conv", **form)
        levels = [_through(layers, level) for level in levels]
        distances = [small_convolution(4, f"{name}.bbox_reg"), keras.layers.ReLU(name=f"{name}.bbox_reg.relu")]
        return {
            "cls_logits": logits,
            "bbox_regression": over_levels(levels, distances, 4, f"{name}.bbox_reg"),
            "bbox_ctrness": over_levels(levels, [small_convolution(1, f"{name}.bbox_ctrness")], 1, f"{name}.bbox_ctrness"),
        }

    # === Training ===

    def head_losses(self, heads, boxes, labels, real, anchors):
        matched = assign(boxes, real, anchors, self.options["center_sampling_radius"])
        foreground = ops.cast(matched >= 0, "float32")
        count = ops.sum(foreground, axis=1)
        targets = ops.where(matched == BACKGROUND, -1, matched_labels(labels, matched))
        classification = dense_focal_loss(heads["cls_logits"], targets, ops.ones_like(matched))
        wanted = ops.where(ops.expand_dims(matched >= 0, -1), matched_boxes(boxes, matched), anchors)
        box = (1 - generalized_iou(decode(heads["bbox_regression"], anchors), wanted)) * foreground
        centre = _binary_cross_entropy(heads["bbox_ctrness"][..., 0], centerness(wanted, anchors)) * foreground
        share = 1 / ops.maximum(ops.sum(count), 1.0)
        return {
            "classification": ops.sum(classification) * share,
            "box": ops.sum(box) * share,
            "centerness": ops.sum(centre) * share,
            "foreground": ops.mean(count),
        }

    # === Answer ===

    def ranking(self, heads):
        return ops.sqrt(ops.sigmoid(heads["cls_logits"]) * ops.sigmoid(heads["bbox_ctrness"]))

    def scores_of(self, ranked):
        return ranked

    def decode(self, numbers, anchors):
        return decode(numbers, anchors)


def _through(layers, x):
    for layer in layers:
        x = layer(x)
    return x


def decode(distances, anchors):
    """Boxes [..., 4] from distances to left, top, right and bottom, in sides of the anchors [..., 4]."""
    anchor = to_centre(anchors)
    reach = distances * ops.concatenate([anchor[..., 2:], anchor[..., 2:]], axis=-1)
    return ops.concatenate([anchor[..., :2] - reach[..., :2], anchor[..., :2] + reach[..., 2:]], axis=-1)


def _distances(boxes, anchors):
    """Distances [..., 4] in pixels from the anchors' centres to the boxes' left, top, right and bottom."""
    centre = to_centre(anchors)[..., :2]
    return ops.concatenate([centre - boxes[..., :2], boxes[..., 2:] - centre], axis=-1)


def centerness(boxes, anchors):
    """sqrt(min(l, r) / max(l, r) * min(t, b) / max(t, b)) [..., ] (equation 3); 0 outside the box."""
    distances = _distances(boxes, anchors)
    low, high = ops.minimum(distances[..., :2], distances[..., 2:]), ops.maximum(distances[..., :2], distances[..., 2:])
    ratio = ops.maximum(low, 0.0) / ops.maximum(high, 1e-6)
    return ops.sqrt(ratio[..., 0] * ratio[..., 1])


def _binary_cross_entropy(logits, wanted):
    return ops.softplus(logits) - wanted * logits


def assign(boxes, real, anchors, radius):
    """Which box each place learns: the smallest whose middle it lies in, if its level is the one for that size (section 3.2).

    Args:
        boxes: float32 [B, N, 4]; real: bool [B, N].
        anchors: float32 [A, 4], as ``POINTS`` makes them: squares of the levels' strides.
        radius: of the middle, in strides.

    Returns:
        int32 [B, A]: index of the box, or ``matcher.BACKGROUND``.
    """
    anchors = ops.convert_to_tensor(anchors, "float32")
    each = ops.expand_dims(boxes, 2)  # [B, N, 1, 4] with [A, 4]: [B, N, A, 4]
    stride = anchors[:, 2] - anchors[:, 0]
    inside = ops.min(_distances(each, anchors), axis=-1)
    off_centre = ops.max(ops.abs(to_centre(anchors)[:, :2] - to_centre(each)[..., :2]), axis=-1)
    extent = ops.max(_distances(each, anchors), axis=-1)
    smallest = ops.where(stride == STRIDES[0], 0.0, stride * 4)
    largest = ops.where(stride == STRIDES[-1], FAR, stride * 8)
    fits = (inside > 0) & (off_centre < radius * stride) & (extent > smallest) & (extent < largest) & ops.expand_dims(real, -1)
    preference = ops.where(fits, -ops.expand_dims(box_area(boxes), -1), -math.inf)
    best = ops.cast(ops.argmax(preference, axis=1), "int32")
    return ops.where(ops.any(fits, axis=1), best, BACKGROUND)
