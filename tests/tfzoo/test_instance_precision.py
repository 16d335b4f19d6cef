"""Average precision of masks and of keypoints: pycocotools called directly, numbers by hand, and the truth fed back."""

import contextlib
import io
import json

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval, Params

from tfzoo.data import load_dataset
from tfzoo.data.boxes import is_wanted
from tfzoo.data.instance_masks import encode_masks, paste_masks
from tfzoo.metrics import CocoEvaluator
from tfzoo.metrics.coco import COCO_SIGMAS, KEYPOINT_NAMES, KINDS_OF_TASK, NAMES, AnswerEvaluator

CLASSES = ["cat", "dog"]
SIZE = (200, 240)
ONE = pytest.approx(1, abs=1e-12)


def directly(images, annotations, results, iou_type, max_detections, folder):
    """The numbers that pycocotools prints, from JSON files and loadRes as its users have them."""
    categories = [{"id": label + 1, "name": name} for label, name in enumerate(CLASSES)]
    (folder / "truth.json").write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    (folder / "found.json").write_text(json.dumps(results))
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(folder / "truth.json"))
        evaluation = COCOeval(coco, coco.loadRes(str(folder / "found.json")), iou_type)
        assert evaluation.params.maxDets[-1] == max_detections
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return [None if value == -1 else pytest.approx(value, abs=1e-12) for value in evaluation.stats]


def text(run):
    return {"size": run["size"], "counts": run["counts"].decode()}


def ellipses(rng, count):
    """Masks [count, 200, 240] and their boxes."""
    y, x = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    centres, radii = rng.uniform(40, 160, (count, 2)), rng.uniform(8, 60, (count, 2))
    masks = [((x - c[0]) / r[0]) ** 2 + ((y - c[1]) / r[1]) ** 2 < 1 for c, r in zip(centres, radii, strict=True)]
    return np.array(masks, np.uint8).reshape(-1, *SIZE), np.concatenate([centres - radii, centres + radii], axis=1)


# === Masks ===


def test_masks_inside_boxes_give_what_pycocotools_gives(tmp_path):
    """Round masks of 28x28 for elliptic objects, shifted and with holes, crowds among the objects."""
    rng = np.random.default_rng(0)
    evaluator = CocoEvaluator(CLASSES, kind="masks")
    images, annotations, results = [], [], []
    y, x = np.mgrid[:28, :28] - 13.5
    for image in range(1, 13):
        images.append({"id": image, "height": SIZE[0], "width": SIZE[1]})
        masks, boxes = ellipses(rng, 6)
        labels, crowd = rng.integers(0, 2, 6), np.arange(6) == 5 * (image % 2)
        for mask, box, label, many in zip(encode_masks(masks), boxes, labels, crowd, strict=True):
            area = int(masks[len(annotations) % 6].sum())
            record = {"image_id": image, "category_id": int(label) + 1, "segmentation": text(mask), "area": area}
            annotations.append(record | {"id": len(annotations) + 1, "iscrowd": int(many), "bbox": box.tolist()})
        answer = {
            "boxes": np.float32(boxes + rng.normal(0, 4, boxes.shape)),
            "labels": np.where(rng.random(6) < 0.9, labels, 1 - labels),
            "scores": rng.random(6),
            "masks": np.float32(np.hypot(x, y) < rng.uniform(11, 15, (6, 1, 1)))
            * rng.uniform(0.4, 1, (6, 28, 28)).astype(np.float32),
        }
        for row, mask in enumerate(encode_masks(paste_masks(answer["masks"], answer["boxes"], SIZE))):
            record = {"image_id": image, "category_id": int(answer["labels"][row]) + 1, "score": float(answer["scores"][row])}
            results.append(record | {"segmentation": text(mask)})
        truth = {"boxes": boxes, "labels": labels, "crowd": crowd, "masks": masks, "size": SIZE}
        evaluator.add(truth, answer)
    result = evaluator.result()
    assert [result[name] for name in NAMES] == directly(images, annotations, results, "segm", 100, tmp_path)
    assert 0.05 < result["AP"] < 0.95 and result["AP_small"] is not None and result["max_detections"] == 100


