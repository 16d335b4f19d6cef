"""Proposals: kept in files, changed together with their pictures, measured by recall."""

import json
import sys

import numpy as np
import pytest
from PIL import Image

import tfzoo
from tfzoo import cli
from tfzoo.benchmarks.accuracy import evaluate
from tfzoo.data.augmentation import Augmentation
from tfzoo.data.box_augmentation import draw_window
from tfzoo.data.boxes import scale_boxes
from tfzoo.data.objects import PADDING
from tfzoo.data.proposal_sources import first_stage, for_files, open_source, selective_search
from tfzoo.data.proposals import (
    ProposalFile,
    RecallCounter,
    as_input,
    format_table,
    make_proposals,
    pad_proposals,
    proposal_recall,
    with_proposals,
)
from tfzoo.data.several_sizes import at_several_sizes
from tfzoo.data.shapes import Shapes
from tfzoo.training import Recipe, train
from tfzoo.training.callbacks import CocoEvaluation, Pictures

SPEC = "shapes:48x64"


class Few(Shapes):
    """The first six of the drawn shapes."""

    def __len__(self):
        return 6

    def true_boxes(self):
        samples = [self.read(index) for index in range(len(self))]
        return {sample["image_id"]: sample["bounding_boxes"]["boxes"] for sample in samples}


@pytest.fixture(scope="module")
def few():
    return Few(SPEC, SPEC.partition(":")[2], "train", "detection")


@pytest.fixture
def folder(few, tmp_path):
    """The proposals of each picture are its true boxes and one far corner."""
    corner = np.array([[0, 0, 5, 4]], np.float32)
    np.savez(tmp_path / "train.npz", **{key: np.concatenate([boxes, corner]) for key, boxes in few.true_boxes().items()})
    return tmp_path


def test_samples_have_them(few, folder):
    data = with_proposals(few, folder, count=2)
    sample = data.read(1)
    np.testing.assert_array_equal(sample["proposals"], np.concatenate([sample["bounding_boxes"]["boxes"], [[0, 0, 5, 4]]])[:2])
    assert sample["proposals"].dtype == np.float32
    assert with_proposals(few, folder, count=None).proposal_count == 1 + max(map(len, few.true_boxes().values()))
    flowing = next(iter(data.samples()))
    np.testing.assert_array_equal(flowing["proposals"], data.read(0)["proposals"])


AUGMENTATIONS = {
    "none": Augmentation(scale=(1.0, 1.0), flip=None),
    "all": Augmentation(scale=(0.6, 1.6), flip="horizontal_and_vertical", zoom_out=3.0, iou_crop=True),
    "mosaic": Augmentation(scale=(0.8, 1.2), mosaic=1.0),
}


@pytest.mark.parametrize("kind", AUGMENTATIONS)
def test_they_go_where_the_boxes_go(few, folder, kind):
    """A proposal that is a true box is the true box's equal in every batch; and the batches are those without proposals."""
    plain = few.loader(6, (40, 56), training=True, seed=3, augmentation=AUGMENTATIONS[kind])[0]
    inputs, targets = with_proposals(few, folder, count=30).loader(
        6, (40, 56), training=True, seed=3, augmentation=AUGMENTATIONS[kind]
    )[0]
    np.testing.assert_array_equal(inputs["images"], plain[0])
    for name in ("boxes", "labels"):
        np.testing.assert_array_equal(targets[name], plain[1][name])
    assert inputs["proposals"].shape == (6, 30, 4) and inputs["proposals"].dtype == np.float32
    found = 0
    for boxes, labels, proposals in zip(targets["boxes"], targets["labels"], inputs["proposals"], strict=True):
        for box in boxes[labels != PADDING]:
            assert np.abs(proposals - box).max(axis=1).min() == 0
            found += 1
    assert found > 6


def test_tf_data_and_the_loader_agree(few, folder):
    data = with_proposals(few, folder, count=7)
    theirs = next(iter(data.batches(4, (32, 48), training=True, seed=1)))
    ours = data.loader(4, (32, 48), training=True, seed=1)[0]
    np.testing.assert_array_equal(theirs[0]["proposals"], ours[0]["proposals"])
    np.testing.assert_array_equal(theirs[1]["boxes"], ours[1]["boxes"])
    stretched = next(iter(at_several_sizes(data.batches(4, (32, 48)), [(64, 144)])))
    plain = next(iter(data.batches(4, (32, 48))))
    np.testing.assert_allclose(stretched[0]["proposals"], plain[0]["proposals"].numpy() * [3, 2, 3, 2], rtol=1e-6)


