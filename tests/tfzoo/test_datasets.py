"""The readers: what they read, and the sentence when something is wrong."""

import json

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from pycocotools import mask as rle

from tfzoo.data import load_dataset
from tfzoo.data.shapes import CLASSES

TASKS = ["semantic", "detection", "instance", "keypoint"]
KEYS = {
    "semantic": {"images", "image_id", "segmentation_masks"},
    "detection": {"images", "image_id", "bounding_boxes"},
    "instance": {"images", "image_id", "bounding_boxes", "instance_masks"},
    "keypoint": {"images", "image_id", "bounding_boxes", "keypoints"},
}


BOX_TYPES = {"boxes": np.float32, "labels": np.int32, "crowd": np.bool_, "difficult": np.bool_, "area": np.float32}


def check_sample(sample, task, classes, points=0, box_keys=("boxes", "labels", "crowd")):
    """Keys, shapes and types as ``Dataset.read`` promises them."""
    assert set(sample) == KEYS[task]
    height, width, channels = sample["images"].shape
    assert (channels, sample["images"].dtype) == (3, np.uint8)
    assert isinstance(sample["image_id"], str)
    if task == "semantic":
        masks = sample["segmentation_masks"]
        assert (masks.shape, masks.dtype) == ((height, width, 1), np.uint8)
        assert masks[masks != 255].max(initial=0) < classes
        return
    boxes = sample["bounding_boxes"]
    count = len(boxes["boxes"])
    assert {key: (value.shape, value.dtype) for key, value in boxes.items()} == {
        key: ((count, 4) if key == "boxes" else (count,), BOX_TYPES[key]) for key in box_keys
    }
    assert ((boxes["labels"] >= 0) & (boxes["labels"] < classes)).all()
    assert (boxes["boxes"] >= 0).all()
    assert (boxes["boxes"] <= (width, height, width, height)).all()
    if task == "instance":
        assert (sample["instance_masks"].shape, sample["instance_masks"].dtype) == ((count, height, width), np.uint8)
        assert sample["instance_masks"].max(initial=0) <= 1
    if task == "keypoint":
        assert (sample["keypoints"].shape, sample["keypoints"].dtype) == ((count, points, 3), np.float32)


def assert_boxes_enclose_masks(sample):
    for box, mask in zip(sample["bounding_boxes"]["boxes"], sample["instance_masks"], strict=True):
        rows, columns = np.nonzero(mask)
        assert box.tolist() == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


# --- load_dataset ---


@pytest.mark.parametrize(("spec", "meant"), [("shape", "shapes"), ("mask:somewhere", "masks"), ("cocoa:somewhere", "coco")])
def test_unknown_spec_is_refused_and_a_near_one_suggested(expect_sentence, spec, meant):
    expect_sentence(lambda: load_dataset(spec, "train"), f"'{spec}'", "masks:DIR", "coco:DIR", f"Did you mean '{meant}'?")


def test_unknown_spec_that_is_near_none_gets_no_suggestion(expect_sentence):
    sentence = expect_sentence(lambda: load_dataset("/a/folder", "train"), "'/a/folder'", "masks:DIR", "coco:DIR")
    assert "Did you mean" not in sentence


def test_unknown_task_is_refused_and_a_near_one_suggested(expect_sentence):
    expect_sentence(lambda: load_dataset("shapes", "train", "semantics"), "'semantics'", "Did you mean 'semantic'?")


def test_task_that_a_reader_lacks_is_refused(expect_sentence, tmp_path, write_masks):
    spec = write_masks(tmp_path, {"a": blank()}, ["background"])
    expect_sentence(lambda: load_dataset(spec, "train", "detection"), "detection", "semantic")


# --- shapes ---


@pytest.mark.parametrize(("split", "count"), [("train", 3000), ("val", 150), ("test", 150)])
def test_shapes_splits(split, count):
    assert len(load_dataset("shapes", split)) == count


