"""The ``coco:DIR`` reader: its layouts, and the sentence when something is wrong."""

import numpy as np
import pytest
from sample_checks import (
    CAT,
    CROWD,
    DOG,
    HEIGHT,
    LAYOUTS,
    PACKED,
    POLYGON,
    TASKS,
    WIDTH,
    assert_boxes_enclose_masks,
    check_sample,
    coco_json,
    rectangle,
    uncompressed,
    write_coco,
    xyxy,
)

from tfzoo.data import load_dataset

MISSING = object()


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_reads_every_layout_for_every_task(tmp_path, layout, task):
    spec, _, _ = write_coco(tmp_path, layout, "person_keypoints" if task == "keypoint" else "instances")
    dataset = load_dataset(spec, "val", task)
    assert len(dataset) == 2
    assert dataset.category_ids == [DOG, CAT]
    assert dataset.class_names == (["background", "dog", "cat"] if task == "semantic" else ["dog", "cat"])
    assert dataset.keypoint_names == (["nose", "tail"] if task == "keypoint" else [])
    empty, full = dataset.read(0), dataset.read(1)
    for sample in (empty, full):
        check_sample(sample, task, len(dataset.class_names), points=2, box_keys=dataset.box_keys)
    assert (empty["image_id"], full["image_id"]) == ("2", "7")
    assert (empty["images"] == 40).all()
    assert not full["images"].any()


def test_takes_detection_where_no_task_is_named(tmp_path):
    assert load_dataset(write_coco(tmp_path)[0], "val").task == "detection"


def test_boxes_labels_and_crowd(tmp_path):
    boxes = load_dataset(write_coco(tmp_path)[0], "val", "detection").read(1)["bounding_boxes"]
    np.testing.assert_array_equal(boxes["boxes"], [xyxy(POLYGON), xyxy(CROWD), xyxy(PACKED)])
    assert boxes["labels"].tolist() == [1, 0, 0]
    assert boxes["crowd"].tolist() == [False, True, False]
    assert boxes["area"].tolist() == [100, 24, 32]


def test_instance_masks_from_polygon_and_both_kinds_of_runs(tmp_path):
    sample = load_dataset(write_coco(tmp_path)[0], "val", "instance").read(1)
    np.testing.assert_array_equal(sample["instance_masks"], [rectangle(*POLYGON), rectangle(*CROWD), rectangle(*PACKED)])
    assert_boxes_enclose_masks(sample)


def test_class_mask_shows_the_smaller_object_on_top(tmp_path):
    dataset = load_dataset(write_coco(tmp_path)[0], "val", "semantic")
    expected = np.zeros((HEIGHT, WIDTH), np.uint8)
    expected[rectangle(*POLYGON) > 0] = 2
    expected[rectangle(*CROWD) > 0] = 1
    expected[rectangle(*PACKED) > 0] = 1
    np.testing.assert_array_equal(dataset.read(1)["segmentation_masks"][..., 0], expected)
    assert not dataset.read(0)["segmentation_masks"].any()


def test_keypoints_of_objects_that_have_none_are_zero(tmp_path):
    points = load_dataset(write_coco(tmp_path)[0], "val", "keypoint").read(1)["keypoints"]
    assert not points[:2].any()
    np.testing.assert_array_equal(points[2], [[11, 9, 2], [17, 10, 1]])


def test_missing_folder(tmp_path, expect_sentence):
    expect_sentence(lambda: load_dataset(f"coco:{tmp_path / 'gone'}", "val"), tmp_path / "gone", missing=True)


def test_missing_split_names_what_is_there(tmp_path, expect_sentence):
    spec, _, _ = write_coco(tmp_path)
    expect_sentence(lambda: load_dataset(spec, "test"), "'test'", "annotations/val.json", missing=True)


def test_no_picture_at_all(tmp_path, expect_sentence):
    spec, path, folder = write_coco(tmp_path)
    folder.rename(tmp_path / "elsewhere")
    expect_sentence(lambda: load_dataset(spec, "val"), "empty.png", path, missing=True)


