"""Evaluation of detectors."""

import json
import types

import numpy as np
import pytest
from PIL import Image

import tfzoo
from tfzoo.benchmarks.accuracy import evaluate, format_table
from tfzoo.benchmarks.matching import describe, match_detected_classes
from tfzoo.data import shapes
from tfzoo.data.images import resize_scores
from tfzoo.errors import InputError
from tfzoo.metrics.coco import KEYPOINT_NAMES, NAMES

DATA = "shapes:64x96"
ONE = pytest.approx(1, abs=1e-9)


@pytest.fixture(autouse=True)
def few(monkeypatch):
    monkeypatch.setitem(shapes.COUNTS, "val", 6)


class Oracle:
    """Stands for an artifact that knows the truth, but for what ``spoil`` changes; its answers are padded."""

    path, name, takes_proposals = "oracle", "oracle", False

    def __init__(self, data=DATA, split="val", class_names=None, spoil=lambda answer: answer, task="detection"):
        dataset = tfzoo.load_dataset(data, split, task)
        self.task, self.class_names = task, class_names or dataset.class_names
        self._truth = (known(dataset.read(index)) for index in range(len(dataset)))
        self._spoil = spoil

    def require_answer(self):
        pass

    def predict(self, images):
        answers = [self._spoil(self._pad(next(self._truth))) for _ in images]
        return {name: [answer[name] for answer in answers] for name in answers[0]}

    @staticmethod
    def _pad(truth):
        count = len(truth["labels"])
        more = {name: np.pad(truth[name], ((0, 2), (0, 0), (0, 0))) for name in ("masks", "keypoints") if name in truth}
        return more | {
            "boxes": np.pad(truth["boxes"], ((0, 2), (0, 0))),
            "scores": np.pad(np.ones(count, np.float32), (0, 2)),
            "labels": np.pad(truth["labels"], (0, 2), constant_values=-1),
            "num_detections": np.int32(count),
        }


def known(sample):
    """A sample's truth, its masks as those of an answer: 28x28 inside the boxes."""
    truth = dict(sample["bounding_boxes"])
    if "instance_masks" in sample:
        parts = [
            mask[int(top) : int(bottom), int(left) : int(right)]
            for mask, (left, top, right, bottom) in zip(sample["instance_masks"], truth["boxes"], strict=True)
        ]
        truth["masks"] = np.array([resize_scores(part.astype(np.float32), (28, 28)) for part in parts]).reshape(-1, 28, 28)
    return truth | ({"keypoints": sample["keypoints"]} if "keypoints" in sample else {})


def test_the_truth_scores_one(tmp_path):
    result = evaluate(Oracle(), DATA, output=tmp_path)
    assert all(result[name] in (ONE, None) for name in NAMES if not name.startswith("AR_1")) and result["AP"] == ONE
    assert result["voc2007"] == result["voc2012"] == 1
    assert result["task"] == "detection" and result["pictures"] == 6 and result["measured_at"] == "original size"
    assert set(result["per_class"]["star"]) == {"AP", "AP50", "boxes", "voc2007", "voc2012"}
    assert {path.name for path in tmp_path.iterdir()} == {"result.json", "table.md", "precision_recall.png"}
    assert json.loads((tmp_path / "result.json").read_text()) == result
    assert Image.open(tmp_path / "precision_recall.png").size[0] > 500
    table = (tmp_path / "table.md").read_text()
    assert table == format_table(result) + "\n"
    for line in (
        "| AP | 1.0000 |",
        "| AP large | - |",
        "| AR, 10 detections a class | 1.0000 |",
        "| AP50 as VOC 2012 (area) | 1.0000 |",
    ):
        assert line in table
    boxes = result["per_class"]["circle"]["boxes"]
    assert f"| circle | {boxes} | 1.0000 | 1.0000 |" in table


def test_masks_are_compared_too(tmp_path):
    """Masks of 28x28 are coarse at the contour, so an IoU of .95 is not reached by all."""
    result = evaluate(Oracle(task="instance"), DATA, output=tmp_path)
    assert result["task"] == "instance" and result["AP"] == ONE and result["voc2012"] == 1
    assert result["masks"]["AP50"] == ONE and 0.8 < result["masks"]["AP"] <= 1
    assert set(NAMES) < set(result["masks"]) and set(result["masks"]["per_class"]["star"]) == {"AP", "AP50", "boxes"}
    assert result["max_detections"] == result["masks"]["max_detections"] == 100
    assert {path.name for path in tmp_path.iterdir()} == {
        "result.json", "table.md", "precision_recall.png", "precision_recall_masks.png",
    }  # fmt: skip
    assert json.loads((tmp_path / "result.json").read_text()) == result
    table = format_table(result)
    assert "| metric | boxes | masks |" in table and "| AP50 | 1.0000 | 1.0000 |" in table
    assert f"| AP | 1.0000 | {result['masks']['AP']:.4f} |" in table and "| AP50 as VOC 2012 (area) | 1.0000 | - |" in table
    assert "| class | boxes | AP | AP50 | masks | AP of masks | AP50 of masks |" in table and "Up to 100 detections" in table


def test_empty_masks_are_wrong_though_boxes_are_right():
    empty = lambda answer: answer | {"masks": answer["masks"] * 0}  # noqa: E731
    result = evaluate(Oracle(task="instance", spoil=empty), DATA, max_detections=300)
    assert result["AP"] == ONE and result["masks"]["AP"] == 0 and result["masks"]["max_detections"] == 300