@pytest.mark.parametrize("task", TASKS)
def test_shapes_sample(task):
    dataset = load_dataset("shapes", "val", task)
    for index in range(10):
        sample = dataset.read(index)
        assert sample["images"].shape == (128, 128, 3)
        check_sample(sample, task, len(dataset.class_names), len(dataset.keypoint_names))


@pytest.mark.parametrize("task", TASKS)
def test_shapes_draws_the_same_picture_twice(task):
    first, second = (load_dataset("shapes", "val", task).read(3) for _ in range(2))
    tf.nest.map_structure(np.testing.assert_array_equal, first, second)


def test_shapes_draws_one_picture_for_every_task():
    pictures = [load_dataset("shapes", "val", task).read(3)["images"] for task in TASKS]
    for picture in pictures[1:]:
        np.testing.assert_array_equal(picture, pictures[0])


def test_shapes_draws_another_picture_for_another_index_and_split():
    val, test = load_dataset("shapes", "val"), load_dataset("shapes", "test")
    pictures = [val.read(0)["images"], val.read(1)["images"], test.read(0)["images"]]
    assert len({picture.tobytes() for picture in pictures}) == 3


@pytest.mark.parametrize("size", [(64, 96), (7, 5), (1, 1)])
def test_shapes_of_another_size(size):
    dataset = load_dataset(f"shapes:{size[0]}x{size[1]}", "val", "instance")
    for index in range(5):
        sample = dataset.read(index)
        assert sample["images"].shape == (*size, 3)
        check_sample(sample, "instance", 4)


def test_shapes_of_a_size_that_is_none(expect_sentence):
    expect_sentence(lambda: load_dataset("shapes:big", "val"), "big")


def test_shapes_boxes_enclose_their_masks_exactly_and_masks_do_not_overlap():
    dataset = load_dataset("shapes:64x96", "train", "instance")
    for index in range(30):
        sample = dataset.read(index)
        assert_boxes_enclose_masks(sample)
        assert sample["instance_masks"].sum(axis=0).max(initial=0) <= 1


def test_shapes_instances_are_what_the_class_mask_shows():
    semantic, instance = (load_dataset("shapes:64x96", "train", task) for task in ("semantic", "instance"))
    for index in range(10):
        classes = semantic.read(index)["segmentation_masks"][..., 0]
        sample = instance.read(index)
        for label, mask in zip(sample["bounding_boxes"]["labels"], sample["instance_masks"], strict=True):
            assert (classes[mask > 0] == label + 1).all()


def test_shapes_corners_lie_within_the_picture_and_hidden_ones_are_zero():
    dataset = load_dataset("shapes:64x96", "train", "keypoint")
    seen = set()
    for index in range(40):
        sample = dataset.read(index)
        points = sample["keypoints"]
        labelled = points[..., 2] > 0
        assert ((points[labelled, :2] >= 0) & (points[labelled, :2] < (96, 64))).all()
        assert not points[~labelled].any()
        for label, marked in zip(sample["bounding_boxes"]["labels"], labelled, strict=True):
            assert marked.sum() <= {"circle": 0, "rectangle": 4, "triangle": 3, "star": 5}[CLASSES[label]]
        seen |= set(np.unique(points[..., 2]).tolist())
    assert seen == {0, 1, 2}


def test_shapes_class_names_begin_with_background_for_the_semantic_task_alone():
    assert load_dataset("shapes", "val", "semantic").class_names == ["background", *CLASSES]
    assert load_dataset("shapes", "val", "detection").class_names == list(CLASSES)


def test_shapes_has_the_splits_that_it_names(expect_sentence):
    expect_sentence(lambda: load_dataset("shapes", "valid"), "'valid'", "train, val and test", "Did you mean 'val'?")


# --- masks ---


def blank(height=12, width=16, label=0):
    return np.full((height, width, 3), 50, np.uint8), np.full((height, width), label, np.uint8)


