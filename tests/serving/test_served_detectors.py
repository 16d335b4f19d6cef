"""Detectors behind a server: boxes, masks and points come in pixels of the picture as it was sent."""

import subprocess
import sys

import decided_detectors
import numpy as np
import pytest
from decided_detectors import PICTURES, SIZE
from fast_cases import small
from tiny_detector import TinyDetector

from tfzoo.cli import main
from tfzoo.errors import ExportError, InputError
from tfzoo.export import load, verify
from tfzoo.export import sidecar as sidecars
from tfzoo.serving import export_served, repository
from tfzoo.serving.decoding import resize
from tfzoo.serving.repository import _encode as png
from tfzoo.serving.repository import as_sent

TWICE = tuple(2 * side for side in SIZE)


@pytest.fixture(scope="module")
def model():
    return decided_detectors.two_stage("maskrcnn_mobilenetv2_fpn", with_keypoints=True, num_keypoints=5)


@pytest.fixture(scope="module")
def place(model, tmp_path_factory):
    return export_served(model, tmp_path_factory.mktemp("repository"), "people", image_size=SIZE)


@pytest.fixture(scope="module")
def expected(model):
    return model.predict(PICTURES, verbose=0)


def agrees(answer, expected):
    parity = verify.compare(answer, expected)
    verify.check(parity, None)
    return parity["detections"]["count"] > 15


def test_the_sidecar_tells_of_every_output(place, expected):
    sidecar = sidecars.read(place)
    assert sidecar.task == "instance" and set(sidecar.outputs) == set(expected)


def test_the_tensor_signature_answers_like_predict(place, expected):
    assert agrees(load(place).predict(PICTURES), expected)


def test_bytes_are_answered_in_pixels_of_the_picture_sent(place, model, tmp_path):
    """In a process without tfzoo: every pixel of a picture four times over, which resizing makes nearly the same picture again."""
    large = PICTURES.repeat(2, axis=1).repeat(2, axis=2)
    np.save(tmp_path / "input.npy", np.array([png(image) for image in large]))
    command = [sys.executable, "-m", "tensorflow.python.tools.saved_model_cli", "run", "--dir", str(place), "--tag_set", "serve"]
    command += ["--signature_def", "serving_default", "--inputs", f"image_bytes={tmp_path / 'input.npy'}"]
    subprocess.run([*command, "--outdir", str(tmp_path)], check=True, capture_output=True, timeout=200, cwd=tmp_path)
    answer = {path.stem: np.load(path) for path in tmp_path.glob("*.npy") if path.stem != "input"}
    np.testing.assert_array_equal(answer.pop("image_shape"), [TWICE] * 3)
    taken = resized(large)
    assert np.abs(taken.astype(int) - PICTURES).max() > 0  # else the next line would compare with the fixture's own answer
    wanted = model.predict(taken, verbose=0)
    wanted["boxes"], wanted["keypoints"] = wanted["boxes"] * 2, wanted["keypoints"] * [2, 2, 1]
    found = verify.compare(answer, wanted | {"keypoints": wanted["keypoints"].astype(np.float32)})
    assert found["detections"]["agreement"] >= 0.98 and found["masks"]["agreement"] >= 0.98
    assert found["keypoints"]["agreement"] >= 0.98 and found["detections"]["count"] > 3  # of noise, smoothed


def resized(images):
    """As the served graph resizes them."""
    return np.stack([resize(image, SIZE).numpy() for image in images])


@pytest.mark.parametrize("wrong", ["boxes", "image_shape"])
def test_what_is_carried_back_wrongly_fails_the_check(tmp_path, monkeypatch, wrong):
    """Sides that change places; such a model is not put in place."""

    def swapped(answer, size, image_shape):
        return as_sent(answer, size, image_shape[:, ::-1])

    def decode(image_bytes, size):
        pixels, shape = decode_batch(image_bytes, size)
        return pixels, shape[:, ::-1]

    decode_batch = repository.decode_batch
    monkeypatch.setattr(repository, *(("as_sent", swapped) if wrong == "boxes" else ("decode_batch", decode)))
    with pytest.raises(ExportError, match="does not answer what the model answers" if wrong == "boxes" else "wrong about the size"):
        export_served(TinyDetector(3, image_size=SIZE), tmp_path, "tiny")
    assert list(tmp_path.iterdir()) == []


def test_sides_that_are_stretched_unlike():
    import tensorflow as tf

    answer = {
        "boxes": tf.constant([[[1.0, 2, 3, 4]], [[1, 2, 3, 4]]]),
        "keypoints": tf.constant([[[[5.0, 6, 1]]], [[[5, 6, 1]]]]),
        "scores": tf.constant([[0.5], [0.5]]),
    }
    moved = as_sent(answer, (10, 20), tf.constant([[10, 20], [30, 10]]))
    np.testing.assert_allclose(moved["boxes"], [[[1, 2, 3, 4]], [[0.5, 6, 1.5, 12]]])
    np.testing.assert_allclose(moved["keypoints"], [[[[5, 6, 1]]], [[[2.5, 18, 1]]]])
    assert moved["scores"] is answer["scores"]


def test_a_network_of_one_size_takes_pictures_of_that_size(tmp_path, capsys):
    """By its name, with weights that ship with the package."""
    command = ["serve", "export", "ssd300_vgg16", "--weights", "bccd", "--repository", str(tmp_path), "--name", "cells"]
    assert main(command) == 0 and "cells/1 is in place" in capsys.readouterr().out
    sidecar = sidecars.read(tmp_path / "cells" / "1")
    assert tuple(sidecar.image_size) == (300, 300) and sidecar.class_names == ["RBC", "WBC", "Platelets"]


def test_models_that_want_proposals_are_refused(tmp_path):
    with pytest.raises(InputError, match="wants proposals"):
        export_served(small(), tmp_path, "fast")
    with pytest.raises(InputError, match="wants proposals"):  # and nothing is downloaded
        export_served("fastrcnn_resnet50_fpn", tmp_path, "fast", weights="coco")
