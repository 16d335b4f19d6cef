"""Answers of detectors: boxes, masks and keypoints mapped back to each picture, and drawn."""

import json
import pathlib

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as mask_utils
from tiny_detector import TinyDetector

from tfzoo.data.instance_masks import paste_masks
from tfzoo.errors import InputError
from tfzoo.export import load
from tfzoo.export.predict import describe, predict_files
from tfzoo.export.runner import Runner
from tfzoo.export.sidecar import Sidecar, meanings

NAMES = ["cat", "dog"]


class Corner(Runner):
    """Stands for a file: finds a dog in the upper left quarter of every picture and, unsurely, a cat in the whole of it."""

    format = "corner"

    def __init__(self, image_size=None, batch_size=None, raw=False, task="detection"):
        self._given = Sidecar("corner", task, NAMES, image_size, batch_size, raw, versions={})
        super().__init__(pathlib.Path("corner"), None)

    def _read_sidecar(self):
        return self._given

    def _open(self):
        self.shapes = []

    def run(self, images):
        self.shapes.append(images.shape[:3])
        count, height, width = images.shape[:3]
        if self._given.raw:
            return {"cls_logits": np.zeros((count, 7, 2), np.float32), "bbox_regression": np.zeros((count, 7, 4), np.float32)}
        boxes = [[0, 0, width / 2, height / 2], [0, 0, width, height], [0, 0, 0, 0]]
        more = {"detection": {}, "instance": self._masks(count), "keypoint": self._points(*images.shape[:3])}[self.task]
        return more | {
            "boxes": np.tile(np.array(boxes, np.float32), (count, 1, 1)),
            "scores": np.tile(np.array([0.9, 0.2, 0], np.float32), (count, 1)),
            "labels": np.tile(np.array([1, 0, -1], np.int32), (count, 1)),
            "num_detections": np.full(count, 2, np.int32),
        }

    @staticmethod
    def _masks(count):
        """Of the dog's box the left half, of the cat's all."""
        masks = np.zeros((count, 3, 28, 28), np.float32)
        masks[:, 0, :, :14] = masks[:, 1] = 0.9
        return {"masks": masks}

    @staticmethod
    def _points(count, height, width):
        """Two points: the dog's at the picture's centre, the cat's at its lower right."""
        points = np.array([[0.5, 0.5], [1, 1], [0, 0]]) * (width, height)
        found = np.concatenate([points, np.ones((3, 1))], axis=1)[None, :, None].repeat(2, axis=2).repeat(count, axis=0)
        return {"keypoints": np.float32(found), "keypoint_scores": np.full((count, 3, 2), 1.25, np.float32)}


def random_picture(height, width):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("runner", [Corner(), Corner((48, 64)), Corner((48, 64), 2)], ids=["any size", "fixed size", "fixed batch"])
def test_boxes_are_in_the_pixels_of_each_picture(runner):
    sizes = [(48, 64), (100, 200), (100, 200), (333, 41)]
    answer = runner.predict([random_picture(*size) for size in sizes])
    for row, (height, width) in enumerate(sizes):
        expected = [[0, 0, width / 2, height / 2], [0, 0, width, height], [0, 0, 0, 0]]
        np.testing.assert_allclose(answer["boxes"][row], expected, rtol=1e-6)
        assert answer["boxes"][row].dtype == np.float32
        assert answer["labels"][row].tolist() == [1, 0, -1] and answer["num_detections"][row] == 2
        np.testing.assert_array_equal(answer["scores"][row], np.float32([0.9, 0.2, 0]))
    if runner.batch_size:
        assert {shape[0] for shape in runner.shapes} == {2}


def test_a_batch_of_one_size_is_answered_as_arrays():
    answer = Corner((48, 64)).predict(np.stack([random_picture(96, 64)] * 3))
    assert {name: values.shape for name, values in answer.items()} == {
        "boxes": (3, 3, 4), "scores": (3, 3), "labels": (3, 3), "num_detections": (3,),
    }  # fmt: skip
    np.testing.assert_array_equal(answer["boxes"][2, 1], [0, 0, 64, 96])


def test_raw_heads_stay_as_they_are_and_are_no_answer():
    runner = Corner((48, 64), raw=True)
    answer = runner.predict([random_picture(96, 64)])
    assert {name: values[0].shape for name, values in answer.items()} == {"cls_logits": (7, 2), "bbox_regression": (7, 4)}
    with pytest.raises(InputError, match="answers raw heads"):
        runner.require_answer()


def test_a_keras_file_answers_what_the_model_does(tmp_path):
    model = TinyDetector(2, class_names=NAMES, image_size=(32, 40))
    model.save(tmp_path / "m.keras")
    picture = random_picture(32, 40)
    answer, direct = load(tmp_path / "m.keras").predict(picture[None]), model.predict(picture[None], verbose=0)
    for name, values in direct.items():
        np.testing.assert_allclose(answer[name], values, rtol=1e-5)
    stretched = load(tmp_path / "m.keras").predict([picture.repeat(3, axis=0).repeat(2, axis=1)])
    np.testing.assert_allclose(stretched["boxes"][0], direct["boxes"][0] * [2, 3, 2, 3], atol=0.5)


