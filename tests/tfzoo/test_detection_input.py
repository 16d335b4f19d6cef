"""What a detector does to pictures first, by torchvision's rules."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfzoo.layers.detection_input import DetectionInput

# (height, width), min_size, max_size, and the size that torchvision 0.28's transform gives on a CPU. In half of them the
# factor in float32 would give another size.
SIZES = [
    ((480, 640), 800, 1333, (800, 1066)),
    ((427, 640), 800, 1333, (800, 1199)),
    ((640, 426), 800, 1333, (1201, 800)),
    ((375, 500), 800, 1333, (800, 1066)),
    ((333, 500), 800, 1333, (800, 1201)),
    ((612, 612), 800, 1333, (800, 800)),
    ((281, 500), 800, 1333, (749, 1333)),
    ((100, 400), 800, 1333, (333, 1333)),
    ((1080, 1920), 800, 1333, (749, 1333)),
    ((426, 640), 224, 373, (224, 336)),
    ((375, 500), 224, 373, (224, 298)),
    ((200, 640), 224, 373, (116, 373)),
    ((480, 640), 640, 640, (480, 640)),
    ((500, 353), 640, 640, (640, 451)),
    ((233, 179), 160, 266, (208, 160)),
]


@pytest.mark.parametrize(("given", "low", "high", "expected"), SIZES)
def test_sizes_are_torchvisions(given, low, high, expected):
    resized, padded = DetectionInput(min_size=low, max_size=high).sizes(given)
    assert resized == expected
    assert all(isinstance(side, int) for side in (*resized, *padded))
    assert padded == tuple(side if side % 32 == 0 else side + 32 - side % 32 for side in expected)


def test_sizes_known_at_run_time_are_the_same():
    rng = np.random.default_rng(0)
    for low, high in ((800, 1333), (224, 373), (96, None)):
        layer = DetectionInput(min_size=low, max_size=high)
        sizes = tf.function(
            lambda given, layer=layer: layer.sizes((given[0], given[1])), input_signature=[tf.TensorSpec((2,), tf.int32)]
        )
        for given in [size for size, *_ in SIZES] + rng.integers(32, 2000, (100, 2)).tolist():
            found = sizes(tf.constant(given))
            assert [tuple(map(int, size)) for size in found] == list(layer.sizes(tuple(given))), given


def test_without_a_largest_size_the_shorter_side_decides():
    assert DetectionInput(min_size=100).sizes((50, 500)) == ((100, 1000), (128, 1024))


def test_resizes_normalises_and_pads():
    """A picture of two colours, twice as large: they meet in the middle; then 20 more rows and 8 more columns of zeros."""
    picture = np.zeros((1, 32, 28, 3), np.uint8)
    picture[:, :, 14:] = (255, 128, 64)
    mean, std = (10.0, 20.0, 30.0), (2.0, 4.0, 8.0)
    found = np.asarray(DetectionInput(mean, std, min_size=56, divisor=32)(picture))
    assert found.shape == (1, 64, 64, 3)
    dark, bright = (np.subtract(colour, mean) / std for colour in ((0, 0, 0), (255, 128, 64)))
    # half-pixel centres: columns 27 and 28 lie a quarter of a pixel to either side of the edge
    columns = {0: dark, 26: dark, 27: 0.75 * dark + 0.25 * bright, 28: 0.25 * dark + 0.75 * bright, 29: bright, 55: bright}
    for column, expected in columns.items():
        np.testing.assert_allclose(found[0, :, column], np.tile(expected, (64, 1)), rtol=1e-5, err_msg=str(column))
    assert not found[:, :, 56:].any()


def test_padding_is_at_the_bottom_and_right():
    picture = np.full((2, 40, 33, 3), 255, np.float32)
    found = np.asarray(DetectionInput((0, 0, 0), (255, 255, 255))(picture))
    assert found.shape == (2, 64, 64, 3)
    assert (found[:, :40, :33] == 1).all()
    assert not found[:, 40:].any() and not found[:, :, 33:].any()


def test_nothing_is_smoothed_before_it_is_made_smaller():
    """Every fourth column bright: a quarter of the size looks at two columns of each four, a smoothing one at all."""
    picture = np.zeros((1, 128, 128, 3), np.float32)
    picture[:, :, 1::4] = 255
    found = np.asarray(DetectionInput((0, 0, 0), (255, 255, 255), min_size=32)(picture))
    np.testing.assert_allclose(found, np.full((1, 32, 32, 3), 0.5), rtol=1e-6)


def test_a_fixed_size_stretches():
    layer = DetectionInput(fixed_size=(30, 50), divisor=1)
    assert layer.sizes((100, 40)) == ((30, 50), (30, 50))
    picture = np.random.default_rng(0).integers(0, 256, (2, 100, 40, 3), dtype=np.uint8)
    mean, std = (np.array(values) for values in (layer.normalization.mean, layer.normalization.std))
    expected = tf.image.resize((picture - mean) / std, (30, 50))
    np.testing.assert_allclose(layer(picture), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("options", [{}, {"min_size": 50}, {"min_size": 64, "max_size": 90}, {"fixed_size": (64, 96)}])
def test_unknown_sizes_give_the_same_pixels(options):
    layer = DetectionInput(**options)
    free = tf.function(layer, input_signature=[tf.TensorSpec((None, None, None, 3), tf.uint8)])
    for size in ((47, 61), (96, 64)):
        picture = np.random.default_rng(0).integers(0, 256, (1, *size, 3), dtype=np.uint8)
        np.testing.assert_allclose(free(picture), layer(picture), rtol=1e-6, atol=1e-6)


def test_onnx_gives_the_same_pixels_of_any_size():
    """Its quotients of whole numbers are rounded towards 0, and its factor must be as exact as Python's."""
    tf2onnx, onnxruntime = pytest.importorskip("tf2onnx"), pytest.importorskip("onnxruntime")
    layer = DetectionInput(min_size=96, max_size=160)
    signature = [tf.TensorSpec((None, None, None, 3), tf.float32, name="images")]
    function = tf.function(lambda images: layer(images), input_signature=signature)
    converted, _ = tf2onnx.convert.from_function(function, input_signature=signature, opset=17)
    session = onnxruntime.InferenceSession(converted.SerializeToString(), providers=["CPUExecutionProvider"])
    for size in ((375, 500), (427, 640), (96, 128), (50, 160)):
        images = np.random.default_rng(0).uniform(0, 255, (1, *size, 3)).astype(np.float32)
        (found,) = session.run(None, {session.get_inputs()[0].name: images})
        # positions between pixels are reckoned in float32, some 5e-5 apart; the noise changes by 4 from pixel to pixel
        np.testing.assert_allclose(found, layer(images), atol=1e-3)


