"""Average precision: pycocotools called directly, numbers worked by hand, and the truth fed back."""

import contextlib
import io
import json

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from tfzoo.data import load_dataset
from tfzoo.metrics import CocoEvaluator, VocEvaluator
from tfzoo.metrics.coco import NAMES
from tfzoo.metrics.voc import eleven_points, whole_area

CLASSES = ["cat", "dog", "emu"]
ONE = pytest.approx(1, abs=1e-12)  # pycocotools divides by a count and the smallest number above it


def truth(boxes, labels, **more):
    return {"boxes": np.array(boxes, np.float32).reshape(-1, 4), "labels": np.array(labels, np.int32), **more}


def found(boxes, labels, scores=None):
    scores = np.ones(len(labels)) if scores is None else scores
    return truth(boxes, labels) | {"scores": np.array(scores, np.float32)}


NOTHING = found([], [])
CAT, DOG, SECOND_DOG = [10, 10, 60, 50], [20, 80, 120, 180], [200, 20, 320, 120]
SHIFTED_DOG = [40, 80, 140, 180]  # IoU 80 / 120 = 2 / 3 with DOG: right up to an IoU of .65


def one_wrong_one_shifted_one_missed():
    """Two pictures: in the first the cat is called an emu; in the second one dog is shifted and one missed, and an emu is right."""
    emu = [0, 0, 30, 30]
    return [
        (truth([CAT], [0]), found([CAT], [2], [0.9])),
        (truth([DOG, SECOND_DOG, emu], [1, 1, 2]), found([SHIFTED_DOG, emu], [1, 2], [0.8, 0.7])),
    ]


def evaluate(evaluator, pictures):
    for picture in pictures:
        evaluator.add(*picture)
    return evaluator.result()


