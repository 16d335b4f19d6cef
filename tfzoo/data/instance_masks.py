"""Masks of objects: pasted into pictures, boxed, and as COCO's run lengths. NumPy and pycocotools alone.

Masks are uint8 or bool [N, H, W] of a picture's size, or, in an answer, float32 [N, 28, 28]: probabilities inside each box.
"""

import numpy as np

THRESHOLD = 0.5  # a pixel belongs to an object if its probability is above


def mask_boxes(masks: np.ndarray) -> np.ndarray:
    """The boxes around the pixels of masks [N, H, W]: int [N, 4], xyxy, the last row and column outside; 0 for an empty mask."""
    boxes = np.zeros((len(masks), 4), np.intp)
    in_row = masks.any(axis=2)
    for box, mask, rows in zip(boxes, masks, in_row, strict=True):
        rows = np.flatnonzero(rows)
        if len(rows):
            columns = np.flatnonzero(mask[rows[0] : rows[-1] + 1].any(axis=0))
            box[:] = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
    return boxes


def decode_masks(run_lengths, size) -> np.ndarray:
    """COCO's run lengths, a dict for each object, as masks: uint8 [N, H, W], 0 or 1, for a picture of ``size`` = (H, W)."""
    from pycocotools import mask as mask_utils

    masks = np.zeros((len(run_lengths), *size), np.uint8)
    for mask, runs in zip(masks, run_lengths, strict=True):
        left, top, width, height = mask_utils.toBbox(runs).astype(int)
        area = slice(top, top + height), slice(left, left + width)
        mask[area] = mask_utils.decode(runs)[area]  # pages that are not touched cost nothing
    return masks


def paste_masks(masks, boxes, size, threshold=THRESHOLD) -> np.ndarray:
    """Stretches masks inside boxes over a picture, by torchvision's rule.

    A mask gets a frame of one pixel of 0, and its box is widened likewise (by 30/28), its edges cut down to whole pixels towards 0;
    the mask is stretched to width x2 - x1 + 1 and height y2 - y1 + 1, at least 1, bilinear without antialias. What is beyond the
    picture is cut off.

    Args:
        masks: float32 [N, S, S], probabilities inside the boxes.
        boxes: float32 [N, 4], xyxy in pixels of the picture.
        size: (height, width) of the picture.
        threshold: a pixel belongs to the object if its probability is above.

    Returns:
        bool [N, height, width]
    """
    pasted = np.zeros((len(masks), *size), bool)
    for target, part in zip(pasted, _parts(masks, boxes, size, threshold), strict=True):
        rows, columns, inside = part
        target[rows, columns] = inside
    return pasted


def encode_pasted(masks, boxes, size, threshold=THRESHOLD) -> list[dict]:
    """COCO's run lengths of what ``paste_masks`` gives, without holding it."""
    return _encode(_parts(masks, boxes, size, threshold), size)


def encode_masks(masks) -> list[dict]:
    """COCO's run lengths of masks [N, H, W]: {"size": [height, width], "counts": bytes} each."""
    boxes = zip(*mask_boxes(masks).T.tolist(), strict=True) if len(masks) else ()
    areas = ((slice(top, bottom), slice(left, right)) for left, top, right, bottom in boxes)
    return _encode(((*area, mask[area]) for area, mask in zip(areas, masks, strict=True)), masks.shape[1:])


def _encode(parts, size):
    """Run lengths of masks that are 0 but for (rows, columns, pixels) each."""
    from pycocotools import mask as mask_utils

    canvas, found = np.zeros(size, np.uint8, order="F"), []  # one for all, as columns come first in run lengths
    for rows, columns, pixels in parts:
        canvas[rows, columns] = pixels
        found.append(mask_utils.encode(canvas))
        canvas[rows, columns] = 0
    return found


def _parts(masks, boxes, size, threshold):
    """For each mask the rows and columns (slices) of the picture that its widened box covers, and what it is there, bool."""
    masks = np.pad(np.asarray(masks, np.float32), ((0, 0), (1, 1), (1, 1)))
    side = masks.shape[-1]
    edges = _widened(np.asarray(boxes, np.float32).reshape(-1, 4), np.float32(side / (side - 2)))
    for mask, (left, top, right, bottom) in zip(masks, edges.tolist(), strict=True):
        rows, above, below, down = _samples(top, bottom, size[0], side)
        columns, before, after, across = _samples(left, right, size[1], side)
        lines = mask[:, before] * (1 - across) + mask[:, after] * across
        yield rows, columns, lines[above] * (1 - down)[:, None] + lines[below] * down[:, None] > threshold


def _widened(boxes, scale):
    """Boxes about the same centres, ``scale`` times as wide and high, their edges cut down towards 0: int64 [N, 4].

    In float32, step by step as torchvision does: the last bit may decide about a pixel.
    """
    half = (boxes[:, 2:] - boxes[:, :2]) * np.float32(0.5) * scale
    centre = (boxes[:, 2:] + boxes[:, :2]) * np.float32(0.5)
    return np.concatenate([centre - half, centre + half], axis=1).astype(np.int64)


def _samples(first, last, limit, side):
    """How ``side`` pixels are stretched over the places first to last, as far as these lie in 0 to ``limit``.

    Returns the slice of places, and for each the two pixels that it lies between and the weight of the second one.
    """
    count = max(last - first + 1, 1)
    start, stop = max(first, 0), min(first + count, limit)
    places = np.arange(start, max(stop, start)) - first
    at = np.maximum(np.float32(side / count) * (places.astype(np.float32) + np.float32(0.5)) - np.float32(0.5), 0)
    before = at.astype(np.intp)
    return slice(start, max(stop, start)), before, np.minimum(before + 1, side - 1), (at - before).astype(np.float32)
