"""``tfzoo predict``: pictures with what was found in them, and a JSON."""

import json
import pathlib
import sys

import numpy as np
from keras.utils import Progbar
from PIL import Image

from tfzoo.data.images import read_image
from tfzoo.data.instance_masks import encode_pasted
from tfzoo.errors import InputError, OutputExistsError
from tfzoo.models.base import MIN_SIZE
from tfzoo.visualization import draw_found, explained, save_image

MIN_SCORE = 0.3  # from which objects are drawn


def predict_files(runner, paths, output, verbose=True, min_score=MIN_SCORE, proposals=None) -> list[dict]:
    """Writes NAME.png (the picture with what was found) and predictions.json; segmenters also NAME_labels.png (class indices).

    Args:
        runner: see ``tfzoo.export.load``, and ``tfzoo.export.tiling`` for large pictures.
        paths: picture files, of any size.
        output: folder that exists.
        verbose: show a progress bar, where a terminal is there to show it and the runner shows none of its own.
        min_score: objects of a lower score are not drawn; the JSON lists all that the artifact answers.
        proposals: for an artifact that takes them: gives those of a picture, see ``data.proposal_sources.for_files``.

    Returns:
        what predictions.json holds: for each picture its file, size, overlay, and, of a segmenter, labels and by class the share of
        the pixels and the mean score; of a detector, objects: class, label, score, box (xyxy in the picture's pixels), drawn, and
        where they are answered segmentation (the mask as COCO's run lengths {"size": [height, width], "counts": text}), keypoints
        (x, y, visible each) and keypoint_scores.

    Raises:
        InputError: a file is no picture, or it is too small, or the artifact answers no labels, or proposals are missing or not
            wanted; nothing is written then.
        OutputExistsError: a picture would be written over one that was given.
    """
    runner.require_answer()
    runner.check_proposals(proposals is not None)
    for path in paths:
        _read(path)  # all of them before anything is written, and again below: together they may be larger than the memory
    output, report = pathlib.Path(output), REPORTS[runner.task](runner.class_names, min_score)
    names = _unique_names(paths, report.suffixes)
    _check_places(paths, names, output, report.suffixes)
    results = []
    shown = verbose and sys.stdout.isatty() and not getattr(runner, "verbose", False)
    progress = Progbar(len(paths), unit_name="picture", verbose=int(shown))
    for path, name in zip(paths, names, strict=True):
        picture = _read(path)
        more = {} if proposals is None else {"proposals": [proposals(path, picture)]}
        answer = {key: values[0] for key, values in runner.predict([picture], **more).items()}
        facts = report.write(picture, answer, output, name)
        size = {"file": str(path), "height": picture.shape[0], "width": picture.shape[1]}
        results.append({**size, "overlay": f"{name}.png", **facts})
        progress.update(len(results))
    (output / "predictions.json").write_text(json.dumps(results, indent=1))
    return results


class LabelMapReport:
    """A picture's label map: the overlay with its legend, the map itself, and shares by class."""

    suffixes = (".png", "_labels.png")

    def __init__(self, class_names, min_score):
        self._names = class_names

    def write(self, picture, answer, folder, name):
        labels, scores = answer["labels"], answer["scores"]
        save_image(explained(picture, labels, self._names), folder / f"{name}.png")
        Image.fromarray(labels).save(folder / f"{name}_labels.png")
        return {"labels": f"{name}_labels.png", "classes": self._describe(labels, scores)}

    def _describe(self, labels, scores):
        found = {}
        for index in np.unique(labels):
            area = labels == index
            share, score = float(area.mean()), float(scores[area].mean())
            found[self._names[index]] = {"share": round(share, 6), "mean_score": round(score, 6)}
        return found


class ObjectReport:
    """A picture's objects: drawn with names and scores, and listed by falling score."""

    suffixes = (".png",)

    def __init__(self, class_names, min_score):
        self._names, self._min_score = class_names, min_score

    def write(self, picture, answer, folder, name):
        save_image(draw_found(picture, answer, self._names, self._min_score), folder / f"{name}.png")
        real = answer["labels"] >= 0
        found = {key: values[real] for key, values in answer.items() if key != "num_detections"}
        masks = encode_pasted(found["masks"], found["boxes"], picture.shape[:2]) if "masks" in found else None
        objects = [self._describe(found, row) for row in range(len(found["labels"]))]
        if masks is not None:
            for entry, mask in zip(objects, masks, strict=True):
                entry["segmentation"] = {"size": mask["size"], "counts": mask["counts"].decode()}
        return {"objects": objects}

    def _describe(self, found, row):
        label, score = int(found["labels"][row]), float(found["scores"][row])
        entry = {
            "class": self._names[label],
            "label": label,
            "score": round(score, 6),
            "box": _rounded(found["boxes"][row], 2),
            "drawn": score >= self._min_score,
        }
        digits = {"keypoints": 2, "keypoint_scores": 4}
        return entry | {key: _rounded(found[key][row], places) for key, places in digits.items() if key in found}


def _rounded(values, places):
    return np.round(np.asarray(values, np.float64), places).tolist()


REPORTS = {"semantic": LabelMapReport, **dict.fromkeys(("detection", "instance", "keypoint"), ObjectReport)}


def describe(result: dict) -> str:
    """What was found in a picture, in a line for people."""
    if "classes" in result:
        found = sorted(result["classes"].items(), key=lambda item: -item[1]["share"])
        return ", ".join(f"{name} {facts['share']:.0%}" for name, facts in found)
    drawn = [entry["class"] for entry in result["objects"] if entry["drawn"]]
    return ", ".join(f"{drawn.count(name)} {name}" for name in dict.fromkeys(drawn)) or "nothing of a sufficient score"


def _read(path):
    picture = read_image(path)
    if min(picture.shape[:2]) < MIN_SIZE:
        raise InputError(
            f"{path} is {picture.shape[1]}x{picture.shape[0]} pixels: pictures must be at least {MIN_SIZE}x{MIN_SIZE}."
        )
    return picture


def _check_places(paths, names, output, suffixes):
    given = {pathlib.Path(path).resolve() for path in paths}
    for name in names:
        for place in (output / f"{name}{suffix}" for suffix in suffixes):
            if place.resolve() in given:
                raise OutputExistsError(
                    f"{place} is one of the pictures given and would be overwritten: choose another output folder."
                )


def _unique_names(paths, suffixes):
    """Stems, numbered where the files of two pictures would bear one name."""
    names, taken = [], set()
    for path in paths:
        stem = name = pathlib.Path(path).stem
        number = 2
        while {f"{name}{suffix}" for suffix in suffixes} & taken:
            name = f"{stem}_{number}"
            number += 1
        taken |= {f"{name}{suffix}" for suffix in suffixes}
        names.append(name)
    return names