@pytest.fixture
def masks(tmp_path, write_masks):
    """A folder of two pictures, as (folder, spec)."""
    rng = np.random.default_rng(0)
    samples = {
        name: (rng.integers(0, 256, (*size, 3), np.uint8), rng.choice(np.array([0, 1, 2, 255], np.uint8), size))
        for name, size in (("b.first", (12, 16)), ("a", (9, 7)))
    }
    return tmp_path, write_masks(tmp_path, samples, ["background", "cell", "nucleus"]), samples


def test_masks_reads_pictures_and_labels_in_the_order_of_the_list(masks):
    _, spec, samples = masks
    dataset = load_dataset(spec, "train")
    assert (dataset.task, dataset.class_names, len(dataset)) == ("semantic", ["background", "cell", "nucleus"], 2)
    for index, (name, (image, labels)) in enumerate(samples.items()):
        sample = dataset.read(index)
        check_sample(sample, "semantic", 3)
        assert sample["image_id"] == name
        np.testing.assert_array_equal(sample["images"], image)
        np.testing.assert_array_equal(sample["segmentation_masks"][..., 0], labels)


@pytest.mark.parametrize("lines", ["b.first\na", "b.first.png\na.png\n", "\r\nb.first.jpg\r\n  a  \r\n\r\n"])
def test_masks_takes_names_with_and_without_suffix(masks, lines):
    root, spec, samples = masks
    (root / "train.txt").write_bytes(lines.encode())
    dataset = load_dataset(spec, "train")
    assert [dataset.read(index)["image_id"] for index in range(len(dataset))] == list(samples)


def test_masks_missing_folder(tmp_path, expect_sentence):
    expect_sentence(lambda: load_dataset(f"masks:{tmp_path / 'gone'}", "train"), tmp_path / "gone", "classes.txt", missing=True)


def test_masks_missing_split_names_those_that_are_there(masks, expect_sentence):
    root, spec, _ = masks
    (root / "val.txt").write_text("a\n")
    sentence = expect_sentence(lambda: load_dataset(spec, "test"), "'test'", "train, val", missing=True)
    assert "classes," not in sentence


@pytest.mark.parametrize(("folder", "what"), [("images", "picture"), ("labels", "label map")])
def test_masks_picture_without_its_counterpart(masks, expect_sentence, folder, what):
    root, spec, _ = masks
    (root / folder / "a.png").unlink()
    expect_sentence(lambda: load_dataset(spec, "train"), "'a'", what, root / folder, missing=True)


@pytest.mark.parametrize("folder", ["images", "labels"])
def test_masks_missing_images_or_labels(masks, expect_sentence, folder):
    root, spec, _ = masks
    (root / folder).rename(root / "elsewhere")
    expect_sentence(lambda: load_dataset(spec, "train"), root / folder, missing=True)


def test_masks_label_of_another_size(masks, expect_sentence):
    root, spec, _ = masks
    Image.fromarray(blank(12, 17)[1]).save(root / "labels" / "b.first.png")
    expect_sentence(lambda: load_dataset(spec, "train").read(0), root / "labels" / "b.first.png", "17x12", "16x12")


def test_masks_label_index_beyond_the_classes(masks, expect_sentence):
    root, spec, _ = masks
    Image.fromarray(blank(label=3)[1]).save(root / "labels" / "b.first.png")
    expect_sentence(lambda: load_dataset(spec, "train").read(0), root / "labels" / "b.first.png", "index 3,", "3 classes")


@pytest.mark.parametrize("name", ["train.txt", "classes.txt"])
@pytest.mark.parametrize("content", ["", "\n  \n"])
def test_masks_empty_list(masks, expect_sentence, name, content):
    root, spec, _ = masks
    (root / name).write_text(content)
    expect_sentence(lambda: load_dataset(spec, "train"), root / name, "empty")


def test_masks_missing_class_list(masks, expect_sentence):
    root, spec, _ = masks
    (root / "classes.txt").unlink()
    expect_sentence(lambda: load_dataset(spec, "train"), root / "classes.txt", missing=True)


