"""Boxes as NumPy arrays: float [..., N, 4], xyxy in pixels, of one picture."""

import numpy as np


def scale_boxes(boxes: np.ndarray, size, new_size) -> np.ndarray:
    """Carries boxes along when their picture is stretched from ``size`` to ``new_size``, both (height, width)."""
    y, x = new_size[0] / size[0], new_size[1] / size[1]
    return boxes if y == x == 1 else (boxes * np.array([x, y, x, y])).astype(boxes.dtype)


def clip_boxes(boxes: np.ndarray, size) -> np.ndarray:
    """Cuts boxes off at the borders of a picture of ``size`` = (height, width)."""
    height, width = size
    return np.clip(boxes, 0, np.array([width, height, width, height], boxes.dtype))


def shortest_sides(boxes: np.ndarray) -> np.ndarray:
    """The shorter side of each box, [N]; negative where an edge is on the wrong side."""
    return (boxes[..., 2:] - boxes[..., :2]).min(axis=-1)


def box_areas(boxes: np.ndarray) -> np.ndarray:
    """Areas [N]; 0 where an edge is on the wrong side."""
    return np.maximum(boxes[..., 2:] - boxes[..., :2], 0).prod(axis=-1)


def box_ious(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Intersection over union of each pair: [N, 4] and [M, 4] give [N, M]; 0 where neither has an area."""
    corners = np.maximum(boxes[:, None, :2], others[None, :, :2]), np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    shared = box_areas(np.concatenate(corners, axis=-1))
    union = box_areas(boxes)[:, None] + box_areas(others) - shared
    return shared / np.where(union > 0, union, 1)


def is_wanted(bounding_boxes: dict) -> np.ndarray:
    """Which of a sample's boxes a detector should find, bool [N]: not crowds (COCO), not difficult ones (VOC)."""
    unwanted = bounding_boxes["crowd"]
    return ~(unwanted | bounding_boxes["difficult"]) if "difficult" in bounding_boxes else ~unwanted
