"""The metrics of semantic segmentation, all from one confusion matrix.

p[i, j] counts the pixels of class i that were called j; ignored pixels are in no cell. Definitions: Garcia-Garcia et al.
2017 (A Review on Deep Learning Techniques Applied to Semantic Segmentation), section 5.1.2. A class that never occurs in the
truth is left out of the means.
"""

import keras
import numpy as np
from keras import ops

from tfzoo.data.images import IGNORE_LABEL
from tfzoo.layers.decision import argmax


def confusion_matrix(truth, predicted, num_classes, ignore_label=IGNORE_LABEL):
    """Counts pairs of labels: int32 [C, C], rows truth, columns prediction. Both inputs: integers of one shape."""
    truth, predicted = ops.cast(truth, "int32"), ops.cast(predicted, "int32")
    counts = (truth != ignore_label) & (truth < num_classes) & (predicted >= 0) & (predicted < num_classes)
    cell = ops.where(counts, truth * num_classes + predicted, num_classes * num_classes)
    cell = ops.reshape(cell, (-1,))  # a bincount's length would not be static on JAX
    total = ops.segment_sum(ops.ones_like(cell), cell, num_segments=num_classes * num_classes + 1)
    return ops.reshape(total[: num_classes * num_classes], (num_classes, num_classes))


def pixel_accuracy(p):
    """PA = sum_i p_ii / sum_ij p_ij; 0 where nothing was counted."""
    return _divide(ops.sum(ops.diagonal(p)), ops.sum(p))


def class_accuracy(p):
    """p_ii / sum_j p_ij for each class, [C]; 0 for a class that does not occur."""
    return _divide(ops.diagonal(p), ops.sum(p, axis=1))


def class_iou(p):
    """p_ii / (sum_j p_ij + sum_j p_ji - p_ii) for each class, [C]; 0 for a class that does not occur."""
    correct = ops.diagonal(p)
    return _divide(correct, ops.sum(p, axis=1) + ops.sum(p, axis=0) - correct)


def occurring(p):
    """1.0 for the classes that occur in the truth, else 0.0: [C]."""
    return ops.cast(ops.sum(p, axis=1) > 0, "float32")


def mean_pixel_accuracy(p):
    """MPA: the mean of the classes' accuracies, over the classes that occur."""
    return _mean(class_accuracy(p), occurring(p))


def mean_iou(p):
    """MIoU: the mean of the classes' IoU, over the classes that occur."""
    return _mean(class_iou(p), occurring(p))


def frequency_weighted_iou(p):
    """FWIoU: the classes' IoU, weighted by how many pixels each has in the truth."""
    frequency = _divide(ops.sum(p, axis=1), ops.sum(p))
    return ops.sum(frequency * class_iou(p))


def _divide(a, b):
    a, b = ops.cast(a, "float32"), ops.cast(b, "float32")
    return ops.where(b > 0, a / ops.maximum(b, 1.0), 0.0)


def _mean(values, counted):
    return _divide(ops.sum(values * counted), ops.sum(counted))


def summarize(p: np.ndarray, class_names) -> dict:
    """Every metric of a confusion matrix, as plain numbers.

    Returns a dict: pixel_accuracy, mean_pixel_accuracy, mean_iou, frequency_weighted_iou; per_class (name -> IoU, None where the
    class never occurs); left_out (names of those).
    """
    p = np.asarray(p)
    present = p.sum(axis=1) > 0
    iou = np.asarray(ops.convert_to_numpy(class_iou(p)))
    return {
        **{
            function.__name__: float(function(p))
            for function in (pixel_accuracy, mean_pixel_accuracy, mean_iou, frequency_weighted_iou)
        },
        "per_class": {name: float(iou[i]) if present[i] else None for i, name in enumerate(class_names)},
        "left_out": [name for i, name in enumerate(class_names) if not present[i]],
    }


@keras.saving.register_keras_serializable("tfzoo")
class ConfusionMatrix(keras.metrics.Metric):
    """Streams the confusion matrix; its result is the matrix itself, [C, C].

    Args:
        num_classes: C.
        ignore_label: pixels of this label count nowhere.

    ``update_state(y_true, y_pred)``: y_true integers [B, H, W]; y_pred labels of that shape, or logits [B, H, W, C].
    """

    def __init__(self, num_classes, ignore_label=IGNORE_LABEL, name=None):
        super().__init__(name=name, dtype="float32")
        self.num_classes, self.ignore_label = num_classes, ignore_label
        # A float32 cell would stop counting at 16.7 million pixels; JAX has no 64 bits by default.
        dtype = "int64" if keras.backend.backend() == "tensorflow" else "int32"
        self.matrix = self.add_weight(shape=(num_classes, num_classes), initializer="zeros", dtype=dtype, name="matrix")

    def update_state(self, y_true, y_pred, sample_weight=None):
        if len(y_pred.shape) > len(y_true.shape):
            y_pred = argmax(y_pred, axis=-1)
        counted = confusion_matrix(y_true, y_pred, self.num_classes, self.ignore_label)
        self.matrix.assign_add(ops.cast(counted, self.matrix.dtype))

    def result(self):
        return ops.convert_to_tensor(self.matrix)

    def get_config(self):
        return {"num_classes": self.num_classes, "ignore_label": self.ignore_label, "name": self.name}


@keras.saving.register_keras_serializable("tfzoo")
class PixelAccuracy(ConfusionMatrix):
    """The share of pixels that are right."""

    def result(self):
        return pixel_accuracy(self.matrix)


@keras.saving.register_keras_serializable("tfzoo")
class MeanPixelAccuracy(ConfusionMatrix):
    """The mean over the classes that occur of the share of their pixels that are right."""

    def result(self):
        return mean_pixel_accuracy(self.matrix)


@keras.saving.register_keras_serializable("tfzoo")
class MeanIoU(ConfusionMatrix):
    """Mean intersection over union, over the classes that occur."""

    def result(self):
        return mean_iou(self.matrix)


@keras.saving.register_keras_serializable("tfzoo")
class FrequencyWeightedIoU(ConfusionMatrix):
    """Intersection over union, weighted by the classes' pixels."""

    def result(self):
        return frequency_weighted_iou(self.matrix)