def square(left, top, right, bottom):
    mask = np.zeros((1, *SIZE), np.uint8)
    mask[0, top:bottom, left:right] = 1
    return mask


@pytest.mark.parametrize("form", ["pixels", "run lengths"])
def test_masks_are_compared_whatever_the_boxes(form):
    """The right box with half of the mask: an IoU of .5, found at one of ten thresholds. The boxes' AP is 1."""
    whole, half = square(20, 30, 100, 90), square(20, 30, 60, 90)
    given = {"boxes": [[20, 30, 100, 90]], "labels": [0], "masks": whole, "size": SIZE}
    answer = given | {"scores": [0.9], "masks": half if form == "pixels" else encode_masks(half)}
    results = {}
    for kind in KINDS_OF_TASK["instance"]:
        evaluator = CocoEvaluator(CLASSES, kind=kind)
        evaluator.add(given, answer)
        results[kind] = evaluator.result()
    assert results["boxes"]["AP"] == ONE
    assert results["masks"]["AP50"] == ONE and results["masks"]["AP75"] == 0 and results["masks"]["AP"] == pytest.approx(0.1)


def test_the_area_of_the_mask_decides_its_size_where_none_is_given():
    mask = square(0, 0, 200, 1) | square(0, 0, 1, 200)  # in a large box
    given = {"boxes": [[0, 0, 200, 200]], "labels": [0], "masks": mask, "size": SIZE}
    nothing = {"boxes": np.zeros((0, 4)), "labels": [], "scores": [], "masks": np.zeros((0, 28, 28), np.float32)}
    for area, name in (({}, "AP_small"), ({"area": [10_000]}, "AP_large")):
        evaluator = CocoEvaluator(CLASSES, kind="masks")
        evaluator.add(given | area, nothing)
        assert evaluator.result()[name] == 0
        assert sum(evaluator.result()[f"AP_{which}"] is None for which in ("small", "medium", "large")) == 2


# === Keypoints ===


def test_sigmas_are_pycocotools():
    np.testing.assert_allclose(COCO_SIGMAS, Params("keypoints").kpt_oks_sigmas, rtol=1e-12)


def test_persons_give_what_pycocotools_gives(tmp_path):
    """Persons with unknown points, without any, and crowds; several sizes."""
    rng = np.random.default_rng(1)
    evaluator = CocoEvaluator(CLASSES, kind="keypoints")
    images, annotations, results = [], [], []
    for image in range(1, 16):
        images.append({"id": image, "height": 400, "width": 400})
        corners, sides = rng.uniform(0, 200, (5, 2)), rng.uniform(20, 200, (5, 2))
        boxes = np.concatenate([corners, corners + sides], axis=1)
        points = np.concatenate([corners[:, None] + rng.random((5, 17, 2)) * sides[:, None], np.full((5, 17, 1), 2)], axis=-1)
        points[rng.random((5, 17)) < 0.2] = 0
        points[4] = 0
        labels, crowd = np.zeros(5, int), np.arange(5) == 4 * (image % 2)
        area = 0.6 * sides.prod(axis=1)
        for row in range(5):
            record = {"image_id": image, "category_id": 1, "keypoints": points[row].ravel().tolist(), "area": area[row]}
            record |= {"num_keypoints": int((points[row, :, 2] > 0).sum()), "bbox": [*corners[row], *sides[row]]}
            annotations.append(record | {"id": len(annotations) + 1, "iscrowd": int(crowd[row])})
        answer = {"boxes": boxes, "labels": labels, "scores": rng.random(5)}
        answer["keypoints"] = points + np.append(rng.normal(0, 8, (5, 17, 2)), np.ones((5, 17, 1)), axis=-1)
        for row in range(5):
            record = {"image_id": image, "category_id": 1, "score": answer["scores"][row]}
            results.append(record | {"keypoints": answer["keypoints"][row].ravel().tolist()})
        evaluator.add({"boxes": boxes, "labels": labels, "crowd": crowd, "area": area, "keypoints": points}, answer)
    result = evaluator.result()
    assert [result[name] for name in KEYPOINT_NAMES] == directly(images, annotations, results, "keypoints", 20, tmp_path)
    assert 0.05 < result["AP"] < 0.95 and result["AP_medium"] is not None and result["max_detections"] == 20
    assert result["per_class"]["cat"]["boxes"] == 15 * 4 - 7  # the last has no points; each second first is a crowd
    assert result["left_out"] == ["dog"] and result["sigmas"] == list(COCO_SIGMAS)


