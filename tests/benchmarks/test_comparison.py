"""The table of ``tfzoo benchmark accuracy``; its command is tested with the others."""

import json
from unittest import mock

import pytest

from tfzoo.benchmarks import comparison

ONE = {"artifact": "a/m.keras", "format": "keras", "task": "instance", "data": "coco:D", "split": "val", "pictures": 2}
ONE |= {"measured_at": "original size", "bytes": 2_500_000, "AP": 0.5, "AP50": 0.75, "per_class": {"cat": {"AP": 0.5}}}
ONE |= {"unmatched": {"data": [], "artifact": [], "counted_as": "wrong"}, "equated": {}}
ONE["masks"] = {"AP": 0.25, "AP50": 0.5, "per_class": {"cat": {"AP": 0.25}, "dog": {"AP": None}}}
OTHER = ONE | {"artifact": "b.tflite", "format": "tflite int8", "masks": ONE["masks"] | {"AP": 0.2}}
EMPTY = ONE | {"artifact": "c.onnx", "format": "onnx", "masks": ONE["masks"] | {"AP": None}}


def test_masks_lead_where_there_are_some():
    lines = comparison.format_table([ONE, OTHER, EMPTY]).splitlines()
    assert lines[0] == "coco:D val, 2 pictures, at original size."
    assert lines[2] == "| artifact | format | MB | mask AP | mask AP50 | box AP | box AP50 | change of mask AP |"
    assert lines[4:] == [
        "| a/m.keras | keras | 2.50 | 0.2500 | 0.5000 | 0.5000 | 0.7500 | +0.0000 |",
        "| b.tflite | tflite int8 | 2.50 | 0.2000 | 0.5000 | 0.5000 | 0.7500 | -0.0500 |",
        "| c.onnx | onnx | 2.50 | - | 0.5000 | 0.5000 | 0.7500 | - |",
    ]


def test_what_is_measured_otherwise_is_told():
    other = OTHER | {
        "measured_at": "original size, run at 96x128",
        "unmatched": {"data": ["dog"], "artifact": [], "counted_as": "wrong"},
    }
    lines = comparison.format_table([ONE, other]).splitlines()
    assert lines[0] == "coco:D val, 2 pictures." and lines[5].endswith("| - |")
    assert lines[6:10] == ["", "a/m.keras: Measured at original size.", "", "b.tflite: Measured at original size, run at 96x128."]
    assert lines[11].startswith("b.tflite: ") and "dog" in lines[11]


def test_pictures_are_drawn_of_what_is_known(tmp_path):
    comparison.save([ONE, OTHER, EMPTY], tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["accuracy.json", "accuracy.md", "accuracy.png"]
    assert comparison._of_classes(ONE, "masks AP") == [0.25]


def test_what_was_measured_is_kept_when_a_later_artifact_fails(small_unet, tmp_path, monkeypatch):
    result = comparison.evaluate(small_unet[1], "shapes:64x96", "val", verbose=False)
    monkeypatch.setattr(comparison, "evaluate", mock.Mock(side_effect=[result, RuntimeError("the machine was switched off")]))
    with pytest.raises(RuntimeError):
        comparison.compare([small_unet[1]] * 2, "shapes:64x96", verbose=False, folder=tmp_path)
    assert len(json.loads((tmp_path / comparison.PART).read_text())) == 1
    assert [path.name for path in tmp_path.iterdir()] == [comparison.PART]  # and no older comparison is lost
