"""The accuracy of detectors: COCO's numbers for boxes, masks and keypoints, and Pascal VOC's average precision of boxes."""

import numpy as np

from tfzoo.benchmarks.matching import describe, match_detected_classes
from tfzoo.metrics.coco import COCO_SIGMAS, KEYPOINT_NAMES, NAMES, AnswerEvaluator
from tfzoo.metrics.voc import VocEvaluator
from tfzoo.visualization import plot_precision_recall

NAMES_OF = {"boxes": NAMES, "masks": NAMES, "keypoints": KEYPOINT_NAMES}  # what is compared: its numbers


class DetectionAccuracy:
    """Compares objects, picture after picture, in the pixels of the original pictures.

    Args:
        runner: its classes are matched with the data set's by name (see ``matching.match_detected_classes``).
        dataset: for the runner's task: "detection", "instance" or "keypoint".
        max_detections: so many of each class in a picture count to COCO's numbers; None: as COCO has it.

    Raises:
        InputError: the artifact has no class of the data set.
    """

    def __init__(self, runner, dataset, max_detections=None):
        self._match = match_detected_classes(runner.class_names, dataset)
        self._coco = AnswerEvaluator(dataset.task, dataset.class_names, max_detections, self._match.counted)
        self._voc = VocEvaluator(dataset.class_names, self._match.counted)
        size = getattr(runner, "image_size", None)
        self.measured_at = "original size" + (f", run at {size[0]}x{size[1]}" if size else "")

    def prepare(self, sample: dict) -> dict:
        """The picture, and what is compared; the runner brings the picture to the artifact's size, and its answer back."""
        return {"images": sample["images"], "truth": self._coco.truth(sample)}

    def add(self, sample: dict, answer: dict) -> None:
        """Adds a prepared sample and what the artifact answers for it."""
        labels = np.asarray(answer["labels"])
        known = (labels >= 0) & (labels < len(self._match.predicted))
        found = {**answer, "labels": np.where(known, self._match.predicted[np.where(known, labels, 0)], -1)}
        for evaluator in (self._coco, self._voc):
            evaluator.add(sample["truth"], found)

    def result(self) -> dict:
        """What was measured, see ``accuracy.evaluate``."""
        coco, voc = self._coco.result(), self._voc.result()
        per_class = {name: facts | voc["per_class"][name] for name, facts in coco["per_class"].items()}
        return {
            **coco,
            "voc2007": voc["voc2007"],
            "voc2012": voc["voc2012"],
            "per_class": per_class,
            "unmatched": self._match.unmatched,
            "equated": self._match.equated,
        }

    def draw(self, result: dict, folder) -> None:
        """Writes precision_recall.png, and one with the name of what else is compared."""
        for kind, evaluator in self._coco.evaluators.items():
            ending, table = ("", result) if kind == "boxes" else (f"_{kind}", result[kind])
            title = f"AP at {'OKS' if kind == 'keypoints' else 'IoU'} 0.5"
            plot_precision_recall(evaluator.curves(), folder / f"precision_recall{ending}.png", table["AP50"], title)


def table_lines(result: dict) -> list[str]:
    """The lines of the table for people (Markdown), but for what was measured."""
    tables = {"boxes": result} | {kind: result[kind] for kind in NAMES_OF if kind in result}
    lines = [*_number_lines(result, tables), "", *_class_lines(result, tables), "", _limits(tables)]
    if "keypoints" in tables:
        lines += ["", _said_of_sigmas(tables["keypoints"]["sigmas"])]
    for kind, table in tables.items():
        if table["left_out"]:
            lines += ["", f"Left out of the means, as there are no {kind} of them: {', '.join(table['left_out'])}."]
    for sentence in describe(result["unmatched"], result["equated"]):
        lines += ["", sentence]
    return lines


def _number_lines(result, tables):
    names = list(dict.fromkeys(name for kind in tables for name in NAMES_OF[kind]))
    heads = ["metric", *(tables if len(tables) > 1 else ["value"])]
    rows = [[_title(name), *(_number(table.get(name)) for table in tables.values())] for name in names]
    for year, how in (("2007", "11 points"), ("2012", "area")):
        rows.append([f"AP50 as VOC {year} ({how})", _number(result[f"voc{year}"]), *["-"] * (len(tables) - 1)])
    return _markdown(heads, rows)


def _class_lines(result, tables):
    shown = [name for name in result["per_class"] if name not in result["unmatched"]["data"]]
    heads, rows = ["class"], [[name] for name in shown]
    for kind, table in tables.items():
        heads += [kind, *(metric if kind == "boxes" else f"{metric} of {kind}" for metric in ("AP", "AP50"))]
        for row in rows:
            facts = table["per_class"][row[0]]
            row += [str(facts["boxes"]), *(_number(facts[metric]) for metric in ("AP", "AP50"))]
    return _markdown(heads, rows)


def _markdown(heads, rows):
    head, *body = (f"| {' | '.join(cells)} |" for cells in (heads, *rows))
    return [head, "|" + "---|" * len(heads), *body]


def _limits(tables):
    limits = {kind: table["max_detections"] for kind, table in tables.items()}
    if len(set(limits.values())) == 1:
        return f"Up to {limits['boxes']} detections of a class in a picture count."
    return f"Up to {' and '.join(f'{limit} {kind}' for kind, limit in limits.items())} of a class in a picture count."


def _said_of_sigmas(sigmas):
    if sigmas == list(COCO_SIGMAS):
        return "Keypoints are compared by OKS with COCO's sigmas."
    return f"Keypoints are compared by OKS with a sigma of {sigmas[0] if sigmas else '-'} for each point."


def _title(name):
    kind, _, which = name.partition("_")
    if which.isdigit():
        return f"{kind}, {which} detection{'s' if which != '1' else ''} a class"
    return f"{kind} {which}".strip()


def _number(value):
    return "-" if value is None else f"{value:.4f}"
