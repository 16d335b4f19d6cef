"""Which box each anchor stands for, by overlap (Ren et al. 2015, Faster R-CNN, section 3.1.2)."""

from keras import ops

from tfzoo.layers.boxes import box_iou

BACKGROUND, IGNORED = -1, -2


def match(boxes, real, anchors, high, low, low_quality=False):
    """Gives each anchor the box that it overlaps most.

    Args:
        boxes: float32 [B, N, 4].
        real: bool [B, N]; the others match nothing (see ``boxes.real_boxes``).
        anchors: float32 [A, 4], or [B, A, 4].
        high: IoU from which an anchor stands for its box.
        low: IoU below which it is background; in between it is ignored.
        low_quality: an anchor that no other one exceeds in its overlap with some box stands for the box that it overlaps most,
            however little that is.

    Returns:
        int32 [B, A]: index of the box, ``BACKGROUND`` or ``IGNORED``.
    """
    iou = ops.where(ops.expand_dims(real, -1), box_iou(boxes, anchors), -1.0)
    best, index = ops.max(iou, axis=1), ops.cast(ops.argmax(iou, axis=1), "int32")
    matched = ops.where(best >= high, index, ops.where(best < low, BACKGROUND, IGNORED))
    if low_quality:
        highest = ops.maximum(ops.max(iou, axis=2, keepdims=True), 1e-6)  # a box that no anchor touches keeps none
        matched = ops.where(ops.any(iou >= highest, axis=1), index, matched)
    return matched


def matched_boxes(boxes, matched):
    """The box [B, A, 4] of each anchor, from boxes [B, N, 4] and ``match``'s answer; any box where it has none."""
    return ops.take_along_axis(boxes, ops.expand_dims(ops.maximum(matched, 0), -1), axis=1)


def matched_labels(labels, matched):
    """The label [B, A] of each anchor's box, from labels [B, N]; any label where it has none."""
    return ops.take_along_axis(labels, ops.maximum(matched, 0), axis=1)
