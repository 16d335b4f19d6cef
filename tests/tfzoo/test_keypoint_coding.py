"""Keypoints to cells of a heatmap and back: by hand, against the whole resized map, ONNX Runtime's kernel, and torchvision."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops
from small_graphs import onnx_operator, run_onnx, run_saved_model, run_tflite
from test_torchvision import reference_program

from tfzoo.layers import keypoints as module
from tfzoo.layers.keypoints import decode_keypoints, encode_keypoints

# === To cells ===


def encode(keypoints, box, size=4):
    index, valid = encode_keypoints(np.array([[keypoints]], np.float32), np.array([[box]], np.float32), size)
    return np.asarray(index)[0, 0].tolist(), np.asarray(valid)[0, 0].tolist()


def test_cells_worked_by_hand():
    """A box of 8 x 4 pixels at (10, 20): cells of 2 x 1."""
    points = [(10, 20, 1), (11.9, 20.9, 2), (12, 20.9, 1), (17.9, 23.9, 1), (15, 22, 2)]
    assert encode(points, (10, 20, 18, 24)) == ([0, 0, 1, 15, 10], [True] * 5)


def test_right_and_bottom_belong_to_the_last_cell():
    points = [(18, 22, 1), (11, 24, 1), (18, 24, 1), (18.01, 22, 1), (11, 24.01, 1)]
    assert encode(points, (10, 20, 18, 24)) == ([11, 12, 15, 0, 0], [True, True, True, False, False])


def test_what_is_not_visible_or_outside_is_not_valid():
    points = [(11, 21, 0), (9.9, 21, 1), (11, 19.9, 1), (1e30, 21, 1), (-1e30, -1e30, 2)]
    assert encode(points, (10, 20, 18, 24)) == ([0] * 5, [False] * 5)


def test_boxes_without_area_hold_nothing():
    assert encode([(5, 5, 1), (0, 0, 1)], (5, 5, 5, 9)) == ([0, 0], [False, False])
    assert encode([(0, 0, 1), (3, 3, 0)], (0, 0, 0, 0)) == ([0, 0], [False, False])


def test_types_and_shapes():
    index, valid = encode_keypoints(np.zeros((2, 5, 17, 3), np.float32), np.ones((2, 5, 4), np.float32), 56)
    assert index.shape == valid.shape == (2, 5, 17) and index.dtype == "int32" and valid.dtype == "bool"


# === Back ===


def weights(total, length):
    """[total, length] float64: PyTorch's bicubic interpolation of ``length`` values to ``total``, as it is defined."""
    matrix = np.zeros((total, length))
    for row in range(total):
        position = (row + 0.5) * length / total - 0.5
        first = int(np.floor(position)) - 1
        for tap in range(first, first + 4):
            d = abs(position - tap)
            weight = (1.25 * d - 2.25) * d**2 + 1 if d <= 1 else -0.75 * (d**3 - 5 * d**2 + 8 * d - 4)
            matrix[row, min(max(tap, 0), length - 1)] += weight
    return matrix


@pytest.mark.parametrize("size", [(3, 56), (31, 200), (57, 300), (111, 8)])
def test_the_definition_is_what_onnx_runtime_computes(size):
    """Resize of the ONNX standard, which has PyTorch's form as one of many."""
    plane = np.random.default_rng(0).normal(size=(1, 1, 56, 56)).astype(np.float32)
    inputs = {"x": plane, "roi": None, "scales": None, "sizes": np.array([1, 1, *size])}
    attributes = {"mode": "cubic", "cubic_coeff_a": -0.75, "coordinate_transformation_mode": "half_pixel"}
    found = onnx_operator("Resize", inputs, **attributes)
    expected = weights(size[0], 56) @ plane[0, 0] @ weights(size[1], 56).T
    np.testing.assert_allclose(found[0, 0], expected, atol=1e-4)


