"""Every way to bring a map up, against numbers worked by hand and other libraries, and exported."""

import json
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfzoo.errors import InputError
from tfzoo.layers.max_unpooling import MaxPoolingWithMask
from tfzoo.layers.resizing import ResizeBy, ResizeLike, cubic_kernel
from tfzoo.layers.upsampling import METHODS, BedOfNails, upsample


def plane(rows):
    return np.array(rows, np.float32)[None, :, :, None]


def noise(*shape):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def line(values, method, factor=2):
    """A row of numbers brought up, as a row; the map is constant down its columns."""
    rows = upsample(plane([values] * 3), method, factor=factor)
    for row in rows[0, :, :, 0]:
        np.testing.assert_allclose(row, rows[0, 0, :, 0], atol=1e-6)
    return np.asarray(rows[0, 0, :, 0])


def test_nearest_worked_by_hand():
    np.testing.assert_array_equal(
        upsample(plane([[1, 2], [3, 4]]), "nearest"), plane([[1, 1, 2, 2], [1, 1, 2, 2], [3, 3, 4, 4], [3, 3, 4, 4]])
    )
    np.testing.assert_array_equal(line([1, 2], "nearest", 3), [1, 1, 1, 2, 2, 2])


def test_bilinear_worked_by_hand():
    """Output pixel i looks at (i + 0.5) / 2 - 0.5 = -0.25, 0.25, 0.75, 1.25; beyond the edge it is repeated."""
    np.testing.assert_allclose(line([0, 4], "bilinear"), [0, 1, 3, 4], atol=1e-6)
    np.testing.assert_allclose(line([0, 6], "bilinear", 3), [0, 0, 2, 4, 6, 6], atol=1e-5)  # at -1/3, 0, 1/3, 2/3, 1, 4/3
    expected = [[0, 1, 3, 4], [2, 3, 5, 6], [6, 7, 9, 10], [8, 9, 11, 12]]
    np.testing.assert_allclose(upsample(plane([[0, 4], [8, 12]]), "bilinear"), plane(expected), atol=1e-5)


def test_cubic_kernel_worked_by_hand():
    """Keys with a = -0.5: at 1/2 it is 9/16, at 3/2 -1/16, at 1/4 111/128, at 5/4 -9/128."""
    distances = np.array([0, 0.25, 0.5, 1, 1.25, 1.5, 2, 3], np.float32)
    expected = [1, 111 / 128, 9 / 16, 0, -9 / 128, -1 / 16, 0, 0]
    np.testing.assert_allclose(cubic_kernel(distances), expected, atol=1e-6)
    np.testing.assert_allclose(cubic_kernel(-distances), expected, atol=1e-6)


def test_bicubic_worked_by_hand():
    """An impulse inside shows the kernel: at distances 7/4, 5/4, 3/4, 1/4 and back; at the edge the weights add up to one."""
    kernel = np.array([-3, -9, 29, 111, 111, 29, -9, -3]) / 128
    np.testing.assert_allclose(line([0, 0, 0, 1, 0, 0, 0], "bicubic")[3:11], kernel, atol=1e-6)
    np.testing.assert_allclose(line([5, 5, 5], "bicubic"), 5, atol=1e-5)
    # At -0.25 lie 0 and 1, at distances 1/4 and 5/4: 111 / 102 and -9 / 102.
    np.testing.assert_allclose(line([1, 0, 0, 0], "bicubic")[0], 111 / 102, atol=1e-6)


@pytest.mark.parametrize("factor", [2, 4])
def test_bicubic_is_tensorflows(factor):
    """TensorFlow reads its weights from a table of 1024 steps, in which halves and quarters of a pixel are exact."""
    x = noise(2, 5, 7, 3)
    expected = tf.image.resize(x, (5 * factor, 7 * factor), "bicubic")
    np.testing.assert_allclose(upsample(x, "bicubic", factor=factor), expected, atol=1e-5)


