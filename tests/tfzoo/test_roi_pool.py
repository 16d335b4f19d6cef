"""RoIPool and spatial pyramid pooling: by hand, the published definition, ONNX Runtime's operator, and every format."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops
from small_graphs import onnx_operator, run_onnx, run_saved_model, run_tflite

from tfzoo.layers import roi_pool as module
from tfzoo.layers.roi_pool import roi_pool, spatial_pyramid_pooling


def noise(*shape, seed=0):
    """Below zero too: what is outside must not count as 0."""
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32) - 2


def random_boxes(batch, count, height, width, seed=1):
    """Inside, outside, tiny, larger than the picture; corners on halves of a pixel of a map of a quarter of its size too."""
    rng = np.random.default_rng(seed)
    centre = rng.uniform(-0.25, 1.25, (batch, count, 2)) * (width, height)
    sides = np.exp(rng.uniform(np.log(0.5), np.log(2 * max(height, width)), (batch, count, 2)))
    boxes = np.concatenate([centre - sides / 2, centre + sides / 2], axis=-1)
    boxes[:, 0] = 0, 0, width, height
    boxes[:, 1] = -90, -70, -30, -20.5
    boxes[:, 2] = 10, 10, 10, 10
    boxes[:, 3] = 20, 20, 10, 5  # the wrong way round
    boxes[:, 4::3] = np.round(boxes[:, 4::3] / 2) * 2
    return boxes.astype(np.float32)


def bins(first, last, length, size):
    """Of each bin along one axis, the pixels: a range. Torchvision computes in float32, and so does this."""
    first, last = (int(np.copysign(np.floor(np.abs(x) + 0.5), x)) for x in (first, last))
    side = np.float32(max(last - first + 1, 1)) / np.float32(size)
    for index in range(size):
        begin = int(np.floor(np.float32(index) * side)) + first
        end = int(np.ceil(np.float32(index + 1) * side)) + first
        yield range(min(max(begin, 0), length), min(max(end, 0), length))


def defined(features, boxes, size, scale):
    """The definition, bin by bin."""
    batch, height, width, channels = features.shape
    result = np.zeros((batch, boxes.shape[1], size, size, channels), np.float32)
    for picture, region in np.ndindex(result.shape[:2]):
        x0, y0, x1, y1 = boxes[picture, region].astype(np.float32) * np.float32(scale)
        for row, rows in enumerate(bins(y0, y1, height, size)):
            for column, columns in enumerate(bins(x0, x1, width, size)):
                if rows and columns:
                    pixels = features[picture, rows.start : rows.stop, columns.start : columns.stop]
                    result[picture, region, row, column] = pixels.max(axis=(0, 1))
    return result


# === By hand ===

PLANE = np.array([[3, 8, 1, 2], [5, 4, 9, 6], [-1, -2, 7, 0], [-3, -4, -5, -6]], np.float32)[None, :, :, None]


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ((0, 0, 3, 3), [[8, 9], [-1, 7]]),  # both corners are included: 4 x 4 pixels
        ((0, 0, 2, 2), [[8, 9], [5, 9]]),  # 3 x 3 pixels in bins of 1.5: the middle ones are in both
        ((0.5, 1.5, 2.4, 2.5), [[-2, 7], [-4, -5]]),  # halves are rounded up: columns 1 and 2, rows 2 and 3
        ((1, 3, 1, 3), [[-4, -4], [-4, -4]]),  # one pixel
        ((2, 2, 5, 5), [[7, 0], [0, 0]]),  # of 4 x 4 pixels 2 x 2 are inside: the first bin's, with -5 and -6; the others are empty
        ((-2.5, 0, 1, 0), [[0, 8], [0, 8]]),  # -3 to 1: bins of 2.5, columns -3 .. -1 and -1 .. 1
        ((7, 7, 9, 9), [[0, 0], [0, 0]]),
        ((3, 3, 0, 0), [[-6, -6], [-6, -6]]),  # the wrong way round: one pixel
    ],
)
def test_worked_by_hand(box, expected):
    found = roi_pool(PLANE, np.array([[box]], np.float32), 2, 1.0)
    np.testing.assert_array_equal(found[0, 0, :, :, 0], expected)


def test_pyramid_worked_by_hand():
    found = spatial_pyramid_pooling(PLANE, np.array([[[0, 0, 6, 6]]], np.float32), 0.5, levels=(1, 2))
    np.testing.assert_array_equal(found, [[[9, 8, 9, -1, 7]]])
    two = np.concatenate([PLANE, -PLANE], axis=-1)  # channels last
    found = spatial_pyramid_pooling(two, np.array([[[0, 0, 6, 6]]], np.float32), 0.5, levels=(1, 2))
    np.testing.assert_array_equal(found, [[[9, 6, 8, -3, 9, -1, -1, 4, 7, 6]]])


# === Against others ===


@pytest.mark.parametrize("size", [1, 2, 6, 7])
@pytest.mark.parametrize("map_size", [(17, 25), (1, 5), (28, 81), (3, 9)])
def test_is_what_the_paper_defines(size, map_size):
    features, boxes = noise(2, *map_size, 3), random_boxes(2, 30, 4 * map_size[0], 4 * map_size[1])
    np.testing.assert_array_equal(roi_pool(features, boxes, size, 0.25), defined(features, boxes, size, 0.25))


def test_large_maps():
    """Bins of 57 pixels in seven of 8 1/7: in float32 the last one ends a pixel too late, in Caffe, torchvision and here."""
    features, boxes = noise(1, 100, 243, 2), random_boxes(1, 40, 100, 243)
    boxes[0, 5:7] = (3, 4, 59, 60), (100, 10, 213, 66)
    np.testing.assert_array_equal(roi_pool(features, boxes, 7, 1.0), defined(features, boxes, 7, 1.0))
    assert len(list(bins(3, 59, 100, 7))[-1]) == 10


def test_is_what_onnx_runtime_computes():
    """Its MaxRoiPool is that of Fast R-CNN."""
    features, boxes = noise(1, 33, 40, 5), random_boxes(1, 200, 132, 160)
    rois = np.concatenate([np.zeros((200, 1), np.float32), boxes[0]], axis=1)
    inputs = {"x": features.transpose(0, 3, 1, 2).copy(), "rois": rois}
    for size in (2, 7):
        expected = onnx_operator("MaxRoiPool", inputs, pooled_shape=[size, size], spatial_scale=0.25)
        np.testing.assert_array_equal(roi_pool(features, boxes, size, 0.25)[0], expected.transpose(0, 2, 3, 1))


def test_pyramid_is_one_grid_after_the_other():
    features, boxes = noise(2, 17, 25, 3), random_boxes(2, 20, 68, 100)
    found = spatial_pyramid_pooling(features, boxes, 0.25, levels=(1, 3, 6))
    grids = [defined(features, boxes, size, 0.25).reshape(2, 20, -1) for size in (1, 3, 6)]
    assert found.shape == (2, 20, (1 + 9 + 36) * 3)
    np.testing.assert_array_equal(found, np.concatenate(grids, axis=-1))


# === Gradients ===


@pytest.mark.parametrize("pool", [lambda f, b: roi_pool(f, b, 3, 0.25), lambda f, b: spatial_pyramid_pooling(f, b, 0.25, (1, 2))])
def test_gradients_are_finite_differences(pool):
    """No two pixels are nearer to each other than 1/32, and all numbers are fractions of 1/256: nothing is rounded."""
    rng = np.random.default_rng(3)
    features = tf.constant(rng.permutation(192).reshape(2, 6, 8, 2) / 32 - 4, tf.float32)
    boxes = tf.constant(random_boxes(2, 12, 24, 32))
    with tf.GradientTape() as tape:
        tape.watch((features, boxes))
        pooled = pool(features, boxes)
        weight = tf.constant(rng.integers(-9, 10, pooled.shape), tf.float32)
        total = tf.reduce_sum(pooled * weight)
    gradient, of_boxes = tape.gradient(total, (features, boxes))
    assert of_boxes is None
    assert np.count_nonzero(gradient) > 20
    reach = tf.function(lambda moved: tf.reduce_sum((pool(features + moved, boxes) - pooled) * weight))
    for place in np.ndindex(*features.shape):
        moved = np.zeros(features.shape, np.float32)
        moved[place] = 1 / 128
        assert float(reach(moved) - reach(-moved)) * 64 == float(gradient[place])


def test_of_equal_pixels_some_get_the_gradient():
    features = tf.zeros((1, 8, 8, 1))
    with tf.GradientTape() as tape:
        tape.watch(features)
        total = tf.reduce_sum(roi_pool(features, np.array([[[0, 0, 7, 7]]], np.float32), 2, 1.0))
    assert float(tf.reduce_sum(tape.gradient(total, features))) == pytest.approx(4)


# === Everywhere ===


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_only_picks(dtype):
    features, boxes = tf.cast(noise(1, 17, 25, 3), dtype), random_boxes(1, 30, 68, 100)
    found = roi_pool(features, boxes, 3, 0.25)
    assert found.dtype == dtype
    expected = defined(tf.cast(features, "float32").numpy(), boxes, 3, 0.25)
    np.testing.assert_array_equal(tf.cast(found, "float32"), expected)


@pytest.mark.parametrize("count", [30, None])
def test_sizes_known_only_later(count):
    traced = tf.function(
        lambda f, b: roi_pool(f, b, 3, 0.25),
        input_signature=[tf.TensorSpec((None, None, None, 3)), tf.TensorSpec((None, count, 4))],
    )
    assert traced.get_concrete_function().output_shapes == tf.TensorShape((None, count, 3, 3, 3))
    for size in ((17, 25), (2, 3), (100, module.LARGEST)):
        features, boxes = noise(2, *size, 3), random_boxes(2, 30, 4 * size[0], 4 * size[1])
        np.testing.assert_array_equal(traced(features, boxes), defined(features, boxes, 3, 0.25))


def test_xla_compiles_it():
    features, boxes = noise(2, 17, 25, 3), random_boxes(2, 30, 68, 100)
    compiled = tf.function(lambda: spatial_pyramid_pooling(features, boxes, 0.25), jit_compile=True)
    np.testing.assert_array_equal(compiled(), spatial_pyramid_pooling(features, boxes, 0.25))


class Pooled(keras.Model):
    """Pools boxes of a picture."""

    boxes = random_boxes(1, 12, 60, 90)

    def __init__(self, pyramid):
        super().__init__()
        self.pyramid = pyramid
        self.built = True  # it has no weights

    def call(self, images):
        features = ops.average_pool(ops.cast(images, "float32"), 4) - 200.0
        boxes = ops.tile(self.boxes, (ops.shape(images)[0], 1, 1)) + ops.mean(features, axis=(1, 2, 3))[:, None, None] / 100.0
        pool = spatial_pyramid_pooling(features, boxes, 0.25) if self.pyramid else roi_pool(features, boxes, 3, 0.25)
        return {"features": features, "boxes": boxes, "pooled": pool}


PICTURES = np.random.default_rng(5).integers(0, 256, (3, 61, 90, 3), dtype=np.uint8)


def check(found, pictures, pyramid):
    """Against the definition on the file's own features and boxes: rounding those otherwise may move a pixel."""
    features, boxes = found["features"], found["boxes"]
    assert boxes.shape == (len(pictures), 12, 4)
    expected = defined(features, boxes, 3, 0.25)
    if pyramid:
        grids = [defined(features, boxes, size, 0.25).reshape(len(pictures), 12, -1) for size in (1, 2, 4)]
        expected = np.concatenate(grids, axis=-1)
    np.testing.assert_array_equal(found["pooled"], expected)


