"""The metrics of semantic segmentation against a confusion matrix worked by hand."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfzoo.metrics import ConfusionMatrix, FrequencyWeightedIoU, MeanIoU, MeanPixelAccuracy, PixelAccuracy
from tfzoo.metrics.confusion import class_iou, summarize

MATRIX = np.array([[5, 1, 0], [2, 6, 2], [0, 1, 3]])  # rows truth, columns prediction: 20 pixels
IOU = [5 / 8, 6 / 12, 3 / 6]  # row + column - diagonal: 6 + 7 - 5, 10 + 8 - 6, 4 + 5 - 3
BY_HAND = {
    PixelAccuracy: 14 / 20,
    MeanPixelAccuracy: (5 / 6 + 6 / 10 + 3 / 4) / 3,
    MeanIoU: sum(IOU) / 3,
    FrequencyWeightedIoU: 6 / 20 * IOU[0] + 10 / 20 * IOU[1] + 4 / 20 * IOU[2],
}
KEYS = {
    PixelAccuracy: "pixel_accuracy",
    MeanPixelAccuracy: "mean_pixel_accuracy",
    MeanIoU: "mean_iou",
    FrequencyWeightedIoU: "frequency_weighted_iou",
}


def pairs(matrix=MATRIX, seed=0):
    """Truth and prediction, two pictures of 2x5 pixels each, whose confusion matrix it is."""
    cells = np.repeat(np.arange(9), matrix.ravel())
    np.random.default_rng(seed).shuffle(cells)
    return (cells // 3).reshape(2, 2, 5).astype(np.uint8), (cells % 3).reshape(2, 2, 5).astype(np.uint8)


@pytest.mark.parametrize(("metric", "expected"), BY_HAND.items(), ids=lambda value: getattr(value, "__name__", ""))
def test_metric_worked_by_hand(metric, expected):
    measure = metric(3)
    measure.update_state(*pairs())
    assert float(measure.result()) == pytest.approx(expected, rel=1e-6)


def test_matrix_has_truth_in_rows_and_prediction_in_columns():
    measure = ConfusionMatrix(3)
    measure.update_state(*pairs())
    np.testing.assert_array_equal(measure.result(), MATRIX)


def test_iou_of_each_class_by_hand():
    np.testing.assert_allclose(class_iou(MATRIX), IOU, rtol=1e-6)


def test_summary_holds_every_metric_and_class():
    summary = summarize(MATRIX, ["sky", "road", "tree"])
    for metric, expected in BY_HAND.items():
        assert summary[KEYS[metric]] == pytest.approx(expected, rel=1e-6)
    assert summary["per_class"] == pytest.approx(dict(zip(["sky", "road", "tree"], IOU, strict=True)), rel=1e-6)
    assert summary["left_out"] == []


@pytest.mark.parametrize("metric", [ConfusionMatrix, *BY_HAND])
def test_two_updates_are_one(metric):
    truth, predicted = pairs()
    whole, parts = metric(3), metric(3)
    whole.update_state(truth, predicted)
    for index in range(2):
        parts.update_state(truth[index : index + 1], predicted[index : index + 1])
    np.testing.assert_array_equal(parts.result(), whole.result())


def test_reset_starts_anew():
    measure = ConfusionMatrix(3)
    measure.update_state(*pairs())
    measure.reset_state()
    assert not np.asarray(measure.result()).any()


def test_logits_count_as_their_labels_do():
    truth, predicted = pairs()
    logits = tf.one_hot(predicted, 3) * 5 + np.random.default_rng(0).normal(size=(*predicted.shape, 3)).astype(np.float32) * 0.1
    measure = ConfusionMatrix(3)
    measure.update_state(truth, logits)
    np.testing.assert_array_equal(measure.result(), MATRIX)


def test_ignored_pixels_are_in_no_cell():
    truth, predicted = pairs()
    ignored = np.concatenate([truth, np.full_like(truth, 255)])
    measure = ConfusionMatrix(3)
    measure.update_state(ignored, np.concatenate([predicted, predicted]))
    np.testing.assert_array_equal(measure.result(), MATRIX)


def test_a_prediction_outside_the_classes_is_charged_to_no_other_class():
    measure = ConfusionMatrix(3)
    measure.update_state(np.zeros((1, 1, 3), np.uint8), np.array([[[0, 3, 255]]], np.uint8))
    assert not np.asarray(measure.result())[1:].any()  # the truth holds class 0 alone


def test_nothing_counted_gives_zero():
    for metric in BY_HAND:
        measure = metric(3)
        measure.update_state(np.full((1, 2, 2), 255, np.uint8), np.zeros((1, 2, 2), np.uint8))
        assert float(measure.result()) == 0.0


def test_a_class_that_never_occurs_is_left_out_of_the_means_and_named():
    matrix = np.array([[6, 0, 2], [1, 3, 0], [0, 0, 0]])  # the third is predicted twice, but is nowhere in the truth
    iou = [6 / 9, 3 / 4]
    summary = summarize(matrix, ["sky", "road", "tree"])
    assert summary["mean_iou"] == pytest.approx(sum(iou) / 2)
    assert summary["mean_pixel_accuracy"] == pytest.approx((6 / 8 + 3 / 4) / 2)
    assert summary["per_class"] == {"sky": pytest.approx(iou[0]), "road": pytest.approx(iou[1]), "tree": None}
    assert summary["left_out"] == ["tree"]


@pytest.mark.parametrize("start", [2**24, 2**33])
def test_counts_are_exact_beyond_what_float32_holds(start):
    if start > 2**31 and keras.backend.backend() != "tensorflow":
        pytest.skip("64-bit counters are TensorFlow's")
    measure = ConfusionMatrix(2)
    measure.matrix.assign(np.array([[start, 0], [0, start]]))
    for _ in range(3):
        measure.update_state(np.array([[[0, 1]]]), np.array([[[0, 0]]]))
    np.testing.assert_array_equal(np.asarray(measure.result()), [[start + 3, 0], [3, start]])


def test_summary_of_large_counts():
    summary = summarize(np.array([[3 * 2**33, 2**33], [0, 2**33]]), ["a", "b"])
    assert summary["pixel_accuracy"] == pytest.approx(0.8)
    assert summary["mean_iou"] == pytest.approx((3 / 4 + 1 / 2) / 2)


@pytest.mark.parametrize("metric", [ConfusionMatrix, *BY_HAND])
def test_config_round_trip(metric):
    measure = metric(3, ignore_label=7, name="m")
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(measure))
    assert type(again) is metric
    assert again.get_config() == measure.get_config()