def test_one_picture_missing(tmp_path, expect_sentence):
    spec, _, folder = write_coco(tmp_path)
    (folder / "full.png").unlink()
    dataset = load_dataset(spec, "val")
    expect_sentence(lambda: dataset.read(1), folder / "full.png", missing=True)


@pytest.mark.parametrize("content", ["", '{"images": [', "[]", "null", "3", '{"images": [{}]}', '{"images": 5}'])
def test_damaged_json(tmp_path, expect_sentence, content):
    spec, path, _ = write_coco(tmp_path)
    path.write_text(content)
    expect_sentence(lambda: load_dataset(spec, "val"), path)


@pytest.mark.parametrize(
    ("kind", "key", "value", "found"),
    [
        ("images", "file_name", 5, "5"),
        ("images", "file_name", None, "null"),
        ("images", "height", "40", '"40"'),
        ("images", "width", MISSING, "none"),
        ("images", "id", [7], "[7]"),
        ("categories", "name", None, "null"),
        ("categories", "id", True, "true"),
        ("annotations", "category_id", MISSING, "none"),
        ("annotations", "image_id", {}, "{}"),
    ],
)
def test_faulty_entries_are_told_in_a_sentence(tmp_path, expect_sentence, kind, key, value, found):
    content = coco_json()
    content[kind][1][key] = value
    if value is MISSING:
        del content[kind][1][key]
    spec, path, _ = write_coco(tmp_path, content=content)
    expect_sentence(lambda: load_dataset(spec, "val"), path, f"number 2 of '{kind}'", f"'{key}'", f"has {found}:")


@pytest.mark.parametrize(("kind", "key"), [("images", "id"), ("categories", "id"), ("annotations", "image_id")])
def test_ids_of_numbers_and_texts_are_refused(tmp_path, expect_sentence, kind, key):
    content = coco_json()
    content[kind][1][key] = "7"
    spec, path, _ = write_coco(tmp_path, content=content)
    expect_sentence(lambda: load_dataset(spec, "val"), path, "numbers and texts", '"7"')


def test_ids_may_be_texts(tmp_path):
    content = coco_json()
    for record in (*content["images"], *content["categories"]):
        record["id"] = str(record["id"])
    for annotation in content["annotations"]:
        annotation |= {key: str(annotation[key]) for key in ("image_id", "category_id")}
    spec, _, _ = write_coco(tmp_path, content=content)
    assert load_dataset(spec, "val").read(1)["bounding_boxes"]["labels"].tolist() == [0, 1, 1]  # "18" comes before "3"


@pytest.mark.parametrize(
    ("kind", "value", "part"),
    [
        ("images", [], "no pictures"),
        ("categories", [], "no categories"),
        *((kind, value, f"no list of '{kind}'") for kind in ("images", "categories", "annotations") for value in (None, 5, [5])),
    ],
)
def test_faulty_lists_are_told_in_a_sentence(tmp_path, expect_sentence, kind, value, part):
    spec, path, _ = write_coco(tmp_path, content=coco_json() | {kind: value})
    expect_sentence(lambda: load_dataset(spec, "val"), path, part)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_val_may_be_called_valid(tmp_path, layout):
    spec, _, _ = write_coco(tmp_path, layout)
    dataset = load_dataset(spec, "valid")
    assert (len(dataset), dataset.split) == (2, "valid") and dataset.read(1)["image_id"] == "7"
    if layout == "roboflow":  # which calls it so
        (tmp_path / "val").rename(tmp_path / "valid")
        assert len(load_dataset(spec, "val")) == 2


def test_json_of_other_bytes(tmp_path, expect_sentence):
    spec, path, _ = write_coco(tmp_path)
    path.write_bytes(b"\x89PNG\xff\xfe\x00")
    expect_sentence(lambda: load_dataset(spec, "val"), path)


def test_annotation_of_another_size(tmp_path, expect_sentence):
    content = coco_json()
    content["images"][0]["width"] = 31
    spec, _, folder = write_coco(tmp_path, content=content)
    expect_sentence(lambda: load_dataset(spec, "val").read(1), folder / "full.png", "30x20", "31x20")


