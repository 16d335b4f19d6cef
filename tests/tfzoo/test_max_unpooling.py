"""Pooling that remembers, and unpooling: against numbers worked by hand, TensorFlow's kernels, and tensorflow-addons."""

import json
import os
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfzoo.benchmarks import unpooling
from tfzoo.layers.max_unpooling import MaxPoolingWithMask, MaxUnpooling

FACTS = pathlib.Path(__file__).parents[2].parent / "shared" / "facts" / "tensorflow_addons.json"


def pool(x):
    return MaxPoolingWithMask()(x)


def unpool(x, mask):
    return MaxUnpooling()([x, mask])


def plane(rows):
    return np.array(rows, np.float32)[None, :, :, None]


def noise(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def kernels(x, scale):
    """TensorFlow's argmax kernel; its values times ``scale``, scattered back."""
    pooled, indices = tf.nn.max_pool_with_argmax(x, 2, 2, "SAME", include_batch_in_index=True)
    flat = tf.scatter_nd(indices[..., None], pooled * scale, [tf.size(x, tf.int64)])
    return pooled, tf.reshape(flat, tf.shape(x))


def layers(x, scale):
    pooled, mask = pool(x)
    return pooled, unpool(pooled * scale, mask)


def test_even_map_worked_by_hand():
    x = plane([[3, 8, 1, 2], [5, 4, 9, 6], [0, 0, 7, 7], [0, 0, 7, 7]])
    pooled, mask = pool(x)
    np.testing.assert_array_equal(pooled, plane([[8, 9], [0, 7]]))
    np.testing.assert_array_equal(mask, plane([[0, 1, 0, 0], [0, 0, 1, 0], [1, 0, 1, 0], [0, 0, 0, 0]]))  # ties: the first
    back = unpool(plane([[10, 20], [30, 40]]), mask)
    np.testing.assert_array_equal(back, plane([[0, 10, 0, 0], [0, 0, 20, 0], [30, 0, 40, 0], [0, 0, 0, 0]]))


def test_odd_map_worked_by_hand():
    x = plane([[-4, -3, -9], [-2, -5, -1], [-7, -6, -8]])
    pooled, mask = pool(x)
    np.testing.assert_array_equal(pooled, plane([[-2, -1], [-6, -8]]))
    np.testing.assert_array_equal(mask, plane([[0, 0, 0], [1, 0, 1], [0, 1, 1]]))
    np.testing.assert_array_equal(unpool(pooled, mask), plane([[0, 0, 0], [-2, 0, -1], [0, -6, -8]]))


@pytest.mark.parametrize("tie", range(4))
def test_second_of_equal_values_is_never_chosen(tie):
    """Each pair of places in a cell, tied above the rest."""
    for other in range(tie + 1, 4):
        values = np.zeros(4)
        values[[tie, other]] = 5
        mask = pool(plane(values.reshape(2, 2)))[1]
        np.testing.assert_array_equal(np.ravel(mask), np.eye(4)[tie])


@pytest.fixture(scope="module")
def addons():
    if not FACTS.is_file():
        pytest.skip("values of tensorflow-addons are not at ../shared/facts (they may not be distributed with the project)")
    return json.loads(FACTS.read_text())


def test_gives_what_tensorflow_addons_gave(addons):
    small, random = addons["max_unpooling_seed_example"], addons["max_unpooling_random"]
    pooled, mask = pool(plane(small["input_4x4"]))
    np.testing.assert_allclose(pooled, plane(small["pooled_2x2"]), atol=1e-5)
    np.testing.assert_allclose(unpool(plane(small["put_back_2x2"]), mask), plane(small["unpooled_4x4"]), atol=1e-5)
    mask = pool(np.array(random["input"], np.float32))[1]
    np.testing.assert_allclose(unpool(np.array(random["put_back"], np.float32), mask), random["unpooled"], atol=1e-5)


@pytest.mark.parametrize("size", [(8, 6), (7, 6), (8, 5), (7, 5), (1, 1), (2, 1)])
@pytest.mark.parametrize("levels", [3, None])
def test_forward_is_that_of_the_argmax_kernel(size, levels):
    """With three different values there are ties in most cells; both take the first."""
    rng = np.random.default_rng(1)
    x = rng.integers(0, levels, (2, *size, 3)).astype(np.float32) if levels else noise(2, *size, 3)
    scale = noise(2, (size[0] + 1) // 2, (size[1] + 1) // 2, 3, seed=2)
    for ours, theirs in zip(layers(x, scale), kernels(x, scale), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def gradients(pair, x, scale, weight):
    x, scale = tf.constant(x), tf.constant(scale)
    with tf.GradientTape() as tape:
        tape.watch((x, scale))
        pooled, back = pair(x, scale)
        total = tf.reduce_sum(back * weight) + tf.reduce_sum(pooled**2)
    return tape.gradient(total, (x, scale))


@pytest.mark.parametrize("size", [(8, 6), (7, 5)])
def test_gradients_are_those_of_the_kernels(size):
    x, weight = noise(2, *size, 3), noise(2, *size, 3, seed=1)
    scale = noise(2, (size[0] + 1) // 2, (size[1] + 1) // 2, 3, seed=2)
    for ours, theirs in zip(gradients(layers, x, scale, weight), gradients(kernels, x, scale, weight), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)  # a few roundings of numbers near 1


@pytest.mark.parametrize("size", [(4, 4), (3, 5)])
def test_gradient_of_ties_goes_to_the_first(size):
    x = tf.zeros((1, *size, 1))
    with tf.GradientTape() as tape:
        tape.watch(x)
        pooled, mask = pool(x)
        total = tf.reduce_sum(3 * pooled)
    np.testing.assert_array_equal(tape.gradient(total, x), 3 * mask)


def test_no_gradient_through_the_mask():
    x = tf.constant(noise(1, 4, 4, 2))
    with tf.GradientTape() as tape:
        tape.watch(x)
        total = tf.reduce_sum(unpool(tf.ones((1, 2, 2, 2)), pool(x)[1]))
    np.testing.assert_array_equal(tape.gradient(total, x), 0)


@pytest.mark.parametrize("size", [(6, 8), (5, 7)])
def test_sizes_known_only_later(size):
    images = keras.Input((None, None, 2))
    pooled, mask = MaxPoolingWithMask()(images)
    back = MaxUnpooling()([pooled, mask])
    assert pooled.shape == mask.shape == back.shape == (None, None, None, 2)
    model = keras.Model(images, [pooled, back])
    x = noise(2, *size, 2)
    traced = tf.function(model, input_signature=[tf.TensorSpec((None, None, None, 2))])
    for ours, theirs in zip(traced(x), kernels(x, 1.0), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_shapes_are_those_that_come_out():
    for size in ((6, 8), (5, 7)):
        x = noise(2, *size, 3)
        expected = MaxPoolingWithMask().compute_output_shape(x.shape)
        assert tuple(tuple(part.shape) for part in pool(x)) == expected
        assert MaxUnpooling().compute_output_shape(expected) == x.shape


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_half_precision_only_picks(policy):
    """Nothing is reckoned, so the answer is that of float32 on the same values."""
    dtype = keras.dtype_policies.get(policy).compute_dtype
    x = tf.cast(tf.cast(noise(1, 5, 6, 2), dtype), "float32")
    pooled, mask = MaxPoolingWithMask(dtype=policy)(x)
    back = MaxUnpooling(dtype=policy)([pooled, mask])
    assert pooled.dtype == mask.dtype == back.dtype == dtype
    for ours, theirs in zip((pooled, back), kernels(x, 1.0), strict=True):
        np.testing.assert_array_equal(tf.cast(ours, "float32"), theirs)


def test_saves_and_loads(tmp_path):
    images = keras.Input((None, None, 2))
    model = keras.Model(images, MaxUnpooling(name="up")(list(MaxPoolingWithMask(name="down")(images))))
    model.save(tmp_path / "pair.keras")
    x = noise(1, 5, 6, 2)
    np.testing.assert_array_equal(keras.models.load_model(tmp_path / "pair.keras")(x), model(x))


def test_benchmark_compares_like_with_like():
    x, scale = noise(2, 7, 6, 3), noise(2, 4, 3, 3, seed=1)
    np.testing.assert_array_equal(unpooling.layers_pair(x, scale), unpooling.kernels_pair(x, scale))
    pairs = unpooling.measure([(1, 4, 6, 2)], rounds=1, warm_up=1)
    assert "| 1 x 4 x 6 x 2 |" in unpooling.format_table(pairs, rounds=1)


JAX_PROGRAM = """
import sys
import jax, keras, numpy as np
from tfzoo.layers.max_unpooling import MaxPoolingWithMask, MaxUnpooling
assert keras.backend.backend() == "jax"
data = np.load(sys.argv[1])
down, up = MaxPoolingWithMask(), MaxUnpooling()
def pair(x, scale):
    pooled, mask = down(x)
    return up([pooled * scale, mask])
np.testing.assert_array_equal(pair(data["x"], data["scale"]), data["back"])
found = jax.jit(jax.grad(lambda x: (pair(x, data["scale"]) * data["weight"]).sum()))(data["x"])
np.testing.assert_allclose(found, data["gradient"], atol=1e-6)
"""


def test_jax_gives_what_tensorflow_gives(tmp_path):
    pytest.importorskip("jax")
    x, scale, weight = noise(2, 7, 6, 3), noise(2, 4, 3, 3, seed=1), noise(2, 7, 6, 3, seed=2)
    variable = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(variable)
        back = kernels(variable, scale)[1]
        total = tf.reduce_sum(back * weight)
    np.savez(tmp_path / "data.npz", x=x, scale=scale, weight=weight, back=back, gradient=tape.gradient(total, variable))
    done = subprocess.run(
        [sys.executable, "-c", JAX_PROGRAM, str(tmp_path / "data.npz")],
        env={**os.environ, "KERAS_BACKEND": "jax"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
