"""What completes a raw file of a detector: heads in, detections out. Needs NumPy and the file's sidecar, and nothing else."""

import base64

import numpy as np

MAX_LOG_SCALE = np.log(1000 / 16)  # of a side, as in ``layers.box_coder``


def decode(heads: dict[str, np.ndarray], decoding: dict) -> dict[str, np.ndarray]:
    """Returns what the file would answer without ``raw``, but for masks and keypoints.

    Args:
        heads: what the raw file answers, float32, by name, for B pictures.
        decoding: the sidecar's entry of this name. It holds
            "boxes": how heads tell boxes, see ``BOXES``, and "numbers", what else that needs; "anchors": float32 [A, 4] in little
                endian and base64, xyxy in pixels of the network's input; None: the file answers proposals, which take their place.
            "scores": how they tell scores, see ``SCORES``; "first_label": the label of the first score.
            "groups": numbers of anchors of which, one after the other, the best "topk_candidates" pairs of anchor and class are
                looked at; []: of all together; None: the best of each class, and of these the best 2000.
            "score_thresh", "nms_thresh", "detections_per_img".
            "network_size", "image_size": (height, width) of the resized picture, in which boxes are told, and of the given one.

    Returns:
        boxes float32 [B, D, 4] in pixels of the given picture, scores float32 [B, D], falling, labels int32 [B, D],
        num_detections int32 [B]; free places hold 0, 0 and -1.

    Raises:
        ValueError: there is no decoding.
    """
    if not decoding:
        raise ValueError("The sidecar has no decoding: export the detector with raw and one image_size, on which it depends.")
    anchors = None if decoding["anchors"] is None else _unpack(decoding["anchors"])
    pictures = [
        _decode_one({name: head[index] for name, head in heads.items()}, anchors, decoding) for index in range(_count(heads))
    ]
    return {name: np.stack([picture[name] for picture in pictures]) for name in pictures[0]}


def _count(heads):
    return len(next(iter(heads.values())))


def _decode_one(heads, anchors, decoding):
    scores = SCORES[decoding["scores"]](heads)
    if anchors is None:
        anchors, told = heads.get("proposals", heads.get("regions")), heads["box_regression"]
        scores = np.where((_areas(anchors) > 0)[:, None], scores, -1)  # free places among the proposals
    else:
        told = heads["bbox_regression"]
    index, labels = _candidates(scores, decoding)
    values = scores[index, labels]
    numbers = told[index] if told.ndim == 2 else told[index, labels + 1 if told.shape[1] > 1 else 0]
    height, width = decoding["network_size"]
    boxes = BOXES[decoding["boxes"]](numbers, anchors[index], **decoding["numbers"])
    boxes = np.clip(boxes, 0, np.array([width, height, width, height], np.float32))
    wanted = _wanted(boxes, labels, decoding)
    boxes, values, labels = boxes[wanted], values[wanted], labels[wanted]
    kept = _suppress(boxes, labels, decoding)
    scale = np.divide(decoding["image_size"], decoding["network_size"])[[1, 0, 1, 0]]
    return _padded(boxes[kept] * scale, values[kept], labels[kept] + decoding["first_label"], decoding["detections_per_img"])


def _unpack(text):
    return np.frombuffer(base64.b64decode(text), "<f4").reshape(-1, 4)


def pack(anchors) -> str:
    """The text that stands for anchors [A, 4]."""
    return base64.b64encode(np.ascontiguousarray(anchors, "<f4").tobytes()).decode()


# === Scores [A, K] ===


def _sigmoid(x):
    return 1 / (1 + np.exp(-x))


