"""Which class of an artifact is which class of a data set: matched by name, with the differences told."""

import dataclasses

import numpy as np

from tfzoo.data.images import IGNORE_LABEL
from tfzoo.errors import InputError

ALIASES = {  # Pascal VOC's name: COCO's
    "aeroplane": "airplane",
    "motorbike": "motorcycle",
    "sofa": "couch",
    "tvmonitor": "tv",
}
ANOTHER_CLASS = "(another class)"


@dataclasses.dataclass(frozen=True)
class ClassMatch:
    """How labels are compared.

    Attributes:
        predicted: uint8 [256], an artifact's label -> the data set's; C, the number of its classes, stands for a class that it
            has not.
        truth: uint8 [256], a label of the data set -> the label that it counts as; 255 stays 255.
        counted: bool [C]: the classes that the means run over.
        unmatched: {"artifact": names, "data": names, "counted_as": "background" or "wrong"}: what the other side does not know.
        equated: name of the artifact -> name of the data set, where they are spelt differently.
    """

    predicted: np.ndarray
    truth: np.ndarray
    counted: np.ndarray
    unmatched: dict
    equated: dict

    def prediction_names(self, class_names) -> list[str]:
        """Names of what a prediction can be: the classes, and one for all others where the artifact can answer any."""
        needed = bool(self.unmatched["artifact"]) and self.unmatched["counted_as"] == "wrong"
        return [*class_names, *([ANOTHER_CLASS] if needed else [])]


def match_classes(class_names, dataset) -> ClassMatch:
    """Matches an artifact's classes with a data set's, by name.

    Two names are the same if their letters and digits are ("__background__" and "background", "pottedplant" and "potted plant"),
    or if one is Pascal VOC's and the other COCO's for the same thing (``ALIASES``); the very same name goes first.

    What one side does not know is **background**, if the data set has such a class and the artifact can answer it: that is
    what "background" means in a data set that does not label the thing, and what it means to an artifact that was never shown
    it. So published checkpoints are measured as their makers did (torchvision takes COCO's other 60 classes for background).
    If there is no background, what one side does not know is **wrong**: a label that the data set has not is an error wherever
    it is answered, and the pixels of a class that the artifact has not are errors whatever is answered there. Nothing is
    ignored. In both cases a class that the artifact can never answer is left out of the means over classes.

    Raises:
        InputError: no class but a background is the same.
    """
    names, count = dataset.class_names, len(dataset.class_names)
    found = _find_all(class_names, dataset)
    background = next((index for index, name in enumerate(names) if _is_background(name)), None)
    predicted = np.full(256, count, np.uint8)
    predicted[: len(found)] = [_first(index, background, count) for index in found]
    known = np.isin(np.arange(count), predicted)
    to_background = background is not None and known[background]
    truth = np.full(256, IGNORE_LABEL, np.uint8)
    truth[:count] = np.where(known, np.arange(count), background) if to_background else np.arange(count)
    unmatched = {
        "artifact": [name for name, index in zip(class_names, found, strict=True) if index is None],
        "data": [names[index] for index in np.flatnonzero(~known)],
        "counted_as": "background" if to_background else "wrong",
    }
    return ClassMatch(predicted, truth, known, unmatched, _equated(class_names, found, names))


@dataclasses.dataclass(frozen=True)
class DetectedClassMatch:
    """How the labels of boxes are compared.

    Attributes:
        predicted: int32 [A], an artifact's label -> the data set's; -1 for a class that it has not.
        counted: bool [C]: the data set's classes that the artifact can answer; the others are left out of the means.
        unmatched: {"artifact": names, "data": names, "counted_as": None}: what the other side does not know.
        equated: name of the artifact -> name of the data set, where they are spelt differently.
    """

    predicted: np.ndarray
    counted: np.ndarray
    unmatched: dict
    equated: dict


def match_detected_classes(class_names, dataset) -> DetectedClassMatch:
    """Matches a detector's classes with a data set's, by name as ``match_classes`` does.

    Average precision is of one class, so boxes of a class that the data set has not are not looked at.

    Raises:
        InputError: no class is the same.
    """
    names = dataset.class_names
    found = _find_all(class_names, dataset)
    predicted = np.array([-1 if index is None else index for index in found], np.int32)
    counted = np.isin(np.arange(len(names)), predicted)
    unmatched = {
        "artifact": [name for name, index in zip(class_names, found, strict=True) if index is None and not _is_placeholder(name)],
        "data": [names[index] for index in np.flatnonzero(~counted)],
        "counted_as": None,
    }
    return DetectedClassMatch(predicted, counted, unmatched, _equated(class_names, found, names))


def _find_all(class_names, dataset):
    """For each of an artifact's classes the data set's index, or None; an InputError where only a background is the same."""
    names = dataset.class_names
    found = [_find(name, names) for name in class_names]
    if all(index is None or _is_background(names[index]) for index in found):
        raise InputError(
            f"The artifact knows {_enumerate(class_names)}, the data set '{dataset.spec}' {_enumerate(names)}: "
            "evaluate it on data of its own classes."
        )
    return found


def _equated(class_names, found, names):
    pairs = [(name, names[index]) for name, index in zip(class_names, found, strict=True) if index is not None]
    return {name: own for name, own in pairs if name != own}


def _is_placeholder(name):
    """Whether the name stands for no class: torchvision's lists of COCO have a background and gaps."""
    return _is_background(name) or name == "N/A"


def _first(*choices):
    return next(choice for choice in choices if choice is not None)


def _find(name, names):
    """The index of the class with that name, or None."""
    if name in names:
        return names.index(name)
    return next((index for index, other in enumerate(names) if _plain(other) == _plain(name)), None)


def _plain(name):
    letters = "".join(character for character in name.casefold() if character.isalnum())
    return ALIASES.get(letters, letters) or name


def _is_background(name):
    return _plain(name) == "background"


def _enumerate(names):
    return f"{len(names)} classes ({', '.join(names[:8])}{', ...' if len(names) > 8 else ''})"


def describe(unmatched: dict, equated: dict, most=12) -> list[str]:
    """Sentences for people about what is not the same on both sides."""
    sentences, counted_as = [], unmatched["counted_as"]
    if equated:
        sentences.append(f"Taken for the same: {_shorten([f'{a} = {b}' for a, b in equated.items()], most)}.")
    if unmatched["artifact"]:
        treated = f"answers count as {counted_as}" if counted_as else "boxes are not looked at"
        sentences.append(
            f"The data do not have these classes of the artifact, whose {treated}: {_shorten(unmatched['artifact'], most)}."
        )
    if unmatched["data"]:
        treated = f" and their pixels count as {counted_as}" if counted_as else ""
        sentences.append(
            f"The artifact does not know these classes of the data; they are left out of the means{treated}: "
            f"{_shorten(unmatched['data'], most)}."
        )
    return sentences


def _shorten(names, most):
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
