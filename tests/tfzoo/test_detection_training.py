"""Training a detector: average precision in the logs, the checkpoint that is kept, resuming."""

import csv
import functools
import json
import types

import keras
import numpy as np
import pytest
from PIL import Image
from tiny_detector import ENTRY
from tiny_detector import NAME as MODEL

import tfzoo
from tfzoo.data import load_dataset, shapes
from tfzoo.data.augmentation import Augmentation
from tfzoo.data.boxes import scale_boxes
from tfzoo.errors import InputError
from tfzoo.training import Recipe, train
from tfzoo.training.callbacks import CocoEvaluation, Pictures
from tfzoo.training.run import MONITORS
from tfzoo.zoo import MODELS

RECIPE = {"batch_size": 4, "picture_epochs": 1, "scale": (1, 1)}
DATA = "shapes:64x64"


@pytest.fixture
def few(monkeypatch):
    """Eight pictures to train on, four to validate on, and a detector that is built in a moment."""
    monkeypatch.setitem(MODELS, MODEL, ENTRY)
    monkeypatch.setitem(shapes.COUNTS, "train", 8)
    monkeypatch.setitem(shapes.COUNTS, "val", 4)


# === The callback ===


class Knows:
    """Stands for a model that answers the truth of a data set, in the order of its pictures, at the size that it is given them."""

    def __init__(self, dataset, score=lambda index: 1.0):
        self._samples = (dataset.read(index) for index in range(len(dataset)))
        self._score, self.sizes, self._seen = score, [], 0

    def predict(self, images, batch_size, verbose):
        self.sizes.append(images.shape[:3])
        places = 6
        answer = {"boxes": np.zeros((len(images), places, 4)), "scores": np.zeros((len(images), places))}
        answer["labels"] = np.full((len(images), places), -1, np.int32)
        for row, image in enumerate(images):
            sample = next(self._samples)
            found = sample["bounding_boxes"]
            count = len(found["labels"])
            answer["boxes"][row, :count] = scale_boxes(found["boxes"], sample["images"].shape[:2], image.shape[:2])
            answer["labels"][row, :count] = found["labels"]
            answer["scores"][row, :count] = self._score(self._seen)
            for name, values in self._more(sample, image.shape[:2]).items():
                whole = answer.setdefault(name, np.zeros((len(images), places, *values.shape[1:])))
                whole[row, :count] = values
            self._seen += 1
        return answer

    @staticmethod
    def _more(sample, size):
        """Masks that fill the boxes; points at the size of the picture that is given."""
        height, width = sample["images"].shape[:2]
        if "instance_masks" in sample:
            return {"masks": np.ones((len(sample["instance_masks"]), 28, 28), np.float32)}
        return {"keypoints": sample["keypoints"] * (size[1] / width, size[0] / height, 1)} if "keypoints" in sample else {}


def evaluation(dataset, model=None, **options):
    callback = CocoEvaluation(dataset, **options)
    callback.set_params({"epochs": 5})
    callback.set_model(model or Knows(dataset))
    return callback


@pytest.mark.parametrize("size", [None, (48, 100)])
def test_boxes_are_compared_in_the_original_pictures(few, size):
    dataset = load_dataset(DATA, "val", "detection")
    callback = evaluation(dataset, image_size=size, batch_size=3)
    logs = {"loss": 1.0}
    callback.on_epoch_end(0, logs)
    assert logs == {"loss": 1.0, "val_AP": pytest.approx(1, abs=1e-9), "val_AP50": pytest.approx(1, abs=1e-9)}
    assert callback.model.sizes == [(3, *(size or (64, 64))), (1, *(size or (64, 64)))]
    assert callback.result["per_class"].keys() == set(dataset.class_names)


def test_masks_and_keypoints_are_compared_in_the_original_pictures(few):
    """Masks that fill their boxes are right at a low IoU only; the logs have what the best checkpoint is chosen by."""
    logs = {}
    evaluation(load_dataset(DATA, "val", "instance"), image_size=(48, 100)).on_epoch_end(0, logs)
    assert set(logs) == {"val_AP", "val_AP50", "val_AP_mask", "val_AP50_mask"} and MONITORS["instance"] == "val_AP_mask"
    assert logs["val_AP"] == pytest.approx(1, abs=1e-9) and 0 < logs["val_AP_mask"] < 0.9 and logs["val_AP50_mask"] > 0.1
    logs = {}
    evaluation(load_dataset(DATA, "val", "keypoint"), image_size=(48, 100)).on_epoch_end(0, logs)
    assert logs == dict.fromkeys(("val_AP", "val_AP50", "val_AP_keypoints", "val_AP50_keypoints"), pytest.approx(1, abs=1e-6))
    assert MONITORS["keypoint"] in logs


