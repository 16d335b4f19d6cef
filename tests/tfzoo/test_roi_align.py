"""RoIAlign: numbers worked by hand, the published definition, ONNX Runtime's operator, torchvision's; and every form of ours."""

import os
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops
from small_graphs import onnx_operator, run_onnx, run_saved_model, run_tflite
from test_torchvision import reference_program

from tfzoo.benchmarks import roi_align as benchmark
from tfzoo.layers import roi_align as module
from tfzoo.layers.roi_align import assign_levels, roi_align
from tfzoo.layers.target import graph_for

# Numbers lie between 0 and 1, maps have up to 40 pixels a side: rounding a position there moves an answer by up to 5e-6.
CLOSE = {"rtol": 0, "atol": 1e-5}


def by_kernel(*args, **options):
    return roi_align(*args, **options)


def by_gather(*args, **options):
    with graph_for(portable=True):
        return roi_align(*args, **options)


def by_point(*args, **options):
    return tf.function(lambda: roi_align(*args, **options), jit_compile=True)()


every_form = pytest.mark.parametrize("form", [by_kernel, by_gather, by_point])


def noise(*shape, seed=0):
    return np.random.default_rng(seed).uniform(size=shape).astype(np.float32)


def random_boxes(batch, count, height, width, seed=1):
    """Centres up to a quarter beyond the picture, sides from half a pixel to above the picture's; and some of a kind."""
    rng = np.random.default_rng(seed)
    centre = rng.uniform(-0.25, 1.25, (batch, count, 2)) * (width, height)
    sides = np.exp(rng.uniform(np.log(0.5), np.log(1.3 * max(height, width)), (batch, count, 2)))
    boxes = np.concatenate([centre - sides / 2, centre + sides / 2], axis=-1)
    boxes[:, 0] = 0, 0, width, height
    boxes[:, 1] = -90, -70, -30, -20.5  # outside
    boxes[:, 2] = 10, 10, 10, 10
    boxes[:, 3] = width - 7.3, height - 3.1, width, height
    boxes[:, 4] = -1, -1, 5, width + 4.1
    return boxes.astype(np.float32)


def defined(features, boxes, size, scale, sampling, aligned):
    """The definition, sample by sample, in double precision: one map [B, h, w, C], boxes [B, R, 4]."""
    batch, height, width, channels = features.shape
    result = np.zeros((batch, boxes.shape[1], size, size, channels))
    for place in np.ndindex(result.shape[:-1]):
        picture, region, row, column = place
        x0, y0, x1, y1 = boxes[picture, region].astype(float) * scale - (0.5 if aligned else 0)
        w, h = (x1 - x0, y1 - y0) if aligned else (max(x1 - x0, 1), max(y1 - y0, 1))
        across, down = (sampling or int(np.ceil(side / size)) for side in (w, h))
        for sy, sx in np.ndindex(max(down, 0), max(across, 0)):
            y = y0 + h / size * (row + (sy + 0.5) / down)
            x = x0 + w / size * (column + (sx + 0.5) / across)
            if -1 <= y <= height and -1 <= x <= width:
                result[place] += bilinear(features[picture], y, x) / (down * across)
    return result


def bilinear(plane, y, x):
    height, width = plane.shape[:2]
    y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
    top, left = int(y), int(x)
    bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
    upper = plane[top, left] * (1 - x + left) + plane[top, right] * (x - left)
    lower = plane[bottom, left] * (1 - x + left) + plane[bottom, right] * (x - left)
    return upper * (1 - y + top) + lower * (y - top)


# === By hand ===

PLANE = np.arange(16, dtype=np.float32).reshape(1, 4, 4, 1)  # 4 * y + x: between pixels too