def test_bed_of_nails_worked_by_hand():
    expected = [[1, 0, 2, 0], [0, 0, 0, 0], [3, 0, 4, 0], [0, 0, 0, 0]]
    np.testing.assert_array_equal(upsample(plane([[1, 2], [3, 4]]), "bed_of_nails"), plane(expected))
    x = noise(2, 3, 4, 5)
    nails = np.zeros((2, 9, 12, 5), np.float32)
    nails[:, ::3, ::3] = x
    np.testing.assert_array_equal(upsample(x, "bed_of_nails", factor=3), nails)


def test_max_unpooling_worked_by_hand():
    mask = MaxPoolingWithMask()(plane([[1, 9, 3, 4], [5, 6, 8, 7]]))[1]
    np.testing.assert_array_equal(upsample(plane([[10, 20]]), "max_unpooling", mask=mask), plane([[0, 10, 0, 0], [0, 0, 20, 0]]))


def with_weights(x, method, kernel, **options):
    """The map brought up by a layer whose kernel is ``kernel`` and whose bias is zero."""
    inputs = keras.Input(x.shape[1:])
    model = keras.Model(inputs, upsample(inputs, method, kernel_size=len(kernel), name="up", **options))
    model.get_layer("up").set_weights([np.asarray(kernel, np.float32)[:, :, None, None], np.zeros(1)])
    return model(x)[0, :, :, 0]


def test_resize_convolution_worked_by_hand():
    """1 2 is brought up to 1 1 2 2 in two rows; a kernel of ones then adds what lies around."""
    np.testing.assert_allclose(
        with_weights(plane([[1, 2]]), "resize_convolution", np.ones((3, 3))), [[4, 8, 10, 8], [4, 8, 10, 8]], atol=1e-5
    )


def test_transposed_convolution_worked_by_hand():
    """3x3 with stride 2: each value stamps the kernel, stamps two pixels apart overlap in one row or column.

    "same" keeps the first 4 of the 5 rows and columns (TensorFlow cuts the odd one at the far side of a transposed convolution).
    """
    kernel = [[1, 2, 3], [4, 5, 6], [7, 8, 9]]
    full = np.zeros((5, 5))
    for row, column, value in ((0, 0, 1), (0, 1, 10), (1, 0, 100), (1, 1, 1000)):
        full[2 * row : 2 * row + 3, 2 * column : 2 * column + 3] += value * np.array(kernel)
    assert full[2, 2] == 9 + 70 + 300 + 1000  # all four stamps meet
    up = with_weights(plane([[1, 10], [100, 1000]]), "transposed_convolution", kernel)
    np.testing.assert_allclose(up, full[:4, :4], atol=1e-3)


def tap_counts(factor, kernel_size):
    """How many taps each inner pixel sums over: a constant map under a kernel of ones."""
    up = with_weights(np.ones((1, 8, 8, 1), np.float32), "transposed_convolution", np.ones([kernel_size] * 2), factor=factor)
    return np.asarray(up)[2 * factor : -2 * factor, 2 * factor : -2 * factor]


@pytest.mark.parametrize(("factor", "kernel_size"), [(2, 3), (2, 5), (3, 4), (4, 6)])
def test_kernel_that_the_stride_does_not_divide_draws_a_checkerboard(factor, kernel_size):
    counts = tap_counts(factor, kernel_size)
    assert counts.max() > counts.min()
    if (factor, kernel_size) == (2, 3):  # worked by hand: two taps on every second row and column, one between
        assert sorted(counts[:2, :2].ravel()) == [1, 2, 2, 4]


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_default_kernel_sums_over_the_same_number_of_taps_everywhere(factor):
    inputs = keras.Input((8, 8, 1))
    layer = keras.Model(inputs, upsample(inputs, "transposed_convolution", factor=factor)).layers[-1]
    assert layer.kernel_size[0] % factor == 0
    np.testing.assert_array_equal(tap_counts(factor, layer.kernel_size[0]), 4)


def test_transposed_convolution_starts_as_bilinear_interpolation():
    x = noise(2, 5, 7, 3)
    expected = upsample(x, "bilinear")[:, 1:-1, 1:-1]  # at the border the interpolation repeats the edge
    np.testing.assert_allclose(upsample(x, "transposed_convolution")[:, 1:-1, 1:-1], expected, atol=1e-5)


