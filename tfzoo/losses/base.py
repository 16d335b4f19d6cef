"""What the losses of segmentation share."""

import keras
from keras import ops

from tfzoo.data.images import IGNORE_LABEL
from tfzoo.errors import InputError


class SegmentationLoss(keras.losses.Loss):
    """Base of the losses with ignored pixels: one number for a batch, computed in float32 whatever the dtype policy.

    A subclass writes ``compute``.

    Args:
        class_weights: C numbers, or None for 1 everywhere.
        ignore_label: the label that counts nowhere.

    ``y_true``: integers [B, H, W]; ``y_pred``: logits [B, H, W, C]. Where every pixel is ignored the loss is 0, and so is its
    gradient.

    Raises:
        InputError: at the first call: there are not as many class weights as logits.
    """

    def __init__(self, class_weights=None, ignore_label=IGNORE_LABEL, name=None):
        super().__init__(name=name, reduction="sum", dtype="float32")
        self.class_weights = None if class_weights is None else [float(w) for w in class_weights]
        self.ignore_label = ignore_label

    def call(self, y_true, y_pred):
        logits = ops.cast(y_pred, "float32")
        labels = ops.cast(y_true, "int32")
        counted = labels != self.ignore_label
        return self.compute(ops.where(counted, labels, 0), ops.cast(counted, "float32"), logits, self._weights(logits.shape[-1]))

    def compute(self, labels, counted, logits, class_weights):
        """Returns the loss, a float32 scalar.

        Args:
            labels: int32 [B, H, W], 0 where the pixel is ignored.
            counted: float32 [B, H, W], 0 where the pixel is ignored, else 1.
            logits: float32 [B, H, W, C].
            class_weights: float32 [C].
        """
        raise NotImplementedError

    def _weights(self, num_classes):
        if self.class_weights is None:
            return ops.ones((num_classes,), "float32")
        if len(self.class_weights) != num_classes:
            raise InputError(
                f"There are {len(self.class_weights)} class weights for {num_classes} classes: give the loss '{self.name}' as many."
            )
        return ops.convert_to_tensor(self.class_weights, "float32")

    def get_config(self):
        return {"class_weights": self.class_weights, "ignore_label": self.ignore_label, "name": self.name}


def weighted_mean(values, weights, axis=None):
    """sum(weights * values) / sum(weights) along ``axis``; 0 where no weight is above 0."""
    return ops.sum(weights * values, axis=axis) / ops.maximum(ops.sum(weights, axis=axis), 1e-6)
