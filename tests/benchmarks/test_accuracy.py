"""Evaluation of artifacts."""

import json

import numpy as np
import pytest
from PIL import Image

import tfzoo
from tfzoo.benchmarks.accuracy import evaluate, format_table
from tfzoo.benchmarks.semantic_accuracy import LowestPictures
from tfzoo.data.images import resize_labels
from tfzoo.errors import InputError
from tfzoo.metrics.confusion import confusion_matrix


class Oracle:
    """Stands for an artifact that knows the truth, but for what ``spoil`` changes."""

    path, name, task, takes_proposals = "oracle", "oracle", "semantic", False

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


def test_segments_are_scored_for_each_picture(masks_folder):
    spec = f"masks:{masks_folder}"
    right = evaluate(Oracle(spec, "val"), spec, "val", segments="background")
    assert right["segments"] == {"class": "background", "rand_error": 0, "rand_split": 1, "rand_merge": 1, "pixel_error": 0}
    everything_background = lambda labels: np.zeros_like(labels)  # noqa: E731
    wrong = evaluate(Oracle(spec, "val", spoil=everything_background), spec, "val", segments="background")
    assert wrong["segments"]["pixel_error"] == pytest.approx(1 - wrong["pixel_accuracy"])  # pictures of one size
    assert "rand error" in format_table(right) and "segments" not in evaluate(Oracle(spec, "val"), spec, "val")
    with pytest.raises(InputError, match=r"no class 'backgroun'.*Did you mean 'background'"):
        evaluate(Oracle(spec, "val"), spec, "val", segments="backgroun")


def test_classes_are_matched_by_name(masks_folder):
    spec = f"masks:{masks_folder}"
    names = tfzoo.load_dataset(spec, "val").class_names[::-1]
    assert evaluate(Oracle(spec, "val", class_names=names, spoil=lambda labels: 4 - labels), spec, "val")["mean_iou"] == 1


