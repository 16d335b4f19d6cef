"""``tfzoo predict``: pictures with what was found in them, and a JSON."""

import json
import pathlib
import sys

import numpy as np
from keras.utils import Progbar
from PIL import Image

from tfzoo.data.images import read_image
from tfzoo.errors import InputError, OutputExistsError
from tfzoo.models.segmenter import MIN_SIZE
from tfzoo.visualization import explained, save_image


def predict_files(runner, paths, output, verbose=True) -> list[dict]:
    """Writes NAME.png (the overlay with its legend), NAME_labels.png (class indices) and predictions.json.

    Args:
        runner: see ``tfzoo.export.load``, and ``tfzoo.export.tiling`` for large pictures.
        paths: picture files, of any size.
        output: folder that exists.
        verbose: show a progress bar, where a terminal is there to show it and the runner shows none of its own.

    Returns:
        what predictions.json holds: for each picture its file, size and, by class, share of the pixels and mean score.

    Raises:
        InputError: a file is no picture, or it is too small, or the artifact answers logits; nothing is written then.
        OutputExistsError: a picture would be written over one that was given.
    """
    runner.require_answer()
    for path in paths:
        _read(path)  # all of them before anything is written, and again below: together they may be larger than the memory
    names = _unique_names(paths)
    _check_places(paths, names, pathlib.Path(output))
    results = []
    shown = verbose and sys.stdout.isatty() and not getattr(runner, "verbose", False)
    progress = Progbar(len(paths), unit_name="picture", verbose=int(shown))
    for path, name in zip(paths, names, strict=True):
        picture = _read(path)
        answer = runner.predict([picture])
        labels, scores = answer["labels"][0], answer["scores"][0]
        save_image(explained(picture, labels, runner.class_names), pathlib.Path(output) / f"{name}.png")
        Image.fromarray(labels).save(pathlib.Path(output) / f"{name}_labels.png")
        results.append(
            {
                "file": str(path),
                "height": picture.shape[0],
                "width": picture.shape[1],
                "overlay": f"{name}.png",
                "labels": f"{name}_labels.png",
                "classes": _describe(labels, scores, runner.class_names),
            }
        )
        progress.update(len(results))
    (pathlib.Path(output) / "predictions.json").write_text(json.dumps(results, indent=1))
    return results


def _read(path):
    picture = read_image(path)
    if min(picture.shape[:2]) < MIN_SIZE:
        raise InputError(
            f"{path} is {picture.shape[1]}x{picture.shape[0]} pixels: pictures must be at least {MIN_SIZE}x{MIN_SIZE}."
        )
    return picture


def _check_places(paths, names, output):
    given = {pathlib.Path(path).resolve() for path in paths}
    for name in names:
        for place in (output / f"{name}.png", output / f"{name}_labels.png"):
            if place.resolve() in given:
                raise OutputExistsError(
                    f"{place} is one of the pictures given and would be overwritten: choose another output folder."
                )


def _describe(labels, scores, class_names):
    found = {}
    for index in np.unique(labels):
        area = labels == index
        found[class_names[index]] = {"share": round(float(area.mean()), 6), "mean_score": round(float(scores[area].mean()), 6)}
    return found


def _unique_names(paths):
    """Stems, numbered where the files of two pictures would bear one name."""
    names, taken = [], set()
    for path in paths:
        stem = name = pathlib.Path(path).stem
        number = 2
        while {name, f"{name}_labels"} & taken:
            name = f"{stem}_{number}"
            number += 1
        taken |= {name, f"{name}_labels"}
        names.append(name)
    return names
