"""Areas, overlaps and cuts of boxes, worked by hand."""

import numpy as np
import pytest
import tensorflow as tf

from tfzoo.layers.boxes import box_area, box_iou, clip_boxes, from_centre, generalized_iou, real_boxes, to_centre


def boxes(*values):
    return np.array(values, np.float32)


def test_areas_by_hand():
    # a plain one, one in halves of a pixel, a line, a point, one whose sides lie the wrong way round, one wrong way round in both
    given = boxes((1, 2, 5, 10), (0.5, 0.5, 2, 1.5), (3, 3, 3, 9), (4, 4, 4, 4), (9, 0, 5, 7), (9, 9, 5, 5))
    np.testing.assert_array_equal(box_area(given), [32, 1.5, 0, 0, 0, 0])


def test_iou_by_hand():
    a = boxes((0, 0, 10, 10), (0, 0, 4, 4))
    b = boxes((5, 5, 15, 15), (0, 0, 10, 10), (10, 0, 20, 10), (1, 1, 3, 3))
    expected = [[25 / 175, 1, 0, 4 / 100], [0, 16 / 100, 0, 4 / 16]]
    np.testing.assert_allclose(box_iou(a, b), expected, rtol=1e-6)


def test_iou_of_batches_pairs_each_with_each():
    rng = np.random.default_rng(0)
    corner = rng.uniform(0, 50, (2, 3, 2))
    a = np.concatenate([corner, corner + rng.uniform(1, 40, (2, 3, 2))], axis=-1).astype(np.float32)
    shared = a[0, :2] + 3
    found = np.asarray(box_iou(a, shared))
    assert found.shape == (2, 3, 2)
    for batch, i, j in np.ndindex(2, 3, 2):
        assert found[batch, i, j] == pytest.approx(float(box_iou(a[batch, i][None], shared[j][None])[0, 0]), rel=1e-6)


def test_empty_boxes_overlap_nothing():
    """Not even themselves, nor the box that they lie in."""
    empty = boxes((3, 3, 3, 9), (4, 4, 4, 4), (9, 0, 5, 7), (0, 0, 0, 0))
    assert not np.asarray(box_iou(empty, np.concatenate([empty, boxes((0, 0, 10, 10))]))).any()
    assert not np.asarray(box_iou(boxes((0, 0, 10, 10)), empty)).any()


def test_generalized_iou_by_hand():
    a = boxes((0, 0, 10, 10), (0, 0, 1, 1), (0, 0, 4, 4), (0, 0, 10, 10))
    b = boxes((5, 5, 15, 15), (2, 0, 3, 1), (0, 0, 4, 4), (0, 0, 5, 10))
    expected = [25 / 175 - 50 / 225, 0 - 1 / 3, 1, 0.5]
    np.testing.assert_allclose(generalized_iou(a, b), expected, rtol=1e-6)
    np.testing.assert_allclose(generalized_iou(b, a), expected, rtol=1e-6)


def test_generalized_iou_of_far_boxes_tends_to_minus_one():
    assert float(generalized_iou(boxes((0, 0, 1, 1)), boxes((1e4, 1e4, 1e4 + 1, 1e4 + 1)))[0]) == pytest.approx(-1, abs=1e-6)


def test_generalized_iou_of_empty_boxes_is_finite_as_its_gradient_is():
    a = tf.Variable(boxes((3, 3, 3, 9), (4, 4, 4, 4), (9, 0, 5, 7), (0, 0, 0, 0), (2, 2, 2, 2)))
    b = boxes((0, 0, 10, 10), (4, 4, 4, 4), (9, 0, 5, 7), (0, 0, 0, 0), (8, 8, 8, 8))
    with tf.GradientTape() as tape:
        found = generalized_iou(a, b)
    assert float(found[0]) == 0  # a line in a box: no overlap, and nothing of the hull beyond the union
    assert (np.abs(found) <= 1).all()
    assert np.isfinite(tape.gradient(found, a)).all()


def test_clipping_by_hand():
    given = boxes((-5, -6, 50, 60), (10, 10, 20, 20), (90, -3, 130, 40), (200, 100, 300, 150))
    expected = boxes((0, 0, 50, 40), (10, 10, 20, 20), (90, 0, 100, 40), (100, 40, 100, 40))
    np.testing.assert_array_equal(clip_boxes(given, 40, 100), expected)
    np.testing.assert_array_equal(clip_boxes(given, tf.constant(40), tf.constant(100)), expected)


def test_centres_by_hand_and_back():
    given = boxes((2, 4, 8, 5), (0, 0, 0, 3))
    centred = boxes((5, 4.5, 6, 1), (0, 1.5, 0, 3))
    np.testing.assert_array_equal(to_centre(given), centred)
    np.testing.assert_array_equal(from_centre(centred), given)


def test_padding_and_empty_boxes_are_not_real():
    given = boxes((0, 0, 4, 4), (0, 0, 4, 4), (3, 3, 3, 9), (9, 0, 5, 7))[None]
    labels = np.array([[0, -1, 2, 1]], np.int32)
    np.testing.assert_array_equal(real_boxes(given, labels), [[True, False, False, False]])
