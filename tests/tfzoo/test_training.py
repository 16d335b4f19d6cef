"""``tfzoo train``: what it leaves behind, resuming, and what it refuses."""

import csv
import json
import shutil
import signal

import keras
import numpy as np
import pytest

import tfzoo
from tfzoo.cli import main
from tfzoo.errors import InputError, MissingInputError, OutputExistsError
from tfzoo.losses import Dice, PixelCrossEntropy, inverse_frequency_weights
from tfzoo.training import Recipe, evaluation_command, resumed_recipe, train
from tfzoo.training.callbacks import Checkpoints, TimeBudget, read_state
from tfzoo.training.interruption import Interruption

OPTIONS = {"width_multiplier": 0.0625, "depth": 2, "dropout": 0.0}
RECIPE = {"batch_size": 4, "image_size": (64, 96), "picture_epochs": 2}


def run(masks_folder, output, epochs=2, **arguments):
    recipe = {**RECIPE, **arguments.pop("recipe", {})}
    return train("unet", f"masks:{masks_folder}", output, Recipe(epochs=epochs, **recipe), options=OPTIONS, verbose=0, **arguments)


def last_weights(folder):
    return tfzoo.load_model(folder / "last.keras").get_weights()


@pytest.fixture(scope="module")
def finished(masks_folder, tmp_path_factory):
    output = tmp_path_factory.mktemp("runs") / "unet"
    run(masks_folder, output)
    return output


def test_leaves_checkpoints_logs_and_pictures(finished, masks_folder):
    assert {path.name for path in finished.iterdir()} == {
        "best.keras", "last.keras", "log.csv", "pictures", "state.json", "tensorboard", "training.json",
    }  # fmt: skip
    rows = list(csv.DictReader((finished / "log.csv").open()))
    assert [row["epoch"] for row in rows] == ["0", "1"] and "val_mean_iou" in rows[0]
    assert [path.name for path in (finished / "pictures").iterdir()] == ["epoch_002.png"]
    assert json.loads((finished / "state.json").read_text())["epochs"] == 2
    best = tfzoo.load_model(finished / "best.keras")
    assert best.class_names == (masks_folder / "classes.txt").read_text().split() and best.image_size == (64, 96)
    assert best.name == "unet"


def test_the_same_seed_gives_the_same_weights(finished, masks_folder, tmp_path):
    run(masks_folder, tmp_path / "again")
    for one, other in zip(last_weights(finished), last_weights(tmp_path / "again"), strict=True):
        np.testing.assert_array_equal(one, other)


