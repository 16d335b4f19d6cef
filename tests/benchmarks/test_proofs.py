"""The command that proves exports: what it keeps, what it does again, and what it refuses to call proved."""

import json
import os

import pytest

from tfzoo.benchmarks import proofs
from tfzoo.errors import InputError
from tfzoo.facts import FORMATS

GOOD = {"label_agreement": 1.0, "logits_relative_error": 1e-7, "commonest_label_share": 0.7}


@pytest.fixture
def work(monkeypatch):
    """Replaces the processes: what was asked for, and what each export finds."""
    asked, found = [], dict.fromkeys(FORMATS, GOOD)

    def run(function, *arguments):
        asked.append("train" if function is proofs.train else arguments[0])
        return {} if function is proofs.train else found[arguments[0]]

    monkeypatch.setattr(proofs, "_in_own_process", run)
    return asked, found


def test_only_what_is_missing_is_done_again(work, tmp_path):
    asked, found = work
    output = tmp_path / "proofs.json"
    found["int8"] = {"error": "the process died"}
    assert proofs.main(["unet", "--output", str(output)]) == 1
    assert asked == ["train", *FORMATS]
    formats = json.loads(output.read_text())["unet"]["formats"]
    assert {form for form, result in formats.items() if result["proved"]} == set(FORMATS) - {"int8"}
    assert formats["int8"]["error"] == "the process died" and "onnxruntime" in formats["onnx"]["versions"]

    asked.clear()
    found["int8"] = GOOD
    assert proofs.main(["unet", "--output", str(output)]) == 0
    assert asked == ["train", "int8"]
    assert proofs.main(["unet", "--output", str(output)]) == 0
    assert asked == ["train", "int8"]
    assert proofs.main(["unet", "--output", str(output), "--again"]) == 0
    assert asked == ["train", "int8", "train", *FORMATS]


def test_some_formats_alone(work, tmp_path):
    asked, _ = work
    output = tmp_path / "proofs.json"
    assert proofs.main(["unet", "--output", str(output), "--formats", "onnx", "tflite"]) == 0
    assert asked == ["train", "onnx", "tflite"]
    assert proofs.main(["unet", "--output", str(output)]) == 0
    assert asked[3:] == ["train", "savedmodel", "int8"]


def test_proofs_of_another_network_do_not_count(work, tmp_path):
    asked, _ = work
    output = tmp_path / "proofs.json"
    proofs.prove(["unet"], output)
    stored = json.loads(output.read_text())
    assert stored["unet"]["options"] == {"width_multiplier": 0.125, "batch_norm": True, "dropout": 0.0}
    stored["unet"]["network"]["parameters"] += 1
    stored["other"] = {"kept": True}
    output.write_text(json.dumps(stored))
    asked.clear()
    again = proofs.prove(["unet"], output)
    assert asked == ["train", *FORMATS] and again["other"] == {"kept": True}


def test_a_training_that_fails_proves_nothing(work, monkeypatch, tmp_path):
    monkeypatch.setattr(proofs, "_in_own_process", lambda *arguments: {"error": "ValueError: no"})
    found = proofs.prove(["unet"], tmp_path / "proofs.json")["unet"]["formats"]
    assert all(not found[form]["proved"] and found[form]["error"] == "ValueError: no" for form in FORMATS)


@pytest.mark.parametrize(
    ("form", "change", "sentence"),
    [
        ("onnx", {"label_agreement": 0.9989}, "only 99.89% of the labels"),
        ("tflite", {"logits_relative_error": 1.1e-4}, "the logits differ by 1.1e-04"),
        ("tflite", {"logits_relative_error": float("nan")}, "the logits differ by nan"),
        ("int8", {"label_agreement": 0.949}, "only 94.90% of the labels"),
        ("int8", {"commonest_label_share": 0.91}, "gives 91.0% of the pixels one label"),
    ],
)
def test_shortcomings_are_told(form, change, sentence):
    assert proofs._shortcoming(form, GOOD, 1e-4) == {}
    assert sentence in proofs._shortcoming(form, {**GOOD, **change}, 1e-4)["error"]


def test_a_process_that_dies_or_fails_is_told():
    assert proofs._in_own_process(os._exit, 3) == {"error": "the process died"}
    assert proofs._in_own_process(int, "x")["error"].startswith("ValueError: invalid literal")
    assert proofs._in_own_process(dict, [("a", 1)]) == {"a": 1}


def test_unknown_model(tmp_path):
    with pytest.raises(InputError, match="Did you mean 'unet'"):
        proofs.prove(["unett"], tmp_path / "proofs.json")


@pytest.mark.slow
def test_unet_is_proved_for_real(tmp_path):
    formats = proofs.prove(["unet"], tmp_path / "proofs.json")["unet"]["formats"]
    assert {form for form, result in formats.items() if result["proved"]} == set(FORMATS)
    assert formats["int8"]["bytes"] < 0.5 * formats["tflite"]["bytes"]
