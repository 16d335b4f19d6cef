"""The command line: what it does, and one sentence with exit status 2 for everything that a person can get wrong."""

import json
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from tfzoo.cli import main


@pytest.fixture
def wrong(capfd):
    """Runs a command that must fail with status 2 and one sentence, and returns the sentence."""

    def run(*arguments):
        assert main([str(argument) for argument in arguments]) == 2
        error = capfd.readouterr().err.strip()
        assert error.startswith("tfzoo: ") and "\n" not in error and "Traceback" not in error, error
        return error

    return run


@pytest.fixture
def folder(masks_folder, tmp_path):
    """A copy of the small data set, to be spoiled."""
    import shutil

    return pathlib.Path(shutil.copytree(masks_folder, tmp_path / "data"))


def train_arguments(folder, output):
    return ("train", "unet", "--data", f"masks:{folder}", "--output", output, "--epochs", 1, "--option", "width_multiplier=0.0625",
            "--option", "depth=2")  # fmt: skip


def test_missing_folder(wrong, tmp_path):
    assert "There is no folder" in wrong(*train_arguments(tmp_path / "none", tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_split_that_does_not_exist(wrong, folder, tmp_path):
    assert "no split 'tarin'" in wrong(*train_arguments(folder, tmp_path / "out"), "--train-split", "tarin")


def test_picture_without_label(wrong, folder, tmp_path):
    next((folder / "labels").glob("train_*")).unlink()
    assert "has no label map" in wrong(*train_arguments(folder, tmp_path / "out"))


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda image, label: Image.fromarray(np.zeros((10, 10), np.uint8)).save(label), "make them the same size"),
        (lambda image, label: Image.fromarray(np.full((64, 96), 7, np.uint8)).save(label), "holds the class index 7"),
        (lambda image, label: image.write_bytes(image.read_bytes()[:600]), "is damaged"),
        (lambda image, label: Image.fromarray(np.zeros((64, 96, 3), np.uint8)).save(label), "holds colours"),
    ],
    ids=["label of another size", "label index beyond classes.txt", "truncated picture", "label map in colours"],
)
def test_spoiled_files_found_while_training(wrong, folder, tmp_path, spoil, sentence):
    name = (folder / "train.txt").read_text().split()[3]
    spoil(folder / "images" / f"{name}.jpg", folder / "labels" / f"{name}.png")
    error = wrong(*train_arguments(folder, tmp_path / "out"))
    assert sentence in error and name in error


def test_empty_data_set(wrong, folder, tmp_path):
    (folder / "train.txt").write_text("\n")
    assert "is empty" in wrong(*train_arguments(folder, tmp_path / "out"))


def test_unknown_model(wrong, tmp_path):
    assert "Did you mean 'fcn8s_vgg16'?" in wrong("train", "fcn8_vgg16", "--data", "shapes", "--output", tmp_path / "out")


def test_unknown_data_set(wrong, tmp_path):
    assert "give one of shapes, masks:DIR, coco:DIR" in wrong("train", "unet", "--data", "mask:x", "--output", tmp_path / "out")


def test_checkpoint_of_another_model(wrong, folder, small_unet, tmp_path):
    sentence = wrong("train", "fcn8s_vgg16", "--data", f"masks:{folder}", "--output", tmp_path / "out", "--weights", small_unet[1],
                     "--option", "width_multiplier=0.125")  # fmt: skip
    assert "(UNet), not a FCN" in sentence


def test_checkpoint_of_another_class_count(wrong, folder, small_unet, tmp_path):
    with (folder / "classes.txt").open("a") as file:
        file.write("\nhexagon")
    sentence = wrong(*train_arguments(folder, tmp_path / "out"), "--weights", small_unet[1])
    assert "5 classes, not 6" in sentence


def test_output_folder_that_exists(wrong, folder, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "precious.txt").write_text("kept")
    assert "exists and is not empty" in wrong(*train_arguments(folder, tmp_path / "out"))
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["precious.txt"]


def test_export_does_not_replace_a_file_unasked(wrong, small_unet, tmp_path):
    (tmp_path / "model.onnx").write_text("kept")
    assert "exists" in wrong("export", small_unet[1], "--output", tmp_path / "model.onnx")
    assert (tmp_path / "model.onnx").read_text() == "kept"


