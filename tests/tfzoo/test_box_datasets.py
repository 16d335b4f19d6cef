"""The readers of boxes beside COCO's: Pascal VOC's and YOLO's layouts, and the sentence when something is wrong."""

import json

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tfzoo.data import load_dataset
from tfzoo.data.images import image_size, read_image
from tfzoo.data.voc import CLASSES

HEIGHT, WIDTH = 40, 60


def save_picture(path, size=(HEIGHT, WIDTH), **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*size, 3), 99, np.uint8)).save(path, **options)


# === voc ===


def voc_object(name, box, difficult=None):
    edges = "".join(f"<{edge}>{value}</{edge}>" for edge, value in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True))
    flag = "" if difficult is None else f"<difficult>{difficult}</difficult>"
    part = "<part><name>head</name><bndbox><xmin>2</xmin><ymin>2</ymin><xmax>3</xmax><ymax>3</ymax></bndbox></part>"
    return f"<object><name>{name}</name>{flag}<bndbox>{edges}</bndbox>{part}</object>"


def write_annotation(root, name, *objects, size=(HEIGHT, WIDTH)):
    (root / "Annotations").mkdir(exist_ok=True)
    shape = f"<size><width>{size[1]}</width><height>{size[0]}</height><depth>3</depth></size>"
    (root / "Annotations" / f"{name}.xml").write_text(f"<annotation>{shape}{''.join(objects)}</annotation>")


@pytest.fixture
def voc(tmp_path):
    """Two pictures, a and b, in the split val; picture c, in no split, knows a class more."""
    for name in "abc":
        save_picture(tmp_path / "JPEGImages" / f"{name}.jpg")
    write_annotation(tmp_path, "a", voc_object("dog", (11, 6, 30, 25), 0), voc_object("cat", ("1", "1", "60", "40"), 1))
    write_annotation(tmp_path, "b")
    write_annotation(tmp_path, "c", voc_object("bee", (1, 1, 5, 5)))
    for kind in ("Main", "Segmentation"):
        (tmp_path / "ImageSets" / kind).mkdir(parents=True)
        (tmp_path / "ImageSets" / kind / "val.txt").write_text("a\nb\n")
    (tmp_path / "SegmentationClass").mkdir()
    labels = np.zeros((HEIGHT, WIDTH), np.uint8)
    labels[:10], labels[-1] = 20, 255
    for name in "ab":
        image = Image.fromarray(labels, mode="P")
        image.putpalette(list(range(256)) * 3)
        image.save(tmp_path / "SegmentationClass" / f"{name}.png")
    return tmp_path


def test_voc_boxes_count_pixels_from_one_and_include_the_last(voc):
    """xmin 11 to xmax 30 are 20 pixels, from the left edge 10 to the right edge 30; (1, 1, 60, 40) is the whole picture."""
    dataset = load_dataset(f"voc:{voc}", "val")
    assert (dataset.task, len(dataset), dataset.class_names) == ("detection", 2, ["bee", "cat", "dog"])
    sample = dataset.read(0)
    boxes = sample["bounding_boxes"]
    assert sample["image_id"] == "a" and sample["images"].shape == (HEIGHT, WIDTH, 3)
    np.testing.assert_array_equal(boxes["boxes"], [[10, 5, 30, 25], [0, 0, 60, 40]])
    assert boxes["labels"].tolist() == [2, 1] and boxes["difficult"].tolist() == [False, True] and not boxes["crowd"].any()
    assert {key: value.dtype for key, value in boxes.items()} == {
        "boxes": np.float32, "labels": np.int32, "crowd": np.bool_, "difficult": np.bool_,
    }  # fmt: skip
    empty = dataset.read(1)["bounding_boxes"]
    assert {key: value.shape for key, value in empty.items()} == {
        "boxes": (0, 4), "labels": (0,), "crowd": (0,), "difficult": (0,),
    }  # fmt: skip