@every_form
@pytest.mark.parametrize(
    ("box", "options", "expected"),
    [
        # Bins are one pixel wide, their middles lie at 0.5 and 1.5: 4 * 0.5 + 0.5 and so on.
        ((0, 0, 2, 2), {}, [[2.5, 3.5], [6.5, 7.5]]),
        ((0, 0, 2, 2), {"sampling_ratio": 1}, [[2.5, 3.5], [6.5, 7.5]]),
        ((0, 0, 2, 2), {"aligned": True}, [[0.625, 1.5], [4.125, 5]]),  # samples at -.25 (the edge's 0), .25; .75, 1.25
        ((0, 0, 2, 2), {"aligned": True, "sampling_ratio": 1}, [[0, 1], [4, 5]]),
        # Samples at 2.5 and 3.5 (the edge's 3): 4 * 2.5 + 2.5, ...
        ((2, 2, 4, 4), {"sampling_ratio": 1}, [[12.5, 13], [14.5, 15]]),
        # Samples at 3.5, 4.5; the second one lies more than a pixel beyond the last one.
        ((3, 3, 5, 5), {"sampling_ratio": 1}, [[15, 0], [0, 0]]),
        # Samples at -1.5 and -.5 across, 1.5 and 2.5 down: 4 * 1.5 at the left edge.
        ((-2, 1, 0, 3), {"sampling_ratio": 1}, [[0, 6], [0, 10]]),
        # A box without area counts as one pixel, or, aligned, as a point: 4 * 1.25 + 1.25, ...; 4 * 0.5 + 0.5.
        ((1, 1, 1, 1), {"sampling_ratio": 1}, [[6.25, 6.75], [8.25, 8.75]]),
        ((1, 1, 1, 1), {"sampling_ratio": 1, "aligned": True}, [[2.5, 2.5], [2.5, 2.5]]),
    ],
)
def test_worked_by_hand(form, box, options, expected):
    found = form([PLANE], np.array([[box]], np.float32), 2, [1.0], **options)
    np.testing.assert_allclose(found[0, 0, :, :, 0], expected, atol=1e-6)


@every_form
def test_scale_and_weights_worked_by_hand(form):
    """One sample at (x, y) = (1.5, 0.75) between 1, 2, 5, 6: half and half of the columns, a quarter of the upper row."""
    plane = np.array([[0, 1, 4, 0], [0, 2, 7, 0], [0, 0, 0, 0], [0, 0, 0, 0]], np.float32)[None, :, :, None]
    found = form([plane], np.array([[[8, 2, 16, 10]]], np.float32), 1, [0.125], sampling_ratio=1)
    assert np.ravel(found) == pytest.approx(0.25 * 2.5 + 0.75 * 4.5)


def test_adaptive_sampling_worked_by_hand():
    """Three pixels in a bin: samples at .5, 1.5, 2.5 down; across a bin of half a pixel has one sample, at .25."""
    found = roi_align([PLANE], np.array([[[0, 0, 0.5, 3]]], np.float32), 1, [1.0], None, aligned=False)
    assert np.ravel(found) == pytest.approx(4 * 1.5 + 0.5)  # not aligned: one pixel wide, a sample at .5
    found = roi_align([PLANE + 4], np.array([[[1, 1, 1.5, 4]]], np.float32), 1, [1.0], 0, aligned=True)
    assert np.ravel(found) == pytest.approx(4 + 4 * 2 + 0.75)


# === Against others ===


@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize("sampling", [1, 2, 3, 0])
def test_is_what_the_paper_defines(sampling, aligned):
    features, boxes = noise(2, 17, 24, 3), random_boxes(2, 12, 68, 96)
    expected = defined(features, boxes, 3, 0.25, sampling, aligned)
    for form in (by_kernel, by_gather, by_point) if sampling else (by_kernel,):
        np.testing.assert_allclose(form([features], boxes, 3, [0.25], sampling, aligned), expected, **CLOSE)


def by_onnx_runtime(features, boxes, size, scale, sampling, aligned):
    """ONNX Runtime's RoiAlign."""
    batch, count = boxes.shape[:2]
    inputs = {
        "x": features.transpose(0, 3, 1, 2).copy(),
        "rois": boxes.reshape(-1, 4),
        "picture": np.repeat(np.arange(batch), count),
    }
    found = onnx_operator(
        "RoiAlign", inputs, mode="avg", output_height=size, output_width=size, spatial_scale=scale, sampling_ratio=sampling,
        coordinate_transformation_mode="half_pixel" if aligned else "output_half_pixel",
    )  # fmt: skip
    return found.reshape(batch, count, features.shape[-1], size, size).transpose(0, 1, 3, 4, 2)


@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize("sampling", [1, 2, 0])
@pytest.mark.parametrize("size", [7, 14])
def test_is_what_onnx_runtime_computes(size, sampling, aligned):
    features, boxes = noise(2, 33, 40, 5), random_boxes(2, 100, 132, 160)
    expected = by_onnx_runtime(features, boxes, size, 0.25, sampling, aligned)
    for form in (by_kernel, by_gather, by_point) if sampling else (by_kernel,):
        np.testing.assert_allclose(form([features], boxes, size, [0.25], sampling, aligned), expected, **CLOSE)