@pytest.mark.parametrize("task", ["detection", "instance", "keypoint"])
def test_pictures_show_truth_and_answer(few, tmp_path, task):
    dataset = load_dataset(DATA, "val", task)
    callback = Pictures(dataset, tmp_path, 1, (48, 100), count=4)
    callback.set_model(Knows(dataset))
    callback.model.predict = functools.partial(callback.model.predict, batch_size=4)
    callback.write(3)
    picture = np.asarray(Image.open(tmp_path / "epoch_003.png"))
    assert picture.shape[1] > 2 * 400 and np.ptp(picture) > 200


def test_pictures_of_several_sizes_are_run_by_themselves(few):
    dataset = load_dataset(DATA, "val", "detection")
    read = dataset.read
    dataset.read = lambda index: read(index) | {"images": np.zeros((64, 64 + 32 * (index == 1), 3), np.uint8)}
    callback = evaluation(dataset)
    callback.on_epoch_end(0, {})
    assert callback.model.sizes == [(1, 64, 64), (1, 64, 96), (2, 64, 64)]


def test_between_evaluations_the_last_value_stands(few):
    dataset = load_dataset(DATA, "val", "detection")
    callback = evaluation(dataset, every=2)
    results = iter([{"AP": 0.1, "AP50": 0.2}, {"AP": 0.3, "AP50": None}, {"AP": 0.5, "AP50": 0.6}, {"AP": 0.7, "AP50": 0.8}])
    callback.evaluate = lambda: next(results)
    seen = []
    for epoch in range(5):
        logs = {}
        callback.on_epoch_end(epoch, logs)
        seen.append((logs["val_AP"], logs["val_AP50"]))
    assert seen == [(0.1, 0.2), (0.3, 0.0), (0.3, 0.0), (0.5, 0.6), (0.7, 0.8)]  # the first, every other, the last


# === Recipe ===


def test_a_recipe_has_defaults_of_its_task():
    assert Recipe.for_task("semantic") == Recipe()
    recipe = Recipe.for_task("detection", epochs=3, scale=[0.5, 1.0])
    assert recipe.learning_rate == 1e-3 and recipe.saturation == 0.2 and (recipe.epochs, recipe.scale) == (3, [0.5, 1.0])
    expected = Augmentation(scale=(0.5, 1.0), saturation=0.2, zoom_out=3.0, iou_crop=True, mosaic=0.5)
    assert Recipe.for_task("detection", scale=(0.5, 1.0), zoom_out=3.0, iou_crop=True, mosaic=0.5).augmentation() == expected


# === Training ===


@pytest.fixture
def finished(few, tmp_path, monkeypatch):
    """A training of two epochs, in which AP is said to be .3 and then .2."""
    values = iter([0.3, 0.2, 0.4])
    evaluate = CocoEvaluation.evaluate
    monkeypatch.setattr(CocoEvaluation, "evaluate", lambda self: evaluate(self) | {"AP": next(values)})
    train(MODEL, DATA, tmp_path / "run", Recipe(epochs=2, **RECIPE), verbose=0)
    return tmp_path / "run"


def test_a_training_keeps_the_checkpoint_of_the_highest_ap_and_is_resumed(finished):
    assert {path.name for path in finished.iterdir()} == {
        "best.keras", "last.keras", "log.csv", "pictures", "state.json", "tensorboard", "training.json",
    }  # fmt: skip
    rows = list(csv.DictReader((finished / "log.csv").open()))
    assert [float(row["val_AP"]) for row in rows] == [0.3, 0.2]
    assert all(0 <= float(row["val_AP50"]) <= 1 and float(row["loss"]) > 0 and float(row["val_loss"]) > 0 for row in rows)
    state = json.loads((finished / "state.json").read_text())
    assert (state["epochs"], state["best_epoch"], state["best"]) == (2, 1, 0.3)
    assert len(list((finished / "pictures").iterdir())) == 2
    best, last = (tfzoo.load_model(finished / name) for name in ("best.keras", "last.keras"))
    assert best.task == "detection" and best.image_size == (64, 64) and best.class_names == list(shapes.CLASSES)
    assert any((a != b).any() for a, b in zip(best.get_weights(), last.get_weights(), strict=True))

    train(MODEL, DATA, finished, Recipe(epochs=3), resume=True, verbose=0)
    state = json.loads((finished / "state.json").read_text())
    assert (state["epochs"], state["best_epoch"], state["best"]) == (3, 3, 0.4)
    assert len(list(csv.DictReader((finished / "log.csv").open()))) == 3


