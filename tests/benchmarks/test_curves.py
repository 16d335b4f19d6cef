"""Curves of several trainings."""

import pytest
from PIL import Image

from tfzoo.benchmarks.curves import main, read_curve
from tfzoo.errors import InputError, MissingInputError


@pytest.fixture
def run(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "log.csv").write_text("epoch,loss,val_AP50\n0,2.0,0.25\n1,1.5,\n2,1.0,0.5\n")
    return tmp_path / "run"


def test_epochs_count_from_one_and_those_without_a_value_are_left_out(run):
    assert read_curve(run, "val_AP50") == [(1, 0.25), (3, 0.5)]
    assert read_curve(run, "loss") == [(1, 2.0), (2, 1.5), (3, 1.0)]


def test_a_picture_with_a_line_for_each(run, tmp_path):
    main([f"gamma=2={run}", f"the same again={run}", "--output", str(tmp_path / "curves.png")])
    drawn = Image.open(tmp_path / "curves.png").convert("RGB")
    assert drawn.size == (768, 480) and len(drawn.getcolors(100_000)) > 10


def test_what_is_not_there_is_told(run, tmp_path):
    with pytest.raises(MissingInputError, match=r"There is no .*log\.csv"):
        read_curve(tmp_path / "nowhere", "loss")
    with pytest.raises(InputError, match="has no column 'AP': it has epoch, loss, val_AP50"):
        read_curve(run, "AP")
