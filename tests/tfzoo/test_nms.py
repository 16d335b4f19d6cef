"""Choice of detections against a greedy loop in NumPy."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops
from small_graphs import run_tflite

from tfzoo.layers.nms import _keep, in_order, select, top_candidates


def drawn(seed, batch=2, count=120, classes=4, side=200):
    """Boxes that overlap a lot, their scores, falling but for a third of them that are none, and their labels."""
    rng = np.random.default_rng(seed)
    corners, sides = rng.uniform(0, side, (batch, count, 2)), rng.uniform(5, side / 3, (batch, count, 2))
    boxes = np.minimum(np.concatenate([corners, corners + sides], axis=-1), side).astype(np.float32)
    scores = -np.sort(-rng.uniform(0, 1, (batch, count)).astype(np.float32))
    scores[rng.uniform(size=scores.shape) < 1 / 3] = -1
    return boxes, scores, rng.integers(0, classes, (batch, count)).astype(np.int32)


def overlap(a, b):
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    both = max(width, 0) * max(height, 0)
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


def greedy(boxes, scores, labels, threshold, places):
    """Indices that are kept, of one picture."""
    kept = []
    for index in np.argsort(-scores, kind="stable"):
        rivals = (other for other in kept if labels[other] == labels[index])
        if scores[index] > 0 and all(overlap(boxes[index], boxes[other]) <= threshold for other in rivals):
            kept.append(index)
    return kept[:places]


def arrays(answer):
    return {key: np.asarray(value) for key, value in answer.items()}


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.5, 0.7])
@pytest.mark.parametrize("seed", range(4))
def test_keeps_what_a_greedy_loop_keeps(seed, threshold):
    boxes, scores, labels = drawn(seed)
    found = arrays(select(boxes, scores, labels, threshold, 60, pictures=2))
    for picture in range(2):
        kept = greedy(boxes[picture], scores[picture], labels[picture], threshold, 60)
        assert 5 < len(kept) == found["num_detections"][picture]
        for key, values in (("boxes", boxes), ("scores", scores), ("labels", labels)):
            np.testing.assert_array_equal(found[key][picture, : len(kept)], values[picture][kept])


@pytest.mark.parametrize("places", [1, 7, 60, 500])
def test_free_places_are_padding_and_full_ones_end_the_search(places):
    boxes, scores, labels = drawn(9)
    scores[1] = -1  # the second picture has no candidate
    found = arrays(select(boxes, scores, labels, 0.5, places, pictures=2))
    assert {key: (value.shape, str(value.dtype)) for key, value in found.items()} == {
        "boxes": ((2, places, 4), "float32"),
        "scores": ((2, places), "float32"),
        "labels": ((2, places), "int32"),
        "num_detections": ((2,), "int32"),
    }
    count = len(greedy(boxes[0], scores[0], labels[0], 0.5, places))
    np.testing.assert_array_equal(found["num_detections"], [count, 0])
    for picture, first in ((0, count), (1, 0)):
        assert not found["boxes"][picture, first:].any() and not found["scores"][picture, first:].any()
        assert (found["labels"][picture, first:] == -1).all()


@pytest.mark.parametrize("places", [10, 60, 500])
@pytest.mark.parametrize("seed", range(3))
def test_elementary_operators_keep_what_the_kernel_keeps(seed, places):
    boxes, scores, labels = drawn(seed, batch=3, classes=2)
    found = arrays(select(boxes, scores, labels, 0.4, places, pictures=3))
    index, count = (np.asarray(x) for x in _keep(*map(tf.constant, (boxes, scores, labels)), 0.4, places, 3))
    assert index.shape == (3, places) and index.dtype == np.int32
    np.testing.assert_array_equal(count, found["num_detections"])
    for picture in range(3):
        chosen = index[picture, : count[picture]]
        np.testing.assert_array_equal(boxes[picture][chosen], found["boxes"][picture, : count[picture]])


def test_a_batch_of_unknown_size_gives_the_same():
    boxes, scores, labels = drawn(5)
    signature = [tf.TensorSpec((None, None, 4)), tf.TensorSpec((None, None)), tf.TensorSpec((None, None), tf.int32)]
    free = tf.function(lambda *given: select(*given, 0.5, 30, pictures=tf.shape(given[0])[0]), input_signature=signature)
    known = arrays(select(boxes, scores, labels, 0.5, 30, pictures=2))
    for key, value in free(boxes, scores, labels).items():
        np.testing.assert_array_equal(value, known[key])


def both_ways(boxes, scores, labels, threshold, places=10):
    """Scores that are kept of one picture, by the kernel and by elementary operators."""
    given = np.array([boxes], np.float32), np.array([scores], np.float32), np.array([labels], np.int32)
    kernel = select(*given, threshold, places, pictures=1)
    index, count = _keep(*map(tf.constant, given), threshold, places, 1)
    plain = given[1][0][np.asarray(index)[0, : int(count[0])]]
    return np.asarray(kernel["scores"])[0, : int(kernel["num_detections"][0])].tolist(), plain.tolist()


def test_an_overlap_that_equals_the_threshold_stays():
    for threshold, kept in ((0.5, [0.75, 0.5]), (0.49, [0.75])):
        for found in both_ways([(0, 0, 10, 10), (0, 0, 10, 5)], [0.75, 0.5], [0, 0], threshold):
            assert found == kept


def test_what_goes_suppresses_nothing():
    """The second goes because of the first; so the third, which only the second overlaps, stays."""
    for found in both_ways([(0, 0, 10, 10), (0, 4, 10, 14), (0, 8, 10, 18)], [0.75, 0.5, 0.25], [0, 0, 0], 0.3):
        assert found == [0.75, 0.25]


class Chooser(keras.Model):
    """Keeps up to five of some boxes, which are all of class 9, and whose scores are 1, as sure ones are rounded to."""

    def __init__(self, boxes):
        super().__init__()
        self.boxes = np.asarray(boxes, np.float32)[None]

    def call(self, images):
        black = ops.mean(ops.cast(images, "float32"), axis=(2, 3))[:, :1]  # 0, which a converter does not know
        count = self.boxes.shape[1]
        scores, labels = ops.tile(1.0 + black, (1, count)), ops.full((1, count), 9, dtype="int32")
        return select(self.boxes + black[..., None], scores, labels, 0.5, 5, pictures=1)


def kept_by_tflite(boxes, folder):
    found = run_tflite(Chooser(boxes), np.zeros((1, 32, 32, 3), np.uint8), folder / "saved")
    count = found["num_detections"].item()
    np.testing.assert_array_equal(found["scores"][0], [1.0] * count + [0.0] * (5 - count))
    return found["boxes"][0, :count]


def test_of_equal_scores_the_first_stays_in_tflite_too(tmp_path):
    """One box beside thirty-nine others, which are nearly equal."""
    boxes = np.linspace([10, 10, 50, 50], [14, 13, 54, 53], 40)
    boxes[0] += 100
    np.testing.assert_allclose(kept_by_tflite(boxes, tmp_path), boxes[:2], rtol=1e-6)


def test_tflite_gives_a_box_once_that_rounding_leaves_no_width(tmp_path):
    """4e-6 pixels wide: float32 tells its sides apart where it lies, and not where the boxes of its class are put."""
    boxes = [(31.990286, 32, 31.99029, 96), (0, 0, 128, 96)]
    assert np.float32(boxes[0][0]) < np.float32(boxes[0][2])
    np.testing.assert_allclose(kept_by_tflite(boxes, tmp_path), boxes)


def test_candidates_in_order():
    rng = np.random.default_rng(0)
    values, boxes, labels = rng.permutation(24).reshape(2, 12).astype(np.float32), rng.uniform(size=(2, 12, 4)), np.arange(24)
    found = in_order(values, boxes.astype(np.float32), labels.reshape(2, 12).astype(np.int32))
    for picture in range(2):
        order = np.argsort(-values[picture])
        for got, given in zip(found, (values, boxes.astype(np.float32), labels.reshape(2, 12)), strict=True):
            np.testing.assert_array_equal(got[picture], given[picture][order])


def test_classes_do_not_see_each_other():
    """However many there are: the same box ten thousand times, of as many classes, and once more of each."""
    labels = [0, 1, 9, 10, 11, 19, 90, 99, 100, 9999]
    scores = np.linspace(1, 0.5, 10).tolist()
    for found in both_ways([(0, 0, 300, 200)] * 20, scores + [0.25] * 10, labels * 2, 0.5, places=20):
        assert found == pytest.approx(scores)


@pytest.mark.parametrize("label", [0, 37, 90])
def test_small_boxes_of_late_classes_are_told_apart_as_exactly(label):
    """Boxes of 8 pixels in a picture of 1333; their overlaps are 0.5 times 1 - 0.001 and 1 + 0.001."""
    small, far = (1000, 700, 1008, 708), (0, 0, 1333, 800)
    for change, kept in ((-0.001, 3), (0.001, 2)):
        other = (1000, 700, 1008, 700 + 8 * 0.5 * (1 + change))
        for found in both_ways([far, small, other], [0.75, 0.5, 0.25], [91, label, label], 0.5):
            assert len(found) == kept


def test_of_boxes_without_an_area_one_of_a_class_stays_and_suppresses_no_other():
    for found in both_ways([(5, 5, 5, 5), (5, 5, 5, 5), (0, 0, 10, 10)], [0.75, 0.5, 0.25], [0, 0, 0], 0.5):
        assert found == [0.75, 0.25]


# === The best pairs of anchor and class ===


@pytest.mark.parametrize("classes", [1, 5])
@pytest.mark.parametrize("k", [1, 7, 40, 1000])
def test_best_pairs_are_those_of_a_full_sort(k, classes):
    scores = np.random.default_rng(k).permutation(2 * 30 * classes).reshape(2, 30, classes).astype(np.float32)
    values, anchors, labels = (np.asarray(x) for x in top_candidates(scores, k))
    count = min(k, 30 * classes)
    flat = scores.reshape(2, -1)
    order = np.argsort(-flat, axis=1)[:, :count]
    np.testing.assert_array_equal(values, np.take_along_axis(flat, order, 1))
    np.testing.assert_array_equal(anchors, order // classes)
    np.testing.assert_array_equal(labels, order % classes)
    assert anchors.dtype == labels.dtype == np.int32


@pytest.mark.parametrize("classes", [1, 5])
def test_best_pairs_of_an_unknown_number_of_anchors(classes):
    free = tf.function(lambda x: top_candidates(x, 20), input_signature=[tf.TensorSpec((None, None, classes))])
    for count in (3, 50):
        scores = np.random.default_rng(count).permutation(2 * count * classes).reshape(2, count, classes).astype(np.float32)
        for found, expected in zip(free(scores), top_candidates(scores, 20), strict=True):
            np.testing.assert_array_equal(found, expected)


JAX_PROGRAM = """
import sys
import keras, numpy as np
from tfzoo.layers.nms import select, top_candidates
assert keras.backend.backend() == "jax" and "tensorflow" not in sys.modules
stored = np.load(sys.argv[1])
given = [stored[name] for name in ("given_boxes", "given_scores", "given_labels")]
for key, value in select(*given, 0.4, 60, pictures=2).items():
    np.testing.assert_array_equal(value, stored[key], err_msg=key)
for found, key in zip(top_candidates(stored["pairs"], 20), ("values", "anchors", "classes")):
    np.testing.assert_array_equal(found, stored[key], err_msg=key)
"""


@pytest.mark.slow
def test_jax_keeps_what_tensorflow_keeps(tmp_path):
    pytest.importorskip("jax")
    given = drawn(3)
    stored = dict(zip(("given_boxes", "given_scores", "given_labels"), given, strict=True))
    stored |= arrays(select(*given, 0.4, 60, pictures=2))
    stored["pairs"] = np.random.default_rng(0).permutation(300).reshape(2, 30, 5).astype(np.float32)
    stored |= dict(zip(("values", "anchors", "classes"), map(np.asarray, top_candidates(stored["pairs"], 20)), strict=True))
    np.savez(tmp_path / "data.npz", **stored)
    done = subprocess.run(
        [sys.executable, "-c", JAX_PROGRAM, str(tmp_path / "data.npz")],
        env={**os.environ, "KERAS_BACKEND": "jax"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
