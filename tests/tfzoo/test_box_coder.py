"""Boxes as changes of anchors, worked by hand."""

import math

import numpy as np
import pytest

from tfzoo.layers.box_coder import BoxCoder

ANCHOR = np.array([[0, 0, 10, 20]], np.float32)  # centre (5, 10)
BOX = np.array([[5, 10, 25, 20]], np.float32)  # centre (15, 15), 20 x 10
DELTAS = [[10 / 10, 5 / 20, math.log(2), -math.log(2)]]


def test_encodes_by_hand():
    np.testing.assert_allclose(BoxCoder().encode(BOX, ANCHOR), DELTAS, rtol=1e-6)
    weighted = np.multiply(DELTAS, [10, 10, 5, 5])
    np.testing.assert_allclose(BoxCoder((10, 10, 5, 5)).encode(BOX, ANCHOR), weighted, rtol=1e-6)


def test_decodes_by_hand():
    np.testing.assert_allclose(BoxCoder().decode(np.array(DELTAS, np.float32), ANCHOR), BOX, rtol=1e-6)
    half = np.multiply(DELTAS, [10, 10, 5, 5]).astype(np.float32)
    np.testing.assert_allclose(BoxCoder((10, 10, 5, 5)).decode(half, ANCHOR), BOX, rtol=1e-6)


def test_no_change_is_the_anchor_itself():
    np.testing.assert_array_equal(BoxCoder().encode(ANCHOR, ANCHOR), np.zeros((1, 4)))
    np.testing.assert_array_equal(BoxCoder().decode(np.zeros((1, 4), np.float32), ANCHOR), ANCHOR)


@pytest.mark.parametrize("weights", [(1, 1, 1, 1), (10, 10, 5, 5)])
def test_growth_ends_at_1000_of_16_pixels(weights):
    """Above only: a side may shrink to nothing. The clamp is of the logarithm, behind the weights."""
    deltas = np.array([[0, 0, 1e4, -1e4]], np.float32)
    left, top, right, bottom = np.asarray(BoxCoder(weights).decode(deltas, ANCHOR))[0]
    assert (right - left, (left + right) / 2) == (pytest.approx(10 * 62.5, rel=1e-5), pytest.approx(5, abs=1e-3))
    assert top == bottom == 10
    just_below = np.array([[0, 0, math.log(60) * weights[2], 0]], np.float32)
    left, _, right, _ = np.asarray(BoxCoder(weights).decode(just_below, ANCHOR))[0]
    assert right - left == pytest.approx(600, rel=1e-5)


def test_there_and_back_with_a_batch():
    rng = np.random.default_rng(0)
    corners, sides = rng.uniform(0, 300, (2, 50, 2)), rng.uniform(4, 200, (2, 50, 2))
    boxes = np.concatenate([corners, corners + sides], axis=-1).astype(np.float32)
    anchors = boxes[0][::-1]
    coder = BoxCoder((10, 10, 5, 5))
    np.testing.assert_allclose(coder.decode(coder.encode(boxes, anchors), anchors), boxes, atol=2e-3)
