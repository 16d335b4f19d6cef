"""What tells which tensors of an int8 file lose the most."""

import csv

import pytest

from tfzoo import cli
from tfzoo.data import load_dataset
from tfzoo.errors import InputError
from tfzoo.export.quantization import compare_tensors, debug, format_table


def test_tensors_of_both_files_are_compared(exported):
    pictures = [load_dataset("shapes:64x96", "test").read(index)["images"] for index in range(3)]
    losses = compare_tensors(exported["float32"][0], exported["int8"][0], pictures)
    convolutions = [loss for loss in losses if loss.operator == "CONV_2D"]
    assert len(convolutions) == exported["int8"][1].operators["CONV_2D"]
    assert [loss.place for loss in losses] == sorted(loss.place for loss in losses)
    for loss in losses:
        assert 0 < loss.error < 1 and loss.inherited < 1 and loss.low < loss.high and 0 <= loss.clipped <= 0.05
        assert loss.high - loss.low < 300 * loss.scale  # 8 bits hold most of the range
    assert losses[0].error < 0.02 and losses[-1].error < 0.5
    assert losses[0].inherited == 0 and losses[-1].inherited > 0


def test_what_is_no_int8_file_is_refused(exported, small_unet):
    with pytest.raises(InputError, match="is no int8 file"):
        debug(small_unet[0], exported["float16"][0])


def test_the_command_writes_all_and_shows_the_worst(small_unet, tmp_path, capsys):
    model = tmp_path / "model.keras"
    small_unet[0].save(model)
    output, table = tmp_path / "m.tflite", tmp_path / "losses.csv"
    command = ["export", str(model), "--output", str(output), "--image-size", "64x96", "--debug-quantization", str(table)]
    assert cli.main(command) == 2
    assert "give --quantize int8" in capsys.readouterr().err and not output.exists()
    assert cli.main([*command, "--quantize", "int8", "--calibration", "shapes:64x96"]) == 0
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) > 10 and all(float(row["error"]) > 0 for row in rows)
    assert "| CONV_2D |" in capsys.readouterr().out


def test_the_worst_come_first(exported):
    pictures = [load_dataset("shapes:64x96", "test").read(0)["images"]]
    losses = compare_tensors(exported["float32"][0], exported["int8"][0], pictures)
    worst = max(losses, key=lambda loss: loss.added)
    header, _, row = format_table(losses, 1).splitlines()
    assert header.startswith("| operator |") and f"| {worst.added:.4f} |" in row
