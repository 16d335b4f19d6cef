"""Average precision as COCO defines it, computed by pycocotools: of boxes, of masks and of keypoints."""

import contextlib
import io

import numpy as np

from tfzoo.data.instance_masks import encode_masks, encode_pasted

NAMES = (  # of ``CocoEvaluator.result``, in COCO's order
    "AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large",
    "AR_1", "AR_10", "AR", "AR_small", "AR_medium", "AR_large",
)  # fmt: skip
KEYPOINT_NAMES = (
    "AP", "AP50", "AP75", "AP_medium", "AP_large", "AR", "AR50", "AR75", "AR_medium", "AR_large",
)  # fmt: skip
COCO_SIGMAS = (  # of nose, eyes, ears, shoulders, elbows, wrists, hips, knees, ankles: COCO's keypoint evaluation, "1.3 Tuning OKS"
    0.026, 0.025, 0.025, 0.035, 0.035, 0.079, 0.079, 0.072, 0.072, 0.062, 0.062, 0.107, 0.107, 0.087, 0.087, 0.089, 0.089,
)  # fmt: skip
OTHER_SIGMA = 0.05  # of any other points
KINDS_OF_TASK = {"detection": ("boxes",), "instance": ("boxes", "masks"), "keypoint": ("boxes", "keypoints")}


class Boxes:
    """Objects are compared by the IoU of their boxes."""

    iou_type, names, max_detections = "bbox", NAMES, 100
    areas = ("all", "small", "medium", "large")  # pycocotools': any, below 32^2, to 96^2, above
    limits = (1, 10)  # of detections of a class in a picture, for AR_1 and AR_10

    def of_truth(self, truth):
        """What a record of each true object holds, beside its box: "area", by which it is small, medium or large, and more."""
        return self._with_areas(truth, [{} for _ in truth["labels"]], _areas(truth["boxes"]))

    @staticmethod
    def _with_areas(truth, records, areas):
        return [record | {"area": float(area)} for record, area in zip(records, truth.get("area", areas), strict=True)]

    def of_found(self, truth, found, rows):
        """What a record of each found object, of those rows, holds beside its box."""
        return [{"area": float(area)} for area in _areas(np.asarray(found["boxes"])[rows])]

    @staticmethod
    def settle(parameters, truth):
        """Changes pycocotools' parameters."""

    @staticmethod
    def facts(truth) -> dict:
        """What a result says beside the numbers."""
        return {}


class Masks(Boxes):
    """Objects are compared by the IoU of their masks."""

    iou_type = "segm"

    def of_truth(self, truth):
        runs = _run_lengths(truth["masks"])
        return self._with_areas(truth, [{"segmentation": run} for run in runs], _mask_areas(runs))

    def of_found(self, truth, found, rows):
        masks = found["masks"]
        if isinstance(masks, list):
            runs = [masks[row] for row in rows]
        elif np.issubdtype(np.asarray(masks).dtype, np.floating):
            runs = encode_pasted(np.asarray(masks)[rows], np.asarray(found["boxes"])[rows], truth["size"])
        else:
            runs = encode_masks(np.asarray(masks)[rows])
        return [{"segmentation": run, "area": float(area)} for run, area in zip(runs, _mask_areas(runs), strict=True)]


class Keypoints(Boxes):
    """Objects are compared by the similarity of their points (OKS): how far these are off, beside the object's size.

    Where a truth has no "area", that of the box stands for it. An object without a known point need not be found.
    """

    iou_type, names, max_detections = "keypoints", KEYPOINT_NAMES, 20
    areas, limits = ("all", "medium", "large"), ()

    def of_truth(self, truth):
        points = np.asarray(truth["keypoints"], np.float64)
        counts = (points[..., 2] > 0).sum(axis=-1)
        records = [{"keypoints": p.ravel(), "num_keypoints": int(n)} for p, n in zip(points, counts, strict=True)]
        return self._with_areas(truth, records, _areas(truth["boxes"]))

    def of_found(self, truth, found, rows):
        points = np.asarray(found["keypoints"], np.float64)[rows]
        areas = np.ptp(points[..., :2], axis=1).prod(axis=-1)  # as pycocotools' loadRes has it
        return [{"keypoints": p.ravel(), "area": float(area)} for p, area in zip(points, areas, strict=True)]

    @classmethod
    def settle(cls, parameters, truth):
        parameters.kpt_oks_sigmas = np.array(cls.facts(truth)["sigmas"])

    @staticmethod
    def facts(truth):
        count = len(truth[0]["keypoints"]) // 3 if truth else 0
        return {"sigmas": list(COCO_SIGMAS if count == len(COCO_SIGMAS) else [OTHER_SIGMA] * count)}


