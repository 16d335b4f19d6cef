"""``tfzoo data inspect``: counts and odd boxes."""

import json

import numpy as np
import pytest
from PIL import Image

from tfzoo.data import load_dataset, shapes
from tfzoo.data.dataset import Dataset
from tfzoo.data.inspection import MOST_LISTED, format_table, inspect, odd_boxes


class Three(Dataset):
    """Three pictures: cats and a dog, nothing, and odd cats."""

    tasks = ("detection",)
    box_keys = ("boxes", "labels", "crowd", "difficult")
    pictures = (
        ([[0, 0, 10, 10], [0, 0, 40, 40], [0, 0, 100, 100]], [0, 1, 0], (120, 200)),
        ([], [], (60, 80)),
        ([[5, 5, 5, 30], [-9, 0, 20, 30], [1, 1, 3, 30], [10, 10, 30, 30], [10, 10, 30, 30]], [0, 0, 0, 0, 0], (50, 60)),
    )

    def __init__(self):
        super().__init__("three:DIR", "val", None, ["cat", "dog", "emu"])

    def __len__(self):
        return len(self.pictures)

    def read(self, index):
        boxes, labels, size = self.pictures[index]
        found = {"boxes": np.array(boxes, np.float32).reshape(-1, 4), "labels": np.array(labels, np.int32)}
        found |= {"crowd": np.arange(len(boxes)) == 1, "difficult": np.arange(len(boxes)) == 2}
        return {"images": np.zeros((*size, 3), np.uint8), "image_id": f"p{index}", "bounding_boxes": found}


def test_counts_by_hand(tmp_path):
    result = inspect(Three(), tmp_path)
    assert (result["pictures"], result["boxes"], result["most_boxes"], result["pictures_without_boxes"]) == (3, 8, 5, 1)
    assert (result["crowd"], result["difficult"]) == (2, 2)
    assert (result["small"], result["medium"], result["large"]) == (6, 1, 1)
    assert result["sizes"] == {"smallest": [50, 60], "median": [60, 80], "largest": [120, 200]}
    assert result["per_class"] == {
        # cats: areas 100, 10000, 0, 870, 58, 400, 400: the median is 400
        "cat": {"boxes": 7, "pictures": 2, "median_side": 20.0},
        "dog": {"boxes": 1, "pictures": 1, "median_side": 40.0},
        "emu": {"boxes": 0, "pictures": 0, "median_side": None},
    }
    assert {kind: entry["count"] for kind, entry in result["odd"].items()} == {"empty": 1, "outside": 1, "tiny": 1, "twice": 1}
    assert result["odd"]["outside"]["listed"] == ["p2: [-9, 0, 20, 30] cat"]
    assert json.loads((tmp_path / "inspection.json").read_text()) == result
    table = format_table(result)
    assert (tmp_path / "table.md").read_text() == f"{table}\n"
    assert "| cat | 7 | 2 | 20 px |" in table and "| emu | 0 | 0 |  |" in table
    assert "- no area inside the picture: 1\n    p2: [5, 5, 5, 30] cat" in table
    assert Image.open(tmp_path / "contact.png").width > 3 * 400


def test_a_box_is_odd_in_as_many_ways_as_a_person_would_say():
    boxes = np.array([[10, 10, 30, 30], [70, 5, 90, 9], [30, 30, 10, 40], [0.2, -0.4, 60.3, 50], [10, 10, 30, 30]], np.float32)
    odd = odd_boxes(boxes, np.array([0, 0, 0, 0, 1], np.int32), (50, 60))
    # The second lies beside the picture, the third is the wrong way round; the last is of another class than the first.
    assert {kind: which.tolist() for kind, which in odd.items()} == {"empty": [1, 2], "outside": [], "tiny": [], "twice": []}


def test_at_most_so_many_odd_boxes_are_listed(monkeypatch):
    monkeypatch.setattr(Three, "pictures", [([[5, 5, 5, 9]], [0], (50, 60))] * (MOST_LISTED + 7))
    result = inspect(Three())
    assert result["odd"]["empty"]["count"] == MOST_LISTED + 7 and len(result["odd"]["empty"]["listed"]) == MOST_LISTED
    assert f"... and {MOST_LISTED + 2} more" in format_table(result)


def test_label_maps_are_counted_by_pixels(tmp_path, write_masks):
    labels = np.zeros((32, 40), np.uint8)
    labels[:8], labels[8:16] = 1, 255
    spec = write_masks(tmp_path / "data", {"a": (np.zeros((32, 40, 3), np.uint8), labels)}, ["background", "cell", "nucleus"])
    result = inspect(load_dataset(spec, "train"))
    assert result["ignored"] == 0.25
    assert result["per_class"] == {
        "background": {"share": pytest.approx(2 / 3), "pictures": 1},
        "cell": {"share": pytest.approx(1 / 3), "pictures": 1},
        "nucleus": {"share": 0, "pictures": 0},
    }
    assert "| cell | 33.33% | 1 |" in format_table(result)


@pytest.mark.parametrize("task", ["semantic", "detection", "instance", "keypoint"])
def test_every_task_is_inspected(monkeypatch, tmp_path, task):
    monkeypatch.setitem(shapes.COUNTS, "val", 3)
    result = inspect(load_dataset("shapes:48x64", "val", task), tmp_path)
    assert result["task"] == task and (tmp_path / "contact.png").is_file()
    assert result["per_class"]["star"]["pictures"] >= 0 and format_table(result)


def test_bccd_is_as_its_readme_says(bccd):
    result = inspect(load_dataset(bccd, "test"))
    assert {name: facts["boxes"] for name, facts in result["per_class"].items()} == {"RBC": 805, "WBC": 71, "Platelets": 69}
    assert result["pictures"] == 72 and result["sizes"]["largest"] == [480, 640]
