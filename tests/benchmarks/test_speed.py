"""Timing of artifacts, and the demonstration."""

import json

import pytest

from tfzoo.benchmarks import demo, speed
from tfzoo.errors import InputError
from tfzoo.export import export


def test_artifacts_are_timed_in_turn_and_written_down(small_unet, tmp_path):
    export(small_unet[0], tmp_path / "unet.onnx")
    timings = speed.measure([small_unet[1], tmp_path / "unet.onnx"], batch_size=2, threads=1, rounds=4)
    assert [t.format for t in timings] == ["keras", "onnx"]
    for t in timings:
        assert 0 < t.low <= t.median <= t.high and t.runs == 4 and t.batch_size == 2 and t.image_size == (64, 96)
    speed.save(timings, tmp_path)
    assert len(json.loads((tmp_path / "speed.json").read_text())) == 2
    assert timings[0].threads is None and timings[1].threads == 1
    assert "| unet.onnx | onnx |" in (tmp_path / "speed.md").read_text()
    assert (tmp_path / "speed.png").stat().st_size > 1000


def test_demo_of_an_unknown_task_says_so(tmp_path):
    with pytest.raises(InputError, match="no demonstration of the task 'depth': it is one of semantic, detection"):
        demo.demo(tmp_path, task="depth")


def test_demo_makes_room_for_itself_alone(tmp_path):
    for name, data in (("demo", "shapes:64x64"), ("mine", "masks:mine")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "training.json").write_text(json.dumps({"data": data}))
        demo._remove_earlier_training(tmp_path / name, "shapes:64x64")
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


@pytest.mark.slow
def test_demo_leaves_a_report(tmp_path, monkeypatch):
    monkeypatch.setitem(demo.PLANS["semantic"].options, "width_multiplier", 0.0625)
    results = demo.demo(tmp_path, epochs=1)
    assert [row["format"] for row in results["rows"]] == [
        "keras", "savedmodel", "onnx", "tflite", "tflite float16", "tflite dynamic", "tflite int8",
    ]  # fmt: skip
    assert "data:image/png;base64" in (tmp_path / "report.html").read_text()


@pytest.mark.slow
def test_demo_of_detection_leaves_a_report(tmp_path, monkeypatch):
    monkeypatch.setitem(demo.PLANS["detection"].options, "width_multiplier", 0.0625)
    results = demo.demo(tmp_path, task="detection", epochs=1)
    assert [row["format"] for row in results["rows"]] == [
        "keras", "savedmodel", "onnx", "tflite", "tflite float16", "tflite dynamic", "tflite int8",
    ]  # fmt: skip
    exact = [row["AP50"] for row in results["rows"] if row["format"] in ("keras", "savedmodel", "onnx", "tflite")]
    assert exact == pytest.approx(4 * [exact[0]], abs=1e-3)  # scores that differ in the last place may change places
    assert "data:image/png;base64" in (tmp_path / "report.html").read_text()