@pytest.mark.parametrize("method", ["resize_convolution", "transposed_convolution"])
def test_weights_can_change_the_number_of_channels(method):
    assert upsample(noise(2, 5, 7, 3), method, channels=6, factor=3).shape == (2, 15, 21, 6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"method": "bilnear"}, "one of nearest, bilinear"),
        ({"method": "nearest", "factor": 1}, "factor is 1"),
        ({"method": "nearest", "channels": 5}, "has no weights"),
        ({"method": "bicubic", "kernel_size": 3}, "has no weights"),
        ({"method": "max_unpooling"}, "mask of the maxima"),
        ({"method": "nearest", "mask": np.ones((1, 4, 4, 2))}, "mask of the maxima"),
        ({"method": "transposed_convolution", "factor": 4, "kernel_size": 3}, "leaves holes"),
    ],
)
def test_wrong_arguments_are_told_in_words(arguments, message):
    with pytest.raises(InputError, match=message):
        upsample(noise(1, 2, 2, 2), **arguments)


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(10, 9), (5, 7), (3, 4)])
def test_resize_like_takes_the_size_of_the_other_map(interpolation, size):
    x = noise(2, 5, 7, 3)
    resized = ResizeLike(interpolation)([x, noise(2, *size, 1)])
    # TensorFlow's bicubic weights come from a table of 1024 steps: positions are off by at most 1/2048
    np.testing.assert_allclose(resized, tf.image.resize(x, size, interpolation), atol=5e-3 if interpolation == "bicubic" else 1e-5)


def test_bilinear_resize_is_pytorchs():
    """interpolate(mode="bilinear", align_corners=False) written out: positions are held at 0, the far tap inside the map."""
    x, size = noise(1, 5, 7, 2), (13, 16)

    def weights(total, length):
        position = np.maximum((np.arange(total) + 0.5) * length / total - 0.5, 0)
        low = position.astype(int)
        matrix = np.zeros((total, length))
        np.add.at(matrix, (np.arange(total), low), 1 - (position - low))
        np.add.at(matrix, (np.arange(total), np.minimum(low + 1, length - 1)), position - low)
        return matrix

    expected = np.einsum("ih,jw,bhwc->bijc", weights(13, 5), weights(16, 7), x)
    np.testing.assert_allclose(ResizeLike()([x, np.zeros((1, *size, 1), np.float32)]), expected, atol=1e-5)


def test_resize_reckons_in_float32_and_gives_the_compute_dtype():
    x = tf.cast(noise(1, 5, 7, 2), "bfloat16")
    reference = noise(1, 11, 9, 2)
    resized = ResizeLike(dtype="mixed_bfloat16")([x, reference])
    assert resized.dtype == tf.bfloat16
    exact = ResizeLike()([tf.cast(x, "float32"), reference])
    np.testing.assert_array_equal(tf.cast(resized, "float32"), tf.cast(tf.cast(exact, "bfloat16"), "float32"))


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic"])
def test_resizing_has_a_gradient(interpolation):
    """A resize is linear: its gradient with respect to an input pixel is what that pixel adds to the weighted output."""
    x, weight = noise(1, 3, 4, 1), noise(1, 7, 6, 1)
    layer, variable = ResizeLike(interpolation), tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(variable)
        total = tf.reduce_sum(layer([variable, weight]) * weight)
    impulses = np.eye(12, dtype=np.float32).reshape(12, 3, 4, 1)
    expected = np.sum(layer([impulses, weight]) * weight, axis=(1, 2, 3)).reshape(x.shape)
    np.testing.assert_allclose(tape.gradient(total, variable), expected, atol=1e-5)


@pytest.mark.parametrize("layer", [ResizeLike("bicubic"), ResizeBy(3, "nearest"), BedOfNails(4)], ids=lambda layer: layer.name)
def test_config_round_trip(layer):
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert again.get_config() == layer.get_config()