def test_masks_class_list_with_a_class_twice(masks, expect_sentence):
    root, spec, _ = masks
    (root / "classes.txt").write_text("background\ncell\ncell\n")
    expect_sentence(lambda: load_dataset(spec, "train"), root / "classes.txt", "'cell' twice")


def test_masks_class_list_with_a_byte_order_mark(masks):
    root, spec, _ = masks
    (root / "classes.txt").write_text("background\ncell\nnucleus\n", encoding="utf-8-sig")  # as Windows editors save it
    assert load_dataset(spec, "train").class_names == ["background", "cell", "nucleus"]


def test_masks_class_list_that_is_not_utf8(masks, expect_sentence):
    root, spec, _ = masks
    (root / "classes.txt").write_bytes("background\nStraße\nBäume\n".encode("latin-1"))
    expect_sentence(lambda: load_dataset(spec, "train"), root / "classes.txt")


# --- coco ---

HEIGHT, WIDTH = 20, 30
CAT, DOG = 18, 3  # ids; labels are counted in the order of the ids: dog 0, cat 1


def rectangle(left, top, width, height):
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[top : top + height, left : left + width] = 1
    return mask


def uncompressed(mask):
    """COCO's run lengths, down the columns, zeros first."""
    pixels = mask.ravel(order="F")
    edges = np.flatnonzero(np.diff(np.concatenate([[0], pixels]))).tolist()
    return {"size": list(mask.shape), "counts": np.diff([0, *edges, pixels.size]).tolist()}


def compressed(mask):
    encoded = rle.encode(np.asfortranarray(mask))
    return {"size": encoded["size"], "counts": encoded["counts"].decode()}


POLYGON, CROWD, PACKED = (4, 2, 10, 10), (20, 5, 6, 4), (10, 8, 8, 4)


def coco_json():
    return {
        "images": [
            {"id": 7, "file_name": "full.png", "height": HEIGHT, "width": WIDTH},
            {"id": 2, "file_name": "empty.png", "height": HEIGHT, "width": WIDTH},
        ],
        "categories": [{"id": CAT, "name": "cat"}, {"id": DOG, "name": "dog", "keypoints": ["nose", "tail"]}],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": CAT, "bbox": list(POLYGON), "area": 100, "iscrowd": 0}
            | {"segmentation": [[4, 2, 14, 2, 14, 12, 4, 12]]},
            {"id": 2, "image_id": 7, "category_id": DOG, "bbox": list(CROWD), "area": 24, "iscrowd": 1}
            | {"segmentation": uncompressed(rectangle(*CROWD))},
            {"id": 3, "image_id": 7, "category_id": DOG, "bbox": list(PACKED), "area": 32, "iscrowd": 0}
            | {"segmentation": compressed(rectangle(*PACKED)), "keypoints": [11, 9, 2, 17, 10, 1], "num_keypoints": 2},
        ],
    }


LAYOUTS = {  # where the annotations and the pictures lie; KIND is instances or person_keypoints
    "coco": ("annotations/KIND_val2017.json", "val2017"),
    "split, images": ("annotations/val.json", "images"),
    "split, images/split": ("annotations/val.json", "images/val"),
    "kind_split, images": ("annotations/KIND_val.json", "images"),
    "kind_split, images/split": ("annotations/KIND_val.json", "images/val"),
    "roboflow": ("val/_annotations.coco.json", "val"),
}


def write_coco(root, layout="split, images", kind="instances", content=None):
    """Writes the data set and returns (spec, the annotations' path, the pictures' folder)."""
    annotations, pictures = LAYOUTS[layout]
    path, folder = root / annotations.replace("KIND", kind), root / pictures
    for place in (path.parent, folder):
        place.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content or coco_json()))
    for index, name in enumerate(("full.png", "empty.png")):
        Image.fromarray(np.full((HEIGHT, WIDTH, 3), 40 * index, np.uint8)).save(folder / name)
    return f"coco:{root}", path, folder


