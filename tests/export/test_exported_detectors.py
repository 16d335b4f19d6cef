"""Exports of detectors: NMS inside, operators that every runtime has, and the same detections."""

import numpy as np
import pytest
from decided_detectors import PICTURES, SIZE, one_shot
from detector_cases import detectors, small
from tflite_types import result_types

import tfzoo
from tfzoo.errors import ExportError
from tfzoo.export import export, load, verify


def found(*detections, places=4):
    """An answer for one picture, of (box, score, label)."""
    answer = {
        "boxes": np.zeros((1, places, 4), np.float32),
        "scores": np.zeros((1, places), np.float32),
        "labels": np.full((1, places), -1, np.int32),
        "num_detections": np.array([len(detections)], np.int32),
    }
    for place, (box, score, label) in enumerate(detections):
        answer["boxes"][0, place], answer["scores"][0, place], answer["labels"][0, place] = box, score, label
    return answer


HERE, THERE = (10, 10, 20, 30), (40, 5, 60, 25)


@pytest.mark.parametrize(
    ("answer", "agreement"),
    [
        (found((HERE, 0.9, 0), (THERE, 0.8, 1)), 1.0),
        (found((THERE, 0.8, 1), (HERE, 0.9, 0)), 1.0),  # in another order
        (found(((10.09, 10, 20, 30), 0.9009, 0), (THERE, 0.8, 1)), 1.0),
        (found(((10.11, 10, 20, 30), 0.9, 0), (THERE, 0.8, 1)), 0.5),
        (found((HERE, 0.902, 0), (THERE, 0.8, 1)), 0.5),
        (found((HERE, 0.9, 1), (THERE, 0.8, 1)), 0.5),
        (found((HERE, 0.9, 0)), 2 / 3),  # one of three detections on both sides has no equal
        (found((HERE, 0.9, 0), (HERE, 0.9, 0), (THERE, 0.8, 1)), 0.8),  # the second one of a kind counts as wrong
        (found(), 0.0),
    ],
)
def test_detections_are_compared_as_detections(answer, agreement):
    reference = found((HERE, 0.9, 0), (THERE, 0.8, 1))
    assert verify.compare(answer, reference)["detections"]["agreement"] == pytest.approx(agreement)


def test_what_is_found_again_elsewhere_by_a_little():
    reference = found((HERE, 0.9, 0), (THERE, 0.8, 1))
    answer = found(((12, 10, 21, 31), 0.7, 0), (THERE, 0.8, 0))  # IoU 160 / (200 + 189 - 160); of another label
    assert verify.compare(answer, reference)["detections"]["found_again"] == 0.5
    assert verify.compare(reference, reference)["detections"]["found_again"] == 1.0
    assert verify.compare(found(), found())["detections"]["found_again"] == 1.0


def test_files_that_find_something_else_are_refused():
    reference = found((HERE, 0.9, 0), (THERE, 0.8, 1))
    verify.check(verify.compare(reference, reference), None)
    with pytest.raises(ExportError, match=r"agreement of detections is 0\.5, the limit is 0.99"):
        verify.check(verify.compare(found((HERE, 0.9, 0), (THERE, 0.5, 1)), reference), None)
    with pytest.raises(ExportError, match="output 'labels' is missing"):
        verify.compare({name: value for name, value in reference.items() if name != "labels"}, reference)


@detectors({"retinanet_mobilenetv2_fpn"})
def test_files_find_what_keras_finds(name, tmp_path):
    model = one_shot(name)
    expected = model.predict(PICTURES, verbose=0)
    assert (expected["num_detections"] > 0).all() and expected["num_detections"].sum() > 15
    for path in ("model.tflite", "model.onnx", "saved"):
        report = export(model, tmp_path / path, image_size=SIZE, calibration=PICTURES)
        assert report.label_agreement >= 0.99 and report.parity["detections"]["count"] > 0
        runner = load(tmp_path / path)
        batches = verify.run_in_batches(runner, PICTURES)
        assert verify.compare(batches, expected)["detections"]["agreement"] >= 0.99
        assert runner.sidecar.task == "detection" and set(runner.sidecar.outputs) == set(expected)


@pytest.mark.slow
@pytest.mark.parametrize("place", ["saved", "model.onnx"])
def test_pictures_of_any_size(place, tmp_path):
    model = one_shot("retinanet_mobilenetv2_fpn")
    export(model, tmp_path / place, image_size="any", calibration=PICTURES)
    picture = PICTURES[:1, :77, :91]
    expected = model.predict(picture, verbose=0)
    assert expected["num_detections"][0] > 3
    assert verify.compare(load(tmp_path / place).predict(picture), expected)["detections"]["agreement"] >= 0.99


def test_raw_heads(tmp_path):
    model = small("retinanet_mobilenetv2_fpn")
    report = export(model, tmp_path / "raw.onnx", image_size=SIZE, raw=True, calibration=PICTURES)
    assert set(report.parity) == {"cls_logits", "bbox_regression", "detections"}
    assert max(report.parity[head]["relative_error"] for head in ("cls_logits", "bbox_regression")) < 1e-4


def test_int8_is_for_the_network_and_float_for_the_boxes(tmp_path):
    """With trained weights: what random ones find drowns in the noise of eight bits."""
    model = tfzoo.create_model("ssd300_vgg16", weights="bccd")
    pictures = np.stack([tfzoo.load_dataset("shapes:300x300", "test").read(index)["images"] for index in range(4)])
    report = export(model, tmp_path / "model.tflite", quantization="int8", calibration=pictures)
    types = result_types(tmp_path / "model.tflite")
    assert types["CONV_2D"] == types["MAX_POOL_2D"] == {"INT8"}
    assert types["EXP"] == types["SOFTMAX"] == types["TOPK_V2"] == types["DIV"] == {"FLOAT32"}
    assert report.quantization == "int8" and report.calibration["pictures"] == 4
    assert report.bytes < 0.3 * 4 * model.count_params()
    answer, expected = load(tmp_path / "model.tflite").predict(pictures), model.predict(pictures, verbose=0)
    assert expected["num_detections"].min() >= 5
    assert verify.compare(answer, expected)["detections"]["found_again"] >= 0.9 and report.label_agreement >= 0.9
    assert not np.allclose(answer["scores"] * 256, np.rint(answer["scores"] * 256))  # no probability of 8 bits
