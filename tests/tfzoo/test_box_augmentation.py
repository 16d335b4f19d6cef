"""Picture and boxes moving together."""

import numpy as np
import pytest

from tfzoo.data.augmentation import FILL, NO_AUGMENTATION, Augmentation
from tfzoo.data.box_augmentation import (
    LEAST_OVERLAPS,
    change_geometry,
    check_boxes_can_follow,
    draw_iou_crop,
    draw_window,
    mosaic,
    show,
)
from tfzoo.data.boxes import box_ious
from tfzoo.data.objects import Objects

STILL = {"scale": (1, 1), "flip": None, "brightness": 0, "contrast": 0}
COLOURS = np.array([(255, 0, 0), (0, 255, 0), (0, 0, 255)], np.uint8)


def painted(seed=0, height=120, width=160):
    """A black picture with three rectangles that do not touch, each filled with the colour of its label; and the objects."""
    rng = np.random.default_rng(seed)
    image, boxes = np.zeros((height, width, 3), np.uint8), []
    for label in range(3):
        left = rng.integers(label * 53, label * 53 + 15)
        top = rng.integers(0, 60)
        right, bottom = left + rng.integers(20, 36), top + rng.integers(20, 59)
        image[top:bottom, left:right] = COLOURS[label]
        boxes.append((left, top, right, bottom))
    return image, numbered(boxes)


def numbered(boxes):
    """Objects with the boxes given, labelled 0, 1, ..."""
    return Objects(np.array(boxes, np.float32).reshape(-1, 4), np.arange(len(boxes), dtype=np.int32))


def seen(image, label):
    """The box around the pixels that are more of the label's colour than of anything else; None where there are none."""
    others = np.delete(image.astype(int), label, axis=-1).max(axis=-1)
    rows, columns = np.nonzero((image[..., label] > 128) & (others < 128))
    return (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) if len(rows) else None


# === One window ===


def test_a_window_is_stretched_and_boxes_with_it():
    """The window x 20 to 60, y 10 to 30 at twice its size: by hand, (x - 20) * 2 and (y - 10) * 2."""
    image, _ = painted()
    objects = numbered([[30, 15, 40, 20], [10, 5, 36, 25], [55, 12, 80, 16], [70, 12, 90, 20]])
    picture, moved = show(image, objects, (20, 10, 60, 30), (40, 80))
    assert picture.shape == (40, 80, 3) and moved.boxes.dtype == np.float32 and moved.labels.dtype == np.int32
    # The second is cut off at the left and at the top; the third has its centre outside, the fourth all of it.
    assert moved.labels.tolist() == [0, 1]
    np.testing.assert_array_equal(moved.boxes, [[20, 10, 40, 20], [0, 0, 32, 30]])


def test_mirrors():
    image, _ = painted()
    whole = (0, 0, 160, 120)
    for mirrored, expected, flipped in (
        (("horizontal",), [120, 15, 130, 20], image[:, ::-1]),
        (("vertical",), [30, 100, 40, 105], image[::-1]),
        (("horizontal", "vertical"), [120, 100, 130, 105], image[::-1, ::-1]),
    ):
        picture, moved = show(image, numbered([[30, 15, 40, 20]]), whole, (120, 160), mirrored)
        np.testing.assert_array_equal(picture, flipped)
        np.testing.assert_array_equal(moved.boxes, [expected])


def test_outside_the_picture_is_fill():
    image = np.full((10, 20, 3), 200, np.uint8)
    picture, objects = show(image, numbered([[0, 0, 20, 10]]), (-20, -10, 40, 20), (30, 60))
    assert (picture[10:20, 20:40] == 200).all() and (picture == FILL).all(axis=-1).sum() == 30 * 60 - 10 * 20
    np.testing.assert_array_equal(objects.boxes, [[20, 10, 40, 20]])


@pytest.mark.parametrize(
    "box",
    [(30, 15, 30, 40), (30, 40, 50, 20), (-20, 5, -1, 10), (150, 5, 169, 10), (200, 5, 210, 10), (30, 15, 31, 40)],
    ids=["no width", "upside down", "left of the picture", "half outside", "right of the picture", "below a pixel when shrunk"],
)
def test_boxes_of_less_than_a_pixel_inside_are_dropped(box):
    image, _ = painted()
    _, objects = show(image, numbered([box]), (0, 0, 160, 120), (60, 80))
    expected = [[75, 2.5, 80, 5]] if box[0] == 150 else []
    np.testing.assert_array_equal(objects.boxes, np.reshape(np.array(expected, np.float32), (-1, 4)))


# === What is drawn ===


@pytest.mark.parametrize(
    "augmentation",
    [
        NO_AUGMENTATION,
        Augmentation(**STILL | {"flip": "horizontal_and_vertical"}),
        Augmentation(**STILL | {"scale": (0.5, 2.0)}),
        Augmentation(**STILL, zoom_out=4.0),
        Augmentation(**STILL, iou_crop=True),
        Augmentation(zoom_out=2.0, iou_crop=True, scale=(0.7, 1.5)),
    ],
    ids=["none", "flips", "scale", "zoom-out", "crop", "all"],
)
@pytest.mark.parametrize("size", [(120, 160), (97, 71)])
def test_boxes_stay_around_what_they_are_boxes_of(augmentation, size):
    """Within a pixel: an edge between two pixels is found at the nearest one, and interpolation blurs it."""
    changed = kept = 0
    for seed in range(25):
        image, objects = painted(seed)
        picture, left = change_geometry(image, objects, size, augmentation, np.random.default_rng(seed))
        boxes, moved = objects.boxes, left.boxes
        assert picture.shape == (*size, 3) and picture.dtype == np.uint8
        for box, label in zip(moved, left.labels, strict=True):
            if min(box[2] - box[0], box[3] - box[1]) >= 4:
                np.testing.assert_allclose(box, seen(picture, label), atol=1.0)
                kept += 1
        changed += (moved.shape != boxes.shape) or not np.allclose(moved, boxes)
    assert kept > 25
    assert changed > 5 or (augmentation is NO_AUGMENTATION and changed == 25 * (size != (120, 160)))


