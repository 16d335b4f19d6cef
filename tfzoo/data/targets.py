"""What a picture's labels become in a batch, for each task: read, changed together with the picture, padded.

A class of targets has ``batch_augmentation`` (what is left to Keras's layers on whole batches), ``layer_keys`` (targets that go
through these layers), ``fields`` (name -> dtype, shape of one picture's) and ``read``; ``inputs`` and ``finish`` give what ``fit``
takes, the model's input and the targets.
"""

import dataclasses
import warnings

import numpy as np

from tfzoo.data import box_augmentation
from tfzoo.data.augmentation import Augmentation, change_geometry
from tfzoo.data.boxes import clip_boxes, is_wanted, scale_boxes, shortest_sides
from tfzoo.data.objects import PADDING, Objects
from tfzoo.errors import InputError


def make_targets(dataset, size, augmentation: Augmentation):
    """Returns the targets of a data set's task.

    Raises:
        InputError: its labels cannot follow the augmentation.
    """
    if dataset.task == "semantic":
        return LabelMaps(dataset, size, augmentation)
    return (PaddedBoxes if dataset.proposal_count is None else BoxesAndProposals)(dataset, size, augmentation)


class LabelMaps:
    """Semantic segmentation: uint8 [height, width], 255 = ignore."""

    layer_keys = ("segmentation_masks",)

    def __init__(self, dataset, size, augmentation):
        if augmentation.zoom_out > 1 or augmentation.iou_crop or augmentation.mosaic or augmentation.max_objects:
            raise InputError(
                "zoom_out, iou_crop, mosaic and max_objects are for pictures with boxes, not for label maps: leave them out."
            )
        self._dataset, self._size, self._augmentation = dataset, size, augmentation
        self.batch_augmentation = augmentation
        self.fields = {"segmentation_masks": (np.uint8, (*size, 1))}

    def read(self, index, rng):
        sample = self._dataset.read(index)
        labels = sample["segmentation_masks"][..., 0]
        image, labels = change_geometry(sample["images"], labels, self._size, self._augmentation, rng)
        return {"images": image, "segmentation_masks": labels[..., None]}

    @staticmethod
    def inputs(batch):
        return batch["images"]

    @staticmethod
    def finish(targets):
        return targets["segmentation_masks"][..., 0]


class PaddedBoxes:
    """Tasks with boxes: {"boxes": float32 [N, 4], "labels": int32 [N]}, padded with box 0 and label -1 (see ``Dataset.batches``).

    The task "instance" has "masks" too, uint8 [N, height, width], and "keypoint" has "keypoints", float32 [N, K, 3].
    """

    layer_keys = ()

    def __init__(self, dataset, size, augmentation):
        box_augmentation.check_boxes_can_follow(augmentation)
        if augmentation.mosaic and dataset.task != "detection":
            raise InputError(f"mosaic is {augmentation.mosaic}: it is for the task 'detection', not '{dataset.task}'; set it to 0.")
        self._dataset, self._size, self._augmentation = dataset, size, augmentation
        self.batch_augmentation = dataclasses.replace(augmentation, flip=None)  # Keras's flip would leave the boxes behind
        most = count_boxes(dataset, size) * (4 if augmentation.mosaic else 1)
        self._count = min(most, augmentation.max_objects or most)
        self._mirrored_points = dataset.mirrored_points if dataset.task == "keypoint" else None
        self.fields = {"boxes": (np.float32, (self._count, 4)), "labels": (np.int32, (self._count,))}
        if dataset.task == "instance":
            self.fields["masks"] = np.uint8, (self._count, *size)
        if dataset.task == "keypoint":
            self.fields["keypoints"] = np.float32, (self._count, len(dataset.keypoint_names), 3)

    def read(self, index, rng):
        image, objects = self._change(index, rng)
        return {"images": image, **self._pad(objects, rng)}

    def _change(self, index, rng):
        if self._augmentation.mosaic and rng.random() < self._augmentation.mosaic:
            others = rng.integers(len(self._dataset), size=3)
            samples = [self._read_wanted(int(place)) for place in (index, *others)]
            return box_augmentation.mosaic(samples, self._size, self._augmentation, rng)
        return box_augmentation.change_geometry(*self._read_wanted(index), self._size, self._augmentation, rng)

    def _pad(self, objects, rng):
        return _some(objects, self._count, rng).padded(self._count)

    def _read_wanted(self, index):
        sample = self._dataset.read(index)
        return sample["images"], Objects.wanted(sample, self._mirrored_points)

    @staticmethod
    def inputs(batch):
        return batch["images"]

    def finish(self, targets):
        return {name: targets[name] for name in self.fields}


class BoxesAndProposals(PaddedBoxes):
    """The task "detection" with "proposals" float32 [P, 4] beside the picture, padded with 0.

    They are changed together with the picture, as objects of the label ``PADDING``, which decide nothing about the change.
    """

    def __init__(self, dataset, size, augmentation):
        super().__init__(dataset, size, augmentation)
        self._places = dataset.proposal_count
        self.fields["proposals"] = np.float32, (self._places, 4)

    def read(self, index, rng):
        image, objects = self._change(index, rng)
        real = objects.labels != PADDING
        found = self._pad(objects.select(real), rng)
        proposals = _some(objects.select(~real), self._places, rng)  # a mosaic has four pictures'
        return {"images": image, **found, "proposals": proposals.padded(self._places)["boxes"]}

    def _read_wanted(self, index):
        sample = self._dataset.read(index)
        objects, proposals = Objects.wanted(sample), sample["proposals"]
        boxes, labels = np.concatenate([objects.boxes, proposals]), np.full(len(proposals), PADDING, objects.labels.dtype)
        return sample["images"], Objects(boxes, np.concatenate([objects.labels, labels]))

    @staticmethod
    def inputs(batch):
        return {name: batch[name] for name in ("images", "proposals")}

    def finish(self, targets):
        return {name: targets[name] for name in ("boxes", "labels")}


def _some(objects, count, rng):
    """A random choice of so many objects, in their order, where there are more."""
    if len(objects) <= count:
        return objects
    return objects.select(np.sort(rng.choice(len(objects), count, replace=False)))


def count_boxes(dataset, size) -> int:
    """The largest number of boxes to be found in any picture of a data set, at least 1.

    Warns of those that can never be found, as less than a pixel of a picture of ``size`` shows them.
    """
    if dataset.most_boxes is not None:
        return dataset.most_boxes
    most, total, dropped = 1, 0, 0
    for index in range(len(dataset)):
        found, picture_size = dataset.read_boxes(index)
        boxes = clip_boxes(found["boxes"][is_wanted(found)], picture_size)
        most, total = max(most, len(boxes)), total + len(boxes)
        dropped += int((shortest_sides(scale_boxes(boxes, picture_size, size)) < box_augmentation.MIN_SIDE).sum())
    if dropped:
        warnings.warn(
            f"Data set '{dataset.spec}', split '{dataset.split}': {dropped} of {total} boxes are less than a pixel wide or high at "
            f"{size[0]}x{size[1]} and are left out.",
            stacklevel=2,
        )
    return most
