"""From scored candidates to detections: best first, one for each object, a fixed number of places."""

import keras
from keras import ops

from tfzoo.layers.boxes import box_area, box_iou

PADDING_LABEL = -1


def top_candidates(scores, k):
    """The best (anchor, class) pairs of each picture.

    Args:
        scores: float32 [B, A, K]: scores, or logits.
        k: how many; all, where there are fewer.

    Returns:
        scores float32 [B, k], falling; anchors int32 [B, k] and labels int32 [B, k].
    """
    classes = scores.shape[-1]
    if classes == 1:
        values, anchors = top_k(scores[..., 0], k)
        return values, anchors, ops.zeros_like(anchors)
    _, anchors = top_k(ops.max(scores, axis=-1), k)  # no pair of any other anchor can be among the best k
    chosen = ops.take_along_axis(scores, ops.expand_dims(anchors, -1), axis=1)
    values, index = top_k(ops.reshape(chosen, (-1, ops.shape(chosen)[1] * classes)), k)
    return values, ops.take_along_axis(anchors, index // classes, axis=1), index % classes


def top_k(flat, k):
    """The ``k`` largest of float32 [B, M], falling, and their places, int32: all, where they are fewer than ``k``.

    How many there are may be known at run time only.
    """
    count = ops.shape(flat)[1]
    if isinstance(count, int):
        values, index = ops.top_k(flat, min(k, count))
    else:
        import tensorflow as tf  # the one backend with sizes that are not known

        values, index = tf.math.top_k(flat, tf.minimum(k, count))
    return values, ops.cast(index, "int32")


def in_order(values, *others):
    """Candidates in the order of their values, float32 [B, M], the largest first; ``others``, [B, M] or [B, M, C], go along."""
    values, order = top_k(values, ops.shape(values)[1])
    return values, *(ops.take_along_axis(x, order if len(x.shape) == 2 else ops.expand_dims(order, -1), axis=1) for x in others)


def select(boxes, scores, labels, nms_thresh, detections, pictures=None):
    """Keeps of overlapping candidates of one class the best one, and the best of all that are left.

    The candidates come in order, and it is their places that rank them: of equal scores, such as the 1 that sure ones are rounded
    to, TFLite's kernel would take any first.

    Args:
        boxes: float32 [B, M, 4].
        scores: float32 [B, M], falling, but for those of 0 or less, whose candidates are none.
        labels: int32 [B, M].
        nms_thresh: a candidate goes whose IoU with a better one of its class exceeds it.
        detections: N, the places in the answer.
        pictures: B, where it is known although the shapes do not tell it.

    Returns:
        a dict: boxes float32 [B, N, 4], scores float32 [B, N], falling, labels int32 [B, N], num_detections int32 [B]; free places
        hold 0, 0 and -1.
    """
    kept = _keep_on_tensorflow if keras.backend.backend() == "tensorflow" else _keep
    ranks = ops.where(scores > 0, ops.arange(ops.shape(scores)[1], 0, -1, dtype="float32"), -1.0)
    index, count = kept(boxes, ranks, labels, nms_thresh, detections, pictures)
    filled = ops.expand_dims(ops.arange(detections, dtype="int32"), 0) < ops.expand_dims(count, 1)
    boxes = ops.take_along_axis(boxes, ops.expand_dims(index, -1), axis=1)
    return {
        "boxes": ops.where(ops.expand_dims(filled, -1), boxes, 0.0),
        "scores": ops.where(filled, ops.take_along_axis(scores, index, axis=1), 0.0),
        "labels": ops.where(filled, ops.take_along_axis(labels, index, axis=1), PADDING_LABEL),
        "num_detections": count,
    }


def class_offsets(boxes, labels):
    """Boxes of different classes apart from each other, all scaled to about one.

    Classes lie on a grid of ten columns, not in a row: the smaller the offsets, the less float32 rounds the boxes, here by a
    millionth of the picture's side for a hundred classes. Boxes without an area, as clipping leaves them or as this rounding makes
    them of the thinnest, all become one box of their class beside the others, so that one of them is left: TFLite's kernel would
    give such a box again and again.
    """
    largest = ops.maximum(ops.max(ops.abs(boxes), axis=(1, 2), keepdims=True), 1e-6)
    cell = ops.stack([labels % 10, labels // 10], axis=-1)
    offsets = 3.0 * ops.cast(ops.concatenate([cell, cell], axis=-1), "float32")
    apart = boxes / largest + offsets
    empty = ops.expand_dims(box_area(apart) <= 0, -1)
    aside = ops.convert_to_tensor([1.5, 1.5, 2.5, 2.5], "float32")
    return ops.where(empty, aside + offsets, apart)


def _keep_on_tensorflow(boxes, scores, labels, nms_thresh, detections, pictures):
    """TensorFlow's kernel, a picture at a time: it stops at the last place, and TFLite and ONNX have it."""
    import tensorflow as tf

    def one(picture):
        boxes, scores = picture
        limits = {"max_output_size": detections, "iou_threshold": nms_thresh, "score_threshold": 0.0}
        return tuple(tf.raw_ops.NonMaxSuppressionV4(boxes=boxes, scores=scores, pad_to_max_output_size=True, **limits))

    apart = class_offsets(boxes, labels)
    if not isinstance(pictures, int):
        return tf.map_fn(one, (apart, scores), fn_output_signature=(tf.int32, tf.int32))
    # Without a loop, which TFLite's calibration could not follow.
    parts = zip(tf.unstack(apart, pictures), tf.unstack(scores, pictures), strict=True)
    index, count = zip(*(one(part) for part in parts), strict=True)
    return tf.reshape(tf.stack(index), (-1, detections)), tf.stack(count)


def _keep(boxes, scores, labels, nms_thresh, detections, pictures):
    """The same from elementary operators: what a kept candidate before it suppresses goes, until nothing changes any more."""
    apart = class_offsets(boxes, labels)
    better = ops.triu(ops.ones((scores.shape[1], scores.shape[1]), dtype="bool"), k=1)  # row before column
    suppresses = ops.logical_and(box_iou(apart, apart) > nms_thresh, better)
    real = scores > 0

    def still_changing(keep, changed):
        return changed

    def again(keep, changed):
        beaten = ops.any(ops.logical_and(suppresses, ops.expand_dims(keep, -1)), axis=1)
        fewer = ops.logical_and(real, ops.logical_not(beaten))
        return fewer, ops.any(fewer != keep)

    keep, _ = ops.while_loop(still_changing, again, (real, ops.any(real)))
    places = min(detections, keep.shape[1])
    rank = ops.where(keep, -ops.arange(keep.shape[1], dtype="float32"), -float(keep.shape[1]))
    _, index = ops.top_k(rank, places)
    index = ops.pad(index, [[0, 0], [0, detections - places]])
    count = ops.minimum(ops.sum(ops.cast(keep, "int32"), axis=1), detections)
    return ops.cast(index, "int32"), count
