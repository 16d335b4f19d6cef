"""Anchors from data: k-means over the sizes of boxes with the distance 1 - IoU (Redmon & Farhadi 2017, YOLO9000, section 2)."""

import numpy as np

from tfzoo.data.boxes import is_wanted, scale_boxes, shortest_sides
from tfzoo.data.dataset import Dataset
from tfzoo.data.images import parse_size
from tfzoo.errors import InputError

ROUNDS = 300  # of one run, at most


def anchor_sizes(dataset: Dataset, count=5, image_size=None, seed=0) -> np.ndarray:
    """Returns sizes that fit the boxes of a data set, float64 [count, 2]: width, height in pixels, from small to large.

    Args:
        dataset: with boxes; crowds and difficult boxes are left out, as in training.
        count: number of sizes.
        image_size: N or (height, width) to which pictures will be stretched; None: they are taken at their own size.
        seed: of the starts.

    Raises:
        InputError: the data have no boxes, or fewer different ones than sizes are asked for.
    """
    return cluster_sizes(box_sizes(dataset, image_size), count, seed)[0]


def require_boxes(dataset: Dataset) -> None:
    """Raises an InputError where a data set was read for a task without boxes."""
    if dataset.task != "semantic":
        return
    way = "read it for the task 'detection' (--task detection, or task='detection' in Python)"
    if "detection" not in dataset.tasks:
        way = "take one that has boxes"
    raise InputError(f"Data set '{dataset.spec}', read for the task 'semantic', has no boxes to find anchors for: {way}.")


def box_sizes(dataset: Dataset, image_size=None) -> np.ndarray:
    """Width and height of all wanted boxes of a data set, float64 [N, 2], in pixels at ``image_size`` (see ``anchor_sizes``)."""
    require_boxes(dataset)
    new_size, sizes = parse_size(image_size), [np.empty((0, 2))]
    for index in range(len(dataset)):
        bounding_boxes, size = dataset.read_boxes(index)
        boxes = bounding_boxes["boxes"][is_wanted(bounding_boxes)].astype(np.float64)
        boxes = scale_boxes(boxes, size, new_size or size)
        boxes = boxes[shortest_sides(boxes) > 0]
        sizes.append(boxes[:, 2:] - boxes[:, :2])
    return np.concatenate(sizes)


def cluster_sizes(sizes, count=5, seed=0, starts=10):
    """k-means over widths and heights, all boxes laid on one centre, with the distance 1 - IoU.

    Args:
        sizes: [N, 2], width and height, above 0.
        count: k.
        seed: of the starts, which are drawn from the data.
        starts: of so many runs the one of the highest mean IoU is taken.

    Returns:
        centres: float64 [count, 2], sorted by area.
        mean_iou: of each box with its centre.

    Raises:
        InputError: there are fewer different sizes than ``count``, or ``count`` is below 1.
    """
    sizes = np.round(np.asarray(sizes, np.float64).reshape(-1, 2), 6)  # equal sizes that were scaled differ in their last digit
    different = len(np.unique(sizes, axis=0))
    if not 1 <= count <= different:
        raise InputError(f"{count} sizes of anchors were asked for, of boxes of {different} different sizes: ask for 1 to as many.")
    rng = np.random.default_rng(seed)
    runs = [_run(sizes, _spread_start(sizes, count, rng)) for _ in range(starts)]
    centres = max(runs, key=lambda centres: _mean_iou(sizes, centres))
    return centres[np.argsort(centres.prod(axis=1), kind="stable")], _mean_iou(sizes, centres)


def size_ious(sizes, others) -> np.ndarray:
    """IoU of boxes on one centre, by their widths and heights: [N, 2] and [M, 2] give [N, M]."""
    shared = np.minimum(sizes[:, None], others[None]).prod(axis=-1)
    return shared / (sizes.prod(axis=1)[:, None] + others.prod(axis=1)[None] - shared)


def _mean_iou(sizes, centres):
    return float(size_ious(sizes, centres).max(axis=1).mean())


def _spread_start(sizes, count, rng):
    """k-means++: the next centre is drawn with the probability of the squared distance from those so far."""
    chosen = [int(rng.integers(len(sizes)))]
    while len(chosen) < count:
        squares = np.square(1 - size_ious(sizes, sizes[chosen]).max(axis=1)).clip(0)
        squares[(sizes[:, None] == sizes[chosen][None]).all(axis=2).any(axis=1)] = 0  # rounding may leave a little
        chosen.append(int(rng.choice(len(sizes), p=squares / squares.sum())))
    return sizes[chosen]


def _run(sizes, centres):
    """Lloyd's rounds until no box changes its centre; a centre that loses all of its boxes stays where it is."""
    nearest = None
    for _ in range(ROUNDS):
        before, nearest = nearest, size_ious(sizes, centres).argmax(axis=1)
        if before is not None and (before == nearest).all():
            break
        centres = np.array([sizes[nearest == i].mean(axis=0) if (nearest == i).any() else c for i, c in enumerate(centres)])
    return centres
