"""The demonstration before it trains: what it runs, and what it takes away of earlier ones."""

import json

import pytest

from tfzoo.benchmarks import demo
from tfzoo.errors import InputError


class Training(Exception):
    """The training would begin now."""


@pytest.fixture
def begin(monkeypatch):
    """A function that runs a demonstration in a folder up to its training."""

    def train(*arguments, **options):
        raise Training

    def run(folder, task):
        with pytest.raises(Training):
            demo.demo(folder, task=task)

    monkeypatch.setattr(demo, "train", train)
    return run


def write_training(folder, data):
    (folder / "training").mkdir()
    (folder / "training" / "training.json").write_text(json.dumps({"data": data}))
    return folder / "training"


@pytest.mark.parametrize("task", demo.PLANS)
@pytest.mark.parametrize("earlier", demo.PLANS)
def test_training_of_an_earlier_demonstration_makes_room(begin, tmp_path, earlier, task):
    training = write_training(tmp_path, demo.PLANS[earlier].data)
    begin(tmp_path, task)
    assert not training.exists()


@pytest.mark.parametrize("data", ["masks:mine", "shapes", "shapes:65x65"])
def test_training_on_other_data_stays(begin, tmp_path, data):
    training = write_training(tmp_path, data)
    begin(tmp_path, "semantic")
    assert (training / "training.json").is_file()


def test_folder_without_a_training_stays(begin, tmp_path):
    (tmp_path / "training").mkdir()
    begin(tmp_path, "semantic")
    assert (tmp_path / "training").is_dir()


@pytest.mark.parametrize("task", demo.PLANS)
def test_plan_of_a_task(task):
    assert demo.find_plan(task) is demo.PLANS[task]


def test_plan_of_an_unknown_task_is_refused():
    with pytest.raises(InputError, match="no demonstration of the task 'depth': it is one of semantic, detection, instance"):
        demo.find_plan("depth")
