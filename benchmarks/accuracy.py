"""``tfzoo evaluate``: the accuracy of any artifact, measured on the artifact itself."""

import sys
import time

import keras
import numpy as np

from tfzoo.data import load_dataset
from tfzoo.data.images import IGNORE_LABEL, parse_size, resize_image, resize_labels
from tfzoo.errors import InputError
from tfzoo.export import load
from tfzoo.metrics.confusion import confusion_matrix, summarize

GROUP = 8  # pictures read before they are run


def evaluate(artifact, data: str, split: str = "val", image_size=None, threads=None, verbose=True) -> dict:
    """Measures a segmenter on a data set.

    Args:
        artifact: path of a .keras, .tflite or .onnx file or of a SavedModel's folder, or a ``Runner``.
        data: data set spec; split: which part of it.
        image_size: N or (height, width): pictures are resized to it and compared with label maps resized to it (nearest).
            None: compared at each picture's original size, whatever size the artifact runs at.
        threads: of the runtime.
        verbose: show a progress bar, where a terminal is there to show it.

    Returns:
        a dict: mean_iou, pixel_accuracy, mean_pixel_accuracy, frequency_weighted_iou, per_class, left_out (see
        ``metrics.confusion.summarize``), confusion (rows truth, columns prediction), pictures, measured_at, seconds, and what
        was measured.

    Raises:
        InputError: the artifact's classes are not the data set's, or either cannot be read.
    """
    runner = artifact if hasattr(artifact, "predict") else load(artifact, threads, image_size)
    runner.require_answer()
    dataset = load_dataset(data, split, runner.task)
    to_dataset = match_classes(runner.class_names, dataset)
    size = parse_size(image_size)
    total = np.zeros((len(dataset.class_names),) * 2, np.int64)
    progress = keras.utils.Progbar(len(dataset), unit_name="picture", verbose=int(verbose and sys.stdout.isatty()))
    start = time.perf_counter()
    for first in range(0, len(dataset), GROUP):
        samples = [dataset.read(index) for index in range(first, min(first + GROUP, len(dataset)))]
        images, truth = zip(*(_at_size(sample, size) for sample in samples), strict=True)
        for true, labels in zip(truth, runner.predict(list(images))["labels"], strict=True):
            total += np.asarray(confusion_matrix(true, to_dataset[labels], len(dataset.class_names)))
        progress.update(first + len(samples))
    return {
        "artifact": str(runner.path),
        "format": runner.name,
        "data": data,
        "split": split,
        "pictures": len(dataset),
        "measured_at": "x".join(map(str, size)) if size else "original size",
        "seconds": time.perf_counter() - start,
        **summarize(total, dataset.class_names),
        "confusion": total.tolist(),
    }


def _at_size(sample, size):
    image, labels = sample["images"], sample["segmentation_masks"][..., 0]
    return (resize_image(image, size), resize_labels(labels, size)) if size else (image, labels)


def match_classes(class_names, dataset) -> np.ndarray:
    """Maps an artifact's labels to a data set's by name: uint8 [256].

    Raises:
        InputError: their names are not the same.
    """
    if sorted(class_names) != sorted(dataset.class_names):
        raise InputError(
            f"The artifact knows {_enumerate(class_names)}, the data set '{dataset.spec}' {_enumerate(dataset.class_names)}: "
            "evaluate it on data of its own classes."
        )
    table = np.full(256, IGNORE_LABEL, np.uint8)
    table[: len(class_names)] = [dataset.class_names.index(name) for name in class_names]
    return table


def _enumerate(names):
    return f"{len(names)} classes ({', '.join(names[:8])}{', ...' if len(names) > 8 else ''})"


def format_table(result: dict) -> str:
    """A result as a table for people (Markdown)."""
    lines = [
        f"{result['artifact']} ({result['format']}) on {result['data']} {result['split']}: "
        f"{result['pictures']} pictures, at {result['measured_at']}",
        "",
        "| metric | value |",
        "|---|---|",
        *(
            f"| {name.replace('_', ' ')} | {result[name]:.4f} |"
            for name in ("mean_iou", "pixel_accuracy", "mean_pixel_accuracy", "frequency_weighted_iou")
        ),
        "",
        "| class | IoU |",
        "|---|---|",
        *(f"| {name} | {'never occurs' if iou is None else f'{iou:.4f}'} |" for name, iou in result["per_class"].items()),
    ]
    if result["left_out"]:
        lines += ["", f"Left out of the means, as they never occur in the truth: {', '.join(result['left_out'])}."]
    return "\n".join(lines)
