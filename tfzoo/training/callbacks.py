"""Callbacks of a training: checkpoints that can be resumed, average precision, and pictures to look at."""

import json
import math
import pathlib
import time
import warnings

import keras
import numpy as np

from tfzoo.data.images import resize_image, resize_labels
from tfzoo.data.objects import Objects, View, scale_found
from tfzoo.data.proposals import as_input
from tfzoo.files import replacing
from tfzoo.metrics.coco import KINDS_OF_TASK, AnswerEvaluator

LAST, BEST, STATE = "last.keras", "best.keras", "state.json"
DRAWN_SCORE = 0.3
LOG_ENDINGS = {"boxes": "", "masks": "_mask", "keypoints": "_keypoints"}  # of what COCO's numbers are of, in the logs


class Checkpoints(keras.callbacks.Callback):
    """Saves ``last.keras`` (with the optimizer, to resume) and ``best.keras``, as it was when a metric was highest.

    ``best.keras`` is float32 and without the optimizer: the file to keep. Files are replaced in one step, so an interruption
    leaves the old ones. ``state.json`` says how many epochs ``last.keras`` has seen and the best value so far. They are written
    at the end of an epoch, if the last time is long enough ago, and at the end of the training: where an epoch takes a second,
    writing them every time would take as long again.

    Args:
        folder: where.
        monitor: name of the metric in the logs; the larger the better. Where the logs lack it, the last is the best.
        seconds: least time between two savings: so much of the training, and an epoch, is lost at most where its process is killed
            outright.
    """

    def __init__(self, folder, monitor="val_mean_iou", seconds=0):
        super().__init__()
        self.folder, self.monitor, self.seconds = pathlib.Path(folder), monitor, seconds
        self.state = read_state(self.folder)
        self.current_epoch = self.state["epochs"]
        self._best_weights = None  # those that are not saved yet
        self._saved_at = -float("inf")

    def on_train_begin(self, logs=None):
        if not (self.folder / LAST).exists():
            self._save()

    def on_epoch_begin(self, epoch, logs=None):
        self.current_epoch = epoch

    def on_epoch_end(self, epoch, logs=None):
        value = float((logs or {}).get(self.monitor, epoch))
        if self.state["best"] is None or value > self.state["best"]:
            self.state |= {"best": value, "best_epoch": epoch + 1}
            self._best_weights = self.model.get_weights()
        self.current_epoch = epoch + 1  # this one is done, even if what follows is interrupted
        if time.monotonic() - self._saved_at >= self.seconds:
            self._save()

    def on_train_end(self, logs=None):
        if self.state["epochs"] != self.current_epoch:
            self._save()

    def save_interrupted(self):
        """Keeps what the epoch that was cut short has learned; resuming repeats that epoch."""
        if self.model is None:
            return
        try:
            self._save()
        except Exception as error:  # the interruption is what the caller wants to hear of
            warnings.warn(f"{self.folder} keeps an earlier state: the interrupted one could not be saved ({error}).", stacklevel=2)

    def _save(self):
        if self._best_weights is not None:
            deployable = type(self.model).from_config({**self.model.get_config(), "dtype": "float32"})
            deployable.set_weights(self._best_weights)
            with replacing(self.folder / BEST) as draft:
                deployable.save(draft)
            self._best_weights = None
            self._write_state()
        with replacing(self.folder / LAST) as draft:
            self.model.save(draft)
        self.state["epochs"] = self.current_epoch
        self._write_state()
        self._saved_at = time.monotonic()

    def _write_state(self):
        with replacing(self.folder / STATE) as draft:
            draft.write_text(json.dumps(self.state))


def read_state(folder) -> dict:
    """Returns {"epochs", "best", "best_epoch"} of a training's folder; zeros where it has none."""
    path = pathlib.Path(folder) / STATE
    return json.loads(path.read_text()) if path.exists() else {"epochs": 0, "best": None, "best_epoch": None}


class TimeBudget(keras.callbacks.Callback):
    """Ends a training at a deadline, and lets the learning rate rise and fall over the time until then.

    Each epoch has the rate of its middle: a linear rise over the first part of the time, then a cosine's fall to 0 (Li et al.
    2020, Budgeted Training: the schedule belongs to the budget, not to the epochs). No epoch is begun that would not be half over
    at the deadline, judging by the one before. To be given to ``fit`` after all callbacks whose work belongs to the epoch.

    Args:
        deadline: of ``time.monotonic()``. Time begins to count with the first epoch, whatever came before.
        learning_rate: the highest one.
        warmup: share of the time in which the rate rises.
    """

    def __init__(self, deadline, learning_rate, warmup):
        super().__init__()
        self.deadline, self.learning_rate, self.warmup = deadline, learning_rate, warmup

    def on_train_begin(self, logs=None):
        self._begin = self._epoch_begin = time.monotonic()
        self._took = 0.0

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch_begin = time.monotonic()
        share = (self._epoch_begin + self._took / 2 - self._begin) / max(self.deadline - self._begin, 1e-3)
        self.model.optimizer.learning_rate = self.learning_rate * self._height(share)

    def _height(self, share):
        if share < self.warmup:
            return max(share / self.warmup, 0.1)  # the first epoch, whose length nobody knows, learns something too
        return 0.5 + 0.5 * math.cos(math.pi * min((share - self.warmup) / (1 - self.warmup), 1.0))

    def on_epoch_end(self, epoch, logs=None):
        self._took = time.monotonic() - self._epoch_begin
        if time.monotonic() + self._took / 2 > self.deadline:
            self.model.stop_training = True


