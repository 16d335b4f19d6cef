"""The example that needs nothing of this package answers what the package does."""

import pathlib
import shutil
import subprocess
import sys

import decided_detectors
import numpy as np
import pytest
from PIL import Image

import tfzoo
from tfzoo.export import decode, export, load

ROOT = pathlib.Path(__file__).parents[2]
EXAMPLE = ROOT / "docs" / "examples" / "run_tflite.py"


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "picture.png"
    Image.fromarray(tfzoo.load_dataset("shapes:64x96", "test").read(0)["images"]).save(path)
    return path


def run(folder, *arguments):
    """Its output, where it lies beside the decoding, away from the package."""
    shutil.copy(EXAMPLE, folder)
    shutil.copy(ROOT / "export" / "decoding.py", folder)
    command = [sys.executable, str(folder / EXAMPLE.name), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=True, cwd=folder).stdout


def test_labels(exported, picture, tmp_path):
    path = exported["int8"][0]
    labels = load(path).predict(np.asarray(Image.open(picture))[None])["labels"]
    names = load(path).class_names
    shares = [f"{names[label]}: {(labels == label).mean():.1%} of the picture" for label in np.unique(labels)]
    assert run(tmp_path, path, picture).splitlines() == shares


def test_objects_of_a_raw_file(picture, tmp_path):
    model = decided_detectors.one_shot("retinanet_mobilenetv2_fpn")
    export(model, tmp_path / "raw.tflite", image_size=decided_detectors.SIZE, raw=True)
    runner = load(tmp_path / "raw.tflite")
    size = runner.image_size[::-1]
    image = np.asarray(Image.open(picture).resize(size, Image.Resampling.BILINEAR))
    answer = decode(runner.run(image[None]), runner.sidecar.decoding)
    lines = run(tmp_path, tmp_path / "raw.tflite", picture).splitlines()
    assert len(lines) == answer["num_detections"][0] > 0
    assert lines[0].startswith(f"{model.class_names[answer['labels'][0, 0]]} {answer['scores'][0, 0]:.2f} at [")