@pytest.mark.parametrize("task", ["detection", "semantic"])
def test_annotation_of_a_category_that_is_not_listed(tmp_path, expect_sentence, task):
    content = coco_json()
    content["annotations"][0]["category_id"] = 99
    spec, path, _ = write_coco(tmp_path, content=content)
    expect_sentence(lambda: load_dataset(spec, "val", task).read(1), path, "99")


def test_parent_category_of_the_same_name_is_left_out(tmp_path):
    content = coco_json()
    names = [category["name"] for category in sorted(content["categories"], key=lambda category: category["id"])]
    content["categories"].insert(0, {"id": -1, "name": names[-1]})
    spec, _, _ = write_coco(tmp_path, content=content)
    found = load_dataset(spec, "val", "detection")
    assert found.class_names == names and -1 not in found.category_ids
    content["annotations"] = []
    spec, _, _ = write_coco(tmp_path, content=content)
    assert load_dataset(spec, "val", "detection").category_ids == found.category_ids


@pytest.mark.parametrize("change", [1, -1, 30, -400])
def test_run_lengths_that_do_not_fill_the_picture(tmp_path, expect_sentence, change):
    content = coco_json()
    runs = uncompressed(np.pad(np.ones((4, 6), np.uint8), ((5, 11), (3, 21))))
    runs["counts"][-1] += change
    content["annotations"][0]["segmentation"] = runs
    spec, path, _ = write_coco(tmp_path, content=content)
    expect_sentence(lambda: load_dataset(spec, "val", "instance").read(1), path, "do not add up to 30x20 pixels")


@pytest.mark.parametrize("task", ["instance", "semantic"])
@pytest.mark.parametrize(
    "mask",
    [
        [[None] * 8],
        [[4, 2, 14, 2, 14, None]],  # of which pycocotools never comes back
        [[4, 2, 14, 2, 14, 1e30]],
        [[4, 2, 14, 2, 14, 12], [4, 2, "14", 2, 14, 12]],
        [[4, 2, 14, 2, 14]],
        ["4 2 14 2 14 12"],
        [uncompressed(rectangle(*CROWD))],
        "4 2 14 2 14 12",
        5,
        {"counts": [600]},
        {"size": 600, "counts": [600]},
        {"size": [HEIGHT, str(WIDTH)], "counts": [600]},
        {"size": [HEIGHT, WIDTH], "counts": None},
    ],
)
def test_faulty_masks_are_told_in_a_sentence(tmp_path, expect_sentence, task, mask):
    content = coco_json()
    content["annotations"][0]["segmentation"] = mask
    spec, path, _ = write_coco(tmp_path, content=content)
    expect_sentence(lambda: load_dataset(spec, "val", task).read(1), path, "mask of annotation 1", "must be polygons")


@pytest.mark.parametrize("task", TASKS)
def test_categories_of_one_name_are_refused(tmp_path, expect_sentence, task):
    content = coco_json()
    content["categories"][0]["name"] = "dog"
    spec, path, _ = write_coco(tmp_path, content=content)
    expect_sentence(lambda: load_dataset(spec, "val", task), path, "'dog' twice")


def test_category_called_background_is_refused_for_the_task_that_adds_one(tmp_path, expect_sentence):
    content = coco_json()
    content["categories"][0]["name"] = "background"
    spec, path, _ = write_coco(tmp_path, content=content)
    expect_sentence(lambda: load_dataset(spec, "val", "semantic"), path, "'background'", "another name")
    assert load_dataset(spec, "val", "instance").class_names == ["dog", "background"]


NO_NUMBERS = [None, "4", True, float("nan"), float("inf"), 1e39]  # the last is infinite as float32


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize(
    "box", [None, 5, "4210", {"x": 4}, [], [4, 2, 10], [4, 2, 10, 10, 1], *([4, 2, 10, x] for x in NO_NUMBERS)]
)
def test_faulty_boxes_are_told_in_a_sentence(tmp_path, expect_sentence, task, box):
    content = coco_json()
    content["annotations"][1]["bbox"] = box
    spec, path, _ = write_coco(tmp_path, content=content)
    dataset = load_dataset(spec, "val", task)
    for read in (dataset.read, dataset.read_boxes):
        expect_sentence(lambda read=read: read(1), path, "annotation 2", "'bbox'")