def test_unknown_interpolation_is_refused():
    with pytest.raises(InputError, match="interpolation is 'cubic'"):
        ResizeLike("cubic")


def every_way():
    """A model of every method, from pictures of any size; "resize_like" goes back to the picture's own."""
    images = keras.Input((None, None, 3), name="images", dtype="uint8")
    x = keras.ops.cast(images, "float32") / 255.0
    pooled, mask = MaxPoolingWithMask()(x)
    up = {method: upsample(pooled, method, mask=mask if method == "max_unpooling" else None) for method in METHODS}
    up["resize_like"] = ResizeLike()([pooled, images])
    up |= {f"resize_like_{kind}": ResizeLike(kind)([pooled, images]) for kind in ("nearest", "bicubic")}
    return keras.Model(images, up)


def run_tflite(data, pictures):
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=data)
    position = interpreter.get_input_details()[0]["index"]
    interpreter.resize_tensor_input(position, pictures.shape)
    interpreter.allocate_tensors()
    return interpreter.get_signature_runner()(images=pictures)


def run_onnx(data, pictures):
    import onnxruntime

    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"images": pictures}), strict=True))


@pytest.mark.parametrize("image_size", [None, (9, 14)], ids=["any size", "fixed size"])
def test_every_way_exports_to_builtin_operators_and_agrees(image_size, tmp_path):
    from tfzoo.export import onnx, savedmodel, tflite

    model = every_way()
    savedmodel.write(model, tmp_path / "saved", image_size)
    files = {"tflite": tflite.convert(tmp_path / "saved"), "onnx": onnx.convert(tmp_path / "saved")}
    assert tflite.operators(files["tflite"])
    assert onnx.operators(files["onnx"])
    assert b"tf_half_pixel_for_nn" not in files["onnx"]  # went out of ONNX with opset 13
    for size in [image_size] if image_size else [(9, 14), (12, 7)]:
        pictures = np.random.default_rng(0).integers(0, 256, (2, *size, 3), dtype=np.uint8)
        expected = model(pictures)
        for name, run in (("tflite", run_tflite), ("onnx", run_onnx)):
            found = run(files[name], pictures)
            assert set(found) == set(expected)
            for method, value in expected.items():
                np.testing.assert_allclose(found[method], value, atol=1e-5, err_msg=f"{method} in {name}, {size}")


JAX_PROGRAM = """
import json, sys
import jax, keras, numpy as np
from tfzoo.layers.resizing import ResizeLike
from tfzoo.layers.upsampling import upsample
assert keras.backend.backend() == "jax"
data = np.load(sys.argv[1])
inputs, reference = keras.Input((5, 7, 3)), keras.Input((11, 9, 1))
outputs = {method: upsample(inputs, method, factor=3) for method in json.loads(sys.argv[2])}
for interpolation in ("nearest", "bilinear", "bicubic"):
    outputs["like_" + interpolation] = ResizeLike(interpolation)([inputs, reference])
model = keras.Model([inputs, reference], outputs)
found = jax.jit(lambda *maps: model(list(maps)))(data["x"], data["reference"])  # compiled once: quicker than step by step
assert found
for name, value in found.items():
    np.testing.assert_allclose(value, data[name], atol=1e-5, err_msg=name)
"""


def test_jax_gives_what_tensorflow_gives(tmp_path):
    pytest.importorskip("jax")
    methods = [method for method in METHODS if method not in ("max_unpooling", "resize_convolution")]
    x, reference = noise(2, 5, 7, 3), noise(2, 11, 9, 1)
    answers = {method: upsample(x, method, factor=3) for method in methods}
    answers |= {f"like_{kind}": ResizeLike(kind)([x, reference]) for kind in ("nearest", "bilinear", "bicubic")}
    np.savez(tmp_path / "data.npz", x=x, reference=reference, **answers)
    done = subprocess.run(
        [sys.executable, "-c", JAX_PROGRAM, str(tmp_path / "data.npz"), json.dumps(methods)],
        env={**os.environ, "KERAS_BACKEND": "jax"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
