"""Backbones and the pieces that they are made of, against NumPy, published counts and numbers worked by hand."""

import keras
import numpy as np
import pytest

from tfzoo.analysis import without_weights
from tfzoo.backbones.mobilenet_v3 import mobilenet_v3_large_features, squeeze_excitation
from tfzoo.backbones.resnet import resnet_features
from tfzoo.errors import InputError
from tfzoo.layers.aspp import atrous_spatial_pyramid_pooling, image_pooling
from tfzoo.layers.convolution import (
    conv_norm_relu,
    convolution,
    depthwise_convolution,
    hard_sigmoid,
    hard_swish,
    separable_conv_norm_relu,
)


def array(*shape):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def built(function, *arguments, shape=(None, None, 3), **options):
    """A model of what ``function`` makes of pictures; dictionaries of maps come out as such."""
    pixels = keras.Input(shape)
    return keras.Model(pixels, function(pixels, *arguments, **options))


def convolved(x, kernel, stride, dilation):
    """PyTorch's convolution of [H, W, in] with [k, k, in, out], padded on all sides by dilation * (k - 1) / 2, in loops."""
    size = kernel.shape[0]
    border = dilation * (size - 1) // 2
    padded = np.pad(x.astype(np.float64), ((border, border), (border, border), (0, 0)))
    rows, columns = ((length - 1) // stride + 1 for length in x.shape[:2])
    result = np.zeros((rows, columns, kernel.shape[3]))
    for i in range(rows):
        for j in range(columns):
            taps = padded[i * stride : i * stride + border * 2 + 1 : dilation, j * stride : j * stride + border * 2 + 1 : dilation]
            result[i, j] = np.tensordot(taps, kernel, 3)
    return result


@pytest.mark.parametrize("shape", [(6, 8), (7, 9), (6, 9), (1, 2)])
@pytest.mark.parametrize(
    ("size", "stride", "dilation"), [(3, 1, 1), (3, 2, 1), (7, 2, 1), (3, 1, 2), (5, 1, 2), (1, 2, 1), (3, 1, 6)]
)
def test_convolutions_pad_both_sides_alike(shape, size, stride, dilation):
    model = built(convolution, 4, size, "conv", stride, dilation, use_bias=False)
    x = array(1, *shape, 3)
    expected = convolved(x[0], model.get_layer("conv").get_weights()[0], stride, dilation)
    np.testing.assert_allclose(model(x)[0], expected, atol=1e-5)


@pytest.mark.parametrize("shape", [(6, 8), (7, 9)])
@pytest.mark.parametrize(("size", "stride", "dilation"), [(3, 1, 1), (5, 2, 1), (5, 1, 2)])
def test_depthwise_convolutions_pad_both_sides_alike(shape, size, stride, dilation):
    model = built(depthwise_convolution, size, "conv", stride, dilation)
    x, kernel = array(1, *shape, 3), model.get_layer("conv").get_weights()[0]
    channels = [convolved(x[0, ..., c : c + 1], kernel[:, :, c : c + 1], stride, dilation) for c in range(3)]
    np.testing.assert_allclose(model(x)[0], np.concatenate(channels, -1), atol=1e-5)


def test_a_stride_of_2_by_hand():
    """Four pixels 1 2 3 4, kernel 1 1 1: PyTorch sums (0 1 2) and (2 3 4); "same" would sum (1 2 3) and (3 4 0)."""
    model = built(convolution, 1, 3, "conv", stride=2, use_bias=False, shape=(None, None, 1))
    kernel = np.zeros((3, 3, 1, 1), np.float32)
    kernel[1] = 1
    model.get_layer("conv").set_weights([kernel])
    picture = np.zeros((1, 1, 4, 1), np.float32)
    picture[0, 0, :, 0] = 1, 2, 3, 4
    np.testing.assert_array_equal(np.ravel(model(picture)), [3, 9])


def test_hard_activations_by_hand():
    x = np.array([-4, -3, -1.5, 0, 1, 3, 5], np.float32)
    np.testing.assert_allclose(hard_sigmoid(x), [0, 0, 0.25, 0.5, 4 / 6, 1, 1], rtol=1e-6)
    np.testing.assert_allclose(hard_swish(x), [0, 0, -0.375, 0, 4 / 6, 3, 5], rtol=1e-6)


def test_backbones_start_as_torchvision_starts_them():
    """Kaiming's normal by fan-out: variance 2 / (out * k * k), where a depthwise kernel counts all channels.

    The variance of 36864 values is right within 3 % at 4 sigma.
    """
    keras.utils.set_random_seed(0)
    dense = built(convolution, 64, 3, "conv", shape=(None, None, 64)).get_layer("conv").get_weights()[0]
    depthwise = built(depthwise_convolution, 3, "conv", shape=(None, None, 4096)).get_layer("conv").get_weights()[0]
    np.testing.assert_allclose(dense.var(), 2 / (64 * 9), rtol=0.03)
    np.testing.assert_allclose(depthwise.var(), 2 / (4096 * 9), rtol=0.03)


def test_separable_convolution_is_depthwise_then_pointwise():
    model = built(separable_conv_norm_relu, 5, 3, "s", dilation=2)
    assert [layer.name for layer in model.layers if layer.weights] == [
        "s.depthwise.0",
        "s.depthwise.1",
        "s.pointwise.0",
        "s.pointwise.1",
    ]
    assert model.get_layer("s.depthwise.0").dilation_rate == (2, 2) and model.output.shape[-1] == 5


def test_squeeze_and_excitation_by_hand():
    """Mean 2 and -2; fc1's ReLU drops the second; fc2 makes 2 and -3 of the first: hard sigmoid 5/6 and 0."""
    model = built(squeeze_excitation, 2, "se", shape=(None, None, 2))
    model.get_layer("se.fc1").set_weights([np.eye(2, dtype=np.float32)[None, None], np.zeros(2, np.float32)])
    model.get_layer("se.fc2").set_weights([np.array([[[[1, -1.5], [100, 100]]]], np.float32), np.zeros(2, np.float32)])
    picture = np.array([[[[1, -1], [3, -3]]]], np.float32)
    np.testing.assert_allclose(model(picture)[0, 0], [[5 / 6, 0], [15 / 6, 0]], rtol=1e-6)


# === Contracts ===


@pytest.mark.parametrize(
    ("output_stride", "strides", "dilations"),
    [
        (32, (4, 8, 16, 32), {"layer3.0": 1, "layer3.1": 1, "layer4.0": 1, "layer4.1": 1}),
        (16, (4, 8, 16, 16), {"layer3.0": 1, "layer3.1": 1, "layer4.0": 1, "layer4.1": 2, "layer4.2": 2}),
        (
            8,
            (4, 8, 8, 8),
            {"layer2.3": 1, "layer3.0": 1, "layer3.1": 2, "layer3.5": 2, "layer4.0": 2, "layer4.1": 4, "layer4.2": 4},
        ),
    ],
)
def test_resnet_keeps_its_feature_contract(output_stride, strides, dilations):
    model = built(resnet_features, 50, 0.125, output_stride)
    maps = model(array(1, 65, 98, 3))
    for name, stride, channels in zip(
        ("stem", "layer1", "layer2", "layer3", "layer4"), (2, *strides), (8, 32, 64, 128, 256), strict=True
    ):
        assert maps[name].shape == (1, -(-65 // stride), -(-98 // stride), channels)
    for block, dilation in dilations.items():
        assert model.get_layer(f"backbone.{block}.conv2").dilation_rate == (dilation, dilation)


def test_resnet_strides_on_its_3x3():
    model = built(resnet_features, 50, 0.125)
    strides = [model.get_layer(f"backbone.layer2.0.{conv}").strides for conv in ("conv1", "conv2", "conv3", "downsample.0")]
    assert strides == [(1, 1), (2, 2), (1, 1), (2, 2)]


def test_resnet_pools_as_torch_does():
    """3x3, stride 2, one pixel of padding on every side: the window of pixel i reaches from 2i - 1 to 2i + 1."""
    model = built(resnet_features, 18, 0.125)
    stem = keras.Model(model.input, [model.output["stem"], model.get_layer("backbone.maxpool").output])
    before, after = (np.asarray(x)[0] for x in stem(array(1, 26, 30, 3)))
    expected = [
        [before[max(2 * i - 1, 0) : 2 * i + 2, max(2 * j - 1, 0) : 2 * j + 2].max((0, 1)) for j in range(8)] for i in range(7)
    ]
    np.testing.assert_array_equal(after, expected)


@pytest.mark.parametrize("output_stride", [16, 32])
@pytest.mark.parametrize("reduced_tail", [False, True])
def test_mobilenet_v3_keeps_its_feature_contract(output_stride, reduced_tail):
    model = built(mobilenet_v3_large_features, 1.0, output_stride, reduced_tail)
    maps = model(array(1, 65, 98, 3))
    tail = {"13": 80, "15": 80, "16": 480} if reduced_tail else {"13": 160, "15": 160, "16": 960}
    channels = {"0": 16, "1": 16, "2": 24, "4": 40, "6": 40, "7": 80, "12": 112, "13.block.0": 672, **tail}
    strides = {
        "0": 2,
        "1": 2,
        "2": 4,
        "4": 8,
        "6": 8,
        "13.block.0": 16,
        "13": output_stride,
        "15": output_stride,
        "16": output_stride,
    }
    for name, width in channels.items():
        stride = strides.get(name, 16)
        assert maps[name].shape == (1, -(-65 // stride), -(-98 // stride), width)
    dilation = 2 if output_stride == 16 else 1
    assert [model.get_layer(f"backbone.{i}.block.1.0").dilation_rate[0] for i in (12, 13, 14, 15)] == [1, *[dilation] * 3]


def test_mobilenet_v3_widths_are_multiples_of_eight():
    maps = built(mobilenet_v3_large_features, 0.25).output
    assert [maps[i].shape[-1] for i in ("0", "2", "4", "7", "11", "13", "16")] == [8, 8, 16, 24, 32, 40, 240]


@pytest.mark.parametrize(
    ("function", "arguments", "with_classifier", "classifier"),
    [
        (resnet_features, (18,), 11_689_512, 513_000),
        (resnet_features, (34,), 21_797_672, 513_000),
        (resnet_features, (50,), 25_557_032, 2_049_000),
        (resnet_features, (101,), 44_549_160, 2_049_000),
        (mobilenet_v3_large_features, (), 5_483_032, (960 + 1) * 1280 + (1280 + 1) * 1000),
    ],
)
def test_backbones_have_the_published_number_of_parameters(function, arguments, with_classifier, classifier):
    weights = without_weights(lambda: [v.shape for v in built(function, *arguments).trainable_weights])
    assert sum(np.prod(shape) for shape in weights) == with_classifier - classifier


@pytest.mark.parametrize(
    ("function", "options", "message"),
    [
        (resnet_features, {"depth": 51}, "depth is 51: it must be one of 18, 34, 50, 101"),
        (resnet_features, {"output_stride": 4}, "output_stride is 4: this backbone has 8, 16, 32"),
        (mobilenet_v3_large_features, {"output_stride": 8}, "output_stride is 8: this backbone has 16, 32"),
    ],
)
def test_what_a_backbone_has_not_is_told(function, options, message):
    with pytest.raises(InputError, match=message):
        built(function, **options)


# === Pyramid pooling ===


def test_image_pooling_repeats_what_the_mean_gives():
    model = built(image_pooling, 4, "pool")
    x = array(2, 5, 7, 3)
    kernel = model.get_layer("pool.1").get_weights()[0][0, 0]
    expected = np.maximum(x.mean((1, 2)) @ kernel / np.sqrt(1 + 1e-5), 0)
    np.testing.assert_allclose(model(x), np.broadcast_to(expected[:, None, None], (2, 5, 7, 4)), atol=1e-6)


def test_pyramid_sees_at_each_rate():
    """One bright pixel: the branch of rate r answers at distance r along the row, and nowhere else but at the pixel."""
    model = built(atrous_spatial_pyramid_pooling, 2, (2, 5), "aspp", shape=(None, None, 1))
    for index in (1, 2):
        model.get_layer(f"aspp.convs.{index}.0").set_weights([np.ones((3, 3, 1, 2), np.float32)])
    picture = np.zeros((1, 1, 15, 1), np.float32)
    picture[0, 0, 7] = 1
    joined = np.asarray(keras.Model(model.input, model.get_layer("aspp.convs").output)(picture))[0, 0]
    assert [np.flatnonzero(joined[:, 2 * index]).tolist() for index in (1, 2)] == [[5, 7, 9], [2, 7, 12]]
    assert joined.shape == (15, 8) and model.output.shape[-1] == 2


def test_names_are_those_of_torch_modules():
    model = built(conv_norm_relu, 4, 3, "classifier.0.convs.1", dilation=12)
    assert [layer.name for layer in model.layers if layer.weights] == ["classifier.0.convs.1.0", "classifier.0.convs.1.1"]
