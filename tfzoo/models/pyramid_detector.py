"""What RetinaNet and FCOS share: a feature pyramid from P3 to P7, heads that slide over it, candidates by level."""

from keras import ops

from tfzoo.backbones import feature_pyramid
from tfzoo.backbones.freezing import KERAS_NAMED, STAGES, freeze_backbone
from tfzoo.layers.boxes import clip_boxes
from tfzoo.layers.detection_input import multiple_above
from tfzoo.layers.fpn import feature_pyramid_network, level_sizes
from tfzoo.layers.nms import in_order, top_candidates
from tfzoo.models.detector import Detector

LEVELS, BACKBONE_LEVELS, FINEST_STRIDE = 5, 3, 8
PRIOR = 0.01  # probability of an object that every anchor starts with (Lin 2017, Focal Loss, section 3.3)


class PyramidDetector(Detector):
    """A detector on P3 to P7.

    A subclass gives ``generator`` (its anchors), ``ranking``, ``scores_of`` and ``decode``, beside what ``Detector`` asks for, and
    has the options ``frozen_norms`` and ``trainable_backbone_layers``.
    """

    generator = None
    backbone_prefix = "backbone.body."

    @classmethod
    def checkpoint_options(cls, options, whole):
        """torchvision's: the input's size, three stages that learn, and norms that a small batch cannot upset."""
        return {"trainable_backbone_layers": 3, "frozen_norms": True} | ({"min_size": 800, "max_size": 1333} if whole else {})

    def __init__(self, num_classes, backbone="resnet50", **kwargs):
        super().__init__(num_classes, backbone=backbone, **kwargs)
        which = self.options["trainable_backbone_layers"], self.options["frozen_norms"]
        freeze_backbone(self, STAGES[backbone], *which, prefix="" if backbone in KERAS_NAMED else self.backbone_prefix)

    def ranking(self, heads):
        """What candidates are ranked by, [B, A, K]."""
        raise NotImplementedError

    def scores_of(self, ranked):
        """The scores, 0 to 1, of values of ``ranking``: the higher the one, the higher the other."""
        raise NotImplementedError

    def decode(self, numbers, anchors):
        """Boxes [..., 4] from what ``bbox_regression`` says, and from anchors [..., 4]."""
        raise NotImplementedError

    def anchors(self, image_size):
        return self.generator.grid(level_sizes(image_size, FINEST_STRIDE, BACKBONE_LEVELS, LEVELS), image_size)

    def anchor_groups(self, padded):
        sizes = level_sizes(padded, FINEST_STRIDE, BACKBONE_LEVELS, LEVELS)
        return [height * width * self.generator.per_cell for height, width in sizes]

    def candidates(self, heads, anchors, image_size):
        """See ``Detector``; the best ``topk_candidates`` pairs of anchor and class on each level, before the threshold."""
        padded = tuple(multiple_above(side, self.divisor) for side in image_size)
        parts, first = [], 0
        for count in self.anchor_groups(padded):
            level = {name: x[:, first : first + count] for name, x in heads.items()}
            parts.append(self._of_level(level, anchors[first : first + count]))
            first = first + count
        values, boxes, labels = in_order(*(ops.concatenate(values, axis=1) for values in zip(*parts, strict=True)))
        scores = self.scores_of(values)
        return clip_boxes(boxes, *image_size), ops.where(scores > self.score_thresh, scores, -1.0), labels

    def _of_level(self, heads, anchors):
        values, index, labels = top_candidates(self.ranking(heads), self.topk_candidates)
        numbers = ops.take_along_axis(heads["bbox_regression"], ops.expand_dims(index, -1), axis=1)
        return values, self.decode(numbers, ops.take(anchors, index, axis=0)), labels


def pyramid(pixels, backbone, p6_from, width_multiplier, norm_epsilon):
    """Returns P3 to P7, Keras tensors, and their channels, 256 at width 1. See ``fpn.feature_pyramid_network``."""
    names = {"prefix": "backbone.body.", "epsilon": norm_epsilon} if backbone.startswith("resnet") else {}
    features = feature_pyramid(backbone, pixels, width_multiplier, **names)[-BACKBONE_LEVELS:]
    width = max(round(256 * width_multiplier), 1)
    return feature_pyramid_network(features, width, p6_from), width
