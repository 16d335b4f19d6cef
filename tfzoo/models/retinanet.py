"""RetinaNet: a feature pyramid, two towers shared by its levels, and the focal loss.

Lin, Goyal, Girshick, He, Dollar 2017: Focal Loss for Dense Object Detection; in torchvision's forms, whose checkpoints fit. Its
second form ("v2", after Zhang et al. 2020) has group normalisation in the towers, P6 on the backbone's last map, and the GIoU loss.
"""

import math
from numbers import Real

import keras
from keras import ops

from tfzoo.errors import InputError
from tfzoo.layers.anchors import AnchorGenerator
from tfzoo.layers.box_coder import BoxCoder
from tfzoo.layers.boxes import generalized_iou
from tfzoo.layers.detection_head import over_levels, small_convolution, tower
from tfzoo.layers.matcher import BACKGROUND, IGNORED, match, matched_boxes, matched_labels
from tfzoo.losses.focal import dense_focal_loss
from tfzoo.losses.hard_negatives import hard_negatives
from tfzoo.models.base import check_options
from tfzoo.models.pyramid_detector import PRIOR, PyramidDetector, pyramid

BACKBONES = ("resnet50", "mobilenetv2")
ANCHORS = AnchorGenerator([[int(side * 2 ** (i / 3)) for i in range(3)] for side in (32, 64, 128, 256, 512)], (0.5, 1.0, 2.0))
CODER = BoxCoder()


