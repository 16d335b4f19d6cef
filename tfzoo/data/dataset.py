"""What every data set offers, whatever it is read from."""

import abc
import importlib
import pathlib

import numpy as np

from tfzoo.data.objects import sides_swapped
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
        box_keys: what ``bounding_boxes`` hold, see ``read``.
        most_boxes: the largest number of boxes in a picture, where that is known without looking, else None.
        proposal_count: so many proposals at most come with each picture; None: none do (see ``proposals.with_proposals``).
    """

    tasks: tuple[str, ...] = ()
    box_keys: tuple[str, ...] = ("boxes", "labels", "crowd")
    most_boxes: int | None = None
    proposal_count: int | None = None

    def __init__(self, spec: str, split: str, task: str | None, class_names=()):
        if task is not None and task not in self.tasks:
            raise InputError(f"Data set '{spec}' has no labels for the task '{task}': it can be read for {', '.join(self.tasks)}.")
        self.spec, self.split = spec, split
        self.task = task or self.tasks[0]
        self.class_names = list(class_names)
        self.keypoint_names: list[str] = []

    @property
    def mirrored_points(self) -> np.ndarray:
        """For each class, which keypoint takes each place when a picture is mirrored: int [C, K].

        Here "left_x" and "right_x" change places, and all other points keep theirs.
        """
        return np.tile(sides_swapped(self.keypoint_names), (len(self.class_names), 1))

    @abc.abstractmethod
    def __len__(self) -> int: ...

    @abc.abstractmethod
    def read(self, index: int) -> dict:
        """Reads one sample as NumPy arrays.

        Returns a dict, with only the keys that the task has:
            images: uint8 [H, W, 3].
            image_id: str.
            segmentation_masks: uint8 [H, W, 1], class indices, 255 = ignore.
            bounding_boxes: {"boxes": float32 [N, 4], xyxy in pixels; "labels": int32 [N]; "crowd": bool [N], a box around
                many (COCO)}, as the annotations have them; some readers have more: "difficult": bool [N] (VOC); "area":
                float32 [N], pixels of the object itself (COCO), by which it is called small, medium or large.
            instance_masks: uint8 [N, H, W], 0 or 1.
            keypoints: float32 [N, K, 3]: x, y in pixels, visibility 0, 1 or 2 as in COCO.

        Raises:
            InputError: the picture or its labels are damaged or do not fit each other.
        """

    def read_boxes(self, index: int) -> tuple[dict, tuple[int, int]]:
        """The ``bounding_boxes`` of a sample and its picture's (height, width), without decoding the picture where possible."""
        sample = self.read(index)
        return sample["bounding_boxes"], sample["images"].shape[:2]

    def picture_file(self, index: int) -> pathlib.Path | None:
        """The file that a sample's picture is read from; None where it has none of its own."""
        return None

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
            images uint8 [B, H, W, 3] and the targets. Semantic task: uint8 [B, H, W], 255 = ignore. Detection: {"boxes":
            float32 [B, N, 4], xyxy in pixels of these images, "labels": int32 [B, N]}, padded with label -1; N is the largest
            number of boxes in any picture of the data set (with mosaic: four times as many; at most the augmentation's
            ``max_objects``), and at least 1. Crowds and difficult boxes are left out; so are boxes of which less than a pixel is
            inside the picture, with a warning that counts them. Instance: "masks" too, uint8 [B, N, H, W], 0 or 1; an object that
            a crop cuts has the box of what is left of its mask. Keypoint: "keypoints" too, float32 [B, N, K, 3]: x, y,
            visibility 0, 1 or 2 as in ``read``; a point that has left the picture is 0, 0, 0. Both tasks have no mosaic.

        Raises:
            InputError: the size is none, or the labels cannot follow the augmentation.
        """
        return _pipeline().batches(self, batch_size, image_size, training, seed, first_epoch, augmentation)

    def loader(
        self, batch_size=8, image_size=None, training=False, seed=0, first_epoch=0, augmentation=None, workers=2, fill=False
    ):
        """Returns a ``keras.utils.PyDataset`` of (images, targets): ``batches`` for where TensorFlow is not installed.

        Pictures, their order and their geometry are those of ``batches`` with the same seed; colour, and flips of label maps, are
        drawn by the same layers, but from other streams, which a resumed training goes on with. Give ``shuffle=False`` to
        ``fit``: the batches are shuffled already, and are made ahead only if they are taken in turn.

        Args:
            batch_size, image_size, training, seed, first_epoch, augmentation: as in ``batches``.
            workers: threads that make batches ahead.
            fill: the last batch is filled up with the first pictures of the epoch, so that all have one shape and the training step
                is compiled once, which takes minutes for a large network.

        Raises:
            InputError: the size is none, or the labels cannot follow the augmentation.
        """
        from tfzoo.data.loader import Loader, Visits

        return Loader(Visits.of(self, image_size, training, seed, augmentation), batch_size, first_epoch, workers, fill)

    def __repr__(self):
        return (
            f"<{type(self).__name__} {self.spec} {self.split}: {len(self)} pictures, {len(self.class_names)} classes, {self.task}>"
        )


def split_names(split: str) -> tuple[str, ...]:
    """What files and folders may call a split, its own name first: tools differ between "val" and "valid"."""
    return {"val": ("val", "valid"), "valid": ("valid", "val")}.get(split, (split,))


def _pipeline():
    try:
        return importlib.import_module("tfzoo.data.pipeline")
    except ImportError as error:
        if (error.name or "").partition(".")[0] != "tensorflow":
            raise
        raise InputError("A tf.data pipeline needs TensorFlow, which is not installed: install it, or use loader().") from None
