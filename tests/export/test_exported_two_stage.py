"""Exports of two-stage detectors: proposals, RoIAlign, NMS, masks and points inside, operators that every runtime has."""

import decided_detectors
import numpy as np
import pytest
from decided_detectors import PICTURES, SIZE
from tflite_types import result_types
from two_stage_cases import small, two_stage

from tfzoo.errors import ExportError, InputError
from tfzoo.export import export, load, verify


@two_stage({"maskrcnn_mobilenetv2_fpn"})
def test_files_find_what_keras_finds(name, tmp_path):
    model = decided_detectors.two_stage(
        name, **({"with_keypoints": True, "num_keypoints": 5} if name == "maskrcnn_mobilenetv2_fpn" else {})
    )
    expected = model.predict(PICTURES, verbose=0)
    assert (expected["num_detections"] > 0).all() and expected["num_detections"].sum() > 15
    for path in ("model.tflite", "model.onnx", "saved"):
        report = export(model, tmp_path / path, image_size=SIZE, calibration=PICTURES)
        assert report.label_agreement >= 0.99 and report.parity["detections"]["count"] > 0
        runner = load(tmp_path / path)
        parity = verify.compare(verify.run_in_batches(runner, PICTURES), expected)
        assert parity["detections"]["agreement"] >= 0.99
        assert parity.get("masks", {"agreement": 1})["agreement"] >= 0.99
        assert parity.get("keypoints", {"agreement": 1})["agreement"] >= 0.98
        assert runner.sidecar.task == model.task and set(runner.sidecar.outputs) == set(expected)


@pytest.mark.slow
def test_raw_heads(tmp_path):
    model = decided_detectors.two_stage("maskrcnn_mobilenetv2_fpn")
    report = export(model, tmp_path / "raw.onnx", image_size=SIZE, raw=True, calibration=PICTURES)
    assert set(report.parity) == {"objectness", "pred_bbox_deltas", "proposals", "class_logits", "box_regression", "detections"}
    assert report.parity["proposals"]["agreement"] >= 0.99
    heads = {name: errors for name, errors in report.parity.items() if name not in ("proposals", "detections")}
    assert max(errors["relative_error"] for errors in heads.values()) < 1e-4


def test_what_differs_is_refused():
    rng = np.random.default_rng(0)
    reference = {
        "boxes": np.array([[[5, 5, 20, 30], [40, 5, 60, 25]]], np.float32),
        "scores": np.array([[0.9, 0.8]], np.float32),
        "labels": np.array([[0, 1]], np.int32),
        "num_detections": np.array([2], np.int32),
        "masks": rng.uniform(size=(1, 2, 28, 28)).astype(np.float32),
        "keypoints": rng.uniform(0, 50, (1, 2, 3, 3)).astype(np.float32),
    }
    parity = verify.compare(reference, reference)
    assert parity["masks"] == {"agreement": 1.0, "max_abs_error": 0.0} and parity["keypoints"] == {"agreement": 1.0}
    other = {name: value.copy() for name, value in reference.items()}
    other["masks"][0, 1, 3, 4] += 0.02
    other["keypoints"][0, 0, 0, 1] += 0.6
    parity = verify.compare(other, reference)
    assert parity["masks"]["agreement"] == 0.5 and parity["keypoints"]["agreement"] == pytest.approx(5 / 6)
    with pytest.raises(ExportError, match=r"agreement of masks is 0\.5, the limit is 0.99"):
        verify.check(parity, None)


@pytest.mark.slow
def test_int8_is_for_the_networks_and_float_for_the_boxes(tmp_path):
    model = decided_detectors.two_stage("maskrcnn_mobilenetv2_fpn")
    export(model, tmp_path / "model.tflite", quantization="int8", image_size=SIZE, calibration=PICTURES)
    types = result_types(tmp_path / "model.tflite")
    assert types["CONV_2D"] == types["FULLY_CONNECTED"] == types["TRANSPOSE_CONV"] == types["DEPTHWISE_CONV_2D"] == {"INT8"}
    assert types["EXP"] == types["SOFTMAX"] == types["TOPK_V2"] == types["BATCH_MATMUL"] == {"FLOAT32"}
    assert load(tmp_path / "model.tflite").predict(PICTURES)["num_detections"].min() > 0


def test_regions_are_not_chosen_in_integers(tmp_path):
    with pytest.raises(InputError, match="take int8 in place of full_int8"):
        export(small("maskrcnn_mobilenetv2_fpn"), tmp_path / "model.tflite", quantization="full_int8", raw=True)
