"""Labelled pictures: readers, augmentation and the one tf.data pipeline."""

from tfzoo.data.dataset import TASKS, Dataset
from tfzoo.data.images import IGNORE_LABEL
from tfzoo.data.proposals import proposal_recall, with_proposals
from tfzoo.errors import InputError, nearest

READERS = {
    "shapes": ("tfzoo.data.shapes", "Shapes"),
    "masks": ("tfzoo.data.masks", "Masks"),
    "coco": ("tfzoo.data.coco", "Coco"),
    "voc": ("tfzoo.data.voc", "Voc"),
    "yolo": ("tfzoo.data.yolo", "Yolo"),
    "tfrecord": ("tfzoo.data.tfrecord", "TFRecord"),
}


def load_dataset(spec: str, split: str, task: str | None = None) -> Dataset:
    """Opens a split of a data set.

    Args:
        spec: "shapes" (or "shapes:HEIGHTxWIDTH"), "masks:DIR", "coco:DIR", "voc:DIR", "yolo:DIR", "tfrecord:DIR".
        split: "train", "val", "test", or whatever the data set has.
        task: "semantic", "detection", "instance" or "keypoint"; None takes the reader's first: semantic for shapes and
            masks, what it was written for for tfrecord, detection for the others.

    Raises:
        InputError: the spec or the task is not known, the data set is damaged, or its label maps cannot hold so many classes.
        MissingInputError: a folder, split, picture or label map is missing.
    """
    import importlib

    reader, _, place = str(spec).partition(":")
    if reader not in READERS:
        forms = ", ".join(["shapes", *(f"{name}:DIR" for name in READERS if name != "shapes")])
        raise InputError(f"Data set spec '{spec}' is not known: give one of {forms}.{nearest(reader, READERS)}")
    if task is not None and task not in TASKS:
        raise InputError(f"Task '{task}' is not known: it is one of {', '.join(TASKS)}.{nearest(task, TASKS)}")
    module, name = READERS[reader]
    dataset = getattr(importlib.import_module(module), name)(spec, place, split, task)
    if len(dataset) == 0:
        raise InputError(f"Data set '{spec}' has no pictures in its split '{split}': list some.")
    if dataset.task == "semantic" and len(dataset.class_names) > IGNORE_LABEL:
        raise InputError(
            f"Data set '{spec}' has {len(dataset.class_names)} classes (a background counts too), but label maps hold at "
            f"most {IGNORE_LABEL} (0 to {IGNORE_LABEL - 1}; {IGNORE_LABEL} is ignored): join classes, or leave some out."
        )
    return dataset


__all__ = ["READERS", "TASKS", "Dataset", "load_dataset", "proposal_recall", "with_proposals"]
