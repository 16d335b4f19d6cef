"""The focal loss of all anchors against that of one-hot labels, which it never makes."""

import math

import numpy as np
import pytest
import tensorflow as tf

from tfzoo.losses.focal import dense_focal_loss, sigmoid_focal_crossentropy
from tfzoo.losses.smooth_l1 import smooth_l1


def value_and_gradient(function, logits):
    logits = tf.constant(logits)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        value = function(logits)
    return np.asarray(value), np.asarray(tape.gradient(value, logits))


@pytest.mark.parametrize(("alpha", "gamma"), [(0.25, 2.0), (None, 2.0), (0.5, 0.5), (0.25, 0.0)])
def test_equals_the_loss_of_one_hot_labels(alpha, gamma):
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 3, (2, 50, 7)).astype(np.float32)
    labels = rng.integers(-1, 7, (2, 50)).astype(np.int32)
    counted = rng.random((2, 50)) < 0.8
    one_hot = labels[..., None] == np.arange(7)

    def written_out(logits):
        return tf.reduce_sum(sigmoid_focal_crossentropy(one_hot, logits, alpha, gamma) * counted[..., None], axis=(1, 2))

    value, gradient = value_and_gradient(lambda x: dense_focal_loss(x, labels, counted, alpha, gamma), logits)
    expected, expected_gradient = value_and_gradient(written_out, logits)
    assert value.shape == (2,)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-4, atol=1e-6)
    assert not gradient[~counted].any() and gradient[counted].any(axis=-1).all()


def test_worked_by_hand():
    """Probability 0.9 of the first class and 0.5 of the second: of a box of the first, of background, and not counted."""
    logits = np.tile(np.array([math.log(9), 0], np.float32), (1, 3, 1))
    first, second = 0.25 * 0.1**2 * -math.log(0.9), 0.75 * 0.5**2 * math.log(2)
    background = 0.75 * 0.9**2 * -math.log(0.1) + second
    found = dense_focal_loss(logits, np.array([[0, -1, 1]], np.int32), np.array([[True, True, False]]))
    np.testing.assert_allclose(found, [first + second + background], rtol=1e-5)


def test_extreme_logits_are_finite_as_their_gradients_are():
    logits = np.array([[[-1e4, 1e4], [1e4, -1e4], [-80, 80], [0, 0]]], np.float32)
    for labels in (np.array([[0, 1, 0, 1]], np.int32), np.full((1, 4), -1, np.int32)):
        value, gradient = value_and_gradient(lambda x, labels=labels: dense_focal_loss(x, labels, labels > -2), logits)
        assert np.isfinite(value).all() and np.isfinite(gradient).all()


def test_smooth_l1_by_hand():
    error = np.array([-3, -1, -0.25, 0, 0.5, 1, 2], np.float32)
    np.testing.assert_allclose(smooth_l1(error), [2.5, 0.5, 0.03125, 0, 0.125, 0.5, 1.5])
    np.testing.assert_allclose(smooth_l1(error, beta=0.5), [2.75, 0.75, 0.0625, 0, 0.25, 0.75, 1.75])
    np.testing.assert_allclose(smooth_l1(error, beta=0), [3, 1, 0.25, 0, 0.5, 1, 2])
