"""Anchors by torchvision's rules, worked by hand."""

import numpy as np
import pytest
import tensorflow as tf

from tfzoo.layers.anchors import AnchorGenerator
from tfzoo.layers.fpn import level_sizes
from tfzoo.models.fcos import POINTS
from tfzoo.models.retinanet import ANCHORS


def test_cell_by_hand():
    """Ratios are height / width; a ratio's sizes stand together."""
    generator = AnchorGenerator([(8, 16)], (0.25, 1.0, 4.0))
    assert generator.per_cell == 6
    np.testing.assert_array_equal(
        generator.grid([(1, 1)], (32, 32)),
        [(-8, -2, 8, 2), (-16, -4, 16, 4), (-4, -4, 4, 4), (-8, -8, 8, 8), (-2, -8, 2, 8), (-4, -16, 4, 16)],
    )


def test_halves_are_rounded_to_even():
    for side, half in ((5, 2), (7, 4), (9, 4), (101, 50), (203, 102)):
        np.testing.assert_array_equal(AnchorGenerator([(side,)], (1.0,)).grid([(1, 1)], (64, 64)), [[-half, -half, half, half]])


def test_retinanets_sizes_are_whole_numbers():
    assert ANCHORS.sizes == [(32, 40, 50), (64, 80, 101), (128, 161, 203), (256, 322, 406), (512, 645, 812)]
    assert ANCHORS.per_cell == 9
    # 32: sqrt(0.5) gives 45.25 x 22.63, half of which is 22.6 and 11.3
    np.testing.assert_array_equal(ANCHORS.cells[0][0], [-23, -11, 23, 11])
    np.testing.assert_array_equal(ANCHORS.cells[0][8], [-18, -35, 18, 35])  # 50: 35.4 x 70.7


def test_order_is_row_column_anchor():
    generator = AnchorGenerator([(2,), (4,)], (1.0,))
    found = generator.grid([(2, 3), (1, 1)], (16, 24))
    centres = [(x, y) for y in (0, 8) for x in (0, 8, 16)]
    expected = [(x - 1, y - 1, x + 1, y + 1) for x, y in centres] + [(-2, -2, 2, 2)]
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == np.float32


def test_steps_at_a_height_of_800():
    """P6 has 13 rows and P7 has 7, so their steps are 800 // 13 = 61 and 800 // 7 = 114."""
    size = (800, 1088)
    sizes = level_sizes(size, 8, 3, 5)
    assert sizes == [(100, 136), (50, 68), (25, 34), (13, 17), (7, 9)]
    anchors, first, steps = POINTS.grid(sizes, size), 0, []
    for rows, columns in sizes:
        level = anchors[first : first + rows * columns].reshape(rows, columns, 4)
        first += rows * columns
        centres = (level[..., :2] + level[..., 2:]) / 2
        assert (centres[0, 0] == 0).all()
        steps.append((np.unique(np.diff(centres[..., 1], axis=0)).tolist(), np.unique(np.diff(centres[..., 0], axis=1)).tolist()))
    assert first == len(anchors)
    assert steps == [([8], [8]), ([16], [16]), ([32], [32]), ([61], [64]), ([114], [120])]


@pytest.mark.parametrize("size", [(96, 128), (800, 1088), (32, 32)])
def test_sizes_known_at_run_time_give_the_same(size):
    @tf.function(input_signature=[tf.TensorSpec((2,), tf.int32)])
    def grid(size):
        size = (size[0], size[1])
        return ANCHORS.grid(level_sizes(size, 8, 3, 5), size)

    static = ANCHORS.grid(level_sizes(size, 8, 3, 5), size)
    assert isinstance(static, np.ndarray)
    np.testing.assert_array_equal(grid(tf.constant(size)), static)