def test_voc_difficult_boxes_reach_samples_but_not_the_targets_of_a_training(voc):
    dataset = load_dataset(f"voc:{voc}", "val")
    first = next(iter(dataset.samples().as_numpy_iterator()))
    assert first["bounding_boxes"]["difficult"].tolist() == [False, True]
    (_, targets), *_ = dataset.loader(2)
    np.testing.assert_array_equal(targets["boxes"], [[[10, 5, 30, 25]], [[0, 0, 0, 0]]])
    np.testing.assert_array_equal(targets["labels"], [[2], [-1]])


def test_voc_label_maps_are_indices_of_its_twenty_classes(voc):
    dataset = load_dataset(f"voc:{voc}", "val", "semantic")
    assert dataset.class_names == ["background", *CLASSES] and len(CLASSES) == 20 and list(CLASSES) == sorted(CLASSES)
    labels = dataset.read(0)["segmentation_masks"]
    assert labels.shape == (HEIGHT, WIDTH, 1) and np.unique(labels).tolist() == [0, 20, 255]
    images, targets = next(iter(dataset.batches(2)))
    assert images.shape == (2, HEIGHT, WIDTH, 3) and targets.dtype == tf.uint8


def test_voc_classes_may_be_listed(voc):
    (voc / "classes.txt").write_text("background\ndog\ncat")
    assert load_dataset(f"voc:{voc}", "val").class_names == ["dog", "cat"]
    assert load_dataset(f"voc:{voc}", "val", "semantic").class_names == ["background", "dog", "cat"]
    assert load_dataset(f"voc:{voc}", "val").read(0)["bounding_boxes"]["labels"].tolist() == [0, 1]


def test_voc_lists_may_lie_in_imagesets_itself(voc):
    (voc / "ImageSets" / "small.txt").write_text("b")
    for task in ("detection", "semantic"):
        assert len(load_dataset(f"voc:{voc}", "small", task)) == 1


def test_voc_without_a_size_is_read(voc):
    write_annotation(voc, "b", voc_object("cat", (1.5, 2, 9.5, 9)), size=(0, 0))
    boxes = load_dataset(f"voc:{voc}", "val").read(1)["bounding_boxes"]
    np.testing.assert_array_equal(boxes["boxes"], [[0.5, 1, 9.5, 9]])
    assert boxes["difficult"].tolist() == [False]


@pytest.mark.parametrize(
    ("spoil", "parts", "missing"),
    [
        (lambda root: (root / "JPEGImages" / "b.jpg").unlink(), ("'b'", "has no picture"), True),
        (lambda root: (root / "Annotations" / "b.xml").unlink(), ("'b'", "b.xml", "take the line out"), True),
        (lambda root: (root / "ImageSets" / "Main" / "val.txt").unlink(), ("no split 'val'", "Main"), True),
        (lambda root: (root / "classes.txt").write_text("dog"), ("a.xml", "'cat'", "classes.txt"), False),
        (lambda root: (root / "Annotations" / "a.xml").write_text("<annotation><object>"), ("a.xml", "not XML"), False),
        (
            lambda root: (root / "Annotations" / "a.xml").write_text('<?xml version="1.0" encoding="klingon"?><annotation/>'),
            ("a.xml", "klingon"),
            False,
        ),
        (lambda root: write_annotation(root, "a", voc_object("dog", (1, 1, "x", 9))), ("a.xml", "xmax", "'x'"), False),
        (lambda root: write_annotation(root, "a", voc_object("dog", (1, 1, "nan", 9))), ("a.xml", "xmax", "'nan'"), False),
        (lambda root: write_annotation(root, "a", size=(40, "²")), ("a.xml", "size width", "'²'"), False),
        (lambda root: write_annotation(root, "a", size=("inf", 60)), ("a.xml", "size height", "'inf'"), False),
        (lambda root: write_annotation(root, "a", size=("40.0", "61.0")), ("a.xml", "61x40", "60x40"), False),
        (lambda root: write_annotation(root, "a", "<object><name>dog</name></object>"), ("a.xml", "without a bndbox xmin"), False),
        (lambda root: write_annotation(root, "a", voc_object("", (1, 1, 9, 9))), ("a.xml", "without a name"), False),
        (lambda root: write_annotation(root, "a", size=(60, 40)), ("a.xml", "40x60", "60x40"), False),
    ],
)
def test_voc_faults_are_told_in_a_sentence(voc, expect_sentence, spoil, parts, missing):
    spoil(voc)
    expect_sentence(lambda: load_dataset(f"voc:{voc}", "val").read(0), *parts, missing=missing)


