"""The pixel loss against numbers worked by hand."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfzoo.losses import PixelCrossEntropy
from tfzoo.losses.cross_entropy import median_frequency_weights

# Softmax of a logarithm gives the probabilities back. One picture of 2x2 pixels, three classes, the last pixel ignored.
PROBABILITIES = np.array([[[[0.5, 0.3, 0.2], [0.5, 0.25, 0.25]], [[0.1, 0.8, 0.1], [0.2, 0.2, 0.6]]]], np.float32)
LOGITS = np.log(PROBABILITIES) + 3
LABELS = np.array([[[0, 2], [1, 255]]], np.uint8)


def test_mean_of_the_pixels_that_count():
    expected = (math.log(2) + math.log(4) - math.log(0.8)) / 3
    assert float(PixelCrossEntropy()(LABELS, LOGITS)) == pytest.approx(expected, rel=1e-5)


def test_class_weights_divide_by_the_sum_of_weights():
    expected = (1 * math.log(2) + 4 * math.log(4) - 2 * math.log(0.8)) / (1 + 4 + 2)
    assert float(PixelCrossEntropy(class_weights=[1, 2, 4])(LABELS, LOGITS)) == pytest.approx(expected, rel=1e-5)


def test_an_ignored_pixel_changes_neither_the_loss_nor_its_gradient():
    logits = tf.Variable(LOGITS)
    with tf.GradientTape() as tape:
        loss = PixelCrossEntropy(class_weights=[1, 2, 4])(LABELS, logits)
    gradient = tape.gradient(loss, logits).numpy()
    assert not gradient[0, 1, 1].any()
    assert gradient[0, 0, 0].any()
    other = LOGITS.copy()
    other[0, 1, 1] = (100, -100, 7)
    assert float(PixelCrossEntropy(class_weights=[1, 2, 4])(LABELS, other)) == float(loss)


def test_another_ignore_label():
    labels = np.array([[[0, 2], [1, 1]]], np.uint8)
    expected = (math.log(2) + math.log(4)) / 2
    assert float(PixelCrossEntropy(ignore_label=1)(labels, LOGITS)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("class_weights", [None, [1, 2, 4], [0, 0, 0]])
def test_all_ignored_gives_zero_and_finite_gradients(class_weights):
    logits = tf.Variable(LOGITS)
    with tf.GradientTape() as tape:
        loss = PixelCrossEntropy(class_weights)(np.full_like(LABELS, 255), logits)
    assert float(loss) == 0.0
    np.testing.assert_array_equal(tape.gradient(loss, logits), np.zeros_like(LOGITS))


def test_extreme_logits_stay_finite():
    logits = np.array([[[[1e4, -1e4, 0], [0, 0, 0]], [[0, 0, 0], [0, 0, 0]]]], np.float32)
    assert float(PixelCrossEntropy()(np.array([[[1, 255], [255, 255]]]), logits)) == pytest.approx(2e4)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_logits_give_a_float32_loss(dtype):
    logits = tf.cast(LOGITS, dtype)
    loss = PixelCrossEntropy()(LABELS, logits)
    assert loss.dtype == tf.float32
    assert float(loss) == float(PixelCrossEntropy()(LABELS, tf.cast(logits, "float32")))


def test_config_round_trip():
    loss = PixelCrossEntropy(class_weights=(1, 2, 4), ignore_label=7, name="pixels")
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
    assert isinstance(again, PixelCrossEntropy)
    assert again.get_config() == loss.get_config() == {"class_weights": [1.0, 2.0, 4.0], "ignore_label": 7, "name": "pixels"}
    labels = np.array([[[0, 2], [1, 7]]], np.uint8)
    assert float(again(labels, LOGITS)) == float(loss(labels, LOGITS)) > 0


def test_median_frequency_weights_worked_by_hand():
    # Frequencies 0.6, 0.3, 0.2: their median is 0.3. The last class never occurs.
    assert median_frequency_weights([60, 30, 10, 0], [100, 100, 50, 0]) == pytest.approx([0.5, 1.0, 1.5, 0.0])
    assert median_frequency_weights([60, 30, 10, 0], [100, 100, 50, 0], cap=1.2) == pytest.approx([0.5, 1.0, 1.2, 0.0])


def test_median_of_an_even_number_of_classes_is_the_mean_of_the_middle_two():
    assert median_frequency_weights([60, 20], [100, 100]) == pytest.approx([0.4 / 0.6, 0.4 / 0.2])


def test_median_frequency_weights_of_nothing_are_zero():
    assert median_frequency_weights([0, 0], [0, 0]) == [0.0, 0.0]
