"""OpenVINO's two files: the answer, what is missing, and what is replaced."""

import sys

import numpy as np
import pytest
from two_stage_cases import drawn, small

from tfzoo.errors import InputError
from tfzoo.export import export, load, verify
from tfzoo.export import sidecar as sidecars

pytest.importorskip("openvino", reason="needs the package openvino")


@pytest.fixture(scope="module")
def exported(small_unet, tmp_path_factory):
    path = tmp_path_factory.mktemp("openvino") / "unet.xml"
    return path, export(small_unet[0], path)


def test_answers_what_keras_answers(exported, small_unet, pictures):
    path, report = exported
    assert report.format == "openvino" and report.label_agreement >= 0.9995 and report.operators["Convolution"] > 5
    assert report.bytes == path.stat().st_size + path.with_suffix(".bin").stat().st_size
    runner = load(path, threads=1)
    assert runner.format == "openvino" and runner.image_size == (64, 96)
    np.testing.assert_array_equal(runner.predict(pictures[0])["labels"], small_unet[0].predict(pictures[0], verbose=0)["labels"])


def test_its_answers_stay_when_it_answers_again(exported, pictures):
    runner = load(exported[0])
    first = runner.run(pictures[0][:1])
    before = first["scores"].copy()
    runner.run(pictures[0][1:2])
    np.testing.assert_array_equal(first["scores"], before)


def test_a_detector_finds_the_same(tmp_path):
    """Proposals, RoIAlign, NMS and masks are inside, for pictures of any size."""
    model, (images, _) = small("maskrcnn_mobilenetv2_fpn"), drawn()
    export(model, tmp_path / "found.xml", image_size="any")
    answer = load(tmp_path / "found.xml").predict(images)
    found = verify.compare_detections(answer, model.predict(images, verbose=0))
    assert found["detections"]["agreement"] >= 0.99 and found["masks"]["agreement"] >= 0.99


def test_weights_that_are_missing_or_not_its_own_are_refused(exported, tmp_path):
    path = exported[0]
    copy = tmp_path / path.name
    for file in (path, sidecars.place(path)):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    with pytest.raises(InputError, match="copy that too"):
        load(copy)
    weights = path.with_suffix(".bin").read_bytes()
    copy.with_suffix(".bin").write_bytes(weights[:-4] + b"\0\0\0\1")
    with pytest.raises(InputError, match="damaged"):
        load(copy)


def test_without_the_package_a_sentence_says_what_to_install(exported, small_unet, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(InputError, match="pip install openvino"):
        load(exported[0])
    monkeypatch.setattr("tfzoo.export.exporter.importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match="pip install openvino"):
        export(small_unet[0], tmp_path / "unet.xml")