def test_nothing_drawn_is_a_plain_resize():
    image, objects = painted()
    picture, moved = change_geometry(image, objects, (60, 80), NO_AUGMENTATION, np.random.default_rng(0))
    np.testing.assert_array_equal(moved.boxes, objects.boxes / 2)
    np.testing.assert_array_equal(picture, show(image, objects, (0, 0, 160, 120), (60, 80))[0])


def test_zoom_out_happens_to_half_of_the_pictures_and_never_cuts():
    """SSD: a canvas of up to so many times the sides, the picture anywhere on it."""
    factors, places = [], []
    for seed in range(400):
        window = draw_window((120, 160), np.zeros((0, 4)), Augmentation(**STILL, zoom_out=4.0), np.random.default_rng(seed))
        left, top, right, bottom = window
        assert left <= 0 and top <= 0 and right >= 160 - 1e-9 and bottom >= 120 - 1e-9
        assert (right - left) / 160 == pytest.approx((bottom - top) / 120)
        factors.append((right - left) / 160)
        places.append(-left / max(right - left - 160, 1e-9))
    zoomed = np.array(factors) > 1
    assert 0.4 < zoomed.mean() < 0.6
    assert max(factors) <= 4 and max(factors) > 3.8 and min(np.array(factors)[zoomed]) < 1.2
    assert 0.4 < np.array(places)[zoomed].mean() < 0.6  # uniform over what room there is


def test_a_crop_overlaps_an_object_as_drawn():
    window = np.array([0, 0, 160, 120], np.float64)
    boxes = painted()[1].boxes
    crops = [draw_iou_crop(window, boxes, np.random.default_rng(seed)) for seed in range(300)]
    whole = sum(np.array_equal(crop, window) for crop in crops)
    assert 300 / len(LEAST_OVERLAPS) * 0.6 < whole < 300 * 0.6  # one of seven at once; others after trials in vain
    least = []
    for crop in crops:
        sides = crop[2:] - crop[:2]
        assert (crop[:2] >= 0).all() and (crop[2:] <= (160 + 1e-9, 120 + 1e-9)).all()
        assert (sides >= 0.3 * window[2:] - 1e-9).all() and 0.5 <= sides[0] / sides[1] <= 2
        centres = (boxes[:, :2] + boxes[:, 2:]) / 2
        inside = ((centres >= crop[:2]) & (centres < crop[2:])).all(axis=1)
        assert inside.any()
        least.append(box_ious(boxes[inside], crop[None]).max())
    assert min(least) < 0.1  # with a least IoU of 0 a small part of a box is enough


def test_a_crop_of_a_picture_without_boxes_is_the_whole():
    window = draw_window((50, 60), np.zeros((0, 4)), Augmentation(**STILL, iou_crop=True), np.random.default_rng(0))
    assert window.tolist() == [0, 0, 60, 50]


def test_mosaic_puts_four_pictures_together():
    samples = [(np.full((40, 40, 3), value, np.uint8), painted()[1]) for value in (10, 60, 110, 160)]
    for seed in range(20):
        canvas, _ = mosaic(samples, (60, 80), Augmentation(**STILL), np.random.default_rng(seed))
        assert [canvas[0, 0, 0], canvas[0, -1, 0], canvas[-1, 0, 0], canvas[-1, -1, 0]] == [10, 60, 110, 160]
        height, width = (canvas[:, 0, 0] == 10).sum(), (canvas[0, :, 0] == 10).sum()
        assert 15 <= height <= 45 and 20 <= width <= 60
        assert (canvas[:height, :width] == 10).all() and (canvas[height:, width:] == 160).all()


def test_boxes_of_a_mosaic_stay_around_their_objects():
    """Each picture has one object, of its own colour."""
    kept = 0
    for seed in range(30):
        samples = []
        for number in range(3):
            image, objects = painted(seed)
            image[(image != COLOURS[number]).any(axis=-1)] = 0
            samples.append((image, objects.select(np.array([number]))))
        samples.append((np.zeros_like(image), numbered([])))
        canvas, found = mosaic(samples, (120, 160), Augmentation(**STILL), np.random.default_rng(seed))
        for box, label in zip(found.boxes, found.labels, strict=True):
            np.testing.assert_allclose(box, seen(canvas, label), atol=1.0)
            kept += 1
    assert kept > 20


def test_one_seed_gives_the_same_picture_and_another_another():
    everything = Augmentation(zoom_out=2.0, iou_crop=True)
    first, again, other = (change_geometry(*painted(), (64, 64), everything, np.random.default_rng(seed)) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[1].boxes, again[1].boxes)
    assert (first[0] != other[0]).any()


@pytest.mark.parametrize("name", ["rotation", "translation", "elastic"])
def test_what_would_turn_boxes_is_refused(expect_sentence, name):
    expect_sentence(lambda: check_boxes_can_follow(Augmentation(**{name: 0.5})), f"{name} is 0.5", "set it to 0")
