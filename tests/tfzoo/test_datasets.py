"""The readers: what they read, and the sentence when something is wrong."""

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from sample_checks import KEYS, TASKS, assert_boxes_enclose_masks, check_sample, coco_json, write_coco

from tfzoo.data import load_dataset
from tfzoo.data.shapes import CLASSES

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


def write_many_classes(reader, root, write_masks, count):
    """A data set of so many classes, the background among them."""
    names = ["background", *(f"class {i}" for i in range(1, count))]
    if reader == "coco":
        categories = [{"id": i, "name": name} for i, name in enumerate(names[1:], start=1)]
        return write_coco(root, content=coco_json() | {"categories": categories})[0]
    spec = write_masks(root, {"a": blank()}, names, "val")
    if reader == "voc":
        for before, after in (("images", "JPEGImages"), ("labels", "SegmentationClass")):
            (root / before).rename(root / after)
        (root / "Annotations").mkdir()
        (root / "Annotations" / "a.xml").write_text("<annotation/>")
        (root / "ImageSets").mkdir()
        (root / "val.txt").rename(root / "ImageSets" / "val.txt")
    return spec.replace("masks:", f"{reader}:")


@pytest.mark.parametrize("reader", ["coco", "masks", "voc"])
def test_more_classes_than_label_maps_hold_are_refused_for_the_semantic_task_alone(tmp_path, write_masks, expect_sentence, reader):
    assert len(load_dataset(write_many_classes(reader, tmp_path / "most", write_masks, 255), "val", "semantic").class_names) == 255
    spec = write_many_classes(reader, tmp_path / "many", write_masks, 256)
    expect_sentence(lambda: load_dataset(spec, "val", "semantic"), spec, "256 classes", "at most 255")
    if reader != "masks":
        assert len(load_dataset(spec, "val", "detection").class_names) == 255


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