@pytest.mark.parametrize(("batch", "pyramid"), [(1, True), (3, False)])
def test_tflite_of_builtin_operators(batch, pyramid, tmp_path):
    check(run_tflite(Pooled(pyramid), PICTURES[:batch], tmp_path / "saved"), PICTURES[:batch], pyramid)


def test_tflite_of_a_small_map(tmp_path):
    """Of seven by nine cells: windows have two sides alone, and a choice between two is folded by the converter."""
    pictures = PICTURES[:1, :28, :36]
    check(run_tflite(Pooled(False), pictures, tmp_path / "saved"), pictures, False)


@pytest.mark.parametrize(("run", "pyramid"), [(run_saved_model, True), (run_onnx, False)])
def test_files_for_any_size(run, pyramid, tmp_path):
    batches = [PICTURES, PICTURES[:1, :48, :77]]
    for found, pictures in zip(run(Pooled(pyramid), batches, tmp_path / "saved"), batches, strict=True):
        check(found, pictures, pyramid)


JAX_PROGRAM = """
import sys
import jax, keras, numpy as np
from tfzoo.layers.roi_pool import roi_pool, spatial_pyramid_pooling
assert keras.backend.backend() == "jax"
data = np.load(sys.argv[1])
@jax.jit
@jax.value_and_grad
def total(features):
    return (roi_pool(features, data["boxes"], 3, 0.25) * data["weight"]).sum()
found, gradient = total(data["features"])
np.testing.assert_allclose(found, data["total"], rtol=1e-5)
np.testing.assert_allclose(gradient, data["gradient"], atol=1e-5)
pyramid = jax.jit(lambda f, b: spatial_pyramid_pooling(f, b, 0.25, (1, 3)))(data["features"], data["boxes"])
np.testing.assert_array_equal(pyramid, data["pyramid"])
"""


def test_jax_gives_what_tensorflow_gives(tmp_path):
    pytest.importorskip("jax")
    features, boxes = noise(2, 17, 25, 3), random_boxes(2, 30, 68, 100)
    weight = noise(2, 30, 3, 3, 3, seed=9)
    variable = tf.constant(features)
    with tf.GradientTape() as tape:
        tape.watch(variable)
        total = tf.reduce_sum(roi_pool(variable, boxes, 3, 0.25) * weight)
    given = {"features": features, "boxes": boxes, "weight": weight, "total": total, "gradient": tape.gradient(total, variable)}
    np.savez(tmp_path / "data.npz", **given, pyramid=spatial_pyramid_pooling(features, boxes, 0.25, (1, 3)))
    ran = subprocess.run(
        [sys.executable, "-c", JAX_PROGRAM, str(tmp_path / "data.npz")],
        env={**os.environ, "KERAS_BACKEND": "jax"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr[-2000:]
