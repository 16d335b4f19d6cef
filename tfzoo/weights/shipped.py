"""Trained weights that come with the package: half-precision arrays, and a card that says what they are.

``python -m tfzoo.weights.shipped BEST.keras NAME WEIGHTS --card CARD.json`` adds a set; the card tells data, licence, command and
metrics (see ``CARD``).
"""

import argparse
import hashlib
import io
import json
import pathlib

import numpy as np

from tfzoo.errors import InputError
from tfzoo.weights.files import check_architecture, load_model, stored_options
from tfzoo.weights.source import Source

FOLDER = pathlib.Path(__file__).parent / "trained"
CARD = ("data", "licence", "command", "metrics")  # what every card tells


class Shipped(Source):
    """A set of weights of the package: it brings its classes, options, normalisation and picture size along.

    Attributes:
        card: what the weights were trained on, under which licence, by which command, and what they reach.
    """

    def __init__(self, name, weights, folder=FOLDER):
        self.name, self.weights = name, weights
        self.path, card_path = _paths(name, weights, folder)
        stored = json.loads(card_path.read_text())
        self.card, self.options = stored["card"], stored["options"]
        self.num_classes, self.class_names = len(stored["class_names"]), stored["class_names"]
        self._digest = stored["sha256"]

    def load(self, model, new_head):
        """Puts the arrays into a model of the same options and classes; else an InputError."""
        content = self.path.read_bytes()
        if hashlib.sha256(content).hexdigest() != self._digest:
            raise InputError(f"{self.path} is not what the package came with: install tfzoo anew.")
        if list(model.class_names) != self.class_names:
            raise InputError(
                f"Weights '{self.weights}' of '{self.name}' know the classes {', '.join(self.class_names)} only: leave num_classes "
                "and class_names out, or train from another start."
            )
        with np.load(io.BytesIO(content)) as stored:
            arrays = dict(stored)
        if {path: array.shape for path, array in arrays.items()} != {weight.path: tuple(weight.shape) for weight in model.weights}:
            raise InputError(f"Weights '{self.weights}' do not fit these options: leave out those that change the network.")
        for weight in model.weights:
            weight.assign(arrays[weight.path].astype("float32"))


def is_shipped(name, weights, folder=FOLDER) -> bool:
    """Whether the package has these weights for the model ``name``."""
    return all(path.is_file() for path in _paths(name, weights, folder))


def read_cards(name, folder=FOLDER) -> dict[str, dict]:
    """The cards of all sets of weights that the package has for a model, by the sets' names."""
    paths = sorted(folder.glob(f"{name}-*.json"))
    return {path.stem.removeprefix(f"{name}-"): json.loads(path.read_text())["card"] for path in paths}


def _paths(name, weights, folder):
    stem = f"{name}-{weights}"
    return folder / f"{stem}.npz", folder / f"{stem}.json"


def pack(path, name, weights, card: dict, folder=FOLDER) -> pathlib.Path:
    """Writes a trained model as a set of weights of the package.

    Args:
        path: its ``.keras`` file.
        name: of the model in the zoo; weights: what ``create_model(weights=...)`` will call them.
        card: see ``CARD``.

    Returns:
        the path of the arrays.

    Raises:
        InputError: it is another model, or the card is incomplete.
    """
    from tfzoo.zoo import find_entry

    missing = [key for key in CARD if not card.get(key)]
    if missing:
        raise InputError(f"The card of weights '{weights}' lacks {', '.join(missing)}: say all of {', '.join(CARD)}.")
    model, entry = load_model(path), find_entry(name)
    check_architecture(model, entry, path)
    content = io.BytesIO()
    np.savez_compressed(content, **{weight.path: _halved(weight) for weight in model.weights})
    folder.mkdir(parents=True, exist_ok=True)
    arrays, card_path = _paths(name, weights, folder)
    arrays.write_bytes(content.getvalue())
    stored = {
        "card": card,
        "class_names": list(model.class_names),
        "options": stored_options(model, entry),
        "sha256": hashlib.sha256(content.getvalue()).hexdigest(),
    }
    card_path.write_text(json.dumps(stored, indent=1) + "\n")
    return arrays


def _read_card(path) -> dict:
    try:
        card = json.loads(pathlib.Path(path).read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"The card {path} cannot be read ({error}): give a JSON file.") from error
    if not isinstance(card, dict):
        raise InputError(f"The card {path} is no JSON object: it must tell {', '.join(CARD)}.")
    return card


def _halved(weight):
    """In float16 where that keeps eleven binary digits, or small numbers to 1e-7; variances, which are divided by, as they are."""
    values = np.asarray(weight, np.float32)
    if weight.name == "moving_variance":
        return values
    with np.errstate(over="ignore"):
        halved = values.astype(np.float16)
    kept = np.abs(halved.astype(np.float32) - values) <= np.maximum(2.0**-11 * np.abs(values), 1e-7)
    return halved if kept.all() else values


def main(arguments=None) -> None:
    parser = argparse.ArgumentParser(description="Add a trained model to the weights that come with the package.")
    parser.add_argument("path", metavar="BEST.keras")
    parser.add_argument("name", help="of the model in the zoo")
    parser.add_argument("weights", help="what the weights will be called")
    parser.add_argument("--card", required=True, help="JSON file")
    args = parser.parse_args(arguments)
    try:
        arrays = pack(args.path, args.name, args.weights, _read_card(args.card))
    except InputError as error:
        parser.error(str(error))
    print(f"{arrays}: {arrays.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
