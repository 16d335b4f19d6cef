"""The command that proves exports: what it keeps, what it does again, and what it refuses to call proved."""

import json
import os

import pytest

from tfzoo.benchmarks import proofs
from tfzoo.errors import InputError
from tfzoo.facts import FORMATS
from tfzoo.zoo import list_models

COST = {"bytes": 1_500_000, "operators": {"Conv": 3, "Relu": 2}, "latency_ms": 1.5, "seconds": 2}
GOOD = {"agreement": 1.0, "error": 1e-7, "commonest_label_share": 0.7, **COST}
FOUND = {"agreement": 1.0, "error": 1e-3, "count": 20, **COST}


@pytest.fixture
def work(monkeypatch):
    """Replaces the processes: what was asked for, and what each export finds."""
    asked, found = [], dict.fromkeys(FORMATS, GOOD)

    def run(function, name, options, forms, steps):
        asked.append(list(forms))
        return {"learned": {"pixel_accuracy": 0.99}} | {form: found[form] for form in forms}

    monkeypatch.setattr(proofs, "_in_own_process", run)
    return asked, found


def test_only_what_is_missing_is_done_again(work, tmp_path):
    asked, found = work
    output = tmp_path / "proofs.json"
    found["int8"] = {"reason": "the process died"}
    assert proofs.main(["unet", "--output", str(output)]) == 1
    assert asked == [[*FORMATS]]
    formats = json.loads(output.read_text())["unet"]["formats"]
    assert {form for form, result in formats.items() if result["proved"]} == set(FORMATS) - {"int8"}
    assert formats["int8"]["reason"] == "the process died" and "onnxruntime" in formats["onnx"]["versions"]

    asked.clear()
    found["int8"] = GOOD
    assert proofs.main(["unet", "--output", str(output)]) == 0
    assert asked == [["int8"]]
    assert proofs.main(["unet", "--output", str(output)]) == 0
    assert asked == [["int8"]]
    assert proofs.main(["unet", "--output", str(output), "--again"]) == 0
    assert asked == [["int8"], [*FORMATS]]


def test_what_fell_short_is_done_again_only_where_the_model_had_not_learned(work, tmp_path):
    asked, found = work
    output = tmp_path / "proofs.json"
    found["int8"], found["onnx"] = {**GOOD, "agreement": 0.5}, {**GOOD, "commonest_label_share": 0.99}
    for _ in range(2):
        assert proofs.main(["unet", "--output", str(output)]) == 1
    assert asked == [[*FORMATS], ["onnx"]]


def test_some_formats_alone(work, tmp_path):
    asked, _ = work
    output = tmp_path / "proofs.json"
    assert proofs.main(["unet", "--output", str(output), "--formats", "onnx", "tflite"]) == 0
    assert asked == [["onnx", "tflite"]]
    assert proofs.main(["unet", "--output", str(output)]) == 0
    assert asked[1:] == [["savedmodel", "float16", "dynamic", "int8"]]


def test_proofs_of_another_network_do_not_count(work, tmp_path):
    asked, _ = work
    output = tmp_path / "proofs.json"
    proofs.prove(["unet"], output)
    stored = json.loads(output.read_text())
    assert stored["unet"]["options"] == {"width_multiplier": 0.25, "batch_norm": True, "dropout": 0.0}
    stored["unet"]["network"]["parameters"] += 1
    stored["other"] = {"kept": True}
    output.write_text(json.dumps(stored))
    asked.clear()
    again = proofs.prove(["unet"], output)
    assert asked == [[*FORMATS]] and again["other"] == {"kept": True}


def test_proofs_by_other_libraries_do_not_count(work, tmp_path):
    asked, _ = work
    output = tmp_path / "proofs.json"
    proofs.prove(["unet"], output)
    stored = json.loads(output.read_text())
    stored["unet"]["formats"]["onnx"]["versions"]["onnxruntime"] = "0.1"
    output.write_text(json.dumps(stored))
    asked.clear()
    assert "0.1" not in proofs.prove(["unet"], output)["unet"]["formats"]["onnx"]["versions"].values()
    assert asked == [["onnx"]]


def test_proofs_of_files_as_they_were_written_before_do_not_count(work, tmp_path):
    asked, _ = work
    output, page = tmp_path / "proofs.json", tmp_path / "formats.md"
    stored = proofs.prove(["unet"], output)
    del stored["unet"]["formats"]["onnx"]["revision"]
    output.write_text(json.dumps(stored))
    asked.clear()
    assert "| `unet` | onnx* | 5 (2) |" in proofs.format_table(stored, page)
    assert proofs.main(["unet", "--output", str(output), "--table", str(page)]) == 0
    assert asked == [["onnx"]] and "| `unet` | onnx | 5 (2) |" in page.read_text()


