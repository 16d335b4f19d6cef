"""``tfzoo evaluate``: the accuracy of any artifact, measured on the artifact itself."""

import heapq
import json
import pathlib
import re
import sys
import time

import keras
import numpy as np

from tfzoo.benchmarks.matching import ANOTHER_CLASS, describe, match_classes
from tfzoo.data import load_dataset
from tfzoo.data.images import IGNORE_LABEL, parse_size, resize_image, resize_labels
from tfzoo.errors import InputError, nearest
from tfzoo.export import load
from tfzoo.export.tiling import with_tiles
from tfzoo.metrics.confusion import class_accuracy, class_iou, confusion_matrix, occurring, summarize
from tfzoo.metrics.segments import pixel_error, rand_scores
from tfzoo.visualization import comparison, plot_confusion, save_image

GROUP = 8  # pictures read before they are run
DRAWN_SIDE = 640  # pixels: larger pictures are drawn shrunk


def evaluate(
    artifact,
    data: str,
    split: str = "val",
    image_size=None,
    threads=None,
    verbose=True,
    tile=None,
    overlap=None,
    output=None,
    worst=0,
    segments=None,
) -> dict:
    """Measures a segmenter on a data set.

    Args:
        artifact: path of a .keras, .tflite or .onnx file or of a SavedModel's folder, or a ``Runner``. Its classes are matched
            with the data set's by name (see ``matching.match_classes``).
        data: data set spec; split: which part of it.
        image_size: N or (height, width): pictures are resized to it and compared with label maps resized to it (nearest).
            None: compared at each picture's original size, whatever size the artifact runs at.
        threads: of the runtime.
        verbose: show a progress bar, where a terminal is there to show it.
        tile, overlap: run the artifact by tiles (see ``export.tiling.TiledRunner``); pictures are resized first, if at all.
        output: folder that exists; result.json, table.md, confusion.png and the worst pictures are written into it.
        worst: how many pictures of the lowest mean IoU are drawn, beside their truth, as worst/NN_IMAGEID.png.
        segments: name of a class whose connected regions count as segments (the cells between membranes): the foreground-restricted
            Rand error of each picture and the share of its pixels that are wrongly inside or outside (see ``metrics.segments``).

    Returns:
        a dict: mean_iou, pixel_accuracy, mean_pixel_accuracy, frequency_weighted_iou, per_class, left_out (see
        ``metrics.confusion.summarize``), unmatched and equated (see ``matching.ClassMatch``), confusion (rows truth, columns
        prediction, with one more column where the artifact answers classes that count as wrong), pictures, measured_at, tile,
        overlap, worst (image_id and mean_iou, the lowest first), seconds, and what was measured; with ``segments``: segments,
        with the means over the pictures.

    Raises:
        InputError: the artifact has no class of the data set, either cannot be read, the tiles do not fit the artifact, or there
            is no folder for the worst pictures.
    """
    if worst and output is None:
        raise InputError(f"The {worst} worst pictures need a folder to be drawn into: give --output DIR too.")
    runner = artifact if hasattr(artifact, "predict") else load(artifact, threads, None if tile else image_size)
    runner = with_tiles(runner, tile, overlap)
    runner.require_answer()
    dataset = load_dataset(data, split, runner.task)
    match = match_classes(runner.class_names, dataset)
    size = parse_size(image_size)
    count = len(dataset.class_names)
    total = np.zeros((count + 1, count + 1), np.int64)  # the last row stays empty: it makes room for answers that are no class
    lowest = LowestPictures(worst, match.counted)
    of_segments = SegmentScores(segments, dataset)
    start = time.perf_counter()
    for sample, labels in _run(runner, dataset, size, 1 if tile else GROUP, verbose):
        truth, predicted = match.truth[sample["segmentation_masks"]], match.predicted[labels]
        confusion = np.asarray(confusion_matrix(truth, predicted, count + 1))
        total += confusion
        lowest.offer(sample, truth, predicted, confusion)
        of_segments.add(truth, predicted)
    result = {
        "artifact": str(runner.path),
        "format": runner.name,
        "data": data,
        "split": split,
        "pictures": len(dataset),
        "measured_at": _name(size) if size else "original size",
        "tile": _name(runner.tile) if tile else None,
        "overlap": runner.overlap if tile else None,
        "seconds": time.perf_counter() - start,
        **_summarize(total, match.counted, dataset.class_names),
        **of_segments.result(),
        "unmatched": match.unmatched,
        "equated": match.equated,
        "worst": [{"image_id": picture["image_id"], "mean_iou": picture["mean_iou"]} for picture in lowest.pictures()],
        "confusion": total[:count, : len(match.prediction_names(dataset.class_names))].tolist(),
    }
    if output is not None:
        _write(result, lowest.pictures(), match.prediction_names(dataset.class_names), pathlib.Path(output))
    return result