def xyxy(rectangle):
    left, top, width, height = rectangle
    return [left, top, left + width, top + height]


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_coco_reads_every_layout_for_every_task(tmp_path, layout, task):
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


def test_coco_takes_detection_where_no_task_is_named(tmp_path):
    assert load_dataset(write_coco(tmp_path)[0], "val").task == "detection"


def test_coco_boxes_labels_and_crowd(tmp_path):
    boxes = load_dataset(write_coco(tmp_path)[0], "val", "detection").read(1)["bounding_boxes"]
    np.testing.assert_array_equal(boxes["boxes"], [xyxy(POLYGON), xyxy(CROWD), xyxy(PACKED)])
    assert boxes["labels"].tolist() == [1, 0, 0]
    assert boxes["crowd"].tolist() == [False, True, False]
    assert boxes["area"].tolist() == [100, 24, 32]


def test_coco_instance_masks_from_polygon_and_both_kinds_of_runs(tmp_path):
    sample = load_dataset(write_coco(tmp_path)[0], "val", "instance").read(1)
    np.testing.assert_array_equal(sample["instance_masks"], [rectangle(*POLYGON), rectangle(*CROWD), rectangle(*PACKED)])
    assert_boxes_enclose_masks(sample)


def test_coco_class_mask_shows_the_smaller_object_on_top(tmp_path):
    dataset = load_dataset(write_coco(tmp_path)[0], "val", "semantic")
    expected = np.zeros((HEIGHT, WIDTH), np.uint8)
    expected[rectangle(*POLYGON) > 0] = 2
    expected[rectangle(*CROWD) > 0] = 1
    expected[rectangle(*PACKED) > 0] = 1
    np.testing.assert_array_equal(dataset.read(1)["segmentation_masks"][..., 0], expected)
    assert not dataset.read(0)["segmentation_masks"].any()


def test_coco_keypoints_of_objects_that_have_none_are_zero(tmp_path):
    points = load_dataset(write_coco(tmp_path)[0], "val", "keypoint").read(1)["keypoints"]
    assert not points[:2].any()
    np.testing.assert_array_equal(points[2], [[11, 9, 2], [17, 10, 1]])


def test_coco_missing_folder(tmp_path, expect_sentence):
    expect_sentence(lambda: load_dataset(f"coco:{tmp_path / 'gone'}", "val"), tmp_path / "gone", missing=True)


def test_coco_missing_split_names_what_is_there(tmp_path, expect_sentence):
    spec, _, _ = write_coco(tmp_path)
    expect_sentence(lambda: load_dataset(spec, "test"), "'test'", "annotations/val.json", missing=True)


def test_coco_no_picture_at_all(tmp_path, expect_sentence):
    spec, path, folder = write_coco(tmp_path)
    folder.rename(tmp_path / "elsewhere")
    expect_sentence(lambda: load_dataset(spec, "val"), "empty.png", path, missing=True)


def test_coco_one_picture_missing(tmp_path, expect_sentence):
    spec, _, folder = write_coco(tmp_path)
    (folder / "full.png").unlink()
    dataset = load_dataset(spec, "val")
    expect_sentence(lambda: dataset.read(1), folder / "full.png", missing=True)


@pytest.mark.parametrize("content", ["", '{"images": [', "[]", "null", "3", '{"images": [{}]}', '{"images": 5}'])
def test_coco_damaged_json(tmp_path, expect_sentence, content):
    spec, path, _ = write_coco(tmp_path)
    path.write_text(content)
    expect_sentence(lambda: load_dataset(spec, "val"), path)


def test_coco_json_of_other_bytes(tmp_path, expect_sentence):
    spec, path, _ = write_coco(tmp_path)
    path.write_bytes(b"\x89PNG\xff\xfe\x00")
    expect_sentence(lambda: load_dataset(spec, "val"), path)


