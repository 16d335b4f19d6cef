"""What FCOS's places learn, worked by hand."""

import numpy as np
import pytest

from tfzoo.layers.fpn import level_sizes
from tfzoo.layers.matcher import BACKGROUND
from tfzoo.models.fcos import POINTS, assign, centerness, decode

SIZE = (256, 256)
SIZES = level_sizes(SIZE, 8, 3, 5)
ANCHORS = POINTS.grid(SIZES, SIZE)


def learned(*boxes, real=None):
    """Which box each level's places learn: (level, x, y) -> index, without background."""
    given, real = np.array([boxes], np.float32), np.array([real or [True] * len(boxes)])
    found, first, places = np.asarray(assign(given, real, ANCHORS, 1.5))[0], 0, {}
    assert found.shape == (len(ANCHORS),)
    for level, (rows, columns) in enumerate(SIZES, start=3):
        for row, column in np.argwhere(found[first : first + rows * columns].reshape(rows, columns) != BACKGROUND):
            places[level, int(column) * 2**level, int(row) * 2**level] = int(found[first + row * columns + column])
        first += rows * columns
    return places


def test_a_small_box_is_learned_around_its_centre_on_the_finest_level():
    """Centre (120, 120); 1.5 strides are 12 pixels."""
    assert learned((100, 100, 140, 140)) == {(3, x, y): 0 for x in (112, 120, 128) for y in (112, 120, 128)}


def test_levels_share_boxes_by_the_farthest_side():
    """At its centre (128, 128) the farthest side is 64 away: too far for P3, and not far enough for P4."""
    around = {(4, x, y): 0 for x in (112, 128, 144) for y in (112, 128, 144)}
    del around[4, 128, 128]
    assert learned((64, 64, 192, 192)) == around


def test_places_outside_a_box_or_on_its_border_do_not_learn_it():
    assert learned((112, 116, 128, 124)) == {(3, 120, 120): 0}
    assert learned((121, 121, 127, 127)) == {}


def test_the_smallest_of_several_boxes_is_learned():
    large, small = (90, 90, 150, 150), (100, 100, 140, 140)
    assert set(learned(large, small).values()) == {1}
    assert set(learned(small, large).values()) == {0}
    assert set(learned(small, large, real=[False, True]).values()) == {1}


def test_the_coarsest_level_takes_the_largest_boxes():
    """However large: of this one the area is 9e8, and the box before it is padding."""
    assert learned((0, 0, 0, 0), (-15000, -15000, 15128, 15128), real=[False, True]) == {
        (7, x, y): 1 for x in (0, 128) for y in (0, 128)
    }


def test_without_real_boxes_nothing_is_learned():
    assert learned((100, 100, 140, 140), real=[False]) == {}


def test_centerness_by_hand():
    boxes = np.array([(0, 0, 10, 10), (0, 0, 10, 10), (2, 0, 12, 10), (6, 0, 16, 10)], np.float32)
    place = np.array([(1, 1, 9, 9)], np.float32)  # centre (5, 5)
    np.testing.assert_allclose(centerness(boxes, place), [1, 1, np.sqrt(3 / 7), 0], rtol=1e-6)
    lower = np.array([(1, 4, 9, 12)], np.float32)  # centre (5, 8)
    assert float(centerness(boxes[:1], lower)[0]) == pytest.approx(np.sqrt(2 / 8))


def test_distances_are_in_strides():
    place = np.array([(-8, 8, 8, 24)], np.float32)  # centre (0, 16), stride 16
    np.testing.assert_array_equal(decode(np.array([[0.5, 1, 2, 0]], np.float32), place), [[-8, 0, 32, 16]])