def _run(runner, dataset, size, group, verbose):
    """Yields samples at the size of the measurement (their label maps [H, W]) with the labels that the artifact answers."""
    progress = keras.utils.Progbar(len(dataset), unit_name="picture", verbose=int(verbose and sys.stdout.isatty()))
    for first in range(0, len(dataset), group):
        samples = [_at_size(dataset.read(index), size) for index in range(first, min(first + group, len(dataset)))]
        answers = runner.predict([sample["images"] for sample in samples])["labels"]
        yield from zip(samples, answers, strict=True)
        progress.update(first + len(samples))


def _at_size(sample, size):
    image, labels = sample["images"], sample["segmentation_masks"][..., 0]
    if size:
        image, labels = resize_image(image, size), resize_labels(labels, size)
    return {"image_id": sample["image_id"], "images": image, "segmentation_masks": labels}


def _name(size):
    return "x".join(map(str, size))


def _summarize(total, counted, class_names):
    """``metrics.confusion.summarize``, the means over the classes that are counted and occur."""
    summary = summarize(total, [*class_names, ANOTHER_CLASS])
    present = counted & (total.sum(axis=1)[: len(counted)] > 0)
    for name, function in (("mean_iou", class_iou), ("mean_pixel_accuracy", class_accuracy)):
        summary[name] = _mean(function(total), present)
    iou = summary["per_class"]
    summary["per_class"] = {name: iou[name] if counts else None for name, counts in zip(class_names, counted, strict=True)}
    summary["left_out"] = [name for name in summary["left_out"] if name in class_names and counted[class_names.index(name)]]
    return summary


def _mean(values, present):
    return float(np.asarray(values)[: len(present)][present].mean()) if present.any() else 0.0


class SegmentScores:
    """Collects the Rand scores and the pixel error of each picture; None for ``class_name`` collects nothing."""

    def __init__(self, class_name, dataset):
        if class_name is not None and class_name not in dataset.class_names:
            raise InputError(
                f"Data set '{dataset.spec}' has no class '{class_name}', whose segments were asked for: its classes are "
                f"{', '.join(dataset.class_names)}.{nearest(class_name, dataset.class_names)}"
            )
        self._name = class_name
        self._label = None if class_name is None else dataset.class_names.index(class_name)
        self._scores = []

    def add(self, truth, predicted) -> None:
        if self._name is not None:
            inside = truth == self._label, (predicted == self._label) & (truth != IGNORE_LABEL)  # no error where it is ignored
            self._scores.append({**rand_scores(*inside), "pixel_error": pixel_error(*inside)})

    def result(self) -> dict:
        """{"segments": {"class", and the mean of each score}}, or {}."""
        if self._name is None:
            return {}
        means = {name: float(np.mean([scores[name] for scores in self._scores])) for name in self._scores[0]}
        return {"segments": {"class": self._name, **means}}