def test_voc_semantic_faults_are_told_in_a_sentence(voc, expect_sentence):
    Image.fromarray(np.zeros((5, 5), np.uint8)).save(voc / "SegmentationClass" / "b.png")
    expect_sentence(lambda: load_dataset(f"voc:{voc}", "val", "semantic").read(1), "b.png", "5x5")
    (voc / "SegmentationClass" / "b.png").unlink()
    expect_sentence(lambda: load_dataset(f"voc:{voc}", "val", "semantic"), "b.png", missing=True)


# === yolo ===

YAML = {
    "list": "path: .\ntrain: images/train\nnames: [cat, 'big dog']\n",
    "block": "names:\n  - cat\n  - big dog\nnc: 2\n",
    "indices": "names:\n  1: big dog\n  0: cat\nnc:\n",
}


@pytest.fixture(params=["images/val", "val/images"])
def yolo(tmp_path, request):
    """Two pictures: a with a box, an outline and a box on the border; b without a text file."""
    images = tmp_path / request.param
    labels = tmp_path / request.param.replace("images", "labels")
    labels.mkdir(parents=True)
    for name in "ab":
        save_picture(images / f"{name}.png")
    (labels / "a.txt").write_text("1 0.5 0.25 0.5 0.1\n\n0 0.1 0.2 0.3 0.2 0.3 0.6 0.2 0.9\n0 0.05 0.5 0.1 1.0\n")
    (tmp_path / "data.yaml").write_text(YAML["list"])
    return tmp_path, labels / "a.txt"


def test_yolo_boxes_are_centres_and_sides_in_shares(yolo):
    """Of 60 x 40: centre 30, 10, sides 30, 4; the outline reaches from 6 to 18 and from 8 to 36; the left tenth."""
    root, _ = yolo
    dataset = load_dataset(f"yolo:{root}", "val")
    assert (dataset.task, len(dataset), dataset.class_names) == ("detection", 2, ["cat", "big dog"])
    sample = dataset.read(0)
    assert sample["image_id"] == "a"
    expected = [[15, 8, 45, 12], [6, 8, 18, 36], [0, 0, 6, 40]]
    np.testing.assert_allclose(sample["bounding_boxes"]["boxes"], expected, atol=1e-5)
    assert sample["bounding_boxes"]["labels"].tolist() == [1, 0, 0]
    assert dataset.read(1)["bounding_boxes"]["boxes"].shape == (0, 4)


@pytest.mark.parametrize("form", YAML)
def test_yolo_names_in_every_form(yolo, form):
    root, _ = yolo
    (root / "data.yaml").write_text(YAML[form])
    assert load_dataset(f"yolo:{root}", "val").class_names == ["cat", "big dog"]


def test_yolo_val_may_be_called_valid(yolo):
    root, _ = yolo
    assert len(load_dataset(f"yolo:{root}", "valid")) == 2


