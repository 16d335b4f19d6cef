"""Per-pixel cross-entropy, and class weights from the frequencies of classes."""

import keras
from keras import ops

from tfzoo.data.images import IGNORE_LABEL
from tfzoo.losses.base import SegmentationLoss, weighted_mean


@keras.saving.register_keras_serializable("tfzoo")
class PixelCrossEntropy(SegmentationLoss):
    """Softmax cross-entropy of each pixel, averaged over the pixels that count.

    loss = sum_i w(y_i) * -log softmax(logits_i)[y_i] / sum_i w(y_i), over all pixels i of the batch with y_i != ignore; 0
    where there is none. Computed in float32.

    Args:
        class_weights: C numbers w, or None for 1 everywhere.
        ignore_label: the label that counts nowhere.

    ``y_true``: integers [B, H, W]; ``y_pred``: logits [B, H, W, C].
    """

    def __init__(self, class_weights=None, ignore_label=IGNORE_LABEL, name="cross_entropy"):
        super().__init__(class_weights, ignore_label, name)

    def compute(self, labels, counted, logits, class_weights):
        entropy = ops.sparse_categorical_crossentropy(labels, logits, from_logits=True)
        return weighted_mean(entropy, counted * ops.take(class_weights, labels, axis=0))


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


def inverse_frequency_weights(pixels, cap=None):
    """Inverse frequency balancing: w(c) = N / (K * n(c)), N pixels in all, n(c) of class c, K classes that occur.

    These are King & Zeng's weights (Logistic Regression in Rare Events Data, 2001: share of the population over share of the
    sample) where every class is given the same share of the population, 1/K. Without a cap the pixels of each class weigh the
    same in sum, and the mean weight of a pixel is 1.

    Args:
        pixels: C numbers: pixels of class c in the training set.
        cap: largest weight allowed, or None.

    Returns:
        list of C weights; a class that never occurs gets 0 and is not among the K.
    """
    import numpy as np

    pixels = np.asarray(pixels, np.float64)
    occurs = pixels > 0
    weights = np.zeros_like(pixels)
    weights[occurs] = pixels.sum() / (occurs.sum() * pixels[occurs])
    return np.minimum(weights, cap if cap else np.inf).tolist()
