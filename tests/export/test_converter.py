"""Conversion happens in a process of its own, within bounds, and an export that fails or is stopped leaves the older file."""

import os
import pathlib
import subprocess
import sys
import time

import numpy as np
import pytest

import tfzoo
from tfzoo.errors import ExportError
from tfzoo.export import converter, export, load

SCRIPT = """
import sys, tfzoo
from tfzoo.export import export
model = tfzoo.create_model("unet", num_classes=2, width_multiplier=0.125, depth=1, image_size=(32, 32))
export(model, sys.argv[1])
print("begun", flush=True)
while True:
    export(model, sys.argv[1])
"""


@pytest.fixture(scope="module")
def tiny():
    return tfzoo.create_model("unet", num_classes=2, width_multiplier=0.125, depth=1, image_size=(32, 32))


@pytest.fixture
def older(tiny, tmp_path):
    """The path of an export, and its bytes."""
    path = tmp_path / "model.tflite"
    export(tiny, path)
    return path, path.read_bytes()


def unchanged(path, content):
    load(path)  # which compares the digest
    return path.read_bytes() == content and {place.name for place in path.parent.iterdir()} == {path.name, f"{path.name}.json"}


@pytest.mark.parametrize(
    ("bound", "message"),
    [({"time_limit": 1e-3}, "took longer than 0.001 seconds"), ({"memory_limit": 1e6}, "more than 0.0, and was stopped")],
)
def test_a_bound_that_is_exceeded_ends_the_conversion(tiny, older, bound, message):
    with pytest.raises(ExportError, match=message):
        export(tiny, older[0], **bound)
    assert unchanged(*older) and converter.CONVERTER._process is None
    export(tiny, older[0])  # in a new process


def test_relative_paths_are_those_of_the_caller(tiny, tmp_path, monkeypatch):
    for name in ("first", "second"):  # the process, once started, does not change its folder
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        export(tiny, "model.tflite")
        assert sorted(place.name for place in (tmp_path / name).iterdir()) == ["model.tflite", "model.tflite.json"]


def test_a_conversion_whose_process_ends_is_told(tiny, older, monkeypatch):
    monkeypatch.setattr(converter.Converter, "_check", lambda self, *bounds: self._process.kill())
    with pytest.raises(ExportError, match="ended"):
        export(tiny, older[0])
    assert unchanged(*older)


def test_the_process_ends_with_the_one_that_asks(tmp_path):
    script = "from tfzoo.export.converter import CONVERTER; CONVERTER.start(); print(CONVERTER._process.pid, flush=True); input()"
    asking = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    pid = int(asking.stdout.readline())
    asking.kill()
    asking.communicate()
    deadline = time.monotonic() + 60
    while pathlib.Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not pathlib.Path(f"/proc/{pid}").exists()


@pytest.mark.slow
def test_an_export_that_is_killed_leaves_a_whole_file(tmp_path):
    path = tmp_path / "model.tflite"
    for seconds in np.random.default_rng(0).uniform(0.1, 4, 6):
        with subprocess.Popen([sys.executable, "-c", SCRIPT, str(path)], stdout=subprocess.PIPE, text=True) as exporting:
            assert exporting.stdout.readline() == "begun\n"
            time.sleep(seconds)
            exporting.kill()
        answer = load(path).predict(np.zeros((1, 32, 32, 3), np.uint8))
        assert answer["labels"].shape == (1, 32, 32)


@pytest.mark.slow
def test_memory_does_not_grow_by_many_exports(tiny, tmp_path):
    held = []
    for number in range(52):
        export(tiny, tmp_path / ("model.tflite", "model.onnx", "saved")[number % 3], image_size=(32, 32))
        held.append(converter._resident(os.getpid()))
    assert held[-1] - held[1] < 200e6
