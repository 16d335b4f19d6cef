"""Random changes to training pictures with objects: boxes, and masks or keypoints with them.

All geometry is one window of the picture, perhaps larger than it, perhaps mirrored, that is stretched to the wanted size: zoom-out
and crop of SSD (Liu et al. 2016, sections 2.2 and 3.6) and scale jitter only change the window, and the picture is resampled once.
"""

import numpy as np

from tfzoo.data.augmentation import FILL, Augmentation, draw_factor
from tfzoo.data.boxes import box_ious, clip_boxes, shortest_sides
from tfzoo.data.images import resize_image
from tfzoo.data.objects import PADDING, Objects, View, centred_within
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


def change_geometry(image, objects: Objects, size, augmentation: Augmentation, rng: np.random.Generator, shares=(1.0, 1.0)):
    """Brings a picture and its objects to ``size``, with the augmentation's zoom-out, crop, scale and flips.

    Args:
        image: uint8 [H, W, 3]; objects: in its pixels. Those of the label ``PADDING`` are none, and are only taken along.
        size: (height, width) of the result.
        shares: (vertical, horizontal): of what is drawn, only a part of these shares of its sides is shown, at a random place.

    Returns:
        what ``show`` returns.
    """
    window = draw_window(image.shape[:2], objects.boxes[objects.labels != PADDING], augmentation, rng)
    if tuple(shares) != (1.0, 1.0):
        window = _resized(window, shares, rng)
    directions = augmentation.flip.split("_and_") if augmentation.flip else []
    mirrored = [direction for direction in directions if rng.random() < 0.5]
    return show(image, objects, window, size, mirrored)


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
            inside = boxes[centred_within(boxes, crop)]
            if len(inside) and box_ious(inside, crop[None]).max() >= least:
                return crop


def show(image, objects: Objects, window, size, mirrored=()):
    """Stretches a window of a picture to ``size``; what lies outside the picture is filled with the ImageNet mean.

    Boxes are cut off at the borders of the picture and of the window. Dropped are those whose centre is outside the window
    (Liu et al. 2016, section 2.2) and those that are less than a pixel of the result wide or high. An object with a mask stays as
    long as a pixel of it is seen, and its box becomes that of what is seen. Points outside the window become unknown.

    Args:
        image: uint8 [H, W, 3]; objects: in its pixels.
        window: (left, top, right, bottom) in pixels of the picture, anywhere.
        size: (height, width) of the result.
        mirrored: any of "horizontal", "vertical".

    Returns:
        the picture, uint8 [height, width, 3]; the objects that are left, in its pixels.
    """
    view = View(image.shape[:2], tuple(np.asarray(window, np.float64).tolist()), tuple(size))
    canvas, shown = stretch(image, view), objects.through(view)
    kept = shortest_sides(shown.boxes) >= MIN_SIDE
    if objects.masks is None:
        kept &= view.centred(clip_boxes(objects.boxes, image.shape[:2]))
    else:
        kept &= shown.masks.any(axis=(1, 2))
    shown = shown.select(kept)
    for direction in mirrored:
        canvas, shown = np.flip(canvas, 1 if direction == "horizontal" else 0), shown.mirrored(direction, size)
    return np.ascontiguousarray(canvas), shown


def stretch(image, view: View) -> np.ndarray:
    """What a view shows of a picture, uint8 [height, width, 3]; where there is no picture, the ImageNet mean."""
    if view.is_whole:
        return resize_image(image, view.size)
    (rows, columns), part = view.place()
    canvas = np.full((*view.size, 3), FILL, np.uint8)
    count = rows.stop - rows.start, columns.stop - columns.start
    if min(count) > 0:
        canvas[rows, columns] = resize_image(image, count, part)
    return canvas


def mosaic(samples, size, augmentation: Augmentation, rng: np.random.Generator):
    """Puts four pictures together (Bochkovskiy et al. 2020, section 3.3), each changed as by ``change_geometry`` and cut.

    They meet at a random point. Each is shown at one scale in both directions (of its stretch to ``size``), between the smallest
    at which it fills its quarter and that of the whole picture.

    Args:
        samples: four of (image, objects); the objects have boxes and labels only.
        size: (height, width) of the result.

    Returns:
        picture and objects, as ``show`` does.
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
        picture, objects = change_geometry(*sample, part, augmentation, rng, shares)
        canvas[top:bottom, left:right] = picture
        all_boxes.append(objects.boxes + np.array([left, top, left, top], np.float32))
        all_labels.append(objects.labels)
    return canvas, Objects(np.concatenate(all_boxes), np.concatenate(all_labels))