def decoded_whole(heatmaps, boxes):
    """torchvision's answer, from the whole resized map: x, y and score [R, K, 3] for heatmaps [R, S, S, K]."""
    found = np.zeros((*heatmaps.shape[:1], heatmaps.shape[-1], 3))
    for region, (x0, y0, x1, y1) in enumerate(boxes.astype(np.float64)):
        width, height = max(x1 - x0, 1), max(y1 - y0, 1)
        columns, rows = int(np.ceil(width)), int(np.ceil(height))
        for kind, plane in enumerate(np.moveaxis(heatmaps[region], -1, 0)):
            resized = weights(rows, len(plane)) @ plane @ weights(columns, len(plane)).T
            row, column = np.unravel_index(resized.argmax(), resized.shape)
            found[region, kind] = x0 + (column + 0.5) * width / columns, y0 + (row + 0.5) * height / rows, resized.max()
    return found


def smooth(regions, kinds, seed, peak):
    """Maps as the head gives them, 28 x 28 made twice as large; with ``peak``, a hill each above the noise."""
    rng = np.random.default_rng(seed)
    maps = rng.normal(size=(regions, 28, 28, kinds))
    if peak:
        y, x = np.mgrid[:28, :28][..., None]
        centre = rng.uniform(0, 28, (2, regions, 1, 1, kinds))
        maps = 0.7 * maps + 8 * np.exp(-((y - centre[0]) ** 2 + (x - centre[1]) ** 2) / 8)
    return tf.image.resize(maps.astype(np.float32), (56, 56)).numpy()


def random_boxes(regions, seed, largest=1300):
    rng = np.random.default_rng(seed)
    sides = np.exp(rng.uniform(np.log(3), np.log(largest), (regions, 2)))
    corner = rng.uniform(0, 100, (regions, 2))
    return np.concatenate([corner, corner + sides], axis=-1).astype(np.float32)


@pytest.mark.parametrize("peak", [False, True])
def test_is_the_highest_pixel_of_the_whole_map(peak):
    heatmaps, boxes = smooth(100, 4, 0, peak), random_boxes(100, 1)
    keypoints, scores = (np.asarray(part)[0] for part in decode_keypoints(heatmaps[None], boxes[None]))
    expected = decoded_whole(heatmaps, boxes)
    near = np.abs(keypoints[..., :2] - expected[..., :2]).max(axis=-1) < 0.01  # the same pixel, or another one
    assert near.mean() >= (1 if peak else 0.99)
    np.testing.assert_allclose(scores[near], expected[near][:, 2], atol=2e-5)
    assert (keypoints[..., 2] == 1).all() and (scores <= expected[..., 2] + 2e-5).all()


def one_hill(row, column, size=56):
    y, x = np.mgrid[:size, :size]
    return (5 * np.exp(-((y - row) ** 2 + (x - column) ** 2) / 18)).astype(np.float32)[None, None, :, :, None]


def decode(heatmap, box):
    keypoints, scores = decode_keypoints(heatmap, np.array([[box]], np.float32))
    assert keypoints.shape == (1, 1, 1, 3) and scores.shape == (1, 1, 1)
    return np.asarray(keypoints)[0, 0, 0].tolist(), float(scores[0, 0, 0])


def test_one_pixel_a_cell():
    """Nothing is interpolated: the centre of the highest cell, its value; a box of 55.5 pixels has 56 cells, a little narrower."""
    assert decode(one_hill(20, 30), (100, 200, 156, 256)) == ([130.5, 220.5, 1], 5)
    place, score = decode(one_hill(55, 0), (100, 200, 155.5, 256))
    assert place == pytest.approx([100 + 0.5 * 55.5 / 56, 255.5, 1], abs=1e-4) and score == pytest.approx(5)


