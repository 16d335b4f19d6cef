"""How a head tells a box: as the change of an anchor (Girshick et al. 2014, R-CNN, appendix C)."""

import math

from keras import ops

from tfzoo.layers.boxes import to_centre

MAX_LOG_SCALE = math.log(1000 / 16)  # of a side; above it exp() leads out of every picture


class BoxCoder:
    """Encodes boxes as (dx, dy, dw, dh) of anchors, and back.

    dx, dy: shift of the centre, in sides of the anchor; dw, dh: logarithm of the ratio of the sides; each times its weight.

    Args:
        weights: four factors, which bring the numbers to about one.
    """

    def __init__(self, weights=(1.0, 1.0, 1.0, 1.0)):
        self.weights = tuple(float(weight) for weight in weights)

    def encode(self, boxes, anchors):
        """Numbers [..., 4] for boxes [..., 4] and their anchors [..., 4], both with areas above 0."""
        box, anchor = to_centre(boxes), to_centre(anchors)
        shift = (box[..., :2] - anchor[..., :2]) / anchor[..., 2:]
        scale = ops.log(box[..., 2:] / anchor[..., 2:])
        return ops.concatenate([shift, scale], axis=-1) * ops.convert_to_tensor(self.weights, "float32")

    def decode(self, deltas, anchors):
        """Boxes [..., 4] for a head's numbers [..., 4] and their anchors [..., 4]; a side grows 62.5 times at most."""
        anchor = to_centre(anchors)
        deltas = deltas * ops.convert_to_tensor([1 / weight for weight in self.weights], "float32")
        centre = deltas[..., :2] * anchor[..., 2:] + anchor[..., :2]
        half = 0.5 * ops.exp(ops.minimum(deltas[..., 2:], MAX_LOG_SCALE)) * anchor[..., 2:]
        return ops.concatenate([centre - half, centre + half], axis=-1)
