"""Exports of Fast R-CNN: two inputs, pictures and proposals."""

import pathlib

import numpy as np
import pytest
from decided_detectors import widest_gap
from fast_cases import answer_of, decide, scattered, small
from tflite_types import result_types

import tfzoo
from tfzoo.data.images import resize_image
from tfzoo.errors import InputError
from tfzoo.export import export, load, sidecar, verify
from tfzoo.export.runner import Runner

SIZE, COUNT = (64, 96), 40
PICTURES = np.random.default_rng(0).integers(0, 256, (3, *SIZE, 3), dtype=np.uint8)
PROPOSALS = scattered((3, COUNT), SIZE)
SETTINGS = {"box_score_thresh": 0.0, "box_detections_per_img": 12}


@pytest.fixture(scope="module")
def model():
    inputs = {"images": PICTURES, "proposals": PROPOSALS}
    model = decide(small(**SETTINGS), inputs)
    model.box_score_thresh = widest_gap(answer_of(model, inputs)["scores"])
    return model


@pytest.fixture(scope="module")
def expected(model):
    return answer_of(model, {"images": PICTURES, "proposals": PROPOSALS})


@pytest.mark.parametrize(
    ("path", "proposals"),
    [
        ("model.onnx", None),
        pytest.param("model.tflite", COUNT, marks=pytest.mark.slow),
        pytest.param("saved", None, marks=pytest.mark.slow),
    ],
)
def test_files_find_what_keras_finds(model, expected, path, proposals, tmp_path):
    """Another number of proposals than the file was checked with, and fewer than it takes."""
    assert (expected["num_detections"] > 0).all()
    report = export(model, tmp_path / path, image_size=SIZE, calibration=list(PICTURES), proposals=proposals)
    assert report.label_agreement >= 0.99 and report.parity["detections"]["count"] > 0
    runner = load(tmp_path / path)
    found = verify.run_in_batches(runner, PICTURES, PROPOSALS)
    assert verify.compare(found, expected)["detections"]["agreement"] >= 0.99
    first = answer_of(model, {"images": PICTURES[:1], "proposals": PROPOSALS[:1, :7]})
    (boxes,), (labels,) = (runner.predict([PICTURES[0]], [PROPOSALS[0, :7]])[name] for name in ("boxes", "labels"))
    np.testing.assert_array_equal(labels, first["labels"][0])
    np.testing.assert_allclose(boxes, first["boxes"][0], atol=0.05)
    facts = sidecar.read(tmp_path / path)
    assert [(given["name"], given["dtype"]) for given in facts.input] == [("images", "uint8"), ("proposals", "float32")]
    assert facts.proposals == (proposals or "any") and runner.takes_proposals


@pytest.fixture(scope="module")
def artifact(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("artifact") / "fast.keras"
    model.save(path)
    return path


def test_proposals_are_carried_along_with_the_picture(artifact, model):
    """Twice as high and three times as wide, its boxes too: the runner makes both small again, and the answer large."""
    large = PICTURES[0].repeat(2, axis=0).repeat(3, axis=1)
    small_again = np.stack([resize_image(large, SIZE), PICTURES[1]])
    expected = answer_of(model, {"images": small_again, "proposals": PROPOSALS[:2]})
    found = load(artifact, image_size=SIZE).predict([large, PICTURES[1]], [PROPOSALS[0] * [3, 2, 3, 2], PROPOSALS[1]])
    assert expected["num_detections"].min() > 0
    for row, factors in ((0, [3, 2, 3, 2]), (1, 1)):
        np.testing.assert_array_equal(found["labels"][row], expected["labels"][row])
        np.testing.assert_allclose(found["boxes"][row], factors * expected["boxes"][row], atol=0.01)


def test_what_does_not_fit_is_told(artifact, model, tmp_path):
    runner = load(artifact)
    for call, part in (
        (lambda: runner.predict(PICTURES), "looks at proposals"),
        (lambda: runner.predict(PICTURES, PROPOSALS[:2]), "3 pictures and proposals for 2"),
        (lambda: runner.predict(PICTURES[:1], [PROPOSALS[0, :, :3]]), r"must be \[n, 4\]"),
        (lambda: export(model, tmp_path / "model.tflite", proposals="any"), "takes one number of proposals"),
        (lambda: export(model, tmp_path / "model.onnx", proposals=0), "whole number from 1"),
    ):
        with pytest.raises(InputError, match=part):
            call()


class Counter(Runner):
    """Stands for a file: remembers the proposals that it was run with."""

    format = "counter"

    def __init__(self, proposals):
        self._given = sidecar.Sidecar("counter", "detection", ["cat"], None, None, proposals=proposals, versions={})
        super().__init__(pathlib.Path("counter"), None)

    def _read_sidecar(self):
        return self._given

    def _open(self):
        self.seen = {}

    def run(self, images, **proposals):
        self.seen = proposals
        return {"num_detections": np.zeros(len(images), np.int32)}


@pytest.mark.parametrize(
    ("takes", "given", "places"), [(5, 40, 5), (50, 40, 50), ("any", 40, 100), ("any", 101, 200), ("any", 0, 100)]
)
def test_proposals_are_padded_and_cut(takes, given, places):
    """To a file's number; where it takes any, to a multiple of a hundred."""
    runner = Counter(takes)
    boxes = scattered((1, given), SIZE)[0] if given else np.zeros((0, 4))
    runner.predict([PICTURES[0]], [boxes])
    found = runner.seen["proposals"]
    assert found.shape == (1, places, 4) and found.dtype == np.float32
    np.testing.assert_array_equal(found[0, :given], boxes[:places])
    assert not found[0, given:].any()


def test_pictures_alone_are_enough_for_others(tmp_path):
    runner = Counter(None)
    with pytest.raises(InputError, match="takes pictures alone"):
        runner.predict(PICTURES, PROPOSALS)
    runner.predict(PICTURES)
    assert runner.seen == {}
    unet = tfzoo.create_model("unet", num_classes=2, width_multiplier=0.1, depth=1)
    with pytest.raises(InputError, match="takes pictures alone"):
        export(unet, tmp_path / "model.onnx", proposals=5)


@pytest.mark.slow
def test_raw_files_and_int8(model, tmp_path):
    report = export(model, tmp_path / "raw.onnx", image_size="any", raw=True, calibration=list(PICTURES))
    assert set(report.parity) == {"regions", "class_logits", "box_regression"}
    assert max(errors["relative_error"] for errors in report.parity.values()) < 1e-4
    quantized = {"quantization": "int8", "image_size": SIZE, "calibration": list(PICTURES), "proposals": COUNT}
    export(model, tmp_path / "raw.tflite", raw=True, **quantized)
    assert load(tmp_path / "raw.tflite").predict(PICTURES, PROPOSALS)["class_logits"].shape == (3, COUNT, 4)
    export(model, tmp_path / "model.tflite", **quantized)
    types = result_types(tmp_path / "model.tflite")
    assert types["FULLY_CONNECTED"] == {"INT8"} and types["EXP"] == types["SOFTMAX"] == types["BATCH_MATMUL"] == {"FLOAT32"}
    assert load(tmp_path / "model.tflite").predict(PICTURES, PROPOSALS)["num_detections"].min() > 0
