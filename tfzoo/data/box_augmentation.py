"""Random changes to training pictures with boxes.

All geometry is one window of the picture, perhaps larger than it, perhaps mirrored, that is stretched to the wanted size: zoom-out
and crop of SSD (Liu et al. 2016, sections 2.2 and 3.6) and scale jitter only change the window, and the picture is resampled once.
"""

import numpy as np

from tfzoo.data.augmentation import FILL, Augmentation, draw_factor
from tfzoo.data.boxes import box_ious, clip_boxes, shortest_sides
from tfzoo.data.images import resize_image
from tfzoo.errors import InputError

ZOOM_OUT_PROBABILITY = 0.5
LEAST_OVERLAPS = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0)  # with one object at least; 1.0 stands for no crop
CROP_TRIALS = 40
CROP_SIDES = (0.3, 1.0)  # shares of the window's sides
CROP_RATIOS = (0.5, 2.0)  # of width to height
MOSAIC_CENTRE = (0.25, 0.75)  # shares of the sides, where the four pictures meet
MIN_SIDE = 1.0  # pixels of the result: a box of which less is left is dropped


def check_boxes_can_follow(augmentation: Augmentation) -> None:
    """Raises an InputError for what would turn or bend boxes, so that they were upright boxes no more."""
    for name in ("rotation", "translation", "elastic"):
        if getattr(augmentation, name):
            raise InputError(f"{name} is {getattr(augmentation, name)}: pictures with boxes cannot have it; set it to 0.")


def change_geometry(image, boxes, labels, size, augmentation: Augmentation, rng: np.random.Generator, shares=(1.0, 1.0)):
    """Brings a picture and its boxes to ``size``, with the augmentation's zoom-out, crop, scale and flips.

    Args:
        image: uint8 [H, W, 3]; boxes: float32 [N, 4], xyxy in its pixels; labels: int32 [N].
        size: (height, width) of the result.
        shares: (vertical, horizontal): of what is drawn, only a part of these shares of its sides is shown, at a random place.

    Returns:
        what ``show`` returns.
    """
    window = draw_window(image.shape[:2], boxes, augmentation, rng)
    if tuple(shares) != (1.0, 1.0):
        window = _resized(window, shares, rng)
    directions = augmentation.flip.split("_and_") if augmentation.flip else []
    mirrored = [direction for direction in directions if rng.random() < 0.5]
    return show(image, boxes, labels, window, size, mirrored)


def draw_window(picture_size, boxes, augmentation: Augmentation, rng: np.random.Generator) -> np.ndarray:
    """Draws the part of a picture, and of the plane around it, to be shown: float64 (left, top, right, bottom) in its pixels."""
    height, width = picture_size
    window = np.array([0, 0, width, height], np.float64)
    if augmentation.zoom_out > 1 and rng.random() < ZOOM_OUT_PROBABILITY:
        window = _resized(window, [rng.uniform(1, augmentation.zoom_out)] * 2, rng)
    if augmentation.iou_crop and len(boxes):
        window = draw_iou_crop(window, boxes, rng)
    if tuple(augmentation.scale) != (1.0, 1.0):
        window = _resized(window, [1 / draw_factor(augmentation.scale, rng)] * 2, rng)
    return window


def _resized(window, factors, rng):
    """A window whose (height, width) are multiplied by the factors: at a random place within the old one, or around it."""
    old = window[2:] - window[:2]
    new = old * np.array(factors[::-1])
    start = window[:2] + rng.uniform(size=2) * (old - new)
    return np.concatenate([start, start + new])


def draw_iou_crop(window, boxes, rng: np.random.Generator) -> np.ndarray:
    """SSD's random crop of a window: one of the boxes whose centres are inside overlaps it by at least a drawn least IoU.

    A least IoU that no crop meets in forty trials is drawn again; the one that stands for no crop comes up in the end.
    """
    while True:
        least = rng.choice(LEAST_OVERLAPS)
        if least == 1:
            return window
        for _ in range(CROP_TRIALS):
            sides = rng.uniform(*CROP_SIDES, size=2) * (window[2:] - window[:2])
            start = window[:2] + rng.uniform(size=2) * (window[2:] - window[:2] - sides)
            crop = np.concatenate([start, start + sides])
            if not CROP_RATIOS[0] <= sides[0] / sides[1] <= CROP_RATIOS[1]:
                continue
            inside = boxes[_centred_within(boxes, crop)]
            if len(inside) and box_ious(inside, crop[None]).max() >= least:
                return crop


