"""Average precision as COCO defines it, computed by pycocotools."""

import contextlib
import io

import numpy as np

NAMES = (  # of ``CocoEvaluator.result``, in COCO's order
    "AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large",
    "AR_1", "AR_10", "AR", "AR_small", "AR_medium", "AR_large",
)  # fmt: skip
ALL, SMALL, MEDIUM, LARGE = range(4)  # pycocotools' areas: any, below 32^2, to 96^2, above


class CocoEvaluator:
    """Collects boxes, picture after picture, and gives COCO's numbers for all of them. No picture is kept.

    Crowds and difficult boxes are neither missed nor wrongly found. A crowd takes as many detections as lie in it (the overlap is
    shared area over the detection's, as COCO has it); a difficult box takes one, by IoU.

    Args:
        class_names: C names; labels run from 0 to C - 1.
        max_detections: so many of each class in a picture count, those of the highest scores (COCO: 100).
        counted: bool [C]: the classes that are looked at; None: all of them.
    """

    def __init__(self, class_names, max_detections: int = 100, counted=None):
        self.class_names, self.max_detections = list(class_names), max_detections
        self.counted = np.ones(len(self.class_names), bool) if counted is None else np.asarray(counted, bool)
        self._images, self._truth, self._found = [], [], []
        self._evaluated = None

    def add(self, truth: dict, found: dict) -> None:
        """Adds a picture.

        Args:
            truth: "boxes" [N, 4], xyxy, "labels" [N], and, where they are known, "crowd" and "difficult" [N] and "area" [N],
                the pixels of the object (else those of its box) by which it is small, medium or large: a sample's
                ``bounding_boxes``.
            found: "boxes" [M, 4], "scores" [M], "labels" [M]; a label that is no class (such as the padding's -1) is left out.
        """
        self._evaluated = None
        image = len(self._images) + 1
        self._images.append({"id": image})
        boxes = _to_xywh(truth["boxes"])
        areas = truth.get("area", boxes[:, 2] * boxes[:, 3])
        nobody = np.zeros(len(boxes), bool)
        flags = [truth.get(name, nobody) for name in ("crowd", "difficult")]
        for box, label, area, crowd, difficult in zip(boxes.tolist(), truth["labels"], areas, *flags, strict=True):
            record = _record(image, label, box, float(area)) | {"iscrowd": int(crowd), "difficult": bool(difficult)}
            self._truth.append(record)
        labels = np.asarray(found["labels"])
        kept = np.flatnonzero((labels >= 0) & (labels < len(self.class_names)))
        for row, box in zip(kept, _to_xywh(np.asarray(found["boxes"])[kept]).tolist(), strict=True):
            record = _record(image, labels[row], box, box[2] * box[3]) | {"iscrowd": 0, "score": float(found["scores"][row])}
            self._found.append(record)

    def result(self) -> dict:
        """Evaluates what was added.

        Returns a dict: the twelve of ``NAMES`` (None where nothing is to be found, such as no small object; AR_1 and AR_10 allow
        1 and 10 detections of a class in a picture, all else ``max_detections``); per_class (name -> {"AP", "AP50", "boxes"}, the
        APs None where the class has nothing to be found or does not count); left_out (names of the classes that count and have
        nothing to be found).
        """
        precision, recall = self._evaluate()
        values = [_mean(p[..., ALL, -1]) for p in (precision, precision[0], precision[5])]  # IoU .5 to .95, .5, .75
        values += [_mean(precision[..., area, -1]) for area in (SMALL, MEDIUM, LARGE)]
        values += [_mean(recall[..., ALL, limit]) for limit in range(3)]
        values += [_mean(recall[..., area, -1]) for area in (SMALL, MEDIUM, LARGE)]
        per_class = self._per_class(precision)
        return {
            **dict(zip(NAMES, values, strict=True)),
            "per_class": per_class,
            "left_out": [
                name for name, counts in zip(per_class, self.counted, strict=True) if counts and per_class[name]["AP"] is None
            ],
        }

    def curves(self, iou: float = 0.5) -> dict:
        """Precision at recall 0, 0.01, ... 1: class name -> float [101], for the classes with anything to be found.

        Args:
            iou: least overlap of a right box: 0.5, 0.55, ... 0.95.
        """
        precision, _ = self._evaluate()
        at = precision[round((iou - 0.5) / 0.05), :, :, ALL, -1]
        columns = zip(np.flatnonzero(self.counted), at.T, strict=True)
        return {self.class_names[label]: curve for label, curve in columns if (curve >= 0).all()}

    def _evaluate(self):
        """pycocotools' precision [IoUs, recalls, K, areas, limits] and recall [IoUs, K, areas, limits]; -1: nothing to find."""
        if self._evaluated is None:
            self._evaluated = self._run_pycocotools()
        return self._evaluated

    def _run_pycocotools(self):
        labels = np.flatnonzero(self.counted)
        if not (self._truth and len(labels)):  # pycocotools would index what it has not
            return np.full((10, 101, len(labels), 4, 3), -1.0), np.full((10, len(labels), 4, 3), -1.0)
        with contextlib.redirect_stdout(io.StringIO()):  # it prints its progress
            evaluation = _evaluation(self._index(self._truth), self._index(self._found))
            evaluation.params.catIds = (labels + 1).tolist()
            evaluation.params.maxDets = [min(limit, self.max_detections) for limit in (1, 10)] + [self.max_detections]
            evaluation.evaluate()
            evaluation.accumulate()
        return evaluation.eval["precision"], evaluation.eval["recall"]

    def _index(self, records):
        from pycocotools.coco import COCO

        coco = COCO()  # filled by hand, as loadRes takes no empty list
        categories = [{"id": label + 1, "name": name} for label, name in enumerate(self.class_names)]
        # Numbers from 1: pycocotools takes an annotation 0 for none.
        annotations = [record | {"id": number} for number, record in enumerate(records, start=1)]
        coco.dataset = {"images": self._images, "categories": categories, "annotations": annotations}
        coco.createIndex()
        return coco

    def _per_class(self, precision):
        boxes = np.zeros(len(self.class_names), np.int64)
        for record in self._truth:
            boxes[record["category_id"] - 1] += not (record["iscrowd"] or record["difficult"])
        position = np.cumsum(self.counted) - 1
        table = {}
        for label, name in enumerate(self.class_names):
            own = precision[:, :, position[label], ALL, -1] if self.counted[label] else np.full((10, 101), -1.0)
            table[name] = {"AP": _mean(own), "AP50": _mean(own[0]), "boxes": int(boxes[label])}
        return table


def _evaluation(truth, found):
    from pycocotools.cocoeval import COCOeval

    class Evaluation(COCOeval):
        """COCOeval to which a difficult box is an ignored one; it takes crowds alone for such."""

        def _prepare(self):
            super()._prepare()
            for records in self._gts.values():
                for record in records:
                    record["ignore"] = record["ignore"] or record["difficult"]

    return Evaluation(truth, found, "bbox")


def _record(image, label, box, area):
    return {"image_id": image, "category_id": int(label) + 1, "bbox": box, "area": area}


def _to_xywh(boxes):
    boxes = np.array(boxes, np.float64).reshape(-1, 4)
    boxes[:, 2:] -= boxes[:, :2]
    return boxes


def _mean(values):
    """The mean of what is not -1, as in pycocotools' summary; None where all is."""
    values = values[values > -1]
    return float(values.mean()) if values.size else None