@pytest.fixture
def write_columns(tmp_path):
    """A function that writes a data set of 32x40 pictures whose label maps are equal columns of the labels given."""

    def write(class_names, *columns):
        for folder in ("images", "labels"):
            (tmp_path / "data" / folder).mkdir(parents=True)
        for number, labels in enumerate(columns):
            labels = np.repeat(np.array(labels, np.uint8), 40 // len(labels))[None].repeat(32, axis=0)
            Image.fromarray(np.stack([labels] * 3, axis=-1)).save(tmp_path / "data" / "images" / f"p{number}.png")
            Image.fromarray(labels).save(tmp_path / "data" / "labels" / f"p{number}.png")
        (tmp_path / "data" / "val.txt").write_text("\n".join(f"p{number}" for number in range(len(columns))))
        (tmp_path / "data" / "classes.txt").write_text("\n".join(class_names))
        return f"masks:{tmp_path / 'data'}"

    return write


class Painter:
    """Stands for an artifact that reads the label in the picture (see ``write_columns``) and answers ``table[label]``."""

    path, name, task, takes_proposals = "painter", "painter", "semantic", False

    def __init__(self, class_names, table):
        self.class_names, self._table = class_names, np.array(table, np.uint8)

    def require_answer(self):
        pass

    def predict(self, images):
        return {"labels": [self._table[image[..., 0]] for image in images]}


def test_what_one_side_does_not_know_counts_as_background_where_there_is_one(write_columns):
    """Quarters, truth background, tv, dog, zebra; answered __background__, tvmonitor, zeppelin, tvmonitor.

    The artifact knows no zebra and the data no zeppelin: truth b t d b, answer b t b t. By hand, in quarters: background
    1 / 3, tv 1 / 2, dog 0 / 1.
    """
    spec = write_columns(["background", "tv", "dog", "zebra"], [0, 1, 2, 3])
    painter = Painter(["__background__", "dog", "tvmonitor", "zeppelin"], [0, 2, 3, 2])
    result = evaluate(painter, spec)
    assert result["per_class"] == pytest.approx({"background": 1 / 3, "tv": 1 / 2, "dog": 0, "zebra": None})
    assert result["mean_iou"] == pytest.approx((1 / 3 + 1 / 2) / 3)
    assert result["mean_pixel_accuracy"] == pytest.approx((1 / 2 + 1 + 0) / 3)
    assert result["pixel_accuracy"] == pytest.approx(2 / 4)
    assert result["unmatched"] == {"artifact": ["zeppelin"], "data": ["zebra"], "counted_as": "background"}
    assert result["left_out"] == [] and np.shape(result["confusion"]) == (4, 4)
    table = format_table(result)
    assert "count as background: zeppelin." in table and "count as background: zebra." in table and "| zebra |" not in table
    assert "tvmonitor = tv" in table


def test_what_one_side_does_not_know_is_wrong_where_there_is_no_background(write_columns):
    """Fifths, truth sky, road, road, pole, pole; answered sky, fence, fence, road, road. No fence in the data, no pole in the
    artifact: sky 1 / 1, road 0 / 4, and only the sky is right."""
    spec = write_columns(["sky", "road", "pole", "sea"], [0, 1, 1, 2, 2])
    result = evaluate(Painter(["sky", "road", "sea", "fence"], [0, 3, 1]), spec)
    assert result["per_class"] == pytest.approx({"sky": 1, "road": 0, "pole": None, "sea": None})
    assert result["mean_iou"] == pytest.approx(1 / 2) and result["mean_pixel_accuracy"] == pytest.approx(1 / 2)
    assert result["pixel_accuracy"] == pytest.approx(1 / 5)
    assert result["frequency_weighted_iou"] == pytest.approx(1 / 5)
    assert result["unmatched"] == {"artifact": ["fence"], "data": ["pole"], "counted_as": "wrong"}
    assert result["left_out"] == ["sea"]
    fifth = 32 * 8
    assert result["confusion"] == [[fifth, 0, 0, 0, 0], [0, 0, 0, 0, 2 * fifth], [0, 2 * fifth, 0, 0, 0], [0, 0, 0, 0, 0]]
    assert "count as wrong: pole." in format_table(result)


def test_pictures_and_result_are_written(write_columns, tmp_path):
    spec = write_columns(["sky", "road"], [0, 0, 0, 1], [1, 1], [255, 255], [0, 1])
    (tmp_path / "out" / "worst").mkdir(parents=True)
    (tmp_path / "out" / "worst" / "01_old.png").touch()
    result = evaluate(Painter(["sky", "road"], [0] * 256), spec, output=tmp_path / "out", worst=2)
    # Everything is called sky. p0: (3/4 + 0) / 2; p1: road alone, 0; p2: all ignored; p3: (1/2 + 0) / 2.
    expected = [("p1", 0), ("p3", 1 / 4)]
    assert [(picture["image_id"], picture["mean_iou"]) for picture in result["worst"]] == expected
    files = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.*")}
    assert files == {"confusion.png", "result.json", "table.md", "worst/01_p1.png", "worst/02_p3.png"}
    assert json.loads((tmp_path / "out" / "result.json").read_text()) == result
    assert "Worst pictures, by mean IoU: p1 (0.000), p3 (0.250)." in (tmp_path / "out" / "table.md").read_text()
    assert Image.open(tmp_path / "out" / "worst" / "01_p1.png").size[0] >= 3 * 320


def test_worst_pictures_need_a_folder(write_columns):
    with pytest.raises(InputError, match="3 worst pictures need a folder"):
        evaluate(Painter(["sky", "road"], [0, 1]), write_columns(["sky", "road"], [0, 1]), worst=3)


@pytest.mark.parametrize("count", [0, 1, 3, 50])
def test_the_lowest_pictures_are_those_that_sorting_finds(count):
    rng = np.random.default_rng(0)
    lowest, scores = LowestPictures(count, np.array([True, True, False])), []
    for number in range(40):
        truth, predicted = rng.integers(0, 3, (2, 1, 4))
        confusion = np.asarray(confusion_matrix(truth, predicted, 4))
        sample = {"image_id": str(number), "images": np.zeros((1, 4, 3), np.uint8)}
        lowest.offer(sample, truth.astype(np.uint8), predicted.astype(np.uint8), confusion)
        iou = [((truth == c) & (predicted == c)).sum() / ((truth == c) | (predicted == c)).sum() for c in (0, 1) if c in truth]
        if iou:
            scores.append((pytest.approx(np.mean(iou)), str(number), np.mean(iou)))
    expected = sorted(scores, key=lambda score: round(score[2], 5))[:count]  # stable: of equals, the first
    assert [(p["mean_iou"], p["image_id"]) for p in lowest.pictures()] == [score[:2] for score in expected]


def test_large_pictures_are_kept_small():
    lowest = LowestPictures(1, np.array([True, True]))
    labels = np.zeros((300, 2000), np.uint8)
    lowest.offer({"image_id": "a", "images": np.zeros((300, 2000, 3), np.uint8)}, labels, labels, np.eye(3, dtype=int))
    (picture,) = lowest.pictures()
    assert picture["image"].shape == (96, 640, 3) and picture["truth"].shape == picture["predicted"].shape == (96, 640)


@pytest.mark.parametrize("size", [None, (96, 64)])
def test_evaluation_by_tiles_says_so(small_unet, masks_folder, size):
    spec = f"masks:{masks_folder}"
    result = evaluate(small_unet[1], spec, image_size=size, tile=48, overlap=16)
    assert (result["tile"], result["overlap"]) == ("48x48", 16)
    assert result["measured_at"] == ("96x64" if size else "original size")
    assert "in tiles of 48x48 that overlap by 16" in format_table(result)
    assert np.sum(result["confusion"]) == 4 * 64 * 96
    whole = evaluate(small_unet[1], spec, image_size=size)
    assert whole["tile"] is None and whole["overlap"] is None
    assert result["pixel_accuracy"] == pytest.approx(whole["pixel_accuracy"], abs=0.1)  # the same model, with less context


def test_keras_file_on_camvid_is_measured_at_the_original_size(camvid, tmp_path):
    names = tfzoo.load_dataset(camvid, "val").class_names
    model = tfzoo.create_model("unet", class_names=names, width_multiplier=0.0625, depth=2, image_size=(32, 48))
    model.save(tmp_path / "m.keras")
    result = evaluate(tmp_path / "m.keras", camvid, "val")
    assert result["pictures"] == 101 and np.sum(result["confusion"]) == 101 * 360 * 480 - 297_271  # pixels that are void