def test_max_objects_counts_objects_alone(few, folder):
    limited = Augmentation(scale=(1.0, 1.0), flip=None, max_objects=1)
    inputs, targets = with_proposals(few, folder, count=9).loader(6, training=True, augmentation=limited)[0]
    assert targets["boxes"].shape == (6, 1, 4) and (targets["labels"] >= 0).all()
    assert ((inputs["proposals"] ** 2).sum(axis=-1) > 0).sum() == sum(map(len, few.true_boxes().values())) + 6


def test_windows_are_drawn_around_objects_alone():
    """An IoU crop with no object at all is none: proposals are no objects."""
    window = draw_window((40, 50), np.zeros((0, 4), np.float32), Augmentation(scale=(1.0, 1.0), iou_crop=True), None)
    assert window.tolist() == [0, 0, 50, 40]


def test_padding(few):
    padded = pad_proposals([np.ones((3, 4)), np.zeros((0, 4)), np.full((1, 4), 2.0)], 2)
    assert padded.dtype == np.float32 and padded[..., 0].tolist() == [[1, 1], [0, 0], [2, 0]]
    images = np.zeros((1, 20, 30, 3), np.uint8)
    sample = {"images": np.zeros((10, 10, 3), np.uint8), "proposals": np.array([[1, 2, 3, 4.0]], np.float32)}
    few.proposal_count = 2
    assert as_input(images, [sample], few)["proposals"].tolist() == [[[3, 4, 9, 8], [0, 0, 0, 0]]]
    few.proposal_count = None
    assert as_input(images, [sample], few) is images


def spoiled(content):
    def write(path):
        np.savez(path, **content)

    return write


@pytest.mark.parametrize(
    ("write", "part"),
    [
        (spoiled({"no such picture": np.zeros((1, 4))}), "has no proposals for the picture"),
        (None, "cannot be read as proposals"),
        ({"shape": (4,)}, "must be finite numbers [n, 4]"),
        ({"shape": (2, 5)}, "must be finite numbers [n, 4]"),
        ({"fill": np.nan}, "must be finite numbers [n, 4]"),
    ],
)
def test_what_is_no_proposals_is_refused(few, tmp_path, write, part, expect_sentence):
    path = tmp_path / "train.npz"
    if write is None:
        path.write_bytes(b"no archive")
    elif callable(write):
        write(path)
    else:
        key = next(iter(few.true_boxes()))
        np.savez(path, **{key: np.full(write.get("shape", (2, 4)), write.get("fill", 1.0))})
    expect_sentence(lambda: with_proposals(few, tmp_path).read(0), path, part)


def test_what_cannot_be_had_is_told(few, tmp_path, expect_sentence):
    expect_sentence(lambda: with_proposals(few, tmp_path), "tfzoo data proposals", "train.npz", missing=True)
    masks = tfzoo.load_dataset(SPEC, "train", "instance")
    expect_sentence(lambda: with_proposals(masks, tmp_path), "task 'detection'", "'instance'")
    (tmp_path / "train.npz").touch()
    expect_sentence(lambda: with_proposals(few, tmp_path, count=0), "at least 1")
    expect_sentence(lambda: open_source("edge_boxes"), "'edge_boxes' is no source", "selective_search")


def test_recall_by_hand():
    """Of a box of 10x10 shifted by 2 the IoU is 80 / 120; by 5, 50 / 150. The crowd does not count."""
    truth = np.array([[0, 0, 10, 10], [50, 50, 60, 60], [80, 0, 90, 10]], np.float32)
    boxes = {"boxes": truth, "labels": np.zeros(3, np.int32), "crowd": np.array([False, False, True])}
    proposals = np.array([[5, 0, 15, 10], [2, 0, 12, 10], [50, 50, 60, 60]], np.float32)
    counter = RecallCounter([1, 2, None], (0.3, 0.66, 0.67, 1.0))
    counter.add(boxes, proposals)
    assert counter.result() == {
        1: {0.3: 0.5, 0.66: 0, 0.67: 0, 1.0: 0},
        2: {0.3: 0.5, 0.66: 0.5, 0.67: 0, 1.0: 0},
        None: {0.3: 1, 0.66: 1, 0.67: 0.5, 1.0: 0.5},
    }
    counter.add({name: values[:0] for name, values in boxes.items()}, proposals[:0])
    assert counter.result()[None][0.3] == 1


