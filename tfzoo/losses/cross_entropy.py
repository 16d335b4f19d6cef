"""Per-pixel cross-entropy."""

import keras
from keras import ops

from tfzoo.data.images import IGNORE_LABEL


@keras.saving.register_keras_serializable("tfzoo")
class PixelCrossEntropy(keras.losses.Loss):
    """Softmax cross-entropy of each pixel, averaged over the pixels that count.

    loss = sum_i w(y_i) * -log softmax(logits_i)[y_i] / sum_i w(y_i), over all pixels i of the batch with y_i != ignore; 0
    where there is none. Computed in float32.

    Args:
        class_weights: C numbers w, or None for 1 everywhere.
        ignore_label: the label that counts nowhere.

    ``y_true``: integers [B, H, W]; ``y_pred``: logits [B, H, W, C].
    """

    def __init__(self, class_weights=None, ignore_label=IGNORE_LABEL, name="cross_entropy"):
        super().__init__(name=name, reduction="sum", dtype="float32")
        self.class_weights = None if class_weights is None else [float(w) for w in class_weights]
        self.ignore_label = ignore_label

    def call(self, y_true, y_pred):
        labels = ops.cast(y_true, "int32")
        counts = labels != self.ignore_label
        labels = ops.where(counts, labels, 0)
        entropy = ops.sparse_categorical_crossentropy(labels, ops.cast(y_pred, "float32"), from_logits=True)
        weights = ops.cast(counts, "float32")
        if self.class_weights is not None:
            weights = weights * ops.take(ops.convert_to_tensor(self.class_weights, "float32"), labels, axis=0)
        return ops.sum(weights * entropy) / ops.maximum(ops.sum(weights), 1e-6)

    def get_config(self):
        return {"class_weights": self.class_weights, "ignore_label": self.ignore_label, "name": self.name}


def median_frequency_weights(pixels, images_pixels, cap=None):
    """Median frequency balancing (Eigen & Fergus 2015, section 5.3): w(c) = median of the frequencies / frequency(c).

    Args:
        pixels: C numbers: pixels of class c in the training set.
        images_pixels: C numbers: pixels, ignored ones left out, of all pictures in which class c occurs.
        cap: largest weight allowed, or None.

    Returns:
        list of C weights; a class that never occurs gets 0 and is left out of the median.
    """
    import numpy as np

    pixels, images_pixels = np.asarray(pixels, np.float64), np.asarray(images_pixels, np.float64)
    frequency = np.divide(pixels, images_pixels, out=np.zeros_like(pixels), where=images_pixels > 0)
    occurs = frequency > 0
    weights = np.zeros_like(frequency)
    if occurs.any():
        weights[occurs] = np.median(frequency[occurs]) / frequency[occurs]
    return np.minimum(weights, cap if cap else np.inf).tolist()