def test_every_model_takes_its_narrow_options(work, tmp_path):
    asked, _ = work
    stored = proofs.prove(["ssd300_vgg16", "enet"], tmp_path / "proofs.json")
    assert stored["ssd300_vgg16"]["options"] == {"width_multiplier": 0.25, "batch_norm": True}  # it stretches: no min_size
    assert stored["enet"]["options"]["width_multiplier"] == 1.0 and len(asked) == 2


def test_a_training_that_fails_proves_nothing(work, monkeypatch, tmp_path):
    monkeypatch.setattr(proofs, "_in_own_process", lambda *arguments: {"reason": "ValueError: no"})
    found = proofs.prove(["unet"], tmp_path / "proofs.json")["unet"]["formats"]
    assert all(not found[form]["proved"] and found[form]["reason"] == "ValueError: no" for form in FORMATS)


@pytest.mark.parametrize(
    ("form", "good", "change", "sentence"),
    [
        ("onnx", GOOD, {"agreement": 0.9989}, "only 99.89% of the labels"),
        ("tflite", GOOD, {"agreement": float("nan")}, "only nan% of the labels"),
        ("int8", GOOD, {"agreement": 0.899}, "only 89.90% of the labels"),
        ("int8", GOOD, {"commonest_label_share": 0.91}, "gives 91.0% of the pixels one label"),
        ("savedmodel", FOUND, {"agreement": 0.98}, "only 98.00% of the detections"),
        ("int8", FOUND, {"agreement": 0.69}, "only 69.00% of the detections"),
        ("onnx", FOUND, {"count": 3}, "finds 3 objects in 4 pictures"),
    ],
)
def test_shortcomings_are_told(form, good, change, sentence):
    assert proofs._shortcoming(form, good) == {}
    assert sentence in proofs._shortcoming(form, {**good, **change})["reason"]


def test_the_table_has_every_model_and_format(work, tmp_path):
    page = tmp_path / "formats.md"
    assert proofs.main(["unet", "--output", str(tmp_path / "proofs.json"), "--formats", "onnx", "--table", str(page)]) == 0
    rows = [line for line in page.read_text().splitlines() if line.startswith("| `")]
    assert len(rows) == len(list_models()) * len(FORMATS)
    assert "| learned: pixel accuracy 0.990 | | | | | | | |" in page.read_text()
    assert "| `unet` | onnx | 5 (2) | 1.50 | 100.00% | 1.0e-07 | 1.5 |  |" in rows
    assert "| `unet` | int8 | - | - | - | - | - | not run yet |" in rows


def test_the_table_of_what_is_known_proves_nothing(work, tmp_path, capsys):
    asked, _ = work
    output, page = tmp_path / "proofs.json", tmp_path / "formats.md"
    with pytest.raises(SystemExit) as refused:
        proofs.main(["--as-it-is", "--table", str(page), "--output", str(output)])
    assert refused.value.code == 2 and "an --output that is there" in capsys.readouterr().err
    proofs.prove(["unet"], output, forms=["onnx"])
    asked.clear()
    assert proofs.main(["--as-it-is", "--table", str(page), "--output", str(output)]) == 0
    assert not asked and "| `unet` | onnx | 5 (2) |" in page.read_text()


def test_quantized_detectors_have_no_error_in_pixels():
    assert "error -" in proofs._in_words({"proved": True, **FOUND, "error": None})


def test_a_process_that_dies_or_fails_is_told():
    assert proofs._in_own_process(os._exit, 3) == {"reason": "the process died"}
    assert proofs._in_own_process(int, "x")["reason"].startswith("ValueError: invalid literal")
    assert proofs._in_own_process(dict, [("a", 1)]) == {"a": 1}


def test_unknown_model(tmp_path):
    with pytest.raises(InputError, match="Did you mean 'unet'"):
        proofs.prove(["unett"], tmp_path / "proofs.json")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["unet", "retinanet_mobilenetv2_fpn", "fastrcnn_resnet50_fpn"])
def test_it_is_proved_for_real(name, tmp_path):
    proof = proofs.prove([name], tmp_path / "proofs.json")[name]
    formats = proof["formats"]
    assert min(proof["learned"].values()) >= 0.95
    assert {form for form, result in formats.items() if result["proved"]} == set(FORMATS)
    assert formats["int8"]["bytes"] < 0.5 * formats["tflite"]["bytes"]