TORCHVISION_PROGRAM = """
import pathlib, sys
sys.path.insert(0, str(pathlib.Path(sys.argv[1]).parent))
import torchvision_compiled
import numpy as np, torch, torchvision
given = np.load(sys.argv[2])
features = torch.from_numpy(given["features"]).permute(0, 3, 1, 2)
boxes = [torch.from_numpy(part) for part in given["boxes"]]
levels = torchvision.ops.poolers.LevelMapper(2, 5)(boxes).reshape(len(boxes), -1)
found = {"levels": levels.numpy()}
for sampling in (1, 2, -1):
    for aligned in (False, True):
        regions = torchvision.ops.roi_align(features, boxes, 7, 0.25, sampling, aligned).permute(0, 2, 3, 1)
        found[f"{max(sampling, 0)} {aligned}"] = regions.numpy()
np.savez(sys.argv[3], **found)
"""


@pytest.mark.slow
def test_is_what_torchvision_computes(tmp_path):
    python, script = reference_program()
    script = pathlib.Path(script).with_name("torchvision_compiled.py")
    if not script.is_file():
        pytest.skip(f"there is no {script}, which gives torchvision its compiled RoIAlign")
    features, boxes = noise(2, 33, 40, 5), random_boxes(2, 200, 132, 160)
    boxes[:, 100:] *= 8  # every level
    np.savez(tmp_path / "given.npz", features=features, boxes=boxes)
    program = [python, "-c", TORCHVISION_PROGRAM, str(script), str(tmp_path / "given.npz"), str(tmp_path / "found.npz")]
    ran = subprocess.run(program, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr[-2000:]
    found = np.load(tmp_path / "found.npz")
    np.testing.assert_array_equal(assign_levels(boxes, 2, 5), found["levels"])
    assert set(np.ravel(found["levels"])) == {0, 1, 2, 3}
    for sampling in (1, 2, 0):
        for aligned in (False, True):
            expected = found[f"{sampling} {aligned}"].reshape(2, 200, 7, 7, 5)
            for form in (by_kernel, by_gather, by_point) if sampling else (by_kernel,):
                np.testing.assert_allclose(form([features], boxes, 7, [0.25], sampling, aligned), expected, **CLOSE)


# === Levels ===


def test_levels_of_the_paper():
    """Lin et al. 2017, below equation 1: 224 goes to level 4, half of it to level 3; and nothing to levels that there are not."""
    sides = np.array([0, 1, 111.9, 112, 223.9, 224, 447.9, 448, 5000], np.float32)
    boxes = np.stack([0 * sides, 0 * sides, sides, sides], axis=-1)[None]
    np.testing.assert_array_equal(assign_levels(boxes, 2, 5), [[0, 0, 0, 1, 1, 2, 2, 3, 3]])
    np.testing.assert_array_equal(assign_levels(boxes, 4, 5), [[0, 0, 0, 0, 0, 0, 0, 1, 1]])
    np.testing.assert_array_equal(assign_levels(boxes, 5, 5), np.zeros((1, 9)))
    np.testing.assert_array_equal(assign_levels(boxes, 2, 5, 448, 5), assign_levels(boxes, 2, 5))
    wide = np.array([[[10, 20, 10 + 448, 20 + 112]]], np.float32)  # the area counts: 224 x 224
    np.testing.assert_array_equal(assign_levels(wide, 2, 5), [[2]])
    almost = np.array([[[0, 0, 224 * 2**-4e-7, 224], [0, 0, 224 * 2**-8e-6, 224]]], np.float32)
    np.testing.assert_array_equal(assign_levels(almost, 2, 5), [[2, 1]])


SCALES = [0.25, 0.125, 0.0625]


def pyramid(batch=2, height=128, width=160, channels=3):
    features = [noise(batch, int(height * s), int(width * s), channels, seed=level) for level, s in enumerate(SCALES)]
    boxes = random_boxes(batch, 30, height, width)
    return features, boxes, np.random.default_rng(2).integers(0, 3, (batch, 30)).astype(np.int32)


@pytest.mark.parametrize("form", [by_kernel, by_gather, by_point, lambda *args: roi_align(*args[:4], 0, *args[5:])])
def test_each_box_is_read_from_its_level(form):
    features, boxes, levels = pyramid()
    found = np.asarray(form(features, boxes, 4, SCALES, 2, False, levels))
    for level, (feature, scale) in enumerate(zip(features, SCALES, strict=True)):
        alone = np.asarray(form([feature], boxes, 4, [scale], 2, False, None))
        np.testing.assert_allclose(found[levels == level], alone[levels == level], rtol=0, atol=1e-6)


@every_form
def test_levels_without_boxes(form):
    features, boxes, levels = pyramid()
    for level in range(3):
        found = form(features, boxes, 2, SCALES, levels=np.full_like(levels, level))
        np.testing.assert_allclose(found, form([features[level]], boxes, 2, [SCALES[level]]), rtol=0, atol=1e-6)


def test_a_part_of_the_boxes_at_a_time(monkeypatch):
    features, boxes, levels = pyramid()
    expected = by_gather(features, boxes, 4, SCALES, levels=levels)
    monkeypatch.setattr(module, "GATHERED_AT_ONCE", 7 * 16 * 16 * 3)  # seven boxes; thirty are four times seven and two
    np.testing.assert_array_equal(by_gather(features, boxes, 4, SCALES, levels=levels), expected)


def test_what_does_not_fit_is_refused():
    features, boxes, levels = pyramid()
    with pytest.raises(ValueError, match="3 maps and 2 scales"):
        roi_align(features, boxes, 2, SCALES[:2], levels=levels)
    with pytest.raises(ValueError, match="levels must tell"):
        roi_align(features, boxes, 2, SCALES)


# === Gradients ===


def gradients(form, features, boxes, levels, weight, **options):
    tensors = [tf.constant(feature) for feature in features]
    with tf.GradientTape() as tape:
        tape.watch(tensors)
        total = tf.reduce_sum(form(tensors, boxes, 3, SCALES, levels=levels, **options) * weight)
    return tape.gradient(total, tensors)


def by_point_in_graph(*args, **options):
    """Without XLA, through which no tape that is outside could look."""
    result = module._gather_by_point(*args[:4], options.get("sampling_ratio", 2), options.get("aligned", False), options["levels"])
    return tf.cast(result, args[0][0].dtype)


@pytest.mark.parametrize(
    ("form", "options"),
    [
        *(
            (form, options)
            for form in (by_kernel, by_gather, by_point_in_graph)
            for options in ({}, {"aligned": True, "sampling_ratio": 1})
        ),
        (by_kernel, {"sampling_ratio": 0}),
    ],
)
def test_gradients_are_finite_differences(form, options):
    """RoIAlign is linear in the features: steps of one are as good as small ones, and round less."""
    features, boxes, levels = pyramid(1, 32, 48, 2)
    features = [tf.constant(feature) for feature in features]
    weight = noise(1, 30, 3, 3, 2, seed=9)
    found = gradients(form, features, boxes, levels, weight, **options)

    @tf.function
    def total(features):
        regions = form(features, boxes, 3, SCALES, levels=levels, **options)
        return tf.reduce_sum(tf.cast(regions, "float64") * weight.astype(np.float64))

    rng = np.random.default_rng(3)
    for level, gradient in enumerate(found):
        gradient = tf.convert_to_tensor(gradient).numpy()
        assert np.abs(gradient).max() > 0.1
        for place in zip(*(rng.integers(0, side, 12) for side in gradient.shape), strict=True):
            step = np.zeros(features[level].shape, np.float32)
            step[place] = 1
            ahead, behind = ([f + sign * step if i == level else f for i, f in enumerate(features)] for sign in (1.0, -1.0))
            assert float(total(ahead) - total(behind)) / 2 == pytest.approx(gradient[place], abs=2e-5)


def test_no_gradient_passes_to_boxes():
    features, boxes, levels = pyramid()
    boxes = tf.constant(boxes)
    for form in (by_kernel, by_gather):
        with tf.GradientTape() as tape:
            tape.watch(boxes)
            total = tf.reduce_sum(form(features, boxes, 2, SCALES, levels=levels))
        assert tape.gradient(total, boxes) is None


# === Everywhere ===


@every_form
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_is_reckoned_in_float32(form, dtype):
    features, boxes, levels = pyramid()
    halves = [tf.cast(feature, dtype) for feature in features]
    found = form(halves, boxes, 3, SCALES, levels=levels)
    expected = form([tf.cast(half, "float32") for half in halves], boxes, 3, SCALES, levels=levels)
    assert found.dtype == dtype
    np.testing.assert_array_equal(tf.cast(found, "float32"), tf.cast(tf.cast(expected, dtype), "float32"))


@pytest.mark.parametrize("form", [by_kernel, by_gather])
@pytest.mark.parametrize("sampling", [2, 0])
def test_sizes_known_only_later(form, sampling):
    features, boxes, levels = pyramid()
    expected = form(features, boxes, 3, SCALES, sampling, levels=levels)
    maps = [tf.TensorSpec((None, None, None, 3))] * 3
    for count in (30, None):
        signature = [maps, tf.TensorSpec((None, count, 4)), tf.TensorSpec((None, count), tf.int32)]
        traced = tf.function(lambda f, b, k: form(f, b, 3, SCALES, sampling, levels=k), input_signature=signature)
        assert traced.get_concrete_function().output_shapes == tf.TensorShape((None, count, 3, 3, 3))
        np.testing.assert_allclose(traced(features, boxes, levels), expected, rtol=0, atol=1e-6)


class Regions(keras.Model):
    """Reads boxes from two maps of a picture, each level by size."""

    boxes = np.concatenate([random_boxes(1, 20, 60, 90), [[[5, 7, 37, 39], [-20, 30, 95, 66]]]], axis=1).astype(np.float32)

    def __init__(self):
        super().__init__()
        self.built = True  # it has no weights

    def call(self, images):
        pixels = ops.cast(images, "float32") / 255.0
        features = [ops.average_pool(pixels, stride) for stride in (4, 8)]
        boxes = ops.tile(self.boxes, (ops.shape(images)[0], 1, 1)) + ops.mean(pixels, axis=(1, 2, 3))[:, None, None]
        levels = assign_levels(boxes, 2, 3, 32, 3)
        return {"levels": levels, "regions": roi_align(features, boxes, 7, [0.25, 0.125], levels=levels)}


@pytest.fixture(scope="module")
def pictures():
    return np.random.default_rng(5).integers(0, 256, (3, 61, 90, 3), dtype=np.uint8)


def check(found, pictures):
    expected = Regions()(pictures)
    assert set(np.ravel(expected["levels"])) == {0, 1}
    np.testing.assert_array_equal(found["levels"], expected["levels"])
    np.testing.assert_allclose(found["regions"], expected["regions"], **CLOSE)


@pytest.mark.parametrize("batch", [pytest.param(1, marks=pytest.mark.slow), 3])
def test_tflite_of_builtin_operators(batch, pictures, tmp_path):
    check(run_tflite(Regions(), pictures[:batch], tmp_path / "saved"), pictures[:batch])


@pytest.mark.parametrize("run", [run_saved_model, run_onnx])
def test_files_for_any_size(run, pictures, tmp_path):
    batches = [pictures, pictures[:1, :48, :77]]
    for found, some in zip(run(Regions(), batches, tmp_path / "saved"), batches, strict=True):
        check(found, some)


JAX_PROGRAM = """
import sys
import jax, keras, numpy as np
from tfzoo.layers.roi_align import assign_levels, roi_align
assert keras.backend.backend() == "jax"
data = np.load(sys.argv[1])
features, scales = [data["f0"], data["f1"], data["f2"]], [0.25, 0.125, 0.0625]
def read(features, boxes, sampling):
    regions = roi_align(features, boxes, 3, scales, sampling, levels=data["levels"])
    return (regions * data["weight"]).sum(), regions
for sampling in (2, 0):
    both = jax.jit(jax.value_and_grad(lambda f, b: read(f, b, sampling), has_aux=True))
    (_, regions), gradient = both(features, data["boxes"])
    np.testing.assert_allclose(regions, data[f"regions_{sampling}"], atol=1e-5)
    for level in range(3):
        np.testing.assert_allclose(gradient[level], data[f"g{level}_{sampling}"], atol=1e-5)
np.testing.assert_array_equal(jax.jit(lambda b: assign_levels(b, 2, 5))(4 * data["boxes"]), data["assigned"])
"""


def test_jax_gives_what_tensorflow_gives(tmp_path):
    pytest.importorskip("jax")
    features, boxes, levels = pyramid()
    weight = noise(2, 30, 3, 3, 3, seed=9)
    data = {f"f{level}": feature for level, feature in enumerate(features)}
    for sampling in (2, 0):
        found = gradients(by_kernel, features, boxes, levels, weight, sampling_ratio=sampling)
        data |= {f"g{level}_{sampling}": gradient for level, gradient in enumerate(found)}
        data[f"regions_{sampling}"] = by_kernel(features, boxes, 3, SCALES, sampling, levels=levels)
    data["assigned"] = assign_levels(4 * boxes, 2, 5)
    np.savez(tmp_path / "data.npz", boxes=boxes, levels=levels, weight=weight, **data)
    ran = subprocess.run(
        [sys.executable, "-c", JAX_PROGRAM, str(tmp_path / "data.npz")],
        env={**os.environ, "KERAS_BACKEND": "jax"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr[-2000:]


def test_benchmark_compares_like_with_like():
    forms = benchmark.measure(regions=5, channels=4, side=64, rounds=1, warm_up=1)
    assert {form.name for form in forms} == set(benchmark.FORMS)
    assert "| crop_and_resize |" in benchmark.format_table(forms, rounds=1)