def test_keypoints_and_masks_go_with_their_boxes():
    sizes = [(48, 64), (100, 200)]
    points = Corner((48, 64), task="keypoint").predict([random_picture(*size) for size in sizes])
    masks = Corner((48, 64), task="instance").predict([random_picture(*size) for size in sizes])
    for row, (height, width) in enumerate(sizes):
        expected = [[width / 2, height / 2, 1], [width, height, 1], [0, 0, 1]]
        np.testing.assert_allclose(points["keypoints"][row][:, 1], expected, rtol=1e-6)
        assert points["keypoints"][row].dtype == np.float32 and (points["keypoint_scores"][row] == 1.25).all()
        assert masks["masks"][row].shape == (3, 28, 28) and masks["boxes"][row][1].tolist() == [0, 0, width, height]


@pytest.mark.parametrize("task", ["detection", "instance", "keypoint"])
def test_the_sidecar_says_what_outputs_mean(task):
    said = meanings(task, Corner(task=task).run(np.zeros((1, 32, 32, 3), np.uint8)))
    assert not any("head" in meaning for meaning in said.values())
    assert "head" in meanings(task, ["objectness"])["objectness"]


# === Pictures ===


@pytest.fixture
def written(tmp_path):
    """Two pictures of one name, and what was found in them."""
    paths = [tmp_path / "one" / "a.png", tmp_path / "two" / "a.jpg"]
    for path, size in zip(paths, ((400, 600), (120, 333)), strict=True):
        path.parent.mkdir()
        Image.fromarray(random_picture(*size)).save(path)
    (tmp_path / "out").mkdir()
    return predict_files(Corner((48, 64)), paths, tmp_path / "out"), tmp_path / "out"


def test_boxes_names_and_scores_are_written(written):
    results, folder = written
    assert json.loads((folder / "predictions.json").read_text()) == results
    assert {path.name for path in folder.iterdir()} == {"a.png", "a_2.png", "predictions.json"}
    assert (results[0]["height"], results[0]["width"], results[0]["overlay"]) == (400, 600, "a.png")
    assert results[0]["objects"] == [
        {"class": "dog", "label": 1, "score": 0.9, "box": [0, 0, 300, 200], "drawn": True},
        {"class": "cat", "label": 0, "score": 0.2, "box": [0, 0, 600, 400], "drawn": False},
    ]
    assert results[1]["objects"][0]["box"] == [0, 0, 166.5, 60]
    picture, drawn = random_picture(400, 600), np.asarray(Image.open(folder / "a.png"))
    np.testing.assert_array_equal(drawn[201:, :], picture[201:, :])  # the cat is too unsure to be drawn
    assert (drawn[199, 20:290] != picture[199, 20:290]).any(axis=-1).all()


def predicted(tmp_path, task):
    Image.fromarray(random_picture(400, 600)).save(tmp_path / "a.png")
    (tmp_path / "out").mkdir()
    (result,) = predict_files(Corner((48, 64), task=task), [tmp_path / "a.png"], tmp_path / "out")
    assert json.loads((tmp_path / "out" / "predictions.json").read_text()) == [result]
    return result, np.asarray(Image.open(tmp_path / "out" / "a.png")), random_picture(400, 600)


def test_masks_are_drawn_and_listed_as_run_lengths(tmp_path):
    result, drawn, picture = predicted(tmp_path, "instance")
    dog, cat = result["objects"]
    pasted = paste_masks(Corner._masks(1)["masks"][0, :2], np.array([[0, 0, 300, 200], [0, 0, 600, 400]]), (400, 600))
    for entry, mask in zip((dog, cat), pasted, strict=True):
        np.testing.assert_array_equal(mask_utils.decode(entry["segmentation"]), mask)
    assert dog["box"] == [0, 0, 300, 200] and describe(result) == "1 dog"
    assert (drawn[30:190, 10:140] != picture[30:190, 10:140]).any(axis=-1).mean() > 0.95  # the half that is the dog
    np.testing.assert_array_equal(drawn[30:190, 160:290], picture[30:190, 160:290])
    np.testing.assert_array_equal(drawn[201:, :], picture[201:, :])


def test_keypoints_are_drawn_and_listed(tmp_path):
    result, drawn, picture = predicted(tmp_path, "keypoint")
    assert result["objects"][0]["keypoints"] == [[300, 200, 1]] * 2 and result["objects"][0]["keypoint_scores"] == [1.25] * 2
    assert (drawn[202, 301] != picture[202, 301]).any()
    np.testing.assert_array_equal(drawn[210:], picture[210:])  # the cat's are not drawn


def test_from_which_score_boxes_are_drawn_can_be_chosen(tmp_path):
    Image.fromarray(random_picture(64, 64)).save(tmp_path / "a.png")
    (tmp_path / "out").mkdir()
    for least, found in ((0.1, "1 dog, 1 cat"), (0.3, "1 dog"), (0.95, "nothing of a sufficient score")):
        (result,) = predict_files(Corner(), [tmp_path / "a.png"], tmp_path / "out", min_score=least)
        assert describe(result) == found and len(result["objects"]) == 2


def test_a_segmenter_is_described_by_shares():
    classes = {"sky": {"share": 0.25, "mean_score": 1}, "road": {"share": 0.75, "mean_score": 1}}
    assert describe({"classes": classes}) == "road 75%, sky 25%"