def directly(pictures, folder):
    """The twelve numbers that pycocotools prints, from JSON files and loadRes as its users have them."""
    images, annotations, results = [], [], []
    for image, (true, answer) in enumerate(pictures, start=100):
        images.append({"id": image, "height": 400, "width": 400})
        for box, label in zip(true["boxes"].tolist(), true["labels"].tolist(), strict=True):
            x, y, width, height = box[0], box[1], box[2] - box[0], box[3] - box[1]
            record = {"image_id": image, "category_id": label + 5, "bbox": [x, y, width, height], "area": width * height}
            annotations.append(record | {"id": len(annotations) + 1, "iscrowd": 0})
        for box, label, score in zip(*(answer[key].tolist() for key in ("boxes", "labels", "scores")), strict=True):
            results.append({"image_id": image, "category_id": label + 5, "score": score})
            results[-1]["bbox"] = [box[0], box[1], box[2] - box[0], box[3] - box[1]]
    categories = [{"id": label + 5, "name": name} for label, name in enumerate(CLASSES)]
    (folder / "truth.json").write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    (folder / "found.json").write_text(json.dumps(results))
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(folder / "truth.json"))
        evaluation = COCOeval(coco, coco.loadRes(str(folder / "found.json")), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats


def assert_agree(result, stats):
    for name, value in zip(NAMES, stats, strict=True):
        assert result[name] == (None if value == -1 else pytest.approx(value, abs=1e-12)), name


# === COCO ===


def test_a_wrong_label_a_shifted_box_and_a_missed_one_give_what_pycocotools_gives(tmp_path):
    """By hand: the cat is never found, 0. The dogs: one of two, up to an IoU of .65 (4 of 10 thresholds): precision 1 at 51 of 101
    recalls. The emu is found at .7 after a wrong one at .9: precision 1/2."""
    result = evaluate(CocoEvaluator(CLASSES), one_wrong_one_shifted_one_missed())
    assert result["per_class"]["cat"] == {"AP": 0, "AP50": 0, "boxes": 1}
    assert result["per_class"]["dog"] == {"AP": pytest.approx(0.4 * 51 / 101), "AP50": pytest.approx(51 / 101), "boxes": 2}
    assert result["per_class"]["emu"] == {"AP": pytest.approx(1 / 2), "AP50": pytest.approx(1 / 2), "boxes": 1}
    assert result["AP"] == pytest.approx((0 + 0.4 * 51 / 101 + 1 / 2) / 3)
    assert_agree(result, directly(one_wrong_one_shifted_one_missed(), tmp_path))
    assert result["left_out"] == []


def test_random_boxes_give_what_pycocotools_gives(tmp_path):
    rng = np.random.default_rng(0)
    pictures = []
    for _ in range(20):
        corner, sides = rng.uniform(0, 200, (12, 2)), rng.uniform(5, 190, (12, 2))
        boxes = np.concatenate([corner, corner + sides], axis=1).astype(np.float32)
        labels = rng.integers(0, 3, 12)
        moved = boxes + rng.normal(0, 6, boxes.shape).astype(np.float32)
        kept = rng.random(12) < 0.8
        answer = found(np.concatenate([moved[kept], boxes[:3] + 70]), [*labels[kept], 0, 1, 2], rng.random(kept.sum() + 3))
        pictures.append((truth(boxes, labels), answer))
    result = evaluate(CocoEvaluator(CLASSES), pictures)
    assert_agree(result, directly(pictures, tmp_path))
    assert 0.1 < result["AP"] < 0.9


def test_the_first_label_counts():
    result = evaluate(CocoEvaluator(["only"]), [(truth([CAT], [0]), found([CAT], [0]))])
    assert result["AP"] == result["per_class"]["only"]["AP"] == ONE


def test_no_detections_at_all_score_zero():
    result = evaluate(CocoEvaluator(CLASSES), [(truth([CAT], [0]), NOTHING), (truth([], []), NOTHING)])
    assert result["AP"] == result["AP50"] == result["AR"] == 0 and result["AP_small"] is None
    assert result["per_class"]["dog"] == {"AP": None, "AP50": None, "boxes": 0} and result["left_out"] == ["dog", "emu"]


def test_nothing_to_be_found_gives_no_number():
    for pictures in ([], [(truth([], []), NOTHING)], [(truth([], []), found([CAT], [0]))]):
        evaluator = CocoEvaluator(CLASSES)
        result = evaluate(evaluator, pictures)
        assert [result[name] for name in NAMES] == [None] * 12 and result["left_out"] == CLASSES and evaluator.curves() == {}


def test_padding_is_no_detection():
    padded = found([CAT, [0, 0, 0, 0], [0, 0, 0, 0]], [0, -1, -1], [0.6, 0, 0])
    evaluator = CocoEvaluator(CLASSES)
    assert evaluate(evaluator, [(truth([CAT], [0]), padded)])["per_class"]["cat"]["AP"] == ONE
    assert len(evaluator._found) == 1


def test_classes_that_do_not_count_are_left_out_of_the_means():
    pictures = one_wrong_one_shifted_one_missed()
    result = evaluate(CocoEvaluator(CLASSES, counted=[False, False, True]), pictures)
    assert result["AP"] == pytest.approx(1 / 2)
    assert result["per_class"]["dog"] == {"AP": None, "AP50": None, "boxes": 2} and result["left_out"] == []


def test_a_crowd_is_neither_missed_nor_wrongly_found():
    """COCO's rule: detections inside a crowd count neither way, as many as there are; elsewhere they are wrong."""
    picture = truth([CAT, [100, 100, 300, 300]], [0, 0], crowd=np.array([False, True]))
    inside = [[110 + 20 * i, 110, 130 + 20 * i, 160] for i in range(5)]
    outside = [0, 300, 40, 360]
    missed = evaluate(CocoEvaluator(CLASSES), [(picture, found([CAT], [0], [0.5]))])
    within = evaluate(CocoEvaluator(CLASSES), [(picture, found([CAT, *inside], [0] * 6, [0.5] + [0.9] * 5))])
    beside = evaluate(CocoEvaluator(CLASSES), [(picture, found([CAT, outside], [0, 0], [0.5, 0.9]))])
    assert missed["AP"] == within["AP"] == ONE and beside["AP"] == pytest.approx(1 / 2)
    assert missed["per_class"]["cat"]["boxes"] == 1


def test_a_difficult_box_takes_one_detection_by_iou():
    picture = truth([CAT, DOG], [0, 0], difficult=np.array([False, True]))
    part = [20, 80, 60, 120]  # inside the difficult one, IoU 0.16: it would be taken by a crowd
    for boxes, scores, expected in (
        ([CAT], [0.5], 1),
        ([CAT, DOG], [0.5, 0.9], 1),
        ([CAT, part], [0.5, 0.9], 1 / 2),
        ([CAT, DOG, DOG], [0.5, 0.9, 0.8], 1 / 2),
    ):
        result = evaluate(CocoEvaluator(CLASSES), [(picture, found(boxes, [0] * len(boxes), scores))])
        assert result["AP"] == pytest.approx(expected), boxes


def test_the_area_of_the_object_decides_its_size():
    large_box = truth([[0, 0, 100, 100]], [0])
    assert evaluate(CocoEvaluator(CLASSES), [(large_box, NOTHING)])["AP_large"] == 0
    thin = large_box | {"area": np.array([900.0])}
    result = evaluate(CocoEvaluator(CLASSES), [(thin, NOTHING)])
    assert result["AP_large"] is None and result["AP_small"] == 0


def test_many_objects_of_a_class_need_more_detections_than_a_hundred():
    boxes = [[20 * (i % 15), 20 * (i // 15), 20 * (i % 15) + 15, 20 * (i // 15) + 15] for i in range(150)]
    pictures = [(truth(boxes, [0] * 150), found(boxes, [0] * 150))]
    by_limit = {limit: evaluate(CocoEvaluator(["cell"], limit), pictures) for limit in (5, 100, 300)}
    assert by_limit[300]["AP"] == by_limit[300]["AR"] == ONE
    assert by_limit[100]["AR"] == pytest.approx(100 / 150) and by_limit[100]["AP"] == pytest.approx(67 / 101)
    assert by_limit[5]["AR_1"] == pytest.approx(1 / 150) and by_limit[5]["AR"] == by_limit[5]["AR_10"] == pytest.approx(5 / 150)


def test_pictures_may_be_added_after_a_result():
    evaluator = CocoEvaluator(CLASSES)
    assert evaluate(evaluator, [(truth([CAT], [0]), NOTHING)])["AP"] == 0
    assert evaluate(evaluator, [(truth([CAT], [0]), found([CAT], [0]))])["AP"] == pytest.approx(51 / 101)


def test_curves_are_precision_at_each_recall():
    evaluator = CocoEvaluator(CLASSES)
    evaluate(evaluator, one_wrong_one_shifted_one_missed())
    assert {name: curve.shape for name, curve in evaluator.curves().items()} == dict.fromkeys(CLASSES, (101,))
    np.testing.assert_allclose(evaluator.curves()["dog"], [1] * 51 + [0] * 50)
    np.testing.assert_allclose(evaluator.curves(0.75)["dog"], 0)


# === VOC ===


def ranks(*right):
    return np.array(right, bool)


def test_average_precision_by_hand():
    """Right, wrong, right, wrong of 3 boxes: precision 1, 1/2, 2/3, 1/2 at recall 1/3, 1/3, 2/3, 2/3.

    Eleven points: recall 0 to .3: 1 (four), .4 to .6: 2/3 (three), above: 0. Area: 1/3 * 1 + 1/3 * 2/3.
    """
    right = ranks(1, 0, 1, 0)
    assert eleven_points(right, 3) == pytest.approx((4 * 1 + 3 * 2 / 3) / 11)
    assert whole_area(right, 3) == pytest.approx(1 / 3 + 2 / 9)


def test_a_point_that_is_just_reached_counts():
    """3 of 10 found: a recall of exactly .3, which is the fourth point."""
    assert eleven_points(ranks(1, 1, 1), 10) == pytest.approx(4 / 11)


def test_nothing_found_is_zero_and_everything_is_one():
    assert eleven_points(ranks(), 3) == whole_area(ranks(), 3) == 0
    assert eleven_points(ranks(1, 1, 1), 3) == whole_area(ranks(1, 1, 1), 3) == 1


def test_detections_are_judged_over_all_pictures_by_score():
    """The dogs: the shifted one has an IoU of 2/3, enough. One of two found: six of eleven points. Emu: wrong, then right."""
    result = evaluate(VocEvaluator(CLASSES), one_wrong_one_shifted_one_missed())
    assert result["per_class"]["cat"] == {"voc2007": 0, "voc2012": 0}
    assert result["per_class"]["dog"] == {"voc2007": pytest.approx(6 / 11), "voc2012": pytest.approx(1 / 2)}
    assert result["per_class"]["emu"] == {"voc2007": pytest.approx(1 / 2), "voc2012": pytest.approx(1 / 2)}
    assert result["voc2012"] == pytest.approx((0 + 1 / 2 + 1 / 2) / 3)


def test_a_second_detection_of_the_same_box_is_wrong():
    pictures = [(truth([CAT, DOG], [0, 0]), found([CAT, CAT, DOG], [0, 0, 0], [0.9, 0.8, 0.7]))]
    assert evaluate(VocEvaluator(CLASSES), pictures)["per_class"]["cat"]["voc2012"] == pytest.approx(1 / 2 * (1 + 2 / 3))


def test_a_detection_belongs_to_the_box_that_it_overlaps_most_even_if_that_is_taken():
    """VOC's rule: a second one nearest to a taken box is wrong, although it overlaps the other box enough too."""
    boxes = [[0, 0, 100, 100], [0, 20, 100, 120]]
    pictures = [(truth(boxes, [0, 0]), found([boxes[0], [0, 2, 100, 102]], [0, 0], [0.9, 0.8]))]
    assert evaluate(VocEvaluator(CLASSES), pictures)["per_class"]["cat"]["voc2012"] == pytest.approx(1 / 2)


@pytest.mark.parametrize("flag", ["difficult", "crowd"])
def test_difficult_boxes_count_neither_way(flag):
    picture = truth([CAT, DOG], [0, 0], **{flag: np.array([False, True])})
    for boxes in ([CAT], [CAT, DOG], [CAT, DOG, DOG]):
        answer = found(boxes, [0] * len(boxes), np.linspace(0.5, 0.9, len(boxes)))
        assert evaluate(VocEvaluator(CLASSES), [(picture, answer)])["voc2007"] == 1
    only_difficult = truth([CAT], [0], **{flag: np.array([True])})
    assert evaluate(VocEvaluator(CLASSES), [(only_difficult, found([CAT], [0]))])["voc2007"] is None


# === The truth fed back ===


@pytest.mark.parametrize(
    ("name", "split"), [("bccd", "test"), ("bccd", "train"), ("coco_mini", "val"), ("pennfudan", "val"), ("shapes", "val")]
)
def test_the_truth_fed_back_scores_one(request, name, split):
    dataset = load_dataset("shapes" if name == "shapes" else request.getfixturevalue(name), split, "detection")
    coco, voc = CocoEvaluator(dataset.class_names), VocEvaluator(dataset.class_names)
    boxes = crowds = 0
    for index in range(len(dataset)):
        true, _ = dataset.read_boxes(index)
        boxes, crowds = boxes + len(true["labels"]), crowds + true["crowd"].sum()
        wanted = ~true["crowd"]  # a crowd needs no answer
        answer = found(true["boxes"][wanted], true["labels"][wanted])
        coco.add(true, answer)
        voc.add(true, answer)
    result = coco.result()
    assert result["AP"] == result["AP50"] == result["AP75"] == result["AR"] == ONE
    assert result["left_out"] == [] and voc.result()["voc2007"] == voc.result()["voc2012"] == 1
    assert crowds == (16 if name == "coco_mini" else 0)
    assert sum(facts["boxes"] for facts in result["per_class"].values()) == boxes - crowds