def test_keypoints_are_compared_too(tmp_path):
    result = evaluate(Oracle(task="keypoint"), DATA, output=tmp_path)
    points = result["keypoints"]
    assert result["AP"] == points["AP"] == points["AR75"] == ONE and set(KEYPOINT_NAMES) < set(points)
    assert points["left_out"] == ["circle"] and points["sigmas"] == [0.05] * 5
    assert (tmp_path / "precision_recall_keypoints.png").is_file()
    table = (tmp_path / "table.md").read_text()
    for line in (
        "| metric | boxes | keypoints |",
        "| AR50 | - | 1.0000 |",
        "Up to 100 boxes and 20 keypoints of a class in a picture count.",
        "a sigma of 0.05 for each point",
        "there are no keypoints of them: circle.",
    ):
        assert line in table


def test_what_is_wrong_is_counted(tmp_path):
    shift = lambda answer: answer | {"boxes": answer["boxes"] + 1000}  # noqa: E731
    result = evaluate(Oracle(spoil=shift), DATA)
    assert result["AP"] == result["voc2007"] == 0
    nothing = lambda answer: {name: values[:0] for name, values in answer.items() if name != "num_detections"}  # noqa: E731
    assert evaluate(Oracle(spoil=nothing), DATA)["AP"] == 0


def test_classes_are_matched_by_name_and_others_not_looked_at():
    """The artifact's classes are in another order, the star is not among them, and hexagons are found that the data have not."""
    names = ["__background__", "hexagon", "Triangle", "rectangle", "circle", "N/A"]
    new_label = np.array([4, 3, 2, 1, -1])  # of circle, rectangle, triangle, star (called a hexagon), padding
    result = evaluate(Oracle(class_names=names, spoil=lambda answer: answer | {"labels": new_label[answer["labels"]]}), DATA)
    assert result["AP"] == result["voc2012"] == ONE
    assert result["per_class"]["star"]["AP"] is result["per_class"]["star"]["voc2007"] is None
    assert result["unmatched"] == {"artifact": ["hexagon"], "data": ["star"], "counted_as": None}
    assert result["equated"] == {"Triangle": "triangle"} and "star" not in result["left_out"]
    table = format_table(result)
    assert "| star |" not in table and "left out of the means: star." in table and "boxes are not looked at: hexagon." in table


def test_labels_of_no_class_are_left_out():
    beyond = lambda answer: answer | {"labels": np.where(answer["labels"] == -1, 99, answer["labels"])}  # noqa: E731
    assert evaluate(Oracle(spoil=beyond), DATA)["AP"] == ONE


def test_so_many_detections_of_a_class_count():
    repeated = lambda answer: {name: np.repeat(values, 3, axis=0) for name, values in answer.items() if name[0] != "n"}  # noqa: E731
    result = evaluate(Oracle(spoil=repeated), DATA, max_detections=1)
    assert result["max_detections"] == 1 and result["AR"] == result["AR_1"] == result["AR_10"] < 1
    assert "Up to 1 detections" in format_table(result)


def test_crowds_need_no_answer(coco_mini):
    dataset = tfzoo.load_dataset(coco_mini, "val", "detection")
    oracle = Oracle(coco_mini)
    oracle._truth = (
        {name: values[~boxes["crowd"]] for name, values in boxes.items()}
        for boxes, _ in (dataset.read_boxes(index) for index in range(len(dataset)))
    )
    assert evaluate(oracle, coco_mini)["AP"] == ONE


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"segments": "star"}, "--segments is not for the task 'detection'"),
        ({"tile": 64}, "is no segmenter"),
        ({"worst": 2, "output": "."}, "--worst is not for the task 'detection'"),
    ],
)
def test_what_is_for_segmenters_is_refused(options, sentence):
    with pytest.raises(InputError, match=sentence):
        evaluate(Oracle(), DATA, **options)


def test_a_file_is_run_at_its_size_and_measured_at_the_pictures_own(tmp_path):
    from tiny_detector import TinyDetector

    model = TinyDetector(4, class_names=list(shapes.CLASSES), image_size=(32, 40))
    model.save(tmp_path / "m.keras")
    result = evaluate(tmp_path / "m.keras", DATA)
    assert result["measured_at"] == "original size, run at 32x40" and 0 <= result["AP"] <= 1
    assert evaluate(tmp_path / "m.keras", DATA, image_size=64)["measured_at"] == "original size, run at 64x64"


# === Classes ===


def data(*class_names):
    return types.SimpleNamespace(class_names=list(class_names), spec="coco:DIR")


def test_torchvision_s_list_of_coco_is_found_in_coco(coco_mini):
    """91 names with a background and ten gaps: labels are COCO's own ids."""
    dataset = tfzoo.load_dataset(coco_mini, "val", "detection")
    names = ["__background__", *["N/A"] * 90]
    for id_, name in zip(dataset.category_ids, dataset.class_names, strict=True):
        names[id_] = name
    match = match_detected_classes(names, dataset)
    assert match.counted.all() and match.unmatched == {"artifact": [], "data": [], "counted_as": None}
    assert [dataset.category_ids[match.predicted[id_]] for id_ in dataset.category_ids] == dataset.category_ids
    assert (match.predicted == -1).sum() == 11 and match.equated == {}
    assert describe(match.unmatched, match.equated) == []


def test_more_classes_than_a_byte_counts():
    names = [f"class {index}" for index in range(1000)]
    match = match_detected_classes(names, data(*reversed(names)))
    assert match.predicted.tolist() == list(range(999, -1, -1))


def test_nothing_in_common_is_refused():
    with pytest.raises(InputError, match="evaluate it on data of its own classes"):
        match_detected_classes(["cat"], data("dog"))