def test_resuming_goes_on_where_it_stopped(masks_folder, tmp_path, monkeypatch):
    """Stopped after its first epoch and resumed, a training ends where it would have ended: order, schedule, optimizer."""
    plain = {"recipe": {"scale": (0.75, 1.75)}}
    monkeypatch.setattr("tfzoo.data.loader.batch_layers", lambda *_: [])  # flips and colour restart their streams
    run(masks_folder, tmp_path / "whole", epochs=3, **plain)

    class Stop(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 1:
                raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("tfzoo.training.run._logs", lambda output, resume: [])
        patch.setattr("tfzoo.training.run._pictures", lambda *_: [Stop()])
        with pytest.raises(KeyboardInterrupt):
            run(masks_folder, tmp_path / "parts", epochs=3, **plain)
    assert json.loads((tmp_path / "parts" / "state.json").read_text())["epochs"] == 1
    run(masks_folder, tmp_path / "parts", epochs=3, resume=True)
    for one, other in zip(last_weights(tmp_path / "whole"), last_weights(tmp_path / "parts"), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_an_output_that_holds_something_is_refused(finished, masks_folder):
    before = (finished / "best.keras").read_bytes()
    with pytest.raises(OutputExistsError, match="not empty"):
        run(masks_folder, finished)
    assert (finished / "best.keras").read_bytes() == before


def test_resuming_keeps_options_normalisation_and_splits(masks_folder, tmp_path):
    wide = {"image_std": (1.0, 1.0, 1.0)}
    spec = f"masks:{masks_folder}"
    train("unet", spec, tmp_path / "run", Recipe(epochs=1, **RECIPE), options=OPTIONS | wide, splits=("val", None), verbose=0)
    options = {"image_std": (1.0, 1.0, 1.0), "depth": 2}  # some of them, as they were
    train("unet", spec, tmp_path / "run", Recipe(epochs=2), options=options, resume=True, verbose=0)
    model = tfzoo.load_model(tmp_path / "run" / "last.keras")
    assert model.image_std == (1, 1, 1) and model.image_size == (64, 96) and model.options["depth"] == 2
    settings = json.loads((tmp_path / "run" / "training.json").read_text())
    assert settings["splits"] == ["val", None] and settings["recipe"]["epochs"] == 2
    best = train("unet", spec, tmp_path / "run", resume=True, verbose=0)  # nothing is left to do, and no setting is lost
    assert evaluation_command(best) == f"tfzoo evaluate {best} --data {spec} --split SPLIT"
    assert json.loads((tmp_path / "run" / "training.json").read_text()) == settings


def test_options_that_train_sets_itself_and_tiny_pictures_are_refused(masks_folder, tmp_path):
    with pytest.raises(InputError, match="is set by --image-size"):
        train("unet", f"masks:{masks_folder}", tmp_path / "run", options={"image_size": 64})
    with pytest.raises(InputError, match="at least 32x32"):
        run(masks_folder, tmp_path / "run", recipe={"image_size": (16, 16)})
    assert not (tmp_path / "run").exists()


def test_nothing_to_resume_and_another_model_are_refused(finished, masks_folder, tmp_path):
    with pytest.raises(MissingInputError, match="no training to resume"):
        run(masks_folder, tmp_path / "new", resume=True)
    with pytest.raises(InputError, match="has model 'unet', not 'fcn8s_vgg16'"):
        train("fcn8s_vgg16", f"masks:{masks_folder}", finished, Recipe(**RECIPE), resume=True)


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"options": {"depth": 3}}, "has option depth '2', not '3'"),
        ({"options": {"depth": None}}, "has option depth '2', not 'None'"),
        ({"options": {"batch_norm": False}}, "has option batch_norm 'True', not 'False'"),
        ({"options": {"colour": 1}}, "has option colour 'unknown', not '1'"),
        ({"splits": ("val", None)}, "has splits train and val, not val and None"),
        ({"weights": "imagenet"}, "has weights 'None', not 'imagenet'"),
    ],
)
def test_what_a_resumed_training_would_ignore_is_refused(finished, masks_folder, changed, sentence):
    with pytest.raises(InputError, match=sentence):
        train("unet", f"masks:{masks_folder}", finished, resume=True, **changed)


def test_median_class_weights_reach_the_loss(masks_folder, tmp_path):
    run(masks_folder, tmp_path / "run", epochs=1, recipe={"class_weights": "median", "class_weight_cap": 3.0})
    weights = tfzoo.load_model(tmp_path / "run" / "last.keras").loss.class_weights
    assert len(weights) == 5 and max(weights) <= 3 and weights[0] < 1 < max(weights)


def test_the_loss_is_chosen_by_name_and_kept_on_resuming(masks_folder, tmp_path):
    recipe = {"loss": "cross_entropy+dice", "class_weights": "inverse", "class_weight_cap": 3.0}
    run(masks_folder, tmp_path / "run", epochs=1, recipe=recipe)
    spec = f"masks:{masks_folder}"
    train("unet", spec, tmp_path / "run", Recipe(epochs=2), resume=True, verbose=0)
    loss = tfzoo.load_model(tmp_path / "run" / "last.keras").loss
    assert [type(term) for term, _ in loss.terms] == [PixelCrossEntropy, Dice]
    dataset = tfzoo.load_dataset(spec, "train")
    labels = np.concatenate([dataset.read(index)["segmentation_masks"].ravel() for index in range(len(dataset))])
    weights = inverse_frequency_weights(np.bincount(labels, minlength=256)[:5], cap=3.0)
    assert max(weights) == 3 and min(weights) < 1
    assert all(term.class_weights == pytest.approx(weights) for term, _ in loss.terms)


