"""Evaluation of artifacts."""

import numpy as np
import pytest

import tfzoo
from tfzoo.benchmarks.accuracy import evaluate, format_table, match_classes
from tfzoo.data.images import resize_labels
from tfzoo.errors import InputError


class Oracle:
    """Stands for an artifact that knows the truth, but for what ``spoil`` changes."""

    path, name, task = "oracle", "oracle", "semantic"

    def __init__(self, data, split, size=None, class_names=None, spoil=lambda labels: labels):
        dataset = tfzoo.load_dataset(data, split)
        self.class_names = class_names or dataset.class_names
        self._truth = (dataset.read(i)["segmentation_masks"][..., 0] for i in range(len(dataset)))
        self._size, self._spoil = size, spoil

    def require_answer(self):
        pass

    def predict(self, images):
        truth = [next(self._truth) for _ in images]
        return {"labels": [self._spoil(resize_labels(t, self._size) if self._size else t) for t in truth]}


@pytest.mark.parametrize("size", [None, (48, 80)])
def test_the_truth_scores_one(masks_folder, size):
    spec = f"masks:{masks_folder}"
    result = evaluate(Oracle(spec, "val", size), spec, "val", image_size=size)
    assert result["mean_iou"] == result["pixel_accuracy"] == 1
    assert result["pictures"] == 4 and result["measured_at"] == ("48x80" if size else "original size")


def test_what_is_wrong_is_counted_as_by_hand(masks_folder):
    spec = f"masks:{masks_folder}"
    everything_background = lambda labels: np.zeros_like(labels)  # noqa: E731
    result = evaluate(Oracle(spec, "val", spoil=everything_background), spec, "val")
    truth = np.concatenate([tfzoo.load_dataset(spec, "val").read(i)["segmentation_masks"].ravel() for i in range(4)])
    background = (truth == 0).mean()
    present = len(np.unique(truth))
    assert result["pixel_accuracy"] == pytest.approx(background)
    assert result["mean_iou"] == pytest.approx(background / present)
    assert result["mean_pixel_accuracy"] == pytest.approx(1 / present)
    assert result["frequency_weighted_iou"] == pytest.approx(background**2)
    assert all((result["per_class"][name] is None) == (name in result["left_out"]) for name in result["per_class"])
    assert "background" in format_table(result)


def test_classes_are_matched_by_name(masks_folder):
    spec = f"masks:{masks_folder}"
    names = tfzoo.load_dataset(spec, "val").class_names[::-1]
    assert evaluate(Oracle(spec, "val", class_names=names, spoil=lambda labels: 4 - labels), spec, "val")["mean_iou"] == 1
    with pytest.raises(InputError, match="data of its own classes"):
        match_classes(["cat", "dog"], tfzoo.load_dataset(spec, "val"))


def test_keras_file_on_camvid_is_measured_at_the_original_size(camvid, tmp_path):
    names = tfzoo.load_dataset(camvid, "val").class_names
    model = tfzoo.create_model("unet", class_names=names, width_multiplier=0.0625, depth=2, image_size=(32, 48))
    model.save(tmp_path / "m.keras")
    result = evaluate(tmp_path / "m.keras", camvid, "val")
    assert result["pictures"] == 101 and np.sum(result["confusion"]) == 101 * 360 * 480 - 297_271  # pixels that are void