def _centred_within(boxes, window):
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    return ((centres >= window[:2]) & (centres < window[2:])).all(axis=1)


def show(image, boxes, labels, window, size, mirrored=()):
    """Stretches a window of a picture to ``size``; what lies outside the picture is filled with the ImageNet mean.

    Boxes are cut off at the borders of the picture and of the window. Dropped are those whose centre is outside the window
    (Liu et al. 2016, section 2.2) and those that are less than a pixel of the result wide or high.

    Args:
        image: uint8 [H, W, 3]; boxes: float32 [N, 4], xyxy in its pixels; labels: int32 [N].
        window: (left, top, right, bottom) in pixels of the picture, anywhere.
        size: (height, width) of the result.
        mirrored: any of "horizontal", "vertical".

    Returns:
        the picture, uint8 [height, width, 3]; the boxes that are left, float32 [M, 4], in its pixels; their labels, int32 [M].
    """
    canvas = _stretch(image, window, size)
    window = np.asarray(window, np.float64)
    boxes = clip_boxes(boxes, image.shape[:2])
    kept = _centred_within(boxes, window)
    scale = np.array(size[::-1]) / (window[2:] - window[:2])
    boxes = clip_boxes((boxes[kept] - np.tile(window[:2], 2)) * np.tile(scale, 2), size)
    labels = labels[kept]
    large = shortest_sides(boxes) >= MIN_SIDE
    boxes, labels = boxes[large], labels[large]
    for direction in mirrored:
        axis = 0 if direction == "horizontal" else 1
        canvas = np.flip(canvas, 1 - axis)
        boxes[:, [axis, axis + 2]] = size[1 - axis] - boxes[:, [axis + 2, axis]]
    return np.ascontiguousarray(canvas), boxes.astype(np.float32), labels


def _stretch(image, window, size):
    height, width = image.shape[:2]
    if tuple(window) == (0, 0, width, height):
        return resize_image(image, size)
    left, top, right, bottom = window
    step_x, step_y = (right - left) / size[1], (bottom - top) / size[0]  # pixels of the picture in one of the result
    # The pixels of the result that are wholly inside the picture: so the part shown has the scale that its boxes have.
    first_x, first_y = (max(int(np.ceil(-start / step - 1e-9)), 0) for start, step in ((left, step_x), (top, step_y)))
    last_x = min(int(np.floor((width - left) / step_x + 1e-9)), size[1])
    last_y = min(int(np.floor((height - top) / step_y + 1e-9)), size[0])
    canvas = np.full((*size, 3), FILL, np.uint8)
    if last_x > first_x and last_y > first_y:
        part = np.array([left + first_x * step_x, top + first_y * step_y, left + last_x * step_x, top + last_y * step_y])
        part = tuple(np.clip(part, 0, (width, height, width, height)))
        canvas[first_y:last_y, first_x:last_x] = resize_image(image, (last_y - first_y, last_x - first_x), part)
    return canvas


def mosaic(samples, size, augmentation: Augmentation, rng: np.random.Generator):
    """Puts four pictures together (Bochkovskiy et al. 2020, section 3.3), each changed as by ``change_geometry`` and cut.

    They meet at a random point. Each is shown at one scale in both directions (of its stretch to ``size``), between the smallest
    at which it fills its quarter and that of the whole picture.

    Args:
        samples: four of (image, boxes, labels).
        size: (height, width) of the result.

    Returns:
        picture, boxes and labels, as ``show`` does.
    """
    canvas = np.empty((*size, 3), np.uint8)
    middle = [round(side * rng.uniform(*MOSAIC_CENTRE)) for side in size]
    all_boxes, all_labels = [], []
    for number, sample in enumerate(samples):
        (top, bottom), (left, right) = (
            (0, centre) if first else (centre, side)
            for first, centre, side in zip((number < 2, number % 2 == 0), middle, size, strict=True)
        )
        part = bottom - top, right - left
        filled = part[0] / size[0], part[1] / size[1]
        shares = np.array(filled) / rng.uniform(max(filled), 1)
        picture, boxes, labels = change_geometry(*sample, part, augmentation, rng, shares)
        canvas[top:bottom, left:right] = picture
        all_boxes.append(boxes + np.array([left, top, left, top], np.float32))
        all_labels.append(labels)
    return canvas, np.concatenate(all_boxes), np.concatenate(all_labels)
