"""``tfzoo predict``: pictures with what was found in them, and a JSON."""

import json
import pathlib

import numpy as np
from PIL import Image

from tfzoo.data.images import read_image
from tfzoo.visualization import explained, save_image


def predict_files(runner, paths, output) -> list[dict]:
    """Writes NAME.png (the overlay with its legend), NAME_labels.png (class indices) and predictions.json.

    Args:
        runner: see ``tfzoo.export.load``.
        paths: picture files, of any size.
        output: folder that exists.

    Returns:
        what predictions.json holds: for each picture its file, size and, by class, share of the pixels and mean score.

    Raises:
        InputError: a file is no picture, or it is too small; nothing is written for any of them then.
    """
    pictures = [read_image(path) for path in paths]
    names = _unique_names(paths)
    results = []
    for path, name, picture in zip(paths, names, pictures, strict=True):
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
    (pathlib.Path(output) / "predictions.json").write_text(json.dumps(results, indent=1))
    return results


def _describe(labels, scores, class_names):
    found = {}
    for index in np.unique(labels):
        area = labels == index
        found[class_names[index]] = {"share": round(float(area.mean()), 6), "mean_score": round(float(scores[area].mean()), 6)}
    return found


def _unique_names(paths):
    """Stems; pictures of one stem in different folders are numbered."""
    names = []
    for path in paths:
        stem = name = pathlib.Path(path).stem
        number = 2
        while name in names:
            name = f"{stem}_{number}"
            number += 1
        names.append(name)
    return names