def test_coco_without_pictures(tmp_path, expect_sentence):
    spec, path, _ = write_coco(tmp_path, content=coco_json() | {"images": [], "annotations": []})
    expect_sentence(lambda: load_dataset(spec, "val"), path, "no pictures")


def test_coco_annotation_of_another_size(tmp_path, expect_sentence):
    content = coco_json()
    content["images"][0]["width"] = 31
    spec, _, folder = write_coco(tmp_path, content=content)
    expect_sentence(lambda: load_dataset(spec, "val").read(1), folder / "full.png", "30x20", "31x20")


@pytest.mark.parametrize("task", ["detection", "semantic"])
def test_coco_annotation_of_a_category_that_is_not_listed(tmp_path, expect_sentence, task):
    content = coco_json()
    content["annotations"][0]["category_id"] = 99
    spec, path, _ = write_coco(tmp_path, content=content)
    expect_sentence(lambda: load_dataset(spec, "val", task).read(1), path, "99")


def test_coco_parent_category_of_the_same_name_is_left_out(tmp_path):
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
def test_coco_run_lengths_that_do_not_fill_the_picture(tmp_path, expect_sentence, change):
    content = coco_json()
    runs = uncompressed(np.pad(np.ones((4, 6), np.uint8), ((5, 11), (3, 21))))
    runs["counts"][-1] += change
    content["annotations"][0]["segmentation"] = runs
    spec, path, _ = write_coco(tmp_path, content=content)
    expect_sentence(lambda: load_dataset(spec, "val", "instance").read(1), path, "do not add up to 30x20 pixels")


@pytest.mark.parametrize("task", TASKS)
def test_coco_categories_of_one_name_are_refused(tmp_path, expect_sentence, task):
    content = coco_json()
    content["categories"][0]["name"] = "dog"
    spec, path, _ = write_coco(tmp_path, content=content)
    expect_sentence(lambda: load_dataset(spec, "val", task), path, "'dog' twice")


def test_coco_category_called_background_is_refused_for_the_task_that_adds_one(tmp_path, expect_sentence):
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
def test_coco_faulty_boxes_are_told_in_a_sentence(tmp_path, expect_sentence, task, box):
    content = coco_json()
    content["annotations"][1]["bbox"] = box
    spec, path, _ = write_coco(tmp_path, content=content)
    dataset = load_dataset(spec, "val", task)
    for read in (dataset.read, dataset.read_boxes):
        expect_sentence(lambda read=read: read(1), path, "annotation 2", "'bbox'")


def test_coco_annotation_without_a_box_is_told_in_a_sentence(tmp_path, expect_sentence):
    content = coco_json()
    del content["annotations"][1]["bbox"]
    spec, path, _ = write_coco(tmp_path, content=content)
    expect_sentence(lambda: load_dataset(spec, "val").read(1), path, "annotation 2", "'bbox'")


@pytest.mark.parametrize("area", [*NO_NUMBERS, [24]])
def test_coco_faulty_areas_are_told_in_a_sentence(tmp_path, expect_sentence, area):
    content = coco_json()
    content["annotations"][1]["area"] = area
    spec, path, _ = write_coco(tmp_path, content=content)
    dataset = load_dataset(spec, "val")
    for read in (dataset.read, dataset.read_boxes):
        expect_sentence(lambda read=read: read(1), path, "annotation 2", "'area'")


@pytest.mark.parametrize(
    "points", [5, "110921", [11, 9, 2], [11, 9, 2, 17, 10, 1, 0, 0, 0], *([11, 9, 2, 17, 10, x] for x in NO_NUMBERS)]
)
def test_coco_faulty_keypoints_are_told_in_a_sentence(tmp_path, expect_sentence, points):
    content = coco_json()
    content["annotations"][2]["keypoints"] = points
    spec, path, _ = write_coco(tmp_path, content=content)
    expect_sentence(lambda: load_dataset(spec, "val", "keypoint").read(1), path, "annotation 3", "'keypoints'", "6 finite numbers")
    assert len(load_dataset(spec, "val", "detection").read(1)["bounding_boxes"]["boxes"]) == 3  # which does not need them


