"""Shared layers against NumPy, TensorFlow's own resize and numbers worked by hand."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfzoo.layers.cropping import CropLike
from tfzoo.layers.decision import argmax
from tfzoo.layers.normalization import IMAGENET_MEAN, IMAGENET_STD, ImageNormalization
from tfzoo.layers.padding import OverlapTilePadding, reflect_indices
from tfzoo.layers.upsampling import BilinearInitializer, bilinear_kernel, upsample_bilinear


def array(*shape):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize(
    ("anchor", "rows", "columns"),
    [("top_left", slice(0, 3), slice(0, 4)), ("center", slice(1, 4), slice(2, 6))],  # 6 -> 3: 1 off the top, 2 off the bottom
)
def test_crop_like_cuts_where_its_anchor_says(anchor, rows, columns):
    x = array(2, 6, 8, 3)
    cropped = CropLike(anchor)([x, np.zeros((2, 3, 4, 1), np.float32)])
    np.testing.assert_array_equal(cropped, x[:, rows, columns])


@pytest.mark.parametrize("anchor", ["top_left", "center"])
def test_crop_like_works_on_sizes_known_only_later(anchor):
    x, reference = keras.Input((None, None, 2)), keras.Input((None, None, 5))
    model = keras.Model([x, reference], CropLike(anchor)([x, reference]))
    assert model.output.shape == (None, None, None, 2)
    picture = array(1, 7, 9, 2)
    expected = picture[:, :5, :6] if anchor == "top_left" else picture[:, 1:6, 1:7]
    np.testing.assert_array_equal(model([picture, np.zeros((1, 5, 6, 5), np.float32)]), expected)


def test_crop_like_refuses_an_anchor_that_is_none():
    with pytest.raises(ValueError, match="bottom"):
        CropLike("bottom")


@pytest.mark.parametrize("length", [1, 2, 3, 5, 16])
@pytest.mark.parametrize(("before", "after"), [(0, 0), (2, 1), (4, 4), (15, 3), (40, 41)])
def test_reflect_indices_are_those_of_numpy(length, before, after):
    expected = np.pad(np.arange(length), (before, after), mode="reflect")
    np.testing.assert_array_equal(reflect_indices(length, before, before + length + after), expected)


def test_overlap_tile_takes_572_pixels_for_388_as_in_the_paper():
    layer = OverlapTilePadding(4)
    assert layer.padded_length(388) == 572
    assert layer.compute_output_shape((None, 388, None, 3)) == (None, 572, None, 3)


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("size", [(8, 13), (5, 40), (2, 31)])
def test_overlap_tile_pads_by_reflection(depth, size):
    layer, picture = OverlapTilePadding(depth), array(1, *size, 3)
    before = 2 * 2**depth + 4 * (2**depth - 1)
    padding = [(before, layer.padded_length(side) - side - before) for side in size]
    expected = np.pad(picture, ((0, 0), *padding, (0, 0)), mode="reflect")
    np.testing.assert_array_equal(layer(picture), expected)
    np.testing.assert_array_equal(tf.function(layer, input_signature=[tf.TensorSpec((None, None, None, 3))])(picture), expected)


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_overlap_tile_lets_every_valid_convolution_and_pooling_fit_exactly(depth):
    for length in range(1, 70):
        size = OverlapTilePadding(depth).padded_length(length)
        for _ in range(depth):
            size -= 4  # two 3x3 convolutions
            assert size % 2 == 0
            size //= 2
        size -= 4
        for _ in range(depth):
            size = 2 * size - 4
        assert 0 <= size - length < 2**depth


@pytest.mark.parametrize(("size", "line"), [(4, (0.25, 0.75, 0.75, 0.25)), (3, (0.5, 1.0, 0.5))])
def test_bilinear_kernel_worked_by_hand(size, line):
    np.testing.assert_allclose(bilinear_kernel(size), np.outer(line, line), rtol=1e-6)


def test_bilinear_initializer_keeps_channels_apart():
    kernel = np.asarray(BilinearInitializer()((4, 4, 2, 2)))
    np.testing.assert_array_equal(kernel[:, :, 0, 0], bilinear_kernel(4))
    np.testing.assert_array_equal(kernel[:, :, 1, 1], bilinear_kernel(4))
    assert not kernel[:, :, 0, 1].any()
    assert not kernel[:, :, 1, 0].any()


@pytest.mark.parametrize("shape", [(4, 3, 2, 2), (4, 4, 2, 3)])
def test_bilinear_initializer_refuses_what_is_not_square(shape):
    with pytest.raises(ValueError, match="square"):
        BilinearInitializer()(shape)


@pytest.mark.parametrize("stride", [2, 8])
def test_upsampling_starts_as_bilinear_resize(stride):
    x = array(2, 5, 7, 3)
    upsampled = np.asarray(upsample_bilinear(x, 3, stride, "up"))
    expected = tf.image.resize(x, (5 * stride, 7 * stride), "bilinear").numpy()
    assert upsampled.shape == expected.shape
    inside = np.s_[:, stride // 2 : -(stride // 2), stride // 2 : -(stride // 2)]  # outside them the resize repeats the edge
    np.testing.assert_allclose(upsampled[inside], expected[inside], atol=1e-5)


def test_normalization_by_hand():
    picture = np.array([[[[10, 20, 30], [250, 0, 128]]]], np.uint8)
    normalized = ImageNormalization(mean=(10, 10, 10), std=(2, 5, 10))(picture)
    assert normalized.dtype == tf.float32
    np.testing.assert_allclose(normalized, [[[[0, 2, 2], [120, -2, 11.8]]]], rtol=1e-5, atol=1e-5)


def test_normalization_of_bytes_and_floats_agrees():
    picture = np.random.default_rng(0).integers(0, 256, (1, 8, 8, 3), dtype=np.uint8)
    expected = (picture - np.array(IMAGENET_MEAN)) / np.array(IMAGENET_STD)
    np.testing.assert_allclose(ImageNormalization()(picture), expected, atol=1e-5)
    np.testing.assert_array_equal(ImageNormalization()(picture.astype(np.float32)), ImageNormalization()(picture))


def test_normalization_reckons_in_float32_and_gives_the_compute_dtype():
    picture = np.full((1, 1, 1, 3), 201, np.uint8)
    normalized = ImageNormalization(mean=(200, 200, 200), std=(1, 1, 1), dtype="mixed_bfloat16")(picture)
    assert normalized.dtype == tf.bfloat16
    np.testing.assert_array_equal(tf.cast(normalized, "float32"), 1.0)


@pytest.mark.parametrize(
    "layer", [CropLike("center"), ImageNormalization((1, 2, 3), (4, 5, 6)), OverlapTilePadding(3)], ids=lambda layer: layer.name
)
def test_config_round_trip(layer):
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert again.get_config() == layer.get_config()


@pytest.mark.parametrize("axis", [-1, 1])
def test_argmax_is_that_of_numpy_and_ties_take_the_first(axis):
    x = np.random.default_rng(0).integers(0, 3, (4, 5, 6, 7)).astype(np.float32)  # few values, so many ties
    found = argmax(x, axis)
    assert found.dtype == tf.int32
    np.testing.assert_array_equal(found, np.argmax(x, axis))
