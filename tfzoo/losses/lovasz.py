"""Lovasz-softmax: a loss whose corners are the Jaccard index (Berman et al. 2018)."""

import keras
from keras import ops

from tfzoo.data.images import IGNORE_LABEL
from tfzoo.errors import InputError
from tfzoo.losses.base import SegmentationLoss, weighted_mean

CLASSES = ("present", "all")


@keras.saving.register_keras_serializable("tfzoo")
class LovaszSoftmax(SegmentationLoss):
    """The Lovasz extension of 1 - IoU, over softmax probabilities, averaged over classes.

    With errors m_i(c) = 1 - p_i(c) where c is pixel i's label and p_i(c) elsewhere, sorted downwards, the loss of a class is
    sum_i m_i g_i, g_i being what pixel i adds to the Jaccard loss of the set of all pixels before it (Berman et al. 2018, The
    Lovasz-Softmax loss, equations 6, 8, 9, 11 and algorithm 1). Ignored pixels belong to no set. Computed in float32; exact up
    to 2^24 pixels in a batch (in a picture, if ``per_image``).

    Args:
        class_weights: C numbers w, or None for 1 everywhere: loss = sum_c w(c) loss(c) / sum_c w(c).
        classes: "present" averages over the classes that some pixel has, "all" over all classes.
        per_image: each picture has its own loss, and those of pictures with pixels that count are averaged; else the batch is
            taken as one picture.
        ignore_label: the label that counts nowhere.

    ``y_true``: integers [B, H, W]; ``y_pred``: logits [B, H, W, C].

    Raises:
        InputError: ``classes`` is something else.
    """

    def __init__(self, class_weights=None, classes="present", per_image=False, ignore_label=IGNORE_LABEL, name="lovasz"):
        super().__init__(class_weights, ignore_label, name)
        if classes not in CLASSES:
            raise InputError(f"classes is {classes!r}: it must be one of {', '.join(CLASSES)}.")
        self.classes, self.per_image = classes, bool(per_image)

    def compute(self, labels, counted, logits, class_weights):
        counted = ops.broadcast_to(counted[..., None], ops.shape(logits))
        truth = ops.one_hot(labels, logits.shape[-1], dtype="float32") * counted
        errors = counted * (truth + (1 - 2 * truth) * ops.softmax(logits, axis=-1))
        truth, counted, errors = (self._pixels_last(x) for x in (truth, counted, errors))
        order = ops.argsort(-ops.stop_gradient(errors), axis=-1)
        truth, counted, errors = (ops.take_along_axis(x, order, axis=-1) for x in (truth, counted, errors))
        losses = ops.sum(errors * jaccard_steps(truth, counted), axis=-1)
        if self.classes == "present":
            class_weights = class_weights * ops.max(truth, axis=-1)
        losses = weighted_mean(losses, ops.broadcast_to(class_weights, ops.shape(losses)), axis=-1)
        return weighted_mean(losses, ops.max(counted, axis=(1, 2)))

    def _pixels_last(self, x):
        """[B, H, W, C] -> [B, C, H*W], or [1, C, B*H*W]."""
        pictures = ops.shape(x)[0] if self.per_image else 1
        return ops.transpose(ops.reshape(x, (pictures, -1, x.shape[-1])), (0, 2, 1))

    def get_config(self):
        return {**super().get_config(), "classes": self.classes, "per_image": self.per_image}


def jaccard_steps(truth, counted):
    """What each pixel adds to |M| / |T or M|, T the pixels of the class, as it joins the set M of mistakes, in order.

    A pixel of T adds 1 / |T or M|. One outside adds (n + 1) / (u + 1) - n / u = (u - n) / (u (u + 1)), n and u the sizes of M
    and of T or M before, and u - n the pixels of T still outside M. These forms, unlike a difference of two ratios, lose nothing
    in float32 on large pictures. A pixel that does not count adds 0 and changes nothing for the others, wherever it stands.

    Args:
        truth: float32 [..., N]: 1 in T, else 0.
        counted: float32 [..., N]: 1 where the pixel counts, else 0; ``truth`` is 0 there.

    Returns:
        float32 [..., N], g of Berman 2018, equation 9.
    """
    size = ops.sum(truth, axis=-1, keepdims=True)
    remaining = size - ops.cumsum(truth, axis=-1)
    outside = counted - truth
    union = size + ops.cumsum(outside, axis=-1)
    before = union - outside
    # where T is empty and M was: from 0 (nothing wrong) to 1
    step = ops.where(before > 0, remaining / ops.maximum(before * union, 1), 1.0)
    return truth / ops.maximum(union, 1) + outside * step
