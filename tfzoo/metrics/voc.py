"""Average precision as Pascal VOC defines it: by 11 points (2007) or by the whole area (2010 to 2012).

Everingham et al. 2010 (The Pascal Visual Object Classes Challenge), section 4.2; development kits of 2007 and 2012.
"""

import numpy as np

from tfzoo.data.boxes import box_ious, is_wanted

LEAST_IOU = 0.5


class VocEvaluator:
    """Collects boxes, picture after picture; of each detection only its score and whether it is right are kept.

    In each picture and class detections are taken by falling score. Each belongs to the true box that it overlaps most; with an IoU
    of at least 0.5 it is right the first time, and a second detection of the same box is wrong. One that belongs to a difficult box
    (or to a crowd) counts neither way, and difficult boxes need not be found.

    Args:
        class_names: C names; labels run from 0 to C - 1.
        counted: bool [C]: the classes that are looked at; None: all of them.
    """

    def __init__(self, class_names, counted=None):
        self.class_names = list(class_names)
        self.counted = np.ones(len(self.class_names), bool) if counted is None else np.asarray(counted, bool)
        self._scores, self._right = ([[] for _ in self.class_names] for _ in range(2))
        self._boxes = np.zeros(len(self.class_names), np.int64)

    def add(self, truth: dict, found: dict) -> None:
        """Adds a picture; both as in ``CocoEvaluator.add``."""
        labels = np.asarray(truth["labels"])
        wanted = is_wanted({"crowd": np.zeros(len(labels), bool), **truth})
        self._boxes += np.bincount(labels[wanted], minlength=len(self.class_names))
        found_labels = np.asarray(found["labels"])
        order = np.argsort(-np.asarray(found["scores"], np.float64), kind="stable")
        for label in np.unique(found_labels[(found_labels >= 0) & (found_labels < len(self.class_names))]):
            chosen, own = order[found_labels[order] == label], labels == label
            overlaps = box_ious(_as_float64(found["boxes"])[chosen], _as_float64(truth["boxes"])[own])
            right, counts = _judge(overlaps, wanted[own])
            self._scores[label].append(np.asarray(found["scores"], np.float64)[chosen][counts])
            self._right[label].append(right[counts])

    def result(self) -> dict:
        """Evaluates what was added.

        Returns a dict: "voc2007" and "voc2012", the means of the classes' AP (None where no class has anything to be found);
        per_class: name -> {"voc2007", "voc2012"}, None where the class has nothing to be found or does not count.
        """
        per_class = {name: self._average_precisions(label) for label, name in enumerate(self.class_names)}
        known = [values for values in per_class.values() if values["voc2012"] is not None]
        means = {year: float(np.mean([v[year] for v in known])) if known else None for year in ("voc2007", "voc2012")}
        return {**means, "per_class": per_class}

    def _average_precisions(self, label):
        count = int(self._boxes[label])
        if not (count and self.counted[label]):
            return {"voc2007": None, "voc2012": None}
        scores = np.concatenate([*self._scores[label], np.zeros(0)])
        right = np.concatenate([*self._right[label], np.zeros(0, bool)])[np.argsort(-scores, kind="stable")]
        return {"voc2007": eleven_points(right, count), "voc2012": whole_area(right, count)}


def _as_float64(boxes):
    return np.asarray(boxes, np.float64).reshape(-1, 4)


def _judge(overlaps, wanted):
    """Which detections [M] are right, and which count, from IoUs [M, N] with boxes of which some are not wanted."""
    right, counts, taken = np.zeros(len(overlaps), bool), np.ones(len(overlaps), bool), set()
    if not overlaps.shape[1]:
        return right, counts
    for row, best in enumerate(overlaps.argmax(axis=1)):
        if overlaps[row, best] < LEAST_IOU:
            continue
        counts[row] = wanted[best]
        right[row] = wanted[best] and best not in taken
        taken.add(best)
    return right, counts


def eleven_points(right: np.ndarray, count: int) -> float:
    """The mean, over recalls 0, 0.1, ... 1, of the best precision at that recall or more.

    Args:
        right: bool [D], detections by falling score; count: boxes to be found, at least 1.
    """
    hits = np.cumsum(right)
    precision = hits / np.arange(1, len(right) + 1)
    # In whole numbers: as fractions, 3 of 10 would miss the recall 0.3.
    return float(sum(precision[10 * hits >= point * count].max(initial=0) for point in range(11)) / 11)


def whole_area(right: np.ndarray, count: int) -> float:
    """The area under precision over recall, precision made never to rise; arguments as of ``eleven_points``."""
    precision = np.cumsum(right) / np.arange(1, len(right) + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float(envelope[right].sum() / count)  # each right detection adds 1 / count of recall
