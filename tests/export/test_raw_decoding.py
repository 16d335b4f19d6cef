"""What completes raw files in NumPy answers what the model answers."""

import pathlib
import subprocess
import sys

import decided_detectors
import numpy as np
from decided_detectors import PICTURES, SIZE
from detector_cases import detectors
from two_stage_cases import two_stage

import tfzoo
from tfzoo.export import decode, export, load, verify
from tfzoo.export.decoding import pack


def decoded(model):
    settings = model.decoding(SIZE)
    if settings["anchors"] is not None:
        settings["anchors"] = pack(settings["anchors"])
    return decode(model.deployed(raw=True).predict(PICTURES, verbose=0), settings)


@detectors({"retinanet_mobilenetv2_fpn", "fcos_resnet50_fpn", "ssdlite320_mobilenetv2", "yolov1_tiny", "yolov2_darknet19"})
def test_one_shot_detectors(name):
    """The same numbers in another order of rounding: nearly all detections agree."""
    model = decided_detectors.one_shot(name)
    parity = verify.compare_decoded(decoded(model), model.predict(PICTURES, verbose=0))
    assert parity["detections"]["agreement"] >= 0.99 and parity["detections"]["count"] > 15


@two_stage({"maskrcnn_mobilenetv2_fpn"})
def test_two_stage_detectors(name):
    model = decided_detectors.two_stage(name)
    parity = verify.compare_decoded(decoded(model), model.predict(PICTURES, verbose=0))
    assert parity["detections"]["agreement"] >= 0.99 and parity["detections"]["count"] > 15


def test_a_raw_file_is_completed_by_its_sidecar(tmp_path):
    model = decided_detectors.one_shot("retinanet_mobilenetv2_fpn")
    report = export(model, tmp_path / "raw.tflite", image_size=SIZE, raw=True)
    assert report.parity["detections"]["agreement"] >= 0.99
    runner = load(tmp_path / "raw.tflite")
    answer = decode(runner.run(PICTURES[:1]), runner.sidecar.decoding)
    parity = verify.compare_decoded(answer, model.predict(PICTURES[:1], verbose=0))
    assert parity["detections"]["agreement"] >= 0.99 and parity["detections"]["count"] > 0


def settings(**changed):
    """Two anchors side by side, scores as they are, boxes the anchors themselves."""
    return {
        "anchors": pack(np.array([[0, 0, 10, 10], [0, 0, 10, 20]], np.float32)),
        "boxes": "distances",
        "numbers": {},
        "scores": "sigmoid",
        "groups": [],
        "topk_candidates": 10,
        "first_label": 0,
        "score_thresh": 0.5,
        "nms_thresh": 0.4,
        "detections_per_img": 3,
        "image_size": [40, 40],
        "network_size": [20, 20],
        **changed,
    }


HEADS = {"cls_logits": np.log([[[3.0, 1 / 3], [9.0, 4.0]]]), "bbox_regression": np.full((1, 2, 4), 0.5)}


def test_by_hand():
    """Probabilities 3/4 and 1/4, 9/10 and 4/5: the boxes of label 0 overlap by half, more than 0.4, so the better one stays."""
    answer = decode(HEADS, settings())
    assert answer["num_detections"] == [2] and answer["labels"].tolist() == [[0, 1, -1]]
    np.testing.assert_allclose(answer["scores"], [[0.9, 0.8, 0]], atol=1e-6)
    assert answer["boxes"].tolist() == [[[0, 0, 20, 40], [0, 0, 20, 40], [0, 0, 0, 0]]]
    both = decode(HEADS, settings(nms_thresh=0.5, first_label=1))
    assert both["labels"].tolist() == [[1, 2, 1]] and both["boxes"][0, 2].tolist() == [0, 0, 20, 20]


def test_candidates_by_hand():
    assert decode(HEADS, settings(nms_thresh=1, topk_candidates=1))["num_detections"] == [1]
    assert decode(HEADS, settings(nms_thresh=1, topk_candidates=1, groups=[1, 1]))["num_detections"] == [2]
    assert decode(HEADS, settings(nms_thresh=1, topk_candidates=1, groups=None))["num_detections"] == [2]
    assert decode(HEADS, settings(score_thresh=0.95))["labels"].tolist() == [[-1, -1, -1]]


def test_segmenters_need_nothing(tmp_path):
    model = tfzoo.create_model("unet", num_classes=2, width_multiplier=0.125, depth=1)
    assert model.decoding((32, 32)) is None


def test_it_needs_numpy_alone():
    loaded = "sorted({'keras', 'tensorflow', 'tfzoo'} & {*sys.modules})"
    program = f"import sys; sys.path[0] = sys.argv[1]; import decoding; print({loaded})"
    folder = pathlib.Path(__file__).parents[2] / "export"
    found = subprocess.run([sys.executable, "-c", program, str(folder)], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_boxes_without_an_area_by_hand():
    """Beyond the picture's right border both boxes are cut off to nothing: of SSD's few candidates one goes on, of all labels."""
    outside = pack(np.array([[30, 0, 40, 10], [30, 10, 40, 20]], np.float32))
    assert decode(HEADS, settings(anchors=outside, groups=None))["num_detections"] == [1]
    assert decode(HEADS, settings(anchors=outside))["num_detections"] == [2]  # one of each label