def test_the_callback_works_in_a_plain_fit(few):
    keras.utils.set_random_seed(0)
    dataset = load_dataset(DATA, "train", "detection")
    model = tfzoo.create_model(MODEL, class_names=dataset.class_names)
    model.compile(keras.optimizers.Adam(1e-3))
    callback = CocoEvaluation(load_dataset(DATA, "val", "detection"))
    history = model.fit(dataset.batches(4, training=True), epochs=1, callbacks=[callback], shuffle=False, verbose=0).history
    assert history["val_AP"] == [callback.result["AP"]] and 0 <= callback.result["AP"] <= callback.result["AP50"] <= 1


def test_a_detector_without_validation_keeps_its_last_epoch(few, tmp_path):
    train(MODEL, DATA, tmp_path / "run", Recipe(epochs=1, **RECIPE), splits=("train", None), verbose=0)
    assert json.loads((tmp_path / "run" / "state.json").read_text())["best_epoch"] == 1
    assert "val_AP" not in (tmp_path / "run" / "log.csv").read_text()


def test_the_command_line_takes_the_recipe_of_the_task(few, monkeypatch, tmp_path):
    from tfzoo import cli

    given = []
    monkeypatch.setattr("tfzoo.training.train", lambda *arguments, **_: given.append(arguments[3]) or "best.keras")
    monkeypatch.setattr("tfzoo.training.evaluation_command", lambda best: f"tfzoo evaluate {best}")
    common = ["--data", DATA, "--output", str(tmp_path)]
    assert cli.main(["train", MODEL, *common]) == 0
    assert cli.main(["train", "unet", *common]) == 0
    flags = ["--scale", "0.5", "1", "--flip", "none", "--iou-crop", "--zoom-out", "4", "--epochs", "7", "--image-size", "64x96"]
    assert cli.main(["train", MODEL, *common, *flags]) == 0
    monkeypatch.setattr("tfzoo.training.resumed_recipe", lambda output, given: given or None)
    monkeypatch.setattr("tfzoo.training.splits_of", lambda output: ("train", "val"))
    assert cli.main(["train", MODEL, *common, "--resume"]) == 0
    changed = {"scale": (0.5, 1.0), "flip": None, "iou_crop": True, "zoom_out": 4.0, "epochs": 7, "image_size": (64, 96)}
    assert given == [Recipe.for_task("detection"), Recipe(), Recipe.for_task("detection", **changed), None]


def test_the_first_pictures_are_drawn_with_truth_and_prediction(few, tmp_path):
    from PIL import Image

    from tfzoo.training.callbacks import Pictures

    dataset = load_dataset(DATA, "val", "detection")
    pictures = Pictures(dataset, tmp_path, 1, (48, 80))
    pictures.set_model(types.SimpleNamespace(predict=lambda images, verbose: Knows(dataset).predict(images, 8, verbose)))
    pictures.write(3)
    assert Image.open(tmp_path / "epoch_003.png").size[0] == 2 * 400 + 3 * 8


# === Several sizes ===


def test_sizes_may_change_while_it_trains(few, tmp_path):
    recipe = Recipe.for_task("detection", epochs=1, image_size=(64, 64), several_sizes=((64, 64), (96, 64)), **RECIPE)
    train("yolov2_darknet19", DATA, tmp_path / "run", recipe, options={"width_multiplier": 0.03125})
    (row,) = csv.DictReader((tmp_path / "run" / "log.csv").open())
    assert (
        np.isfinite(float(row["loss"])) and json.loads((tmp_path / "run" / "training.json").read_text())["recipe"]["several_sizes"]
    )


def test_the_number_of_keypoints_is_the_data_s(few, tmp_path):
    with pytest.raises(InputError, match="'num_keypoints' is set by the data"):
        train(MODEL, DATA, tmp_path / "run", options={"num_keypoints": 3})


def test_segmenters_train_at_one_size(tmp_path):
    with pytest.raises(InputError, match=r"several_sizes is .* for pictures with boxes"):
        train("unet", "shapes:64x64", tmp_path / "run", Recipe(several_sizes=((64, 64),)), options={"width_multiplier": 0.0625})
    assert not (tmp_path / "run").exists()