def test_export_of_a_size_that_the_model_cannot_take(wrong, small_unet, tmp_path):
    sentence = wrong("export", small_unet[1], "--output", tmp_path / "model.onnx", "--image-size", "16")
    assert "at least 32x32" in sentence and not (tmp_path / "model.onnx").exists()
    assert "is not a size" in wrong("export", small_unet[1], "--output", tmp_path / "model.onnx", "--image-size", "big")


def test_prediction_of_what_is_no_picture(wrong, small_unet, tmp_path):
    (tmp_path / "notes.jpg").write_text("hello")
    assert "is not a picture" in wrong("predict", small_unet[1], tmp_path / "notes.jpg", "--output", tmp_path / "out")
    assert "There is no file" in wrong("predict", small_unet[1], tmp_path / "none.jpg", "--output", tmp_path / "out")


def test_artifacts_that_are_none(wrong, tmp_path):
    (tmp_path / "model.tflite").write_bytes(b"not a model")
    assert "There is no artifact" in wrong("evaluate", tmp_path / "none.tflite", "--data", "shapes")
    assert "lacks the JSON" in wrong("evaluate", tmp_path / "model.tflite", "--data", "shapes")
    assert "is no artifact" in wrong("evaluate", __file__, "--data", "shapes")


def test_evaluation_on_data_of_other_classes(wrong, small_unet, folder):
    (folder / "classes.txt").write_text("a\nb\nc\nd\ne")
    assert "evaluate it on data of its own classes" in wrong("evaluate", small_unet[1], "--data", f"masks:{folder}")


def test_predictions_never_replace_the_pictures(wrong, small_unet, tmp_path):
    Image.fromarray(np.zeros((64, 96, 3), np.uint8)).save(tmp_path / "a.png")
    Image.fromarray(np.zeros((10, 10, 3), np.uint8)).save(tmp_path / "small.png")
    before = (tmp_path / "a.png").read_bytes()
    assert "would be overwritten" in wrong("predict", small_unet[1], tmp_path / "a.png", "--output", tmp_path, "--overwrite")
    error = wrong("predict", small_unet[1], tmp_path / "a.png", tmp_path / "small.png", "--output", tmp_path / "out")
    assert "small.png is 10x10" in error and not (tmp_path / "out").exists()
    assert (tmp_path / "a.png").read_bytes() == before


def test_export_replaces_nothing_but_an_older_export(wrong, small_unet, tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "notes.txt").write_text("kept")
    (tmp_path / "model.onnx.json").write_text("kept")
    for output in ("folder", "model.keras", "model.tfilte"):
        wrong("export", small_unet[1], "--output", tmp_path / output, "--overwrite")
    wrong("export", small_unet[1], "--output", tmp_path / "model.onnx")
    assert (tmp_path / "folder" / "notes.txt").read_text() == (tmp_path / "model.onnx.json").read_text() == "kept"
    assert "There is no model 'unett'" in wrong("export", "unett", "--weights", small_unet[1], "--output", tmp_path / "m.onnx")


def test_raw_files_are_not_evaluated_by_mistake(wrong, small_unet, tmp_path):
    assert main(["export", str(small_unet[1]), "--output", str(tmp_path / "raw.onnx"), "--raw"]) == 0
    assert "answers logits" in wrong("evaluate", tmp_path / "raw.onnx", "--data", "shapes")


def test_models_lists_names(capsys):
    assert main(["models", "--json"]) == 0
    assert "unet" in [model["name"] for model in json.loads(capsys.readouterr().out)]


def test_from_data_to_a_file_that_is_evaluated(folder, tmp_path, capsys):
    assert main([str(a) for a in train_arguments(folder, tmp_path / "run")]) == 0
    best = tmp_path / "run" / "best.keras"
    assert main(["export", str(best), "--output", str(tmp_path / "unet.onnx")]) == 0
    results = {}
    for artifact in (best, tmp_path / "unet.onnx"):
        arguments = [
            "evaluate",
            str(artifact),
            "--data",
            f"masks:{folder}",
            "--image-size",
            "64x96",
            "--json",
            str(tmp_path / "r.json"),
        ]
        assert main([*arguments, "--overwrite"]) == 0
        results[artifact.suffix] = json.loads((tmp_path / "r.json").read_text())
    assert results[".keras"]["confusion"] == results[".onnx"]["confusion"]
    assert results[".onnx"]["pictures"] == 4 and results[".onnx"]["measured_at"] == "64x96"


