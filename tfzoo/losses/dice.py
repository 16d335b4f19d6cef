"""Soft Dice loss."""

import keras
from keras import ops

from tfzoo.data.images import IGNORE_LABEL
from tfzoo.losses.base import SegmentationLoss, weighted_mean


@keras.saving.register_keras_serializable("tfzoo")
class Dice(SegmentationLoss):
    """1 - Dice coefficient, soft, of each class over the whole batch, averaged over the classes that occur.

    D(c) = 2 sum_i p_i(c) g_i(c) / (sum_i p_i(c)^2 + sum_i g_i(c)^2), p the softmax probabilities and g the one-hot labels, over
    all pixels i of the batch with a label other than ignore: V-Net's form with squares (Milletari 2016, Dice loss layer), for each
    class in place of the one foreground; loss = sum_c w(c) (1 - D(c)) / sum_c w(c).

    A class that no pixel has is left out: its D is 0 whatever is predicted, so it could teach nothing. Probability that goes to
    it is missing from the other classes. Those have a denominator of at least 1, so nothing is smoothed. Computed in float32.

    Args:
        class_weights: C numbers w, or None for 1 everywhere.
        ignore_label: the label that counts nowhere.

    ``y_true``: integers [B, H, W]; ``y_pred``: logits [B, H, W, C].
    """

    def __init__(self, class_weights=None, ignore_label=IGNORE_LABEL, name="dice"):
        super().__init__(class_weights, ignore_label, name)

    def compute(self, labels, counted, logits, class_weights):
        counted = counted[..., None]
        probabilities = ops.softmax(logits, axis=-1) * counted
        truth = ops.one_hot(labels, logits.shape[-1], dtype="float32") * counted
        shared, squares, pixels = (ops.sum(x, axis=(0, 1, 2)) for x in (probabilities * truth, ops.square(probabilities), truth))
        dice = 2 * shared / ops.maximum(squares + pixels, 1e-6)
        return weighted_mean(1 - dice, class_weights * ops.cast(pixels > 0, "float32"))