def test_other_points_have_one_sigma():
    """Area 100 * 100, both points off by 20: an OKS of exp(-20^2 / (2 * 100^2 * (2 * .05)^2)) = exp(-2) = .135; by 10: .607."""
    points = np.array([[[10, 10, 2], [50, 60, 1]]], np.float64)
    given = {"boxes": [[0, 0, 100, 100]], "labels": [0], "keypoints": points}
    for off, expected in ((20, 0), (10, 0.3), (0, 1)):  # above .5, .55 and .6
        evaluator = CocoEvaluator(CLASSES, kind="keypoints")
        evaluator.add(given, given | {"scores": [1.0], "keypoints": points + np.array([off, 0, 0])})
        result = evaluator.result()
        assert result["AP"] == pytest.approx(expected) and result["sigmas"] == [0.05, 0.05]


def test_without_pictures_there_is_no_number():
    for task, names in (("instance", NAMES), ("keypoint", KEYPOINT_NAMES)):
        result = AnswerEvaluator(task, CLASSES).result()
        kind = KINDS_OF_TASK[task][1]
        assert all(result[kind][name] is None for name in names) and result[kind]["left_out"] == CLASSES


# === The truth fed back ===


@pytest.mark.parametrize(
    ("name", "split", "task", "limit"),
    [
        ("dsb2018", "val", "instance", 400),
        ("pennfudan", "val", "instance", None),
        ("coco_mini", "val", "instance", None),
        ("shapes", "val", "instance", None),
        ("coco_person_kp", "val", "keypoint", None),
        ("coco_mini", "val", "keypoint", None),
        ("shapes", "val", "keypoint", None),
    ],
)
def test_the_truth_fed_back_scores_one(request, name, split, task, limit):
    dataset = load_dataset(name if name == "shapes" else request.getfixturevalue(name), split, task)
    evaluator = AnswerEvaluator(task, dataset.class_names, limit)
    for index in range(0, len(dataset), 6 if name == "dsb2018" else 1):
        sample = dataset.read(index)
        truth, wanted = evaluator.truth(sample), is_wanted(sample["bounding_boxes"])
        for kind, one in evaluator.evaluators.items():
            # Crowds need no answer, and nor do the points of those who have none that is known.
            rows = np.flatnonzero(wanted & (truth["keypoints"][..., 2].any(axis=-1) if kind == "keypoints" else True))
            answer = {key: truth[key][rows] for key in ("boxes", "labels", "keypoints") if key in truth}
            if "masks" in truth:
                answer["masks"] = [truth["masks"][row] for row in rows]
            one.add(truth, answer | {"scores": np.ones(len(rows))})
    result = evaluator.result()
    for table in (result, result[KINDS_OF_TASK[task][1]]):
        assert table["AP"] == table["AP50"] == table["AR"] == ONE
        assert table["left_out"] == (["circle"] if name == "shapes" and table is not result and task == "keypoint" else [])
    assert result["max_detections"] == (limit or 100)
    json.dumps(result)