@pytest.mark.parametrize("points", [None, []])
def test_coco_empty_keypoints_are_zero(tmp_path, points):
    content = coco_json()
    content["annotations"][2]["keypoints"] = points
    spec, _, _ = write_coco(tmp_path, content=content)
    assert not load_dataset(spec, "val", "keypoint").read(1)["keypoints"].any()


@pytest.mark.parametrize("task", ["instance", "semantic"])
@pytest.mark.parametrize("segmentation", [None, []])
def test_coco_boxes_without_masks_are_refused_for_a_task_that_needs_masks(tmp_path, expect_sentence, task, segmentation):
    content = coco_json()
    if segmentation is None:
        del content["annotations"][0]["segmentation"]
    else:
        content["annotations"][0]["segmentation"] = segmentation
    spec, path, _ = write_coco(tmp_path, content=content)
    expect_sentence(lambda: load_dataset(spec, "val", task).read(1), path)


def test_coco_without_keypoints_is_refused_for_the_keypoint_task(tmp_path, expect_sentence):
    content = coco_json()
    del content["categories"][1]["keypoints"]
    del content["annotations"][2]["keypoints"]
    spec, path, _ = write_coco(tmp_path, content=content)
    expect_sentence(lambda: load_dataset(spec, "val", "keypoint").read(1), path, "keypoint")


@pytest.mark.parametrize("key", ["area", "iscrowd"])
@pytest.mark.parametrize("task", TASKS)
def test_coco_does_without_what_it_can_reckon(tmp_path, key, task):
    content = coco_json()
    for annotation in content["annotations"]:
        del annotation[key]
    spec, _, _ = write_coco(tmp_path, content=content)
    check_sample(load_dataset(spec, "val", task).read(1), task, 3, points=2, box_keys=("boxes", "labels", "crowd", "area"))


# --- samples ---


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("reader", ["shapes", "coco"])
def test_samples_are_those_of_read(tmp_path, reader, task):
    spec = "shapes:32x48" if reader == "shapes" else write_coco(tmp_path)[0]
    dataset = load_dataset(spec, "val", task)
    data = dataset.samples()
    assert int(data.cardinality()) == len(dataset)
    assert set(data.element_spec) == KEYS[task]
    assert data.element_spec["image_id"].dtype == tf.string
    for index, sample in enumerate(data.take(3).as_numpy_iterator()):
        expected = dataset.read(index)
        assert sample.pop("image_id").decode() == expected.pop("image_id")
        tf.nest.map_structure(np.testing.assert_array_equal, sample, expected)


def test_samples_keep_each_picture_at_its_own_size(masks):
    _, spec, samples = masks
    data = load_dataset(spec, "train").samples()
    assert data.element_spec["segmentation_masks"].shape.as_list() == [None, None, 1]
    shapes = [sample["segmentation_masks"].shape for sample in data]
    assert shapes == [(*labels.shape, 1) for _, labels in samples.values()]


# --- real data ---


def test_camvid_test_split(camvid):
    dataset = load_dataset(camvid, "test")
    assert len(dataset) == 233
    assert len(dataset.class_names) == 11
    for index in (0, 232):
        sample = dataset.read(index)
        assert sample["images"].shape == (360, 480, 3)
        check_sample(sample, "semantic", 11)


def test_dsb2018_validation_split(dsb2018):
    dataset = load_dataset(dsb2018, "val", "instance")
    assert len(dataset) == 133
    assert dataset.class_names == ["nucleus"]
    for index in (0, 132):
        sample = dataset.read(index)
        check_sample(sample, "instance", 1, box_keys=dataset.box_keys)
        assert len(sample["instance_masks"]) > 0