def test_annotation_without_a_box_is_told_in_a_sentence(tmp_path, expect_sentence):
    content = coco_json()
    del content["annotations"][1]["bbox"]
    spec, path, _ = write_coco(tmp_path, content=content)
    expect_sentence(lambda: load_dataset(spec, "val").read(1), path, "annotation 2", "'bbox'")


@pytest.mark.parametrize("area", [*NO_NUMBERS, [24]])
def test_faulty_areas_are_told_in_a_sentence(tmp_path, expect_sentence, area):
    content = coco_json()
    content["annotations"][1]["area"] = area
    spec, path, _ = write_coco(tmp_path, content=content)
    dataset = load_dataset(spec, "val")
    for read in (dataset.read, dataset.read_boxes):
        expect_sentence(lambda read=read: read(1), path, "annotation 2", "'area'")


@pytest.mark.parametrize(
    "points", [5, "110921", [11, 9, 2], [11, 9, 2, 17, 10, 1, 0, 0, 0], *([11, 9, 2, 17, 10, x] for x in NO_NUMBERS)]
)
def test_faulty_keypoints_are_told_in_a_sentence(tmp_path, expect_sentence, points):
    content = coco_json()
    content["annotations"][2]["keypoints"] = points
    spec, path, _ = write_coco(tmp_path, content=content)
    expect_sentence(lambda: load_dataset(spec, "val", "keypoint").read(1), path, "annotation 3", "'keypoints'", "6 finite numbers")
    assert len(load_dataset(spec, "val", "detection").read(1)["bounding_boxes"]["boxes"]) == 3  # which does not need them


@pytest.mark.parametrize("points", [None, []])
def test_empty_keypoints_are_zero(tmp_path, points):
    content = coco_json()
    content["annotations"][2]["keypoints"] = points
    spec, _, _ = write_coco(tmp_path, content=content)
    assert not load_dataset(spec, "val", "keypoint").read(1)["keypoints"].any()


@pytest.mark.parametrize("task", ["instance", "semantic"])
@pytest.mark.parametrize("segmentation", [None, []])
def test_boxes_without_masks_are_refused_for_a_task_that_needs_masks(tmp_path, expect_sentence, task, segmentation):
    content = coco_json()
    if segmentation is None:
        del content["annotations"][0]["segmentation"]
    else:
        content["annotations"][0]["segmentation"] = segmentation
    spec, path, _ = write_coco(tmp_path, content=content)
    expect_sentence(lambda: load_dataset(spec, "val", task).read(1), path)


def test_without_keypoints_is_refused_for_the_keypoint_task(tmp_path, expect_sentence):
    content = coco_json()
    del content["categories"][1]["keypoints"]
    del content["annotations"][2]["keypoints"]
    spec, path, _ = write_coco(tmp_path, content=content)
    expect_sentence(lambda: load_dataset(spec, "val", "keypoint").read(1), path, "keypoint")


@pytest.mark.parametrize("names", ["nose", 5, {"0": "nose"}, ["nose", 5]])
def test_faulty_names_of_keypoints_are_told_in_a_sentence(tmp_path, expect_sentence, names):
    content = coco_json()
    content["categories"][1]["keypoints"] = names
    spec, path, _ = write_coco(tmp_path, content=content)
    expect_sentence(lambda: load_dataset(spec, "val", "keypoint"), path, "'keypoints' are", "list of names")


@pytest.mark.parametrize("key", ["area", "iscrowd"])
@pytest.mark.parametrize("task", TASKS)
def test_does_without_what_it_can_reckon(tmp_path, key, task):
    content = coco_json()
    for annotation in content["annotations"]:
        del annotation[key]
    spec, _, _ = write_coco(tmp_path, content=content)
    check_sample(load_dataset(spec, "val", task).read(1), task, 3, points=2, box_keys=("boxes", "labels", "crowd", "area"))
