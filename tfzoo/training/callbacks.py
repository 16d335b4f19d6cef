"""Callbacks of a training: checkpoints that can be resumed, and pictures to look at."""

import json
import os
import pathlib

import keras
import numpy as np

LAST, BEST, STATE = "last.keras", "best.keras", "state.json"


class Checkpoints(keras.callbacks.Callback):
    """Saves ``last.keras`` after every epoch (with the optimizer, to resume) and ``best.keras`` when a metric rises.

    ``best.keras`` is float32 and without the optimizer: the file to keep. Files are replaced in one step, so an interruption
    leaves the old one. ``state.json`` says how many epochs ``last.keras`` has seen and the best value so far.

    Args:
        folder: where.
        monitor: name of the metric in the logs; the larger the better. Where the logs lack it, the last is the best.
    """

    def __init__(self, folder, monitor="val_mean_iou"):
        super().__init__()
        self.folder, self.monitor = pathlib.Path(folder), monitor
        self.state = read_state(self.folder)
        self.current_epoch = self.state["epochs"]
        self._twin = None

    def on_train_begin(self, logs=None):
        if not (self.folder / LAST).exists():
            self._save_last(0)

    def on_epoch_begin(self, epoch, logs=None):
        self.current_epoch = epoch

    def on_epoch_end(self, epoch, logs=None):
        value = float((logs or {}).get(self.monitor, epoch))
        if self.state["best"] is None or value > self.state["best"]:
            self.state |= {"best": value, "best_epoch": epoch + 1}
            _replace(self._deployable().save, self.folder / BEST)
        self._save_last(epoch + 1)
        self.current_epoch = epoch + 1  # this one is done, even if what follows is interrupted

    def save_interrupted(self):
        """Keeps what the epoch that was cut short has learned; resuming repeats that epoch."""
        if self.model is not None:
            self._save_last(self.current_epoch)

    def _save_last(self, epochs):
        _replace(self.model.save, self.folder / LAST)
        self.state["epochs"] = epochs
        _replace(lambda path: path.write_text(json.dumps(self.state)), self.folder / STATE)

    def _deployable(self):
        if self._twin is None:
            self._twin = type(self.model).from_config({**self.model.get_config(), "dtype": "float32"})
        self._twin.set_weights(self.model.get_weights())
        return self._twin


def read_state(folder) -> dict:
    """Returns {"epochs", "best", "best_epoch"} of a training's folder; zeros where it has none."""
    path = pathlib.Path(folder) / STATE
    return json.loads(path.read_text()) if path.exists() else {"epochs": 0, "best": None, "best_epoch": None}


def _replace(write, path: pathlib.Path):
    temporary = path.with_name(f".{path.stem}.part{path.suffix}")
    write(temporary)
    os.replace(temporary, path)


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

    def on_epoch_end(self, epoch, logs=None):
        if (epoch + 1) % self.every == 0 or epoch + 1 == self.params["epochs"]:
            self.write(epoch + 1)

    def write(self, epoch):
        """Writes the picture for so many epochs seen."""
        from tfzoo.data.images import resize_image, resize_labels
        from tfzoo.visualization import comparison, save_image

        samples = [self.dataset.read(index) for index in self._indices]
        images = np.stack([resize_image(sample["images"], self._size) for sample in samples])
        truth = [resize_labels(sample["segmentation_masks"][..., 0], self._size) for sample in samples]
        labels = self.model.predict(images, verbose=0)["labels"]
        self.folder.mkdir(parents=True, exist_ok=True)
        save_image(comparison(images, truth, labels, self.dataset.class_names), self.folder / f"epoch_{epoch:03d}.png")
