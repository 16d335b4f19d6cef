"""``tfzoo data convert``, and the reader of what it writes."""

import json
import sys

import keras
import numpy as np
import pytest
from PIL import Image

from tfzoo.cli import main
from tfzoo.data import load_dataset, shapes
from tfzoo.data.tfrecord import convert
from tfzoo.errors import InputError, MissingInputError, OutputExistsError

SPEC = "shapes:48x64"
TASKS = ("semantic", "detection", "instance", "keypoint")


@pytest.fixture(autouse=True)
def few(monkeypatch):
    monkeypatch.setitem(shapes.COUNTS, "train", 7)
    monkeypatch.setitem(shapes.COUNTS, "val", 3)


@pytest.fixture
def converted(tmp_path):
    """Writes shapes into a folder, a picture or two a shard; returns its spec."""

    def write(task=None, split="train", **options):
        convert(load_dataset(SPEC, split, task), tmp_path / "records", **{"shard_bytes": 10_000, **options})
        return f"tfrecord:{tmp_path / 'records'}"

    return write


def assert_same(found, wanted):
    assert found.keys() == wanted.keys()
    for key, value in wanted.items():
        if isinstance(value, dict):
            assert_same(found[key], value)
        else:
            np.testing.assert_array_equal(found[key], value)
            assert np.asarray(found[key]).dtype == np.asarray(value).dtype


@pytest.mark.parametrize("task", TASKS)
def test_samples_come_back_as_they_were(task, converted, tmp_path):
    before, after = load_dataset(SPEC, "train", task), load_dataset(converted(task), "train")
    assert len(list((tmp_path / "records").glob("train-*-of-*.tfrecord"))) > 2
    assert (len(after), after.task, after.class_names, after.box_keys) == (7, task, before.class_names, before.box_keys)
    assert (after.keypoint_names, after.most_boxes) == (before.keypoint_names, before.most_boxes)
    if task == "keypoint":
        np.testing.assert_array_equal(after.mirrored_points, before.mirrored_points)
    for index in (6, 0, 3):
        assert_same(after.read(index), before.read(index))
        if task != "semantic":
            (boxes, size), (wanted, wanted_size) = after.read_boxes(index), before.read_boxes(index)
            assert_same(boxes, wanted)
            assert size == wanted_size == (48, 64)


@pytest.mark.parametrize("task", ["semantic", "keypoint"])
def test_batches_are_the_same(task, converted):
    pair = [load_dataset(spec, "train", task).batches(4, training=True) for spec in (SPEC, converted(task))]
    for before, after in zip(*pair, strict=True):
        keras.tree.map_structure(np.testing.assert_array_equal, before, after)


def test_instances_are_read_for_detection_too(converted):
    spec = converted("instance")
    assert load_dataset(spec, "train").task == "instance"
    assert_same(load_dataset(spec, "train", "detection").read(2), load_dataset(SPEC, "train", "detection").read(2))
    with pytest.raises(InputError, match="no labels for the task 'semantic'"):
        load_dataset(spec, "train", "semantic")


def test_other_programs_can_read_the_shards(converted, tmp_path):
    import tensorflow as tf

    converted("detection")
    files = sorted(map(str, (tmp_path / "records").glob("train-*.tfrecord")))
    kinds = {
        "image/id": tf.io.FixedLenFeature((), tf.string),
        "image/encoded": tf.io.FixedLenFeature((), tf.string),
        "objects/boxes": tf.io.RaggedFeature(tf.float32),
        "objects/labels": tf.io.RaggedFeature(tf.int64),
    }
    records = [tf.io.parse_single_example(record, kinds) for record in tf.data.TFRecordDataset(files)]
    before = load_dataset(SPEC, "train", "detection")
    assert [record["image/id"].numpy().decode() for record in records] == [before.read(index)["image_id"] for index in range(7)]
    for index, record in enumerate(records):
        np.testing.assert_array_equal(tf.io.decode_png(record["image/encoded"]), before.read(index)["images"])
        np.testing.assert_array_equal(record["objects/boxes"], before.read(index)["bounding_boxes"]["boxes"].ravel())


@pytest.fixture
def voc(tmp_path):
    """A turned JPEG with a difficult object and one without any."""
    for folder in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (tmp_path / "voc" / folder).mkdir(parents=True)
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    for name, objects in (("a", "<name>cat</name><difficult>1</difficult>"), ("b", "")):
        Image.fromarray(pixels).save(tmp_path / "voc" / "JPEGImages" / f"{name}.jpg", exif=exif)
        box = "<bndbox><xmin>2</xmin><ymin>3</ymin><xmax>11</xmax><ymax>30</ymax></bndbox>"
        text = f"<annotation>{f'<object>{objects}{box}</object>' if objects else ''}</annotation>"
        (tmp_path / "voc" / "Annotations" / f"{name}.xml").write_text(text)
    (tmp_path / "voc" / "ImageSets" / "Main" / "train.txt").write_text("a\nb\n")
    return tmp_path / "voc"


def test_files_keep_their_bytes(voc, tmp_path):
    before = load_dataset(f"voc:{voc}", "train")
    convert(before, tmp_path / "records")
    (shard,) = (tmp_path / "records").glob("*.tfrecord")
    assert before.picture_file(0).read_bytes() in shard.read_bytes()
    after = load_dataset(f"tfrecord:{tmp_path / 'records'}", "train")
    assert after.box_keys == ("boxes", "labels", "crowd", "difficult")
    for index in range(2):
        assert_same(after.read(index), before.read(index))
    assert after.read(0)["images"].shape == (60, 40, 3) and after.read_boxes(1)[1] == (60, 40)