def test_made_and_read_again(few, tmp_path):
    """Cut to the count and to the picture; what has no area is left out."""
    found = np.array([[-3, -3, 70, 90], [4, 4, 4, 20], [10, 10, 20, 20], [11, 10, 20, 20]], np.float32)
    made = make_proposals(few, tmp_path, lambda image: found, count=2)
    assert made["pictures"] == 6 and made["proposals"] == 12 and set(made["recall"]) == {2}
    data = with_proposals(few, tmp_path)
    assert data.read(3)["proposals"].tolist() == [[0, 0, 64, 48], [10, 10, 20, 20]]
    assert proposal_recall(data) == made["recall"][2]
    assert "12 proposals of 6 pictures (2 a picture)" in format_table(made)


def test_what_is_interrupted_leaves_the_older_file(few, tmp_path):
    path = tmp_path / f"{few.split}.npz"
    path.write_bytes(b"older")

    def interrupted(image):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_proposals(few, tmp_path, interrupted, verbose=False)
    assert list(tmp_path.iterdir()) == [path] and path.read_bytes() == b"older"


def test_recall_of_the_truth_is_one(few, folder):
    data = with_proposals(few, folder)
    assert set(proposal_recall(data).values()) == {1.0}
    assert proposal_recall(data, 1, (0.99,))[0.99] < 1


def test_files_of_pictures(tmp_path, expect_sentence):
    np.savez(tmp_path / "boxes.npz", street=np.array([[1, 2, 3, 4]]))
    find = for_files(tmp_path / "boxes.npz")
    assert find("some/where/street.jpg", None).tolist() == [[1, 2, 3, 4]]
    expect_sentence(lambda: find("road.jpg", None), "boxes.npz", "'road'")
    assert ProposalFile(tmp_path / "boxes.npz", 0).read("street").shape == (0, 4)


def test_a_first_stage_proposes(tmp_path, expect_sentence):
    model = tfzoo.create_model(
        "maskrcnn_mobilenetv2_fpn",
        num_classes=2,
        width_multiplier=0.125,
        rpn_post_nms_top_n_test=9,
        image_size=(64, 96),
        min_size=96,
    )
    picture = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    raw = model.deployed(raw=True).predict_on_batch(picture[None])["proposals"][0]
    found = first_stage(model)(picture)
    real = np.asarray(raw)[(np.asarray(raw) ** 2).sum(axis=1) > 0]
    assert len(found) == len(real) > 0
    np.testing.assert_allclose(found, scale_boxes(real, (96, 128), (48, 64)), atol=1e-3)
    one_shot = tfzoo.create_model("ssdlite320_mobilenetv2", num_classes=2, width_multiplier=0.1)
    expect_sentence(lambda: first_stage(one_shot), "has no first stage")


def test_selective_search_says_what_it_lacks(monkeypatch, expect_sentence):
    monkeypatch.setitem(sys.modules, "cv2", None)
    expect_sentence(lambda: open_source("selective_search"), "pip install opencv-contrib-python-headless")


def test_selective_search_finds_a_square():
    pytest.importorskip("cv2.ximgproc", reason="OpenCV's ximgproc is an optional extra")
    picture = np.full((60, 80, 3), 40, np.uint8)
    picture[15:45, 20:60] = (250, 30, 30)
    found = selective_search(picture)
    assert found.dtype == np.float32 and found.shape[1] == 4 and (found[:, 2:] > found[:, :2]).all()
    assert np.abs(found - [20, 15, 60, 45]).max(axis=1).min() <= 2
    larger = open_source("selective_search", (120, 160))(picture)
    assert np.abs(larger - [20, 15, 60, 45]).max(axis=1).min() <= 2


# === Training and evaluation ===