@pytest.mark.parametrize(
    ("line", "parts"),
    [
        ("0 30 10 20 5", ("line 2", "shares")),
        ("0 0.5 0.5 nan 0.1", ("line 2", "shares")),
        ("2 0.5 0.5 0.1 0.1", ("line 2", "class 2", "2 classes")),
        ("0.5 0.5 0.5 0.1 0.1", ("line 2", "class 0.5")),
        ("nan 0.5 0.5 0.1 0.1", ("line 2", "class nan")),
        ("inf 0.5 0.5 0.1 0.1", ("line 2", "class inf")),
        ("0 0.5 0.5 0.1", ("line 2", "3 numbers")),
        ("0 0.5 0.5 0.1 0.1 0.3", ("line 2", "5 numbers")),
        ("cat 0.5 0.5 0.1 0.1", ("line 2", "'cat 0.5")),
    ],
)
def test_yolo_faulty_lines_are_told_in_a_sentence(yolo, expect_sentence, line, parts):
    root, path = yolo
    path.write_text(f"1 0.5 0.25 0.5 0.1\n{line}\n")
    expect_sentence(lambda: load_dataset(f"yolo:{root}", "val").read(0), path, *parts)


@pytest.mark.parametrize(
    ("shape", "keypoints"),
    [
        ("[1, 2]", "0.3 0.2"),
        ("[2, 2]", "0.3 0.2 0.9 0.9"),
        ("[2, 3]", "0.3 0.2 1 0.9 0.9 0"),  # an even count, as an outline has
        ("[3, 3]", "0.3 0.2 2 0.9 0.9 0 0 0 0"),
    ],
)
def test_yolo_boxes_come_before_keypoints(yolo, shape, keypoints):
    root, path = yolo
    (root / "data.yaml").write_text(YAML["list"] + f"kpt_shape: {shape}\n")
    path.write_text(f"1 0.5 0.25 0.5 0.1 {keypoints}\n")
    boxes = load_dataset(f"yolo:{root}", "val").read(0)["bounding_boxes"]
    np.testing.assert_allclose(boxes["boxes"], [[15, 8, 45, 12]], atol=1e-5)
    assert boxes["labels"].tolist() == [1]


@pytest.mark.parametrize("numbers", ["0.5 0.5 0.1 0.1", "0.5 0.5 0.1 0.1 0.3 0.2", "0.5 0.5 0.1 0.1 0.3 0.2 2 0.9 0.9 0"])
def test_yolo_lines_that_do_not_have_the_keypoints_of_data_yaml_are_told_in_a_sentence(yolo, expect_sentence, numbers):
    root, path = yolo
    (root / "data.yaml").write_text(YAML["list"] + "kpt_shape: [2, 2]\n")
    path.write_text(f"0 0.5 0.5 0.1 0.1 0.3 0.2 0.9 0.9\n0 {numbers}\n")
    count = len(numbers.split())
    expect_sentence(lambda: load_dataset(f"yolo:{root}", "val").read(0), path, "line 2", f"{count} numbers", "takes 8", "data.yaml")


@pytest.mark.parametrize("shape", ["17", "[17]", "[17, 4]", "[0, 2]", "[2.0, 2]", "[many, 3]"])
def test_yolo_faulty_keypoint_shapes_are_told_in_a_sentence(yolo, expect_sentence, shape):
    root, _ = yolo
    (root / "data.yaml").write_text(YAML["list"] + f"kpt_shape: {shape}\n")
    expect_sentence(lambda: load_dataset(f"yolo:{root}", "val"), root / "data.yaml", "kpt_shape")


@pytest.mark.parametrize(
    ("content", "part"),
    [
        ("names: [a, b", "not YAML"),
        ("nc: 2", "names no classes"),
        ("- a", "names no classes"),
        ("names: {0: a, 2: b}", "gap"),
        ("names: {0: a, b: c}", "gap"),
        ("names: {0: a, ~: b}", "gap"),
        ("names: [cat, [1, 2]]", "reads as [1, 2], no text"),
        ("names: [cat, ~]", "reads as None, no text"),
        ("names: {0: on, 1: 'off'}", "reads as True, no text"),
        ("names: [cat, dog]\nnc: 5", "5 classes (nc), but names 2"),
        ("names: [cat, dog]\nnc: '2'", "'2' classes (nc), but names 2"),
        ("names: [a, b, a]", "class 'a' twice"),
        ("names: {0: 1, 1: '1'}", "class '1' twice"),
    ],
)
def test_yolo_faulty_class_lists_are_told_in_a_sentence(yolo, expect_sentence, content, part):
    root, _ = yolo
    (root / "data.yaml").write_text(content)
    expect_sentence(lambda: load_dataset(f"yolo:{root}", "val"), root / "data.yaml", part)