def test_the_command(tmp_path, capsys):
    arguments = ["data", "convert", SPEC, "--split", "val", "--task", "instance", "--output", str(tmp_path / "records")]
    assert main(arguments) == 0 and "read them as tfrecord:" in capsys.readouterr().out
    assert main(["data", "inspect", f"tfrecord:{tmp_path / 'records'}", "--split", "val"]) == 0
    assert main(arguments) == 2 and "--overwrite" in capsys.readouterr().err
    assert main([*arguments, "--overwrite", "--shard-megabytes", "1"]) == 0


def test_a_split_is_replaced_whole(converted, tmp_path):
    with pytest.raises(OutputExistsError, match="split 'train' already"):
        converted(), converted()
    spec = converted(overwrite=True, shard_bytes=10**9)
    names = sorted(path.name for path in (tmp_path / "records").iterdir())
    assert len(names) == 3 and [name.split(".")[0] for name in names] == ["train-00000-of-00001", "train", "train"]
    converted(overwrite=True, shard_bytes=10**9)  # the same content, under the same names
    assert names == sorted(path.name for path in (tmp_path / "records").iterdir())
    assert_same(load_dataset(spec, "train").read(5), load_dataset(SPEC, "train").read(5))


def test_nothing_is_left_of_a_conversion_that_fails(converted, tmp_path, monkeypatch):
    draw = shapes.Shapes.read

    def fail(self, index):
        if index == 4:
            raise InputError("damaged")
        return draw(self, index)

    monkeypatch.setattr(shapes.Shapes, "read", fail)
    with pytest.raises(InputError, match="damaged"):
        converted()
    assert list((tmp_path / "records").iterdir()) == []


def test_splits_of_one_folder_agree(converted, tmp_path):
    converted("instance")
    with pytest.raises(InputError, match=r"train\.json is of another task than this split \(instance, not detection\)"):
        converted("detection", "val")
    assert len(load_dataset(converted("instance", "val"), "val")) == 3
    (tmp_path / "records" / "notes.json").write_text("{}")
    with pytest.raises(InputError, match=r"notes\.json is not what 'tfzoo data convert' wrote"):
        converted("instance", "test")


def test_what_is_missing_or_damaged_is_named(converted, tmp_path):
    with pytest.raises(MissingInputError, match="no folder"):
        load_dataset(f"tfrecord:{tmp_path / 'nothing'}", "train")
    spec = converted()
    with pytest.raises(MissingInputError, match=r"no split 'test' .* its splits are train"):
        load_dataset(spec, "test")
    folder = tmp_path / "records"
    first, second, *_ = sorted(folder.glob("*.tfrecord"))
    data = bytearray(first.read_bytes())
    data[200] ^= 1
    first.write_bytes(data)
    second.unlink()
    dataset = load_dataset(spec, "train")
    with pytest.raises(InputError, match=r"00000-of-\d+\.\w+\.tfrecord is damaged \(record 0 of "):
        dataset.read(0)
    (path,) = folder.glob("train.*.index.npy")
    index = np.load(path)
    with pytest.raises(MissingInputError, match="no shard"):
        dataset.read(int(np.flatnonzero(index[:, 0] == 1)[0]))
    for wrong in (np.zeros((2, 4), np.int64), index.astype(np.float32), index + 100, -index):
        np.save(path, wrong)
        with pytest.raises(InputError, match="is not the index of"):
            load_dataset(spec, "train")
    for content in (b"no array", b""):
        path.write_bytes(content)
        with pytest.raises(InputError, match="cannot be read"):
            load_dataset(spec, "train")
    (folder / "train.json").write_text(json.dumps({"format": "another"}))
    with pytest.raises(InputError, match="is not what 'tfzoo data convert' wrote"):
        load_dataset(spec, "train")
    with pytest.raises(InputError, match="is not what 'tfzoo data convert' wrote"):
        converted(overwrite=True)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("format", 5),
        ("task", None),
        ("task", "depth"),
        ("class_names", {"0": "star"}),
        ("class_names", ["star", None]),
        ("keypoint_names", "left"),
        ("mirrored_points", [[0, 1], [0]]),
        ("mirrored_points", [["left"]]),
        ("box_keys", []),
        ("box_keys", ["boxes", "depth"]),
        ("most_boxes", "4"),
        ("shards", [0]),
        ("index", None),
        ("pictures", "7"),
        ("pictures", True),
    ],
)
def test_faulty_descriptions_are_told_in_a_sentence(converted, tmp_path, expect_sentence, key, value):
    spec, path = converted(), tmp_path / "records" / "train.json"
    description = json.loads(path.read_text())
    for content in (description | {key: value}, {other: value for other, value in description.items() if other != key}):
        path.write_text(json.dumps(content))
        expect_sentence(lambda: load_dataset(spec, "train"), path, "convert' wrote", f"'{key}'")


def test_without_tensorflow(converted, tmp_path, monkeypatch):
    spec = converted()
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with pytest.raises(InputError, match="need TensorFlow to be read"):
        load_dataset(spec, "train")
    with pytest.raises(InputError, match="need TensorFlow to be written"):
        convert(load_dataset(SPEC, "train"), tmp_path / "new")
    assert not (tmp_path / "new").exists()