@pytest.mark.parametrize(
    ("options", "shape"),
    [({}, (None, None)), ({"min_size": 100, "max_size": 130}, (None, None)), ({"fixed_size": (30, 50), "divisor": 1}, (30, 50))],
)
def test_symbolic_shapes(options, shape):
    layer = DetectionInput(**options)
    assert layer(keras.KerasTensor((None, None, None, 3))).shape == (None, *shape, 3)
    assert layer(keras.KerasTensor((2, 70, 90, 3))).shape == (2, *layer.sizes((70, 90))[1], 3)


def test_pixels_have_the_compute_dtype_and_lose_nothing_before():
    """In bfloat16 255 and 254 would be one; the normalised pixels are rounded once, at the end."""
    picture = np.full((1, 32, 32, 3), 254, np.uint8)
    found = DetectionInput((250, 250, 250), (1, 1, 1), dtype="mixed_bfloat16")(picture)
    assert found.dtype == "bfloat16"
    assert (np.asarray(found).astype(np.float32) == 4).all()


def test_survives_saving():
    layer = DetectionInput((1, 2, 3), (4, 5, 6), min_size=100, max_size=130, divisor=16)
    again = DetectionInput.from_config(layer.get_config())
    picture = np.random.default_rng(0).integers(0, 256, (1, 50, 60, 3), dtype=np.uint8)
    assert again.sizes((50, 60)) == layer.sizes((50, 60)) == ((100, 120), (112, 128))
    np.testing.assert_array_equal(again(picture), layer(picture))


@pytest.mark.parametrize(
    "options", [{"min_size": 0}, {"min_size": -3, "max_size": 10}, {"min_size": 10, "max_size": 0}, {"max_size": 9}]
)
def test_impossible_sizes(options, expect_sentence):
    expect_sentence(
        lambda: DetectionInput(**options), f"max_size is {options.get('max_size')}" if "min_size" not in options else "min_size is"
    )