def test_predict_writes_pictures_and_json(small_unet, tmp_path):
    photograph = Image.fromarray(np.random.default_rng(0).integers(0, 256, (120, 333, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    photograph.save(tmp_path / "turned.jpg", exif=exif)
    assert main(["predict", str(small_unet[1]), str(tmp_path / "turned.jpg"), "--output", str(tmp_path / "found")]) == 0
    (result,) = json.loads((tmp_path / "found" / "predictions.json").read_text())
    assert (result["height"], result["width"]) == (333, 120)
    assert abs(sum(entry["share"] for entry in result["classes"].values()) - 1) < 1e-3
    assert Image.open(tmp_path / "found" / "turned_labels.png").size == (120, 333)
    assert Image.open(tmp_path / "found" / "turned.png").size[0] >= 320


def test_without_a_command_help_is_shown(capsys):
    assert main([]) == 2
    assert "commands" in capsys.readouterr().out


COMMANDS = ["demo", "models", "train", "evaluate", "predict", "export", "serve export"]
COMMANDS += ["data inspect", "data proposals", "benchmark speed", "benchmark accuracy"]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(command, capsys):
    with pytest.raises(SystemExit) as exit_:
        main([*command.split(), "--help"])
    assert exit_.value.code == 0
    assert f"example:\n  tfzoo {command}" in capsys.readouterr().out


def test_ctrl_c_in_a_training_leaves_a_checkpoint(folder, tmp_path):
    """Interrupted for real, by the signal that a terminal sends."""
    import signal
    import time

    arguments = [*train_arguments(folder, tmp_path / "run"), "--epochs", 500]
    process = subprocess.Popen(
        [sys.executable, "-m", "tfzoo", *map(str, arguments)],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs inherit that it is ignored
    )
    log = tmp_path / "run" / "log.csv"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not (log.exists() and len(log.read_text().splitlines()) > 2):
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130 and "--resume" in error and "Traceback" not in error
    assert json.loads((tmp_path / "run" / "state.json").read_text())["epochs"] >= 1
    seen = json.loads((tmp_path / "run" / "state.json").read_text())["epochs"]
    assert main([*map(str, train_arguments(folder, tmp_path / "run")), "--epochs", str(seen + 1), "--resume"]) == 0
    assert json.loads((tmp_path / "run" / "state.json").read_text())["epochs"] == seen + 1


def test_a_command_leaves_the_callers_signal_handlers(capsys):
    import signal

    earlier = signal.getsignal(signal.SIGTERM)
    assert main(["models"]) == 0
    assert signal.getsignal(signal.SIGTERM) is earlier


def test_a_served_version_is_evaluated_like_any_artifact(small_unet, folder, tmp_path):
    assert main(["serve", "export", str(small_unet[1]), "--repository", str(tmp_path / "served"), "--name", "shapes"]) == 0
    version = tmp_path / "served" / "shapes" / "1"
    results = []
    for artifact in (version, small_unet[1]):
        file = tmp_path / f"{artifact.name}.json"
        assert main(["evaluate", str(artifact), "--data", f"masks:{folder}", "--json", str(file)]) == 0
        results.append(json.loads(file.read_text()))
    assert results[0]["confusion"] == results[1]["confusion"] and results[0]["measured_at"] == "original size"


def test_speed_is_printed_as_a_table(small_unet, tmp_path, capsys):
    assert main(["benchmark", "speed", str(small_unet[1]), "--rounds", "3", "--output", str(tmp_path / "speed")]) == 0
    assert "median ms" in capsys.readouterr().out
    assert {path.name for path in (tmp_path / "speed").iterdir()} == {"speed.md", "speed.json", "speed.png"}


def test_artifacts_are_compared_side_by_side(wrong, small_unet, detector, folder, tmp_path, capfd):
    assert main(["export", str(small_unet[1]), "--output", str(tmp_path / "unet.onnx")]) == 0
    artifacts, out = [str(small_unet[1]), str(tmp_path / "unet.onnx")], tmp_path / "accuracy"
    command = ["benchmark", "accuracy", *artifacts, "--data", f"masks:{folder}", "--image-size", "64x96"]
    assert main([*command, "--output", str(out)]) == 0
    assert "| mean IoU | pixel accuracy | change of mean IoU |" in capfd.readouterr().out
    results = json.loads((out / "accuracy.json").read_text())
    assert [result["format"] for result in results] == ["keras", "onnx"]
    assert results[0]["confusion"] == results[1]["confusion"] and results[1]["bytes"] == (tmp_path / "unet.onnx").stat().st_size
    assert (out / "accuracy.md").read_text().count("| +0.0000 |") == 2 and (out / "accuracy.png").stat().st_size > 1000
    message = wrong("benchmark", "accuracy", *artifacts, detector, "--data", "shapes:64x64")
    assert "different tasks" in message and "(detection)" in message


def test_evaluate_draws_into_a_folder_and_runs_by_tiles(wrong, small_unet, folder, tmp_path):
    arguments = ["evaluate", str(small_unet[1]), "--data", f"masks:{folder}", "--tile", "48", "--overlap", "16"]
    assert main([*arguments, "--output", str(tmp_path / "out"), "--worst", "2"]) == 0
    assert (tmp_path / "out" / "confusion.png").is_file() and len(list((tmp_path / "out" / "worst").iterdir())) == 2
    assert json.loads((tmp_path / "out" / "result.json").read_text())["tile"] == "48x48"
    assert "give --output DIR too" in wrong(*arguments, "--worst", "2")
    assert "give --tile too" in wrong("evaluate", small_unet[1], "--data", f"masks:{folder}", "--overlap", "8")


# === Boxes ===


@pytest.fixture
def detector(tmp_path, monkeypatch):
    """The path of a small detector's file, for what ``shapes`` shows."""
    from tiny_detector import TinyDetector

    from tfzoo.data import shapes

    monkeypatch.setitem(shapes.COUNTS, "val", 4)
    TinyDetector(4, class_names=list(shapes.CLASSES), image_size=(64, 64)).save(tmp_path / "detector.keras")
    return tmp_path / "detector.keras"


def test_a_detector_is_evaluated_and_drawn(wrong, detector, tmp_path, capfd):
    arguments = ["evaluate", str(detector), "--data", "shapes:64x64", "--max-detections", "50", "--output", str(tmp_path / "out")]
    assert main(arguments) == 0
    assert "AP50 as VOC 2007" in capfd.readouterr().out and (tmp_path / "out" / "precision_recall.png").is_file()
    assert json.loads((tmp_path / "out" / "result.json").read_text())["max_detections"] == 50
    assert "is not for the task 'detection'" in wrong("evaluate", detector, "--data", "shapes", "--segments", "star")

    Image.fromarray(np.zeros((120, 333, 3), np.uint8)).save(tmp_path / "a.png")
    arguments = ["predict", str(detector), str(tmp_path / "a.png"), "--output", str(tmp_path / "found"), "--min-score", "0"]
    assert main(arguments) == 0
    (result,) = json.loads((tmp_path / "found" / "predictions.json").read_text())
    assert result["objects"][0]["drawn"] and f"1 {result['objects'][0]['class']}" in capfd.readouterr().out


def test_max_detections_are_for_detectors(wrong, small_unet):
    assert "--max-detections is not for the task" in wrong("evaluate", small_unet[1], "--data", "shapes", "--max-detections", "9")


def test_a_data_set_is_inspected(detector, wrong, tmp_path, capfd):
    arguments = ["data", "inspect", "shapes:64x64", "--split", "val", "--task", "detection", "--output", str(tmp_path / "seen")]
    assert main([*arguments, "--anchors", "2"]) == 0
    printed = capfd.readouterr().out
    assert "shapes:64x64 val (detection): 4 pictures, 4 classes" in printed
    assert re.search(r"--option 'anchor_sizes=\[\(\d+, \d+\), \(\d+, \d+\)\]'", printed)
    assert {path.name for path in (tmp_path / "seen").iterdir()} == {"inspection.json", "table.md", "contact.png"}
    assert "is not empty" in wrong(*arguments)
    assert "There is no folder" in wrong("data", "inspect", "yolo:nowhere")


def test_anchors_of_a_data_set_without_boxes_are_refused_before_it_is_read(wrong, masks_folder, tmp_path):
    arguments = "--split", "val", "--anchors", "2", "--output", tmp_path / "seen"
    for spec, way in (("shapes", "(--task detection"), (f"masks:{masks_folder}", "take one that has boxes")):
        sentence = wrong("data", "inspect", spec, *arguments)
        assert "has no boxes to find anchors for" in sentence and way in sentence
    assert not (tmp_path / "seen").exists()


def test_an_unknown_task_of_a_demonstration_leaves_no_folder(wrong, tmp_path):
    assert "depth" in wrong("demo", "--task", "depth", "--output", tmp_path / "demo")
    assert not (tmp_path / "demo").exists()


def test_a_report_does_not_take_the_sidecars_name(wrong, tmp_path):
    place = tmp_path / "m.tflite"
    assert "a name each" in wrong("export", tmp_path / "m.keras", "--output", place, "--json", f"{place}.json")


def test_every_flag_that_the_documents_name_is_there():
    """Of the command line and of the programs in benchmarks; pip's and other tools' own are named here."""
    import argparse

    from tfzoo.cli.arguments import build_parser

    root = pathlib.Path(__file__).parents[2]
    known = {
        "--graph",
        "--num-threads",
        "--warmup-runs",
        "--num-runs",
        "--use-gpu",
        "--enable-op-profiling",
    }  # of LiteRT's benchmark tool
    pending = [build_parser()]
    while pending:
        for action in pending.pop()._actions:
            known.update(action.option_strings)
            if isinstance(action, argparse._SubParsersAction):
                pending.extend(action.choices.values())
    for program in (root / "benchmarks").glob("*.py"):
        known.update(re.findall(r'"(--[a-z-]+)"', program.read_text()))
    documents = [root / "README.md", *(root / "docs").glob("*.md")]
    named = {flag for document in documents for flag in re.findall(r"(?<![\w-])--[a-z][a-z_-]+", document.read_text())}
    assert len(named) > 40 and not {flag.replace("_", "-") for flag in named} - known


@pytest.mark.parametrize("group", ["", "serve", "data", "benchmark"])
def test_every_group_has_help_with_an_example(group, capsys):
    with pytest.raises(SystemExit) as exit_:
        main([*group.split(), "--help"])
    out = capsys.readouterr().out
    assert exit_.value.code == 0 and f"example:\n  tfzoo {group}" in out
    assert group != "serve" or "usage: tfzoo serve ARTIFACT" in out


def test_version(capsys):
    import tfzoo

    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out == f"tfzoo {tfzoo.__version__}\n"


def test_what_is_for_segmenters_alone(wrong, tmp_path):
    arguments = (
        "train",
        "yolov2_darknet19",
        "--data",
        "shapes:64x64",
        "--output",
        tmp_path / "out",
        "--option",
        "width_multiplier=0.125",
    )
    assert "loss is 'dice': it is for segmenters alone" in wrong(*arguments, "--loss", "dice")
    assert "class_weights is 'median': it is for segmenters alone" in wrong(*arguments, "--class-weights", "median")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (("--image-size", "100000"), "a side of more than 16384 pixels"),
        (("--crop", "0.1"), "at least 32x32"),
        (("--epochs", "1", "--image-size", "16"), "at least 32x32"),
    ],
)
def test_sizes_that_cannot_be_trained_at(wrong, folder, tmp_path, more, sentence):
    assert sentence in wrong(*train_arguments(folder, tmp_path / "out"), *more)


def test_a_picture_that_is_not_there_leaves_no_empty_folder(wrong, small_unet, tmp_path):
    assert "There is no file" in wrong("predict", small_unet[1], tmp_path / "none.jpg", "--output", tmp_path / "a" / "found")
    assert not (tmp_path / "a").exists()


def test_too_little_memory_is_told(capfd, monkeypatch):
    from tfzoo.cli import commands

    def fails(args):
        raise MemoryError

    monkeypatch.setattr(commands, "run_models", fails)
    assert main(["models"]) == 1
    assert capfd.readouterr().err.startswith("tfzoo: There is not enough memory for this: take smaller pictures")