@pytest.mark.parametrize("times", [2, 3, 5, 10, 23])
@pytest.mark.parametrize("cell", [(20, 30), (5, 41), (50, 4)])  # not at an edge, whose repeated cells would move the middle
def test_many_pixels_a_cell(times, cell):
    """A symmetric hill is highest at its middle, where the middle pixel of an odd number, or the first of two, stands."""
    side = 56 * times
    place, score = decode(one_hill(*cell), (0, 0, side, side))
    first = [c * times + (times - 1) // 2 + 0.5 for c in cell[::-1]]
    assert place[:2] == pytest.approx(first, abs=1.01 if times % 2 == 0 else 1e-3)
    assert score == pytest.approx(5, abs=0.15 if times % 2 == 0 else 1e-4)


def test_small_boxes():
    """Of a box of two pixels each stands for 28 cells, from whose middle, between two cells, it is interpolated."""
    heatmap = one_hill(42, 13)
    middle = heatmap[0, 0, :, :, 0]
    place, score = decode(heatmap, (10, 10, 12, 12))
    assert place == pytest.approx([10.5, 11.5, 1])
    kernel = np.array([-0.09375, 0.59375, 0.59375, -0.09375])  # of a = -0.75 half-way between two values
    assert score == pytest.approx(kernel @ middle[40:44, 12:16] @ kernel, abs=1e-5)
    assert decode(heatmap, (10, 10, 10, 10))[0] == pytest.approx([10.5, 10.5, 1])  # one pixel at least
    assert decode(heatmap, (0, 0, 0.25, 1))[0] == pytest.approx([0.5, 0.5, 1])


def test_boxes_of_any_size():
    """Where every second or third pixel is looked at, the answer lies that near the highest one."""
    for side in (1345, 3000, 4200.5):
        place, score = decode(one_hill(20.3, 30.6), (0, 0, side, side))
        a_cell = side / 56
        assert place[:2] == pytest.approx([31.1 * a_cell, 20.8 * a_cell], abs=0.1 * a_cell)  # bicubic peaks a little beside it
        assert score == pytest.approx(5, abs=0.1)


def test_flat_maps():
    """Rounding decides which pixel is the highest: one inside."""
    place, score = decode(np.full((1, 1, 56, 56, 1), 2.5, np.float32), (10, 50, 310, 70))
    assert 10 < place[0] < 310 and 50 < place[1] < 70 and score == pytest.approx(2.5)


def test_other_sizes_of_maps_and_batches():
    heatmaps = np.stack([smooth(6, 3, seed, True)[:, :28, 14:42] for seed in range(2)])
    boxes = np.stack([random_boxes(6, seed, 400) for seed in range(2)])
    keypoints, scores = decode_keypoints(heatmaps, boxes)
    for picture in range(2):
        expected = decoded_whole(heatmaps[picture], boxes[picture])
        np.testing.assert_allclose(keypoints[picture, ..., :2], expected[..., :2], atol=0.01)
        np.testing.assert_allclose(scores[picture], expected[..., 2], atol=2e-5)


def test_kernel():
    """Values that the formula of Keys 1981 has for a = -0.75."""
    distance = np.array([0, 0.25, 0.5, 1, 1.5, 1.75, 2, 2.5, -0.5, 7], np.float32)
    expected = [1, 0.87890625, 0.59375, 0, -0.09375, -0.03515625, 0, 0, 0.59375, 0]
    np.testing.assert_allclose(module._cubic(distance), expected, atol=1e-6)


TORCHVISION_PROGRAM = """
import pathlib, sys
sys.path.insert(0, str(pathlib.Path(sys.argv[1]).parent))
__import__(pathlib.Path(sys.argv[1]).stem)  # it mends a torchvision whose compiled part does not load
import numpy as np, torch
from torchvision.models.detection.roi_heads import heatmaps_to_keypoints, keypoints_to_heatmap
given = {name: torch.from_numpy(value) for name, value in np.load(sys.argv[2]).items()}
places, scores = heatmaps_to_keypoints(given["heatmaps"].permute(0, 3, 1, 2), given["boxes"])
index, valid = keypoints_to_heatmap(given["keypoints"], given["boxes"], 56)
np.savez(sys.argv[3], places=places.numpy(), scores=scores.numpy(), index=index.numpy(), valid=valid.numpy())
"""


@pytest.mark.slow
def test_is_what_torchvision_computes(tmp_path):
    python, script = reference_program()
    heatmaps = np.concatenate([smooth(150, 17, 3, False), smooth(150, 17, 4, True)])
    boxes, rng = random_boxes(300, 5), np.random.default_rng(6)
    places = boxes[:, None, :2] + rng.uniform(-0.2, 1.2, (300, 17, 2)) * (boxes[:, None, 2:] - boxes[:, None, :2])
    keypoints = np.concatenate([places, rng.integers(0, 3, (300, 17, 1))], axis=-1).astype(np.float32)
    keypoints[:, 0, :2], keypoints[:, 1, 0] = boxes[:, 2:], boxes[:, 2]
    np.savez(tmp_path / "given.npz", heatmaps=heatmaps, boxes=boxes, keypoints=keypoints)
    program = [python, "-c", TORCHVISION_PROGRAM, script, str(tmp_path / "given.npz"), str(tmp_path / "found.npz")]
    ran = subprocess.run(program, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr[-2000:]
    expected = np.load(tmp_path / "found.npz")
    index, valid = (np.asarray(part)[0] for part in encode_keypoints(keypoints[None], boxes[None], 56))
    np.testing.assert_array_equal(valid, expected["valid"])
    np.testing.assert_array_equal(index, expected["index"])
    found, scores = (np.asarray(part)[0] for part in decode_keypoints(heatmaps[None], boxes[None]))
    near = np.abs(found - expected["places"]).max(axis=-1) <= 0.5
    assert near.mean() >= 0.998
    np.testing.assert_allclose(scores[near], expected["scores"][near], atol=1e-4)


# === Everywhere ===


class Keypoints(keras.Model):
    """Decodes and encodes keypoints that depend on a picture a little."""

    heatmaps, boxes = smooth(6, 3, 7, True)[None], random_boxes(6, 8)[None]

    def __init__(self):
        super().__init__()
        self.built = True  # it has no weights

    def call(self, images):
        level = ops.mean(ops.cast(images, "float32") / 255.0, axis=(1, 2, 3))[:, None, None]
        keypoints, scores = decode_keypoints(self.heatmaps * (1.0 + level[..., None, None]), self.boxes + level)
        index, valid = encode_keypoints(keypoints, self.boxes + level, 56)
        return {"keypoints": keypoints, "scores": scores, "cells": index, "valid": ops.cast(valid, "int32")}


PICTURES = np.random.default_rng(5).integers(0, 256, (3, 33, 40, 3), dtype=np.uint8)


def check(found, pictures):
    expected = Keypoints()(pictures)
    assert np.all(expected["valid"])
    np.testing.assert_array_equal(found["valid"], expected["valid"])
    np.testing.assert_array_equal(found["cells"], expected["cells"])
    np.testing.assert_allclose(found["keypoints"], expected["keypoints"], rtol=0, atol=1e-3)  # positions up to 1400
    np.testing.assert_allclose(found["scores"], expected["scores"], rtol=1e-5)


@pytest.mark.parametrize("batch", [pytest.param(1, marks=pytest.mark.slow), 3])
def test_tflite_of_builtin_operators(batch, tmp_path):
    check(run_tflite(Keypoints(), PICTURES[:batch], tmp_path / "saved"), PICTURES[:batch])


@pytest.mark.parametrize("run", [run_saved_model, run_onnx])
def test_files_for_any_size(run, tmp_path):
    batches = [PICTURES, PICTURES[:1, :20]]
    for found, pictures in zip(run(Keypoints(), batches, tmp_path / "saved"), batches, strict=True):
        check(found, pictures)


JAX_PROGRAM = """
import sys
import jax, keras, numpy as np
from tfzoo.layers.keypoints import decode_keypoints, encode_keypoints
assert keras.backend.backend() == "jax"
data = np.load(sys.argv[1])
keypoints, scores = jax.jit(decode_keypoints)(data["heatmaps"], data["boxes"])
np.testing.assert_allclose(keypoints, data["keypoints"], atol=1e-3)
np.testing.assert_allclose(scores, data["scores"], rtol=1e-5)
index, valid = jax.jit(lambda k, b: encode_keypoints(k, b, 56))(data["keypoints"], data["boxes"])
np.testing.assert_array_equal(index, data["cells"])
np.testing.assert_array_equal(valid, data["valid"])
"""


def test_jax_gives_what_tensorflow_gives(tmp_path):
    pytest.importorskip("jax")
    heatmaps, boxes = smooth(10, 5, 7, True)[None], random_boxes(10, 8)[None]
    keypoints, scores = decode_keypoints(heatmaps, boxes)
    cells, valid = encode_keypoints(keypoints, boxes, 56)
    given = {"heatmaps": heatmaps, "boxes": boxes, "keypoints": keypoints, "scores": scores, "cells": cells, "valid": valid}
    np.savez(tmp_path / "data.npz", **given)
    ran = subprocess.run(
        [sys.executable, "-c", JAX_PROGRAM, str(tmp_path / "data.npz")],
        env={**os.environ, "KERAS_BACKEND": "jax"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr[-2000:]
