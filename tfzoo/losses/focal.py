"""Focal loss (Lin et al. 2017, Focal Loss for Dense Object Detection): well-classified examples weigh little."""

import keras
from keras import ops

from tfzoo.data.images import IGNORE_LABEL
from tfzoo.errors import InputError
from tfzoo.losses.base import SegmentationLoss, weighted_mean


def sigmoid_focal_crossentropy(y_true, logits, alpha=0.25, gamma=2.0):
    """The focal loss of independent binary decisions: -alpha_t (1 - p_t)^gamma log(p_t), Lin 2017, equation 5.

    p_t is sigmoid(logit) where y is 1, else 1 - sigmoid(logit); alpha_t is alpha where y is 1, else 1 - alpha. Nothing is
    summed or normalised.

    Args:
        y_true: 0 or 1, any shape and dtype.
        logits: the same shape.
        alpha: weight of the ones, 0 to 1; None: no weights (equation 4).
        gamma: focusing, >= 0; 0 gives cross-entropy.

    Returns:
        float32, the shape of the logits; finite for every finite logit, as its gradient is.
    """
    y_true, logits = ops.cast(y_true, "float32"), ops.cast(logits, "float32")
    margin = (2 * y_true - 1) * logits  # p_t = sigmoid(margin)
    # log(1 - p_t) = -softplus(margin): a power of 1 - p_t itself would have infinite slopes at 0 where gamma < 1
    loss = ops.exp(-gamma * ops.softplus(margin)) * ops.softplus(-margin)
    if alpha is None:
        return loss
    return loss * (y_true * alpha + (1 - y_true) * (1 - alpha))


def dense_focal_loss(logits, labels, counted, alpha=0.25, gamma=2.0):
    """The focal loss of all anchors of each picture, summed: Lin 2017, section 4.1.

    Equal to ``sigmoid_focal_crossentropy`` of one-hot labels, without making these: every logit is taken as a background's, and the
    few of the labels are then put right.

    Args:
        logits: float32 [B, A, K].
        labels: int32 [B, A]: the class of each anchor, below 0 for background.
        counted: bool [B, A]: the others add nothing.

    Returns:
        float32 [B].
    """
    counted = ops.cast(counted, "float32")
    background = ops.sum(ops.sum(_background_focal(logits, alpha, gamma), axis=-1) * counted, axis=-1)
    foreground = counted * ops.cast(labels >= 0, "float32")
    chosen = ops.take_along_axis(logits, ops.expand_dims(ops.maximum(labels, 0), -1), axis=-1)[..., 0]
    correction = sigmoid_focal_crossentropy(1.0, chosen, alpha, gamma) - _background_focal(chosen, alpha, gamma)
    return background + ops.sum(correction * foreground, axis=-1)


def _background_focal(logits, alpha, gamma):
    """(1 - alpha) p^gamma * -log(1 - p), p = sigmoid(logit)."""
    surprise = ops.softplus(logits)  # -log(1 - p); log p is then logit - surprise
    return (1.0 if alpha is None else 1 - alpha) * ops.exp(gamma * (logits - surprise)) * surprise


@keras.saving.register_keras_serializable("tfzoo")
class PixelFocal(SegmentationLoss):
    """Focal loss of each pixel over softmax probabilities, averaged over the pixels that count.

    loss = alpha * sum_i w(y_i) (1 - p_i)^gamma * -log p_i / sum_i w(y_i), p_i = softmax(logits_i)[y_i], over all pixels i of
    the batch with y_i != ignore: Lin 2017, equation 4 with softmax in place of the sigmoid; the class weights w are the alpha_t
    of equation 5. With gamma 0 and alpha 1 it is ``PixelCrossEntropy``. Computed in float32.

    Args:
        class_weights: C numbers w, or None for 1 everywhere.
        alpha: factor of all of it, above 0.
        gamma: focusing, >= 0.
        ignore_label: the label that counts nowhere.

    ``y_true``: integers [B, H, W]; ``y_pred``: logits [B, H, W, C].

    Raises:
        InputError: alpha or gamma is out of its range.
    """

    def __init__(self, class_weights=None, alpha=1.0, gamma=2.0, ignore_label=IGNORE_LABEL, name="focal"):
        super().__init__(class_weights, ignore_label, name)
        if not (alpha > 0 and gamma >= 0):
            raise InputError(f"The focal loss has alpha {alpha} and gamma {gamma}: give an alpha above 0 and a gamma of 0 or more.")
        self.alpha, self.gamma = float(alpha), float(gamma)

    def compute(self, labels, counted, logits, class_weights):
        entropy = ops.sparse_categorical_crossentropy(labels, logits, from_logits=True)
        missing = ops.maximum(-ops.expm1(-entropy), 1e-7)  # 1 - p; at 0 the power has no finite slope where gamma < 1
        weights = counted * ops.take(class_weights, labels, axis=0)
        return self.alpha * weighted_mean(missing**self.gamma * entropy, weights)

    def get_config(self):
        return {**super().get_config(), "alpha": self.alpha, "gamma": self.gamma}