def _softmax(x):
    powers = np.exp(x - x.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def _of_cells(heads):
    """YOLOv1: of each cell one set of class scores for all of its boxes."""
    confidence, classes = (np.clip(heads[name], 0, 1) for name in ("objectness", "cls_logits"))
    return confidence * np.repeat(classes, len(confidence) // len(classes), axis=0)


SCORES = {
    "sigmoid": lambda heads: _sigmoid(heads["cls_logits"]),
    "sigmoid_and_centerness": lambda heads: np.sqrt(_sigmoid(heads["cls_logits"]) * _sigmoid(heads["bbox_ctrness"])),
    "softmax": lambda heads: _softmax(heads["cls_logits"])[:, 1:],
    "softmax_of_regions": lambda heads: _softmax(heads["class_logits"])[:, 1:],
    "objectness_and_softmax": lambda heads: _sigmoid(heads["objectness"]) * _softmax(heads["cls_logits"]),
    "cells": _of_cells,
}


# === Boxes [N, 4], xyxy ===


def _from_deltas(numbers, anchors, weights):
    """Shifts of the centre and logarithms of the ratio of sides, times weights."""
    numbers, sides = numbers / np.float32(weights), anchors[:, 2:] - anchors[:, :2]
    centres = anchors[:, :2] + sides / 2 + numbers[:, :2] * sides
    return _around(centres, sides * np.exp(np.minimum(numbers[:, 2:], MAX_LOG_SCALE)))


def _from_distances(numbers, anchors):
    """From the centre to left, top, right and bottom, in sides of the anchor."""
    sides = anchors[:, 2:] - anchors[:, :2]
    centres = anchors[:, :2] + sides / 2
    return np.concatenate([centres - numbers[:, :2] * sides, centres + numbers[:, 2:] * sides], axis=1)


def _from_cells(numbers, anchors, stride, side):
    """YOLOv1: the centre in the cell, and square roots of sides, in sides of the picture."""
    return _around(anchors[:, :2] + numbers[:, :2] * stride, np.square(numbers[:, 2:]) * side)


def _from_cells_and_anchors(numbers, anchors, stride):
    """YOLOv2: the centre in the cell by a sigmoid, and logarithms of the ratio of sides."""
    sides = anchors[:, 2:] - anchors[:, :2]
    centres = anchors[:, :2] + sides / 2 + (_sigmoid(numbers[:, :2]) - 0.5) * stride
    return _around(centres, sides * np.exp(np.minimum(numbers[:, 2:], MAX_LOG_SCALE)))


def _around(centres, sides):
    return np.concatenate([centres - sides / 2, centres + sides / 2], axis=1)


BOXES = {
    "deltas": _from_deltas,
    "distances": _from_distances,
    "cells": _from_cells,
    "cells_and_anchors": _from_cells_and_anchors,
}


# === Choice ===

MOST_OF_ALL_CLASSES = 2000  # of those that are the best of their class
FEW_OF_ALL_CLASSES = 1000  # up to which only one box without an area goes on


def _candidates(scores, decoding):
    """Indices and columns of the pairs that are looked at, the best first."""
    most, least = decoding["topk_candidates"], decoding["score_thresh"]
    if decoding["groups"] is None:
        order = np.argsort(-scores, axis=0, kind="stable")[:most]
        index, labels = order.ravel(), np.broadcast_to(np.arange(scores.shape[1]), order.shape).ravel()
        return _above(scores, index, labels, least, MOST_OF_ALL_CLASSES)
    parts, first = [], 0
    for count in decoding["groups"] or [len(scores)]:
        index, labels = np.nonzero(scores[first : first + count] > least)
        parts.append(_above(scores, first + index, labels, least, most))
        first += count
    index, labels = (np.concatenate(values) for values in zip(*parts, strict=True))
    return _above(scores, index, labels, least, len(index))


def _above(scores, index, labels, least, most):
    values = scores[index, labels]
    order = np.argsort(-values, kind="stable")[: min(most, int((values > least).sum()))]
    return index[order], labels[order]


def _areas(boxes):
    return np.maximum(boxes[:, 2:] - boxes[:, :2], 0).prod(axis=1)


def _wanted(boxes, labels, decoding):
    """Which candidates go on, bool [N]: those that are large enough; SSD's first box without an area, where there are few."""
    if decoding["anchors"] is None:
        return (boxes[:, 2:] - boxes[:, :2] >= decoding["min_side"]).all(axis=1)
    empty = _areas(boxes) <= 0
    if decoding["groups"] is None and len(boxes) <= FEW_OF_ALL_CLASSES:
        return ~empty | (np.cumsum(empty) == 1)
    return np.ones(len(boxes), bool)


def _suppress(boxes, labels, decoding):
    """Non-maximum suppression of each class; boxes without an area count as one. Indices of what is kept, the best first."""
    kept, of_label, areas = [], {}, _areas(boxes)
    for place in range(len(boxes)):
        rivals = of_label.setdefault(int(labels[place]), [])
        if not (_overlaps(boxes, areas, place, rivals) > decoding["nms_thresh"]).any():
            rivals.append(place)
            kept.append(place)
        if len(kept) == decoding["detections_per_img"]:
            break
    return kept


def _overlaps(boxes, areas, place, others):
    if areas[place] <= 0:
        return (areas[others] <= 0).astype(float)
    low = np.maximum(boxes[others, :2], boxes[place, :2])
    high = np.minimum(boxes[others, 2:], boxes[place, 2:])
    shared = np.maximum(high - low, 0).prod(axis=1)
    return shared / (areas[others] + areas[place] - shared)


def _padded(boxes, scores, labels, places):
    free = places - len(boxes)
    return {
        "boxes": np.pad(boxes, ((0, free), (0, 0))).astype(np.float32),
        "scores": np.pad(scores, (0, free)).astype(np.float32),
        "labels": np.pad(labels, (0, free), constant_values=-1).astype(np.int32),
        "num_detections": np.int32(len(boxes)),
    }
