"""What every data set offers, whatever it is read from."""

import abc
import importlib

from tfzoo.errors import InputError

TASKS = ("semantic", "detection", "instance", "keypoint")
TASK_KEYS = {
    "semantic": ("images", "segmentation_masks"),
    "detection": ("images", "bounding_boxes"),
    "instance": ("images", "bounding_boxes", "instance_masks"),
    "keypoint": ("images", "bounding_boxes", "keypoints"),
}


class Dataset(abc.ABC):
    """Labelled pictures of one split.

    Attributes:
        spec: what it was loaded from, such as "masks:DIR".
        split: "train", "val", "test", ...
        task: one of ``TASKS``; samples hold the keys of ``TASK_KEYS[task]`` and ``image_id``.
        class_names: list; label i is ``class_names[i]``. For semantic data with a background, it is class 0.
        keypoint_names: list, empty where the task has no keypoints.
    """

    tasks: tuple[str, ...] = ()

    def __init__(self, spec: str, split: str, task: str | None, class_names=()):
        if task is not None and task not in self.tasks:
            raise InputError(f"Data set '{spec}' has no labels for the task '{task}': it can be read for {', '.join(self.tasks)}.")
        self.spec, self.split = spec, split
        self.task = task or self.tasks[0]
        self.class_names = list(class_names)
        self.keypoint_names: list[str] = []

    @abc.abstractmethod
    def __len__(self) -> int: ...

    @abc.abstractmethod
    def read(self, index: int) -> dict:
        """Reads one sample as NumPy arrays.

        Returns a dict, with only the keys that the task has:
            images: uint8 [H, W, 3].
            image_id: str.
            segmentation_masks: uint8 [H, W, 1], class indices, 255 = ignore.
            bounding_boxes: {"boxes": float32 [N, 4], xyxy in pixels; "labels": int32 [N]; "crowd": bool [N]}.
            instance_masks: uint8 [N, H, W], 0 or 1.
            keypoints: float32 [N, K, 3]: x, y in pixels, visibility 0, 1 or 2 as in COCO.

        Raises:
            InputError: the picture or its labels are damaged or do not fit each other.
        """

    def samples(self):
        """Returns a tf.data.Dataset of sample dicts (see ``read``), in order, each picture at its own size."""
        return _pipeline().samples(self)

    def batches(self, batch_size=8, image_size=None, training=False, seed=0, first_epoch=0, augmentation=None):
        """Returns a tf.data.Dataset of (images, targets), ready for ``fit``.

        Args:
            batch_size: pictures in a batch; the last one may be smaller.
            image_size: N or (height, width) that every picture is resized to; None takes the size of the first one.
            training: shuffle (another order each epoch) and augment.
            seed: decides order and augmentation, together with the number of the epoch.
            first_epoch: the number of the epoch that the first pass is, for a training that is resumed.
            augmentation: an ``Augmentation``; None takes the default one. Only looked at when training.

        Returns:
            images uint8 [B, H, W, 3]; for the semantic task, targets uint8 [B, H, W], 255 = ignore.

        Raises:
            InputError: the task's batches are not to be had, or the size is none.
        """
        return _pipeline().batches(self, batch_size, image_size, training, seed, first_epoch, augmentation)

    def loader(self, batch_size=8, image_size=None, training=False, seed=0, first_epoch=0, augmentation=None, workers=2):
        """Returns a ``keras.utils.PyDataset`` of (images, targets): ``batches`` for where TensorFlow is not installed.

        Pictures, their order and their geometry are those of ``batches`` with the same seed; flips and colour are drawn by the
        same layers, but from other streams, which a resumed training goes on with. Give ``shuffle=False`` to ``fit``: the
        batches are shuffled already, and are made ahead only if they are taken in turn.

        Args:
            batch_size, image_size, training, seed, first_epoch, augmentation: as in ``batches``.
            workers: threads that make batches ahead.

        Raises:
            InputError: the task's batches are not to be had, or the size is none.
        """
        from tfzoo.data.loader import Loader, Visits

        return Loader(Visits.of(self, image_size, training, seed, augmentation), batch_size, first_epoch, workers)

    def __repr__(self):
        return (
            f"<{type(self).__name__} {self.spec} {self.split}: {len(self)} pictures, {len(self.class_names)} classes, {self.task}>"
        )


def _pipeline():
    try:
        return importlib.import_module("tfzoo.data.pipeline")
    except ImportError as error:
        if (error.name or "").partition(".")[0] != "tensorflow":
            raise
        raise InputError("A tf.data pipeline needs TensorFlow, which is not installed: install it, or use loader().") from None
