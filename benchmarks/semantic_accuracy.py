"""The accuracy of segmenters: the confusion matrix and what follows from it; segments; the worst pictures."""

import heapq
import re

import numpy as np

from tfzoo.benchmarks.matching import ANOTHER_CLASS, describe, match_classes
from tfzoo.data.images import IGNORE_LABEL, resize_image, resize_labels
from tfzoo.errors import InputError, nearest
from tfzoo.metrics.confusion import class_accuracy, class_iou, confusion_matrix, occurring, summarize
from tfzoo.metrics.segments import pixel_error, rand_scores
from tfzoo.visualization import comparison, plot_confusion, save_image

DRAWN_SIDE = 640  # pixels: larger pictures are drawn shrunk


class SemanticAccuracy:
    """Compares label maps, picture after picture.

    Args:
        runner: its classes are matched with the data set's by name (see ``matching.match_classes``).
        dataset: for the task "semantic".
        size: (height, width) that pictures and label maps (nearest) are resized to; None: compared at each picture's own size.
        worst: how many pictures of the lowest mean IoU are kept, to be drawn.
        segments: name of a class whose connected regions count as segments, see ``SegmentScores``; None: no class.

    Raises:
        InputError: the artifact has no class of the data set, or the data set no class ``segments``.
    """

    def __init__(self, runner, dataset, size=None, worst=0, segments=None):
        self._match = match_classes(runner.class_names, dataset)
        self._class_names, self._size = dataset.class_names, size
        count = len(self._class_names)
        self._total = np.zeros((count + 1, count + 1), np.int64)  # the last row stays empty: room for answers that are no class
        self._lowest = LowestPictures(worst, self._match.counted)
        self._segments = SegmentScores(segments, dataset)
        self.measured_at = "x".join(map(str, size)) if size else "original size"

    def prepare(self, sample: dict) -> dict:
        """The sample at the size of the measurement, its label map [H, W]."""
        image, labels = sample["images"], sample["segmentation_masks"][..., 0]
        if self._size:
            image, labels = resize_image(image, self._size), resize_labels(labels, self._size)
        return {"image_id": sample["image_id"], "images": image, "segmentation_masks": labels}

    def add(self, sample: dict, answer: dict) -> None:
        """Adds a prepared sample and what the artifact answers for it."""
        truth, predicted = self._match.truth[sample["segmentation_masks"]], self._match.predicted[answer["labels"]]
        confusion = np.asarray(confusion_matrix(truth, predicted, len(self._total)))
        self._total += confusion
        self._lowest.offer(sample, truth, predicted, confusion)
        self._segments.add(truth, predicted)

    def result(self) -> dict:
        """What was measured, see ``accuracy.evaluate``."""
        count, names = len(self._class_names), self._match.prediction_names(self._class_names)
        return {
            **_summarize(self._total, self._match.counted, self._class_names),
            **self._segments.result(),
            "unmatched": self._match.unmatched,
            "equated": self._match.equated,
            "worst": [{"image_id": picture["image_id"], "mean_iou": picture["mean_iou"]} for picture in self._lowest.pictures()],
            "confusion": self._total[:count, : len(names)].tolist(),
        }

    def draw(self, result: dict, folder) -> None:
        """Writes confusion.png and the worst pictures, worst/NN_IMAGEID.png."""
        names = self._match.prediction_names(self._class_names)
        plot_confusion(result["confusion"], names, folder / "confusion.png")
        for old in (folder / "worst").glob("[0-9][0-9]*_*.png"):
            old.unlink()  # of an earlier evaluation: its pictures would pass for this one's
        for number, picture in enumerate(self._lowest.pictures(), start=1):
            (folder / "worst").mkdir(exist_ok=True)
            titles = (picture["image_id"][:32], "truth", f"prediction: mean IoU {picture['mean_iou']:.3f}")
            drawn = comparison([picture["image"]], [picture["truth"]], [picture["predicted"]], names, titles, minimum_width=320)
            save_image(drawn, folder / "worst" / f"{number:02d}_{re.sub(r'[^-.A-Za-z0-9_]', '_', picture['image_id'])}.png")


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


def table_lines(result: dict) -> list[str]:
    """The lines of the table for people (Markdown), but for what was measured."""
    shown = {name: iou for name, iou in result["per_class"].items() if name not in result["unmatched"]["data"]}
    lines = [
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
    return lines
