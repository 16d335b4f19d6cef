"""Boxes, xyxy: [..., 4] with left, top, right, bottom; areas and overlaps have no "+ 1" anywhere."""

from keras import ops

TINY = 1e-9  # keeps quotients of empty boxes finite


def box_area(boxes):
    """Areas [...] of boxes [..., 4]; 0 where a right or bottom lies before its left or top."""
    sides = ops.maximum(boxes[..., 2:] - boxes[..., :2], 0.0)
    return sides[..., 0] * sides[..., 1]


def box_iou(a, b):
    """Intersection over union of each box of ``a`` [..., N, 4] with each of ``b`` [..., M, 4]: [..., N, M]; 0 for empty boxes."""
    a, b = ops.expand_dims(a, -2), ops.expand_dims(b, -3)
    intersection = _overlap(a, b)
    return intersection / ops.maximum(box_area(a) + box_area(b) - intersection, TINY)


def generalized_iou(a, b):
    """Generalised IoU of each pair of boxes [..., 4]: [...], -1 to 1 (Rezatofighi et al. 2019, algorithm 1)."""
    intersection = _overlap(a, b)
    union = ops.maximum(box_area(a) + box_area(b) - intersection, TINY)
    low, high = ops.minimum(a[..., :2], b[..., :2]), ops.maximum(a[..., 2:], b[..., 2:])
    hull = ops.maximum(box_area(ops.concatenate([low, high], axis=-1)), TINY)
    return intersection / union - (hull - union) / hull


def _overlap(a, b):
    low, high = ops.maximum(a[..., :2], b[..., :2]), ops.minimum(a[..., 2:], b[..., 2:])
    sides = ops.maximum(high - low, 0.0)
    return sides[..., 0] * sides[..., 1]


def clip_boxes(boxes, height, width):
    """Boxes [..., 4] cut off at the borders of a picture; its sides are ints or scalar tensors."""
    limits = ops.cast(ops.stack([width, height, width, height]), "float32")
    return ops.maximum(ops.minimum(boxes, limits), 0.0)


def to_centre(boxes):
    """Centre x, centre y, width, height [..., 4] of boxes [..., 4]."""
    sides = boxes[..., 2:] - boxes[..., :2]
    return ops.concatenate([boxes[..., :2] + 0.5 * sides, sides], axis=-1)


def from_centre(centred):
    """Boxes [..., 4] of centre x, centre y, width, height [..., 4]."""
    half = 0.5 * centred[..., 2:]
    return ops.concatenate([centred[..., :2] - half, centred[..., :2] + half], axis=-1)


def real_boxes(boxes, labels):
    """Whether each of boxes [..., N, 4] with labels [..., N] is one: not padding (label -1), and with an area above 0."""
    return ops.logical_and(labels >= 0, box_area(boxes) > 0)


def per_box(to, of):
    """Factors [4] that take boxes in a picture of (height, width) ``of`` to one of ``to``; ints or scalar tensors."""
    height, width = (ops.cast(a, "float32") / ops.cast(b, "float32") for a, b in zip(to, of, strict=True))
    return ops.stack([width, height, width, height])