KINDS = {"boxes": Boxes(), "masks": Masks(), "keypoints": Keypoints()}


class CocoEvaluator:
    """Collects objects, picture after picture, and gives COCO's numbers for all of them. No picture is kept.

    Crowds and difficult objects are neither missed nor wrongly found. A crowd takes as many detections as lie in it (the overlap is
    shared area over the detection's, as COCO has it); a difficult one takes one, by IoU.

    Args:
        class_names: C names; labels run from 0 to C - 1.
        max_detections: so many of each class in a picture count, those of the highest scores; None: as COCO has it, 100 boxes or
            masks, 20 objects with keypoints.
        counted: bool [C]: the classes that are looked at; None: all of them.
        kind: what objects are compared by: "boxes", "masks" or "keypoints" (OKS, with COCO's sigmas for its 17 points and
            ``OTHER_SIGMA`` for any others).
    """

    def __init__(self, class_names, max_detections: int | None = None, counted=None, kind: str = "boxes"):
        self._kind = KINDS[kind]
        self.class_names, self.max_detections = list(class_names), max_detections or self._kind.max_detections
        self.counted = np.ones(len(self.class_names), bool) if counted is None else np.asarray(counted, bool)
        self._images, self._truth, self._found = [], [], []
        self._evaluated = None

    def add(self, truth: dict, found: dict) -> None:
        """Adds a picture.

        Args:
            truth: "boxes" [N, 4], xyxy, "labels" [N], and, where they are known, "crowd" and "difficult" [N] and "area" [N],
                the pixels of the object (else those of its mask, or of its box) by which it is small, medium or large: a
                sample's ``bounding_boxes``. "masks", [N, H, W] or N of COCO's run lengths, and "size" (height, width) for that
                kind; "keypoints" [N, K, 3] for that one (see ``AnswerEvaluator.truth``).
            found: "boxes" [M, 4], "scores" [M], "labels" [M]; a label that is no class (such as the padding's -1) is left out.
                "masks": float [M, S, S], probabilities inside the boxes, or bool or uint8 [M, H, W], or a list of run lengths;
                "keypoints" [M, K, 3].
        """
        self._evaluated = None
        image = len(self._images) + 1
        height, width = truth.get("size", (0, 0))
        self._images.append({"id": image, "height": height, "width": width})
        nobody = np.zeros(len(truth["labels"]), bool)
        flags = [truth.get(name, nobody) for name in ("crowd", "difficult")]
        for record, crowd, difficult in zip(self._records(image, truth, self._kind.of_truth(truth)), *flags, strict=True):
            self._truth.append(record | {"iscrowd": int(crowd), "difficult": bool(difficult)})
        labels = np.asarray(found["labels"])
        kept = np.flatnonzero((labels >= 0) & (labels < len(self.class_names)))
        chosen = {name: np.asarray(found[name])[kept] for name in ("boxes", "labels", "scores")}
        records = self._records(image, chosen, self._kind.of_found(truth, found, kept))
        for record, score in zip(records, chosen["scores"], strict=True):
            self._found.append(record | {"iscrowd": 0, "score": float(score)})

    @staticmethod
    def _records(image, objects, more):
        for label, box, own in zip(objects["labels"], _to_xywh(objects["boxes"]).tolist(), more, strict=True):
            yield {"image_id": image, "category_id": int(label) + 1, "bbox": box, **own}

    def result(self) -> dict:
        """Evaluates what was added.

        Returns a dict: the twelve of ``NAMES``, or ten of ``KEYPOINT_NAMES`` (None where nothing is to be found, such as no small
        object; AR_1 and AR_10 allow 1 and 10 detections of a class in a picture, all else ``max_detections``); per_class (name ->
        {"AP", "AP50", "boxes"}: the last is how many are to be found; the APs are None where that is 0, or the class does not
        count); left_out (names of the classes that count and have nothing to be found); max_detections; of keypoints: sigmas.
        """
        precision, recall = self._evaluate()
        per_class = self._per_class(precision)
        return {
            **{name: self._number(name, precision, recall) for name in self._kind.names},
            "per_class": per_class,
            "left_out": [
                name for name, counts in zip(per_class, self.counted, strict=True) if counts and per_class[name]["AP"] is None
            ],
            "max_detections": self.max_detections,
            **self._kind.facts(self._truth),
        }

    def _number(self, name, precision, recall):
        """One of the names' numbers, such as AP75, AR_10 or AP_small."""
        metric, _, which = name.partition("_")
        values = precision if metric.startswith("AP") else recall
        if metric[2:]:
            values = values[(int(metric[2:]) - 50) // 5]
        if which.isdigit():
            return _mean(values[..., 0, self._kind.limits.index(int(which))])
        return _mean(values[..., self._kind.areas.index(which or "all"), -1])

    def curves(self, iou: float = 0.5) -> dict:
        """Precision at recall 0, 0.01, ... 1: class name -> float [101], for the classes with anything to be found.

        Args:
            iou: least overlap (or OKS) of a right object: 0.5, 0.55, ... 0.95.
        """
        precision, _ = self._evaluate()
        at = precision[round((iou - 0.5) / 0.05), :, :, 0, -1]
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
            last = len(labels), len(self._kind.areas), len(self._kind.limits) + 1
            return np.full((10, 101, *last), -1.0), np.full((10, *last), -1.0)
        with contextlib.redirect_stdout(io.StringIO()):  # it prints its progress
            evaluation = _evaluation(self._index(self._truth), self._index(self._found), self._kind.iou_type)
            evaluation.params.catIds = (labels + 1).tolist()
            limits = [min(limit, self.max_detections) for limit in self._kind.limits]
            evaluation.params.maxDets = [*limits, self.max_detections]
            self._kind.settle(evaluation.params, self._truth)
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
            needless = record["iscrowd"] or record["difficult"] or record.get("num_keypoints") == 0
            boxes[record["category_id"] - 1] += not needless
        position = np.cumsum(self.counted) - 1
        table = {}
        for label, name in enumerate(self.class_names):
            own = precision[:, :, position[label], 0, -1] if self.counted[label] else np.full((10, 101), -1.0)
            table[name] = {"AP": _mean(own), "AP50": _mean(own[0]), "boxes": int(boxes[label])}
        return table


class AnswerEvaluator:
    """COCO's numbers for all that the answers to a task hold: boxes, and masks or keypoints too.

    Args:
        task: "detection", "instance" or "keypoint".
        class_names, max_detections, counted: see ``CocoEvaluator``.
    """

    def __init__(self, task: str, class_names, max_detections: int | None = None, counted=None):
        self.evaluators = {kind: CocoEvaluator(class_names, max_detections, counted, kind) for kind in KINDS_OF_TASK[task]}

    @staticmethod
    def truth(sample: dict) -> dict:
        """What ``add`` takes of a sample: little even where there are many masks, which it encodes."""
        truth = {**sample["bounding_boxes"], "size": sample["images"].shape[:2]}
        if "instance_masks" in sample:
            truth["masks"] = _run_lengths(sample["instance_masks"])
        if "keypoints" in sample:
            truth["keypoints"] = sample["keypoints"]
        return truth

    def add(self, truth: dict, found: dict) -> None:
        """Adds a picture: its truth, and an answer in its pixels."""
        for evaluator in self.evaluators.values():
            evaluator.add(truth, found)

    def result(self) -> dict:
        """What ``CocoEvaluator.result`` gives for boxes, and under "masks" or "keypoints" what it gives for these."""
        first, *others = (evaluator.result() for evaluator in self.evaluators.values())
        return first | dict(zip(list(self.evaluators)[1:], others, strict=True))


def _evaluation(truth, found, iou_type):
    from pycocotools.cocoeval import COCOeval

    class Evaluation(COCOeval):
        """COCOeval to which a difficult object is an ignored one; it takes crowds alone for such."""

        def _prepare(self):
            super()._prepare()
            for records in self._gts.values():
                for record in records:
                    record["ignore"] = record["ignore"] or record["difficult"]

    return Evaluation(truth, found, iou_type)


def _run_lengths(masks):
    return masks if isinstance(masks, list) else encode_masks(np.asarray(masks))


def _mask_areas(runs):
    from pycocotools import mask as mask_utils

    return [int(mask_utils.area(run)) for run in runs]  # one by one: pycocotools fails at more than 255 together (NumPy 2)


def _areas(boxes):
    return _to_xywh(boxes)[:, 2:].prod(axis=-1)


def _to_xywh(boxes):
    boxes = np.array(boxes, np.float64).reshape(-1, 4)
    boxes[:, 2:] -= boxes[:, :2]
    return boxes


def _mean(values):
    """The mean of what is not -1, as in pycocotools' summary; None where all is."""
    values = values[values > -1]
    return float(values.mean()) if values.size else None