class Echo:
    """Stands for a model: answers the proposals as boxes of class 0."""

    def predict(self, inputs, **_):
        boxes = inputs["proposals"]
        found = (boxes[..., 2:] > boxes[..., :2]).all(axis=-1)
        return {
            "boxes": boxes,
            "scores": np.where(found, 0.5, 0).astype(np.float32),
            "labels": np.where(found, 0, -1),
            "num_detections": found.sum(axis=1),
        }


def test_callbacks_give_the_model_its_proposals(few, folder, tmp_path):
    """At another size than the pictures': the truth of class 0 is found where it is."""
    data = with_proposals(few, folder, count=8)
    evaluation, pictures = CocoEvaluation(data, (96, 80), batch_size=4), Pictures(data, tmp_path, 1, (96, 80), count=2)
    evaluation.set_model(Echo())
    pictures.set_model(Echo())
    assert evaluation.evaluate()["per_class"][few.class_names[0]]["AP"] > 0.1
    pictures.write(3)
    assert (tmp_path / "epoch_003.png").is_file()


def test_given_to_whom_they_are_for(tmp_path, expect_sentence):
    expect_sentence(lambda: train("fastrcnn_resnet50_fpn", SPEC, tmp_path / "run"), "looks at proposals", "--proposals")
    expect_sentence(
        lambda: train("yolov1_tiny", SPEC, tmp_path / "run", proposals=tmp_path), "yolov1_tiny", "leave out --proposals"
    )
    assert not (tmp_path / "run").exists()


def test_the_command_that_makes_them(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("tfzoo.data.load_dataset", lambda spec, split, task: Few(spec, SPEC.partition(":")[2], split, task))
    found = np.array([[0, 0, 30, 30], [10, 10, 50, 40]], np.float32)
    monkeypatch.setattr("tfzoo.data.proposal_sources.open_source", lambda method, size: lambda image: found)
    command = ["data", "proposals", "--data", SPEC, "--split", "val", "--output", str(tmp_path), "--count", "1"]
    assert cli.main(command) == 0
    assert "6 proposals of 6 pictures (1 a picture)" in capsys.readouterr().out
    assert cli.main(command) == 2 and "--overwrite" in capsys.readouterr().err
    assert cli.main([*command, "--overwrite"]) == 0


@pytest.mark.slow
def test_from_proposals_to_an_evaluated_model(tmp_path, monkeypatch):
    """Trained, taken up again with the folder that it began with, evaluated, and asked about one picture."""
    original = tfzoo.load_dataset
    for module in ("tfzoo.training.run", "tfzoo.benchmarks.accuracy"):
        monkeypatch.setattr(f"{module}.load_dataset", lambda spec, split, task: Few(spec, SPEC.partition(":")[2], split, task))
    for split in ("train", "val"):
        data = Few(SPEC, SPEC.partition(":")[2], split, "detection")
        np.savez(tmp_path / f"{split}.npz", **data.true_boxes())
    options = {"width_multiplier": 0.125, "box_batch_size_per_image": 32}
    run, recipe = tmp_path / "run", Recipe.for_task("detection", epochs=1, batch_size=3, picture_epochs=1)
    train("fastrcnn_resnet50_fpn", SPEC, run, recipe, options=options, proposals=tmp_path, verbose=0)
    best = train("fastrcnn_resnet50_fpn", SPEC, run, Recipe(epochs=2), resume=True, verbose=0)
    assert (run / "pictures" / "epoch_002.png").is_file() and json.loads((run / "training.json").read_text())["proposals"]
    result = evaluate(best, SPEC, "val", proposals=tmp_path, verbose=False)
    assert result["pictures"] == 6 and 0 <= result["AP"] <= 1
    picture = original(SPEC, "val", "detection").read(0)["images"]
    Image.fromarray(picture).save(tmp_path / "here.png")
    np.savez(tmp_path / "boxes.npz", here=np.array([[0, 0, 40, 40]]))
    arguments = ["predict", str(best), str(tmp_path / "here.png"), "--output", str(tmp_path / "found")]
    assert cli.main(arguments) == 2
    assert cli.main([*arguments, "--proposals", str(tmp_path / "boxes.npz")]) == 0
    assert (tmp_path / "found" / "here.png").is_file()