def test_yolo_missing_files_are_told_in_a_sentence(yolo, expect_sentence, tmp_path):
    root, path = yolo
    expect_sentence(lambda: load_dataset(f"yolo:{root}", "test"), "no split 'test'", "val", missing=True)
    path.unlink()
    path.parent.rmdir()
    expect_sentence(lambda: load_dataset(f"yolo:{root}", "val"), path.parent, missing=True)
    (root / "data.yaml").unlink()
    expect_sentence(lambda: load_dataset(f"yolo:{root}", "val"), "data.yaml", missing=True)


# === Without decoding the picture ===


def write_coco(root, boxes):
    """A COCO data set of the picture a.png, with boxes (x, y, width, height)."""
    save_picture(root / "images" / "a.png")
    (root / "annotations").mkdir()
    annotations = [{"id": 1 + i, "image_id": 1, "category_id": 1, "bbox": box, "iscrowd": 0} for i, box in enumerate(boxes)]
    content = {"images": [{"id": 1, "file_name": "a.png", "height": HEIGHT, "width": WIDTH}], "annotations": annotations}
    (root / "annotations" / "val.json").write_text(json.dumps(content | {"categories": [{"id": 1, "name": "cat"}]}))
    return f"coco:{root}"


@pytest.mark.parametrize("reader", ["voc", "yolo", "coco", "shapes"])
def test_boxes_alone_are_those_of_read(request, tmp_path, reader):
    if reader == "yolo":
        root = tmp_path / "data"
        save_picture(root / "images" / "val" / "a.png")
        (root / "labels" / "val").mkdir(parents=True)
        (root / "labels" / "val" / "a.txt").write_text("1 0.5 0.25 0.5 0.1")
        (root / "data.yaml").write_text(YAML["list"])
        spec = f"yolo:{root}"
    else:
        spec = {
            "voc": lambda: f"voc:{request.getfixturevalue('voc')}",
            "coco": lambda: write_coco(tmp_path, [[5, 5, 20, 10]]),
            "shapes": lambda: "shapes:40x60",
        }[reader]()
    dataset = load_dataset(spec, "val", "detection")
    boxes, size = dataset.read_boxes(0)
    sample = dataset.read(0)
    assert size == sample["images"].shape[:2] and tuple(boxes) == dataset.box_keys and len(boxes["boxes"]) > 0
    for key, values in sample["bounding_boxes"].items():
        np.testing.assert_array_equal(boxes[key], values)
        assert boxes[key].dtype == values.dtype


def test_coco_without_an_area_takes_the_box(tmp_path):
    boxes, _ = load_dataset(write_coco(tmp_path, [[5, 5, 20, 10]]), "val").read_boxes(0)
    assert boxes["area"].tolist() == [200]


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_the_size_of_a_picture_is_that_of_the_picture_as_read(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    save_picture(tmp_path / "a.jpg", exif=exif)
    assert image_size(tmp_path / "a.jpg") == read_image(tmp_path / "a.jpg").shape[:2]
    assert image_size(tmp_path / "a.jpg") == ((WIDTH, HEIGHT) if orientation > 4 else (HEIGHT, WIDTH))


def test_the_size_of_what_is_no_picture(tmp_path, expect_sentence):
    (tmp_path / "a.jpg").write_text("hello")
    expect_sentence(lambda: image_size(tmp_path / "a.jpg"), "a.jpg")
    expect_sentence(lambda: image_size(tmp_path / "b.jpg"), "b.jpg", missing=True)
