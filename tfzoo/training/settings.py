"""training.json: what a training began with, and what may differ when it is resumed."""

import dataclasses
import json
import pathlib
import shlex

import keras

from tfzoo.errors import InputError, MissingInputError
from tfzoo.facts import default_options
from tfzoo.training.callbacks import LAST
from tfzoo.training.recipe import Recipe

SETTINGS = "training.json"


def write_settings(output, model_name, data, splits, recipe, weights, options, proposals) -> None:
    """Writes what a training begins with into its folder."""
    settings = {
        "model": model_name,
        "data": data,
        "splits": splits,
        "weights": weights if weights is None else str(weights),
        "options": options,
    }
    _write(output, settings, recipe, proposals)


def update_settings(output, recipe, proposals) -> None:
    """Writes what a resumed training may change."""
    _write(output, read_settings(output), recipe, proposals)


def _write(output, settings, recipe, proposals):
    from tfzoo import __version__

    settings |= {
        "proposals": proposals if proposals is None else str(proposals),
        "recipe": dataclasses.asdict(recipe),
        "versions": {"tfzoo": __version__, "keras": keras.__version__},
    }
    (output / SETTINGS).write_text(json.dumps(settings, indent=1))


def read_settings(output) -> dict:
    """What was written; a MissingInputError where there is no training to resume."""
    output = pathlib.Path(output)
    path = output / SETTINGS
    if not path.is_file() or not (output / LAST).is_file():
        raise MissingInputError(
            f"There is no training to resume in {output} (no {SETTINGS} and {LAST}): leave out --resume to begin one."
        )
    return json.loads(path.read_text())


def stored_settings(output, entry, given, recipe, options):
    """What a training began with: its recipe, in which ``recipe`` may change the extent; options, splits and proposals.

    Args:
        entry: the model's line in the zoo, which tells the defaults of its options.
        given: "model", "data", "weights" and "splits" as they are given now: the same ones, or None.
        recipe: as it is given now, or None.
        options: the model's options that are given now: some of the same ones.

    Raises:
        InputError: something is given that the training did not begin with, and that would be ignored.
    """
    stored = read_settings(output)
    _refuse_others(output, stored, given)
    _refuse_other_options(output, stored["options"], entry, options)
    own = Recipe(**stored["recipe"])
    if recipe is not None:
        minutes = own.minutes if recipe.minutes is None else recipe.minutes
        if (minutes is None) != (own.minutes is None):
            raise InputError(f"The training in {output} began without minutes: resume it with epochs alone.")
        own = dataclasses.replace(own, epochs=recipe.epochs, minutes=minutes)
    return own, stored["options"], tuple(stored["splits"]), stored.get("proposals")


def _refuse_others(output, stored, given):
    for what, value in given.items():
        value = _as_stored(value if what == "splits" or value is None else str(value))
        if value is not None and value != stored.get(what, value):  # earlier trainings did not tell their weights
            raise _began_otherwise(output, what, stored[what], value)


def _refuse_other_options(output, own, entry, options):
    defaults = default_options(entry) if options.keys() - own.keys() else {}
    for key, value in options.items():
        if key in own and _as_stored(value) != own[key]:
            raise _began_otherwise(output, f"option {key}", own[key], value)
        if key not in own and repr(value) != defaults.get(key):
            raise _began_otherwise(output, f"option {key}", defaults.get(key, "unknown"), value)


def _began_otherwise(output, what, own, value):
    return InputError(f"The training in {output} has {what} {_shown(own)}, not {_shown(value)}: resume it as it began.")


def _shown(value):
    return " and ".join(map(str, value)) if isinstance(value, (list, tuple)) else f"'{value}'"


def resumed_recipe(output, given: dict) -> Recipe | None:
    """The recipe that ``train`` takes to resume with what a person gives; None where that changes nothing.

    Args:
        output: the training's folder.
        given: names and values of the recipe's fields.

    Raises:
        InputError: something is given, other than ``epochs`` and ``minutes``, that the training did not begin with.
    """
    stored = read_settings(output)["recipe"]
    changes = {name: value for name, value in given.items() if _as_stored(value) != stored.get(name)}
    extent = {name: changes.pop(name) for name in ("epochs", "minutes") if name in changes}
    if changes:
        name, value = next(iter(changes.items()))
        raise InputError(
            f"{name} is {value}, but the training in {output} began with {stored.get(name)}: leave it out, or begin a new training."
        )
    return Recipe(**stored | extent) if extent else None


def splits_of(output) -> tuple[str, str | None]:
    """The training and the validation split (None: without one) of the training in a folder."""
    return tuple(read_settings(output)["splits"])


def _as_stored(value):
    return json.loads(json.dumps(value))


def evaluation_command(best) -> str:
    """The command line that measures what ``train`` returned, on the data that it was trained with."""
    stored = json.loads(pathlib.Path(best).with_name(SETTINGS).read_text())
    command = ["tfzoo", "evaluate", str(best), "--data", stored["data"], "--split", stored["splits"][1] or "SPLIT"]
    return shlex.join(command + (["--proposals", stored["proposals"]] if stored["proposals"] else []))
