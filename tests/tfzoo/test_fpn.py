"""The feature pyramid against the same sums in NumPy."""

import keras
import numpy as np
import pytest

from tfzoo.layers.fpn import feature_pyramid_network, level_sizes

SIDES = [(12, 20), (6, 10), (3, 5)]


def pyramid(extra, channels=(1, 1, 1), width=1):
    inputs = [keras.Input((*side, count)) for side, count in zip(SIDES, channels, strict=True)]
    return keras.Model(inputs, feature_pyramid_network(inputs, width, extra, prefix=""))


def set_weights(model, name, value, bias=0.0):
    """A 1x1 kernel, or the middle of a 3x3 one."""
    layer = model.get_layer(name)
    kernel = np.zeros(layer.kernel.shape, np.float32)
    kernel[kernel.shape[0] // 2, kernel.shape[1] // 2] = value
    layer.set_weights([kernel, np.full(layer.bias.shape, bias, np.float32)])


@pytest.fixture(scope="module")
def maps():
    rng = np.random.default_rng(0)
    return [rng.normal(size=(2, *side, 1)).astype(np.float32) for side in SIDES]


def test_coarse_levels_are_added_to_fine_ones(maps):
    model = pyramid("pool")
    for level, (factor, bias) in enumerate(((2.0, 0.5), (3.0, -0.25), (-1.0, 1.0))):
        set_weights(model, f"inner_blocks.{level}.0", factor, bias)
        set_weights(model, f"layer_blocks.{level}.0", 10.0**level, level)
    p5 = -maps[2] + 1
    p4 = 3 * maps[1] - 0.25 + p5.repeat(2, axis=1).repeat(2, axis=2)
    p3 = 2 * maps[0] + 0.5 + p4.repeat(2, axis=1).repeat(2, axis=2)
    found = model(maps)
    for ours, expected in zip(found, (p3, 10 * p4 + 1, 100 * p5 + 2), strict=False):
        np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-5)
    assert len(found) == 4
    np.testing.assert_array_equal(found[3], found[2][:, ::2, ::2])  # every second value, the first one too


def seen_by_p6(maps, extra):
    """(P5, P6, P7), the convolutions of stride 2 taking single values."""
    model = pyramid(extra)
    for name in ("extra_blocks.p6", "extra_blocks.p7"):
        set_weights(model, name, 2.0, -0.5)
    found = model(maps)
    assert len(found) == 5
    return [np.asarray(x) for x in found[2:]]


@pytest.mark.parametrize("extra", ["p5", "c5"])
def test_further_levels_are_convolutions_of_stride_2(maps, extra):
    p5, p6, p7 = seen_by_p6(maps, extra)
    source = p5 if extra == "p5" else maps[2]
    np.testing.assert_allclose(p6, 2 * source[:, ::2, ::2] - 0.5, rtol=1e-5)
    np.testing.assert_allclose(p7, 2 * np.maximum(p6, 0)[:, ::2, ::2] - 0.5, rtol=1e-5)
    assert p6.min() < 0  # so that the ReLU before P7 shows


def test_every_level_has_the_width_and_a_map_of_the_told_size():
    model = pyramid("c5", channels=(5, 7, 11), width=4)
    sizes = [tuple(level.shape[1:]) for level in model.outputs]
    assert sizes == [(*size, 4) for size in level_sizes((96, 160), 8, 3, 5)] == [(*side, 4) for side in (*SIDES, (2, 3), (1, 2))]
    assert model.get_layer("extra_blocks.p6").kernel.shape == (3, 3, 11, 4)


def test_level_sizes_of_torchvisions_input():
    assert level_sizes((800, 1344), 8, 3, 5) == [(100, 168), (50, 84), (25, 42), (13, 21), (7, 11)]
    assert level_sizes((800, 1344), 4, 4, 5) == [(200, 336), (100, 168), (50, 84), (25, 42), (13, 21)]


def test_layers_bear_torchvisions_names():
    inputs = [keras.Input((*side, 1)) for side in SIDES]
    model = keras.Model(inputs, feature_pyramid_network(inputs, 1, "p5"))
    assert {layer.name for layer in model.layers if layer.weights} == {
        f"backbone.fpn.{name}"
        for name in (
            *(f"{blocks}.{level}.0" for blocks in ("inner_blocks", "layer_blocks") for level in range(3)),
            *("extra_blocks.p6", "extra_blocks.p7"),
        )
    }