class CocoEvaluation(keras.callbacks.Callback):
    """Adds COCO's AP and AP50 of a detector to the logs of every epoch, as ``val_AP`` and ``val_AP50``.

    For the task "instance" there are ``val_AP_mask`` and ``val_AP50_mask`` too, for "keypoint" ``val_AP_keypoints`` and
    ``val_AP50_keypoints``. Objects are compared in the pixels of the original pictures. Give it to ``fit`` before callbacks that
    read the logs, such as ``Checkpoints`` and Keras's CSVLogger.

    Args:
        dataset: for the model's task, with its classes.
        image_size: (height, width) that pictures are resized to; None: each picture's own.
        batch_size: pictures of one size that are run together.
        every: epochs between evaluations; the first and the last epoch are always evaluated.
        max_detections: so many of each class in a picture count; None: as COCO has it, see ``CocoEvaluator``.

    Attributes:
        result: all that ``AnswerEvaluator.result`` gives, of the last evaluation.
    """

    def __init__(self, dataset, image_size=None, batch_size=8, every=1, max_detections=None):
        super().__init__()
        self.dataset, self.image_size, self.batch_size, self.every = dataset, image_size, batch_size, every
        self.max_detections, self.result = max_detections, None

    def on_epoch_end(self, epoch, logs=None):
        if self.result is None or (epoch + 1) % self.every == 0 or epoch + 1 == self.params["epochs"]:
            self.result = self.evaluate()
        if logs is not None:  # between evaluations the last value stands: tables of logs want the same columns each epoch
            for kind in KINDS_OF_TASK[self.dataset.task]:
                table, ending = self.result if kind == "boxes" else self.result[kind], LOG_ENDINGS[kind]
                logs |= {f"val_{name}{ending}": table[name] or 0.0 for name in ("AP", "AP50")}

    def evaluate(self) -> dict:
        """Runs the data set through the model's ``predict``; returns what ``AnswerEvaluator.result`` does."""
        evaluator = AnswerEvaluator(self.dataset.task, self.dataset.class_names, self.max_detections)
        waiting = []
        for index in range(len(self.dataset)):
            sample = self.dataset.read(index)
            image = resize_image(sample["images"], self.image_size) if self.image_size else sample["images"]
            if waiting and (len(waiting) == self.batch_size or image.shape != waiting[0][0].shape):
                self._add(evaluator, waiting)
                waiting = []
            waiting.append((image, evaluator.truth(sample), sample))
        self._add(evaluator, waiting)
        return evaluator.result()

    def _add(self, evaluator, waiting):
        inputs = as_input(np.stack([image for image, _, _ in waiting]), [sample for _, _, sample in waiting], self.dataset)
        answers = self.model.predict(inputs, batch_size=len(waiting), verbose=0)
        for row, (image, truth, _) in enumerate(waiting):
            found = {name: np.asarray(values)[row] for name, values in answers.items()}
            evaluator.add(truth, scale_found(found, image.shape[:2], truth["size"]))


class Pictures(keras.callbacks.Callback):
    """Writes a picture of validation images beside truth and prediction every few epochs, and after the last one.

    Args:
        dataset: where pictures come from (the first few).
        folder: where ``epoch_NNN.png`` goes.
        every: epochs between pictures.
        image_size: (height, width) to predict at.
        count: number of pictures.
    """

    def __init__(self, dataset, folder, every, image_size, count=4):
        super().__init__()
        self.dataset, self.folder, self.every = dataset, pathlib.Path(folder), every
        steps = np.linspace(0, len(dataset) - 1, min(count, len(dataset))).astype(int)
        self._indices, self._size = steps.tolist(), image_size
        self._seen = 0

    def on_epoch_end(self, epoch, logs=None):
        self._seen = epoch + 1
        if self._seen % self.every == 0:
            self.write(self._seen)

    def on_train_end(self, logs=None):
        if self._seen % self.every:
            self.write(self._seen)

    def write(self, epoch):
        """Writes the picture for so many epochs seen."""
        from tfzoo.visualization import save_image

        samples = [self.dataset.read(index) for index in self._indices]
        images = np.stack([resize_image(sample["images"], self._size) for sample in samples])
        answers = self.model.predict(as_input(images, samples, self.dataset), verbose=0)
        self.folder.mkdir(parents=True, exist_ok=True)
        draw = _draw_label_maps if self.dataset.task == "semantic" else _draw_objects
        save_image(draw(samples, images, answers, self.dataset.class_names), self.folder / f"epoch_{epoch:03d}.png")


def _draw_label_maps(samples, images, answers, class_names):
    from tfzoo.visualization import comparison

    truth = [resize_labels(sample["segmentation_masks"][..., 0], images.shape[1:3]) for sample in samples]
    return comparison(images, truth, answers["labels"], class_names)


def _draw_objects(samples, images, answers, class_names):
    """A row for each picture: its objects, and those found with a score of at least ``DRAWN_SCORE``."""
    from tfzoo.visualization import contact_sheet, draw_boxes, draw_found

    pictures, titles = [], []
    for row, (sample, image) in enumerate(zip(samples, images, strict=True)):
        truth = Objects.of(sample).through(View.whole(sample["images"].shape[:2], image.shape[:2]))
        marks = {"masks": truth.masks, "keypoints": truth.keypoints}
        pictures += [
            draw_boxes(image, truth.boxes, truth.labels, class_names, **marks),
            draw_found(image, {name: np.asarray(values)[row] for name, values in answers.items()}, class_names, DRAWN_SCORE),
        ]
        titles += [f"{sample['image_id']}: truth", f"found, from a score of {DRAWN_SCORE}"]
    return contact_sheet(pictures, titles, columns=2)