@keras.saving.register_keras_serializable("tfzoo")
class RetinaNet(PyramidDetector):
    """RetinaNet (figure 3 of the paper): nine anchors a cell on P3 to P7.

    Args:
        num_classes, class_names, min_size, score_thresh, ...: see ``Detector``. A torchvision checkpoint has 91, its first one
            never labelled.
        backbone: "resnet50" or "mobilenetv2".
        group_norm: norms in the towers. p6_from: "p5" or "c5". box_loss: "l1" or "giou".
        width_multiplier: factor on the channels of the backbone, of the pyramid and of the towers (256).
        norm_epsilon: of a ResNet's norms; the published first form has 0.
        frozen_norms: the backbone's norms stay as they are, as torchvision has them where it starts from trained weights.
        trainable_backbone_layers: how many of the backbone's five stages learn, from the last one on; None: all.
        focal_alpha, focal_gamma: of the loss, see ``losses.focal``.
        negatives_per_positive: only the hardest background anchors count, so many for each that has an object; with a gamma of 0
            this is what the focal loss was compared with as OHEM 1:3 (Lin 2017, table 1d). None: all count.
        topk_candidates: pairs of anchor and class on each level that are looked at.
    """

    generator = ANCHORS
    class_layers = {"head.classification_head.cls_logits": ANCHORS.per_cell}  # channels for each class
    box_rule, score_rule = "deltas", "sigmoid"

    def __init__(
        self,
        num_classes,
        backbone="resnet50",
        group_norm=False,
        p6_from="p5",
        box_loss="l1",
        width_multiplier=1.0,
        norm_epsilon=1e-5,
        frozen_norms=False,
        trainable_backbone_layers=None,
        focal_alpha=0.25,
        focal_gamma=2.0,
        negatives_per_positive=None,
        **kwargs,
    ):
        check_options(width_multiplier)
        if negatives_per_positive is not None and not (isinstance(negatives_per_positive, Real) and negatives_per_positive > 0):
            raise InputError(f"negatives_per_positive is {negatives_per_positive!r}: it must be a number above 0, or None.")
        for name, value, known in (
            ("backbone", backbone, BACKBONES),
            ("p6_from", p6_from, ("p5", "c5")),
            ("box_loss", box_loss, ("l1", "giou")),
        ):
            if value not in known:
                raise InputError(f"{name} is '{value}': it must be one of {', '.join(known)}.")
        super().__init__(
            num_classes,
            backbone=backbone,
            group_norm=group_norm,
            p6_from=p6_from,
            box_loss=box_loss,
            width_multiplier=width_multiplier,
            norm_epsilon=norm_epsilon,
            frozen_norms=frozen_norms,
            trainable_backbone_layers=trainable_backbone_layers,
            focal_alpha=focal_alpha,
            focal_gamma=focal_gamma,
            negatives_per_positive=negatives_per_positive,
            **kwargs,
        )

    @classmethod
    def checkpoint_options(cls, options, whole):
        """As its base, but the first form was trained with an epsilon of 0, and the second one with norms that learn."""
        second = options.get("group_norm", False)
        norms = {"frozen_norms": not second} | ({} if second else {"norm_epsilon": 0.0})
        return super().checkpoint_options(options, whole) | (norms if whole else {})

    @staticmethod
    def build_network(pixels, num_classes, backbone, group_norm, p6_from, width_multiplier, norm_epsilon, **options):
        # === Backbone and pyramid ===
        levels, width = pyramid(pixels, backbone, p6_from, width_multiplier, norm_epsilon)

        # === Heads ===
        form = {"group_norm": group_norm, "use_bias": not group_norm}
        prior = -math.log((1 - PRIOR) / PRIOR)
        name = "head.classification_head"
        scores = small_convolution(ANCHORS.per_cell * num_classes, f"{name}.cls_logits", bias=prior)
        logits = over_levels(levels, [*tower(width, 4, f"{name}.conv", **form), scores], num_classes, name)
        name = "head.regression_head"
        numbers = small_convolution(ANCHORS.per_cell * 4, f"{name}.bbox_reg")
        deltas = over_levels(levels, [*tower(width, 4, f"{name}.conv", **form), numbers], 4, name)
        return {"cls_logits": logits, "bbox_regression": deltas}

    # === Training ===

    def head_losses(self, heads, boxes, labels, real, anchors):
        matched = match(boxes, real, anchors, high=0.5, low=0.4, low_quality=True)
        foreground = ops.cast(matched >= 0, "float32")
        count = ops.sum(foreground, axis=1)
        targets = ops.where(matched == BACKGROUND, -1, matched_labels(labels, matched))
        focal = {"alpha": self.options["focal_alpha"], "gamma": self.options["focal_gamma"]}
        counted = self._counted(heads["cls_logits"], matched)
        classification = dense_focal_loss(heads["cls_logits"], targets, counted, **focal)
        wanted = ops.where(ops.expand_dims(matched >= 0, -1), matched_boxes(boxes, matched), anchors)
        box = ops.sum(self._box_errors(heads["bbox_regression"], wanted, anchors) * foreground, axis=1)
        share = 1 / ops.maximum(count, 1.0)
        return {
            "classification": ops.mean(classification * share),
            "box": ops.mean(box * share),
            "foreground": ops.mean(count),
        }

    def _counted(self, logits, matched):
        """Which anchors the classification loss counts, bool [B, A]."""
        counted, ratio = matched != IGNORED, self.options["negatives_per_positive"]
        if ratio is None:
            return counted
        entropy = ops.sum(ops.softplus(logits), axis=-1)  # of each anchor, taken as background
        return ops.logical_or(matched >= 0, hard_negatives(entropy, matched >= 0, ratio, counted))

    def _box_errors(self, deltas, wanted, anchors):
        """[B, A], of every anchor; where it stands for no box, ``wanted`` is the anchor itself."""
        if self.options["box_loss"] == "giou":
            return 1 - generalized_iou(CODER.decode(deltas, anchors), wanted)
        return ops.sum(ops.abs(deltas - CODER.encode(wanted, anchors)), axis=-1)

    # === Answer ===

    def box_numbers(self):
        return {"weights": CODER.weights}

    def ranking(self, heads):
        return heads["cls_logits"]

    def scores_of(self, ranked):
        return ops.sigmoid(ranked)

    def decode(self, numbers, anchors):
        return CODER.decode(numbers, anchors)