def test_a_training_that_began_before_losses_had_names_is_resumed(finished, masks_folder, tmp_path):
    shutil.copytree(finished, tmp_path / "run")
    path = tmp_path / "run" / "training.json"
    settings = json.loads(path.read_text())
    assert settings["recipe"].pop("loss") == "cross_entropy"
    path.write_text(json.dumps(settings))
    run(masks_folder, tmp_path / "run", resume=True)
    assert json.loads(path.read_text())["recipe"]["loss"] == "cross_entropy"
    assert type(tfzoo.load_model(tmp_path / "run" / "last.keras").loss) is PixelCrossEntropy


def test_weight_decay_spares_biases_and_norms():
    optimizer = Recipe(weight_decay=0.1, learning_rate=0.1, warmup=0).optimizer(10)
    model = tfzoo.create_model("unet", num_classes=2, width_multiplier=0.0625, depth=1)
    optimizer.build(model.trainable_variables)
    decayed = [v.path for v in model.trainable_variables if optimizer._use_weight_decay(v)]
    assert decayed and all(path.endswith("kernel") for path in decayed)


@pytest.mark.parametrize(
    "wrong", [{"epochs": 0}, {"batch_size": 0}, {"scale": (2.0, 1.0)}, {"class_weights": "most"}, {"loss": "cross_entropy+dyce"}]
)
def test_wrong_recipes_are_refused(wrong):
    with pytest.raises(InputError):
        Recipe(**wrong)