class LowestPictures:
    """Keeps the ``count`` pictures of the lowest mean IoU, and no others in memory; large ones shrunk, to be drawn.

    A picture's mean IoU is over the classes that are counted and occur in its truth; a picture without any is left out.
    """

    def __init__(self, count, counted):
        self._count, self._counted, self._heap, self._offered = count, counted, [], 0

    def offer(self, sample, truth, predicted, confusion) -> None:
        """Takes the picture if it is among the lowest so far; of equals, the first."""
        if not self._count:
            return
        self._offered += 1
        present = self._counted & (np.asarray(occurring(confusion))[: len(self._counted)] > 0)
        rank = (-_mean(class_iou(confusion), present), -self._offered)
        if not present.any() or (len(self._heap) == self._count and rank < self._heap[0][:2]):
            return
        image, labels = sample["images"], (truth, predicted)
        scale = min(DRAWN_SIDE / max(image.shape[:2]), 1)
        size = [max(round(side * scale), 1) for side in image.shape[:2]]
        picture = {
            "image_id": sample["image_id"],
            "mean_iou": -rank[0],
            "image": resize_image(image, size),
            "truth": resize_labels(labels[0], size),
            "predicted": resize_labels(labels[1], size),
        }
        heapq.heappush(self._heap, (*rank, picture))
        if len(self._heap) > self._count:
            heapq.heappop(self._heap)

    def pictures(self) -> list[dict]:
        """image_id, mean_iou, image uint8 [H, W, 3], truth and predicted uint8 [H, W]; the lowest first."""
        return [picture for *_, picture in sorted(self._heap, key=lambda entry: entry[:2], reverse=True)]


def _write(result, pictures, class_names, folder):
    (folder / "result.json").write_text(json.dumps(result, indent=1))
    (folder / "table.md").write_text(format_table(result) + "\n")
    plot_confusion(result["confusion"], class_names, folder / "confusion.png")
    for old in (folder / "worst").glob("[0-9][0-9]*_*.png"):
        old.unlink()  # of an earlier evaluation: its pictures would pass for this one's
    for number, picture in enumerate(pictures, start=1):
        (folder / "worst").mkdir(exist_ok=True)
        titles = (picture["image_id"][:32], "truth", f"prediction: mean IoU {picture['mean_iou']:.3f}")
        drawn = comparison([picture["image"]], [picture["truth"]], [picture["predicted"]], class_names, titles, minimum_width=320)
        save_image(drawn, folder / "worst" / f"{number:02d}_{re.sub(r'[^-.A-Za-z0-9_]', '_', picture['image_id'])}.png")


def format_table(result: dict) -> str:
    """A result as a table for people (Markdown)."""
    tiles = f", in tiles of {result['tile']} that overlap by {result['overlap']}" if result["tile"] else ""
    shown = {name: iou for name, iou in result["per_class"].items() if name not in result["unmatched"]["data"]}
    lines = [
        f"{result['artifact']} ({result['format']}) on {result['data']} {result['split']}: "
        f"{result['pictures']} pictures, at {result['measured_at']}{tiles}",
        "",
        "| metric | value |",
        "|---|---|",
        *(
            f"| {name.replace('_', ' ')} | {result[name]:.4f} |"
            for name in ("mean_iou", "pixel_accuracy", "mean_pixel_accuracy", "frequency_weighted_iou")
        ),
        *(f"| {name.replace('_', ' ')} | {value:.4f} |" for name, value in result.get("segments", {}).items() if name != "class"),
        "",
        "| class | IoU |",
        "|---|---|",
        *(f"| {name} | {'never occurs' if iou is None else f'{iou:.4f}'} |" for name, iou in shown.items()),
    ]
    if result["left_out"]:
        lines += ["", f"Left out of the means, as they never occur in the truth: {', '.join(result['left_out'])}."]
    for sentence in describe(result["unmatched"], result["equated"]):
        lines += ["", sentence]
    if result["worst"]:
        listed = ", ".join(f"{picture['image_id']} ({picture['mean_iou']:.3f})" for picture in result["worst"])
        lines += ["", f"Worst pictures, by mean IoU: {listed}."]
    return "\n".join(lines)
