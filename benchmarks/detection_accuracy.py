"""The accuracy of detectors: COCO's numbers and Pascal VOC's average precision."""

import numpy as np

from tfzoo.benchmarks.matching import describe, match_detected_classes
from tfzoo.metrics.coco import NAMES, CocoEvaluator
from tfzoo.metrics.voc import VocEvaluator
from tfzoo.visualization import plot_precision_recall

MAX_DETECTIONS = 100  # COCO's


class DetectionAccuracy:
    """Compares boxes, picture after picture, in the pixels of the original pictures.

    Args:
        runner: its classes are matched with the data set's by name (see ``matching.match_detected_classes``).
        dataset: for the task "detection".
        max_detections: so many of each class in a picture count to COCO's numbers.

    Raises:
        InputError: the artifact has no class of the data set.
    """

    def __init__(self, runner, dataset, max_detections=MAX_DETECTIONS):
        self._match = match_detected_classes(runner.class_names, dataset)
        self._coco = CocoEvaluator(dataset.class_names, max_detections, self._match.counted)
        self._voc = VocEvaluator(dataset.class_names, self._match.counted)
        size = getattr(runner, "image_size", None)
        self.measured_at = "original size" + (f", run at {size[0]}x{size[1]}" if size else "")

    @staticmethod
    def prepare(sample: dict) -> dict:
        """The sample as it is: the runner brings the picture to the artifact's size, and the boxes back."""
        return sample

    def add(self, sample: dict, answer: dict) -> None:
        """Adds a sample and what the artifact answers for it."""
        labels = np.asarray(answer["labels"])
        known = (labels >= 0) & (labels < len(self._match.predicted))
        found = {**answer, "labels": np.where(known, self._match.predicted[np.where(known, labels, 0)], -1)}
        for evaluator in (self._coco, self._voc):
            evaluator.add(sample["bounding_boxes"], found)

    def result(self) -> dict:
        """What was measured, see ``accuracy.evaluate``."""
        coco, voc = self._coco.result(), self._voc.result()
        per_class = {name: facts | voc["per_class"][name] for name, facts in coco["per_class"].items()}
        return {
            **coco,
            "voc2007": voc["voc2007"],
            "voc2012": voc["voc2012"],
            "per_class": per_class,
            "max_detections": self._coco.max_detections,
            "unmatched": self._match.unmatched,
            "equated": self._match.equated,
        }

    def draw(self, result: dict, folder) -> None:
        """Writes precision_recall.png."""
        plot_precision_recall(self._coco.curves(), folder / "precision_recall.png", result["AP50"])


def table_lines(result: dict) -> list[str]:
    """The lines of the table for people (Markdown), but for what was measured."""
    shown = {name: facts for name, facts in result["per_class"].items() if name not in result["unmatched"]["data"]}
    lines = [
        "| metric | value |",
        "|---|---|",
        *(f"| {_title(name)} | {_number(result[name])} |" for name in NAMES),
        f"| AP50 as VOC 2007 (11 points) | {_number(result['voc2007'])} |",
        f"| AP50 as VOC 2012 (area) | {_number(result['voc2012'])} |",
        "",
        "| class | boxes | AP | AP50 |",
        "|---|---|---|---|",
        *(f"| {name} | {facts['boxes']} | {_number(facts['AP'])} | {_number(facts['AP50'])} |" for name, facts in shown.items()),
        "",
        f"Up to {result['max_detections']} detections of a class in a picture count.",
    ]
    if result["left_out"]:
        lines += ["", f"Left out of the means, as there are no boxes of them: {', '.join(result['left_out'])}."]
    for sentence in describe(result["unmatched"], result["equated"]):
        lines += ["", sentence]
    return lines


def _title(name):
    kind, _, which = name.partition("_")
    if which.isdigit():
        return f"{kind}, {which} detection{'s' if which != '1' else ''} a class"
    return f"{kind} {which}".strip()


def _number(value):
    return "-" if value is None else f"{value:.4f}"