def test_checkpoints_are_written_no_more_often_than_wanted(tmp_path):
    """With a long pause between savings, what is in the folder at the end is what saving every epoch leaves there."""
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros")])
    model.compile(keras.optimizers.SGD(0.25), loss="mse")
    values = iter((0.2, 0.6, 0.4))
    seen = []

    class Logs(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            logs["val_mean_iou"] = next(values)
            seen.append(self.model.get_weights()[0].item())

    class Look(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            state = read_state(tmp_path)
            seen.append((state["epochs"], (tmp_path / "best.keras").exists()))

    data = {"x": np.ones((1, 1)), "y": np.ones((1, 1)), "epochs": 3, "verbose": 0}
    model.fit(**data, callbacks=[Logs(), Checkpoints(tmp_path, seconds=3600), Look()])
    weights, looks = seen[::2], seen[1::2]
    assert looks == [(0, False)] * 3
    assert read_state(tmp_path) == {"epochs": 3, "best": 0.6, "best_epoch": 2}
    best, last = (keras.saving.load_model(tmp_path / name).get_weights()[0].item() for name in ("best.keras", "last.keras"))
    assert (best, last) == (weights[1], weights[2]) and len(set(weights)) == 3


def test_a_time_budget_raises_and_lowers_the_rate_until_its_deadline(monkeypatch):
    """Epochs of ten seconds in a budget of a hundred: the rate of each one's middle, and an end that is kept."""
    now = [1000.0]
    monkeypatch.setattr("tfzoo.training.callbacks.time.monotonic", lambda: now[0])
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(7.0), loss="mse")
    rates = []

    class Clock(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            rates.append(float(self.model.optimizer.learning_rate))

        def on_train_batch_end(self, batch, logs=None):
            now[0] += 10

    budget = TimeBudget(deadline=1100, learning_rate=1.0, warmup=0.2)
    model.fit(np.ones((1, 1)), np.ones((1, 1)), epochs=99, verbose=0, callbacks=[budget, Clock()])
    falling = [0.5 + 0.5 * np.cos(np.pi * (share - 0.2) / 0.8) for share in np.arange(0.25, 1, 0.1)]
    np.testing.assert_allclose(rates, [0.1, 0.75, *falling], atol=1e-6)


def test_a_training_ends_in_time_and_can_be_resumed(masks_folder, tmp_path):
    run(masks_folder, tmp_path / "run", epochs=1000, recipe={"minutes": 1e-3})
    assert json.loads((tmp_path / "run" / "state.json").read_text())["epochs"] == 1
    run(masks_folder, tmp_path / "run", epochs=1000, resume=True)
    assert json.loads((tmp_path / "run" / "state.json").read_text())["epochs"] == 2


def test_a_time_budget_needs_time(expect_sentence):
    expect_sentence(lambda: Recipe(minutes=0), "minutes")


class At(keras.callbacks.Callback):
    """Sends this process a signal in the middle of a step of an epoch."""

    def __init__(self, epoch):
        super().__init__()
        self.wanted, self.steps = epoch, []

    def on_epoch_begin(self, epoch, logs=None):
        self.steps.append(0)

    def on_train_batch_end(self, batch, logs=None):
        self.steps[-1] += 1
        if len(self.steps) - 1 == self.wanted and self.steps[-1] == 1:
            signal.raise_signal(signal.SIGTERM)


def test_an_interruption_waits_for_the_step_and_keeps_the_epochs_before(masks_folder, tmp_path, monkeypatch, capsys):
    at = At(epoch=2)
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with monkeypatch.context() as patch:
        patch.setattr("tfzoo.training.run._pictures", lambda *_: [at])
        patch.setattr("tfzoo.training.run.CHECKPOINT_SECONDS", 3600)
        with pytest.raises(KeyboardInterrupt):
            run(masks_folder, tmp_path / "run", epochs=9)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert at.steps[-1] == 1 and "once more ends at once" in capsys.readouterr().err
    state = read_state(tmp_path / "run")
    assert state["epochs"] == 2 and state["best"] is not None and (tmp_path / "run" / "best.keras").exists()


def test_a_second_interruption_is_obeyed_at_once():
    with Interruption(), pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)


def test_rows_of_epochs_that_are_repeated_are_not_kept(masks_folder, tmp_path):
    folder = tmp_path / "run"
    run(masks_folder, folder, epochs=2)
    state = json.loads((folder / "state.json").read_text())
    (folder / "state.json").write_text(json.dumps(state | {"epochs": 1}))  # killed before the second one was saved
    run(masks_folder, folder, epochs=3, resume=True)
    assert [row["epoch"] for row in csv.DictReader((folder / "log.csv").open())] == ["0", "1", "2"]


def test_the_last_picture_is_of_the_end_however_it_comes(masks_folder, tmp_path):
    run(masks_folder, tmp_path / "run", epochs=99, recipe={"minutes": 1e-3, "picture_epochs": 50})
    assert [path.name for path in (tmp_path / "run" / "pictures").iterdir()] == ["epoch_001.png"]


def test_resuming_takes_epochs_and_minutes_and_refuses_what_it_would_ignore(finished, expect_sentence):
    assert resumed_recipe(finished, {"batch_size": 4, "image_size": (64, 96)}) is None
    assert resumed_recipe(finished, {"epochs": 7}).epochs == 7 and resumed_recipe(finished, {"epochs": 7}).batch_size == 4
    expect_sentence(lambda: resumed_recipe(finished, {"learning_rate": 1e-4, "epochs": 7}), "learning_rate")
    recipe = resumed_recipe(finished, {"minutes": 3.0})
    spec = json.loads((finished / "training.json").read_text())["data"]
    expect_sentence(lambda: train("unet", spec, finished, recipe, resume=True), "began without minutes")


@pytest.mark.parametrize("wrong", [{"learning_rate": -1.0}, {"learning_rate": float("nan")}, {"picture_epochs": -1}])
def test_impossible_settings_are_refused(expect_sentence, wrong):
    expect_sentence(lambda: Recipe(**wrong), next(iter(wrong)))


@pytest.mark.parametrize("option", ["weights", "num_classes"])
def test_options_that_have_a_flag_of_their_own_are_refused(expect_sentence, masks_folder, tmp_path, option):
    expect_sentence(lambda: train("unet", f"masks:{masks_folder}", tmp_path / "run", options={option: 3}), option)


def test_the_command_line_resumes_with_and_without_what_was_given_before(finished, masks_folder, tmp_path, capfd):
    folder = shutil.copytree(finished, tmp_path / "run")
    command = ["train", "unet", "--data", f"masks:{masks_folder}", "--output", str(folder), "--resume"]
    assert main(command) == 0
    assert main([*command, "--image-size", "64x96", "--batch-size", "4"]) == 0
    assert main([*command, "--val-split", "val", "--option", "depth=2", "--option", "batch_norm=True"]) == 0  # its default
    assert main([*command, "--image-size", "96x64"]) == 2
    assert "image_size" in capfd.readouterr().err
