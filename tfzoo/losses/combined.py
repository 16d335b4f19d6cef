"""Sums of losses, and losses by name."""

import keras

from tfzoo.errors import InputError, nearest
from tfzoo.losses.cross_entropy import PixelCrossEntropy
from tfzoo.losses.dice import Dice
from tfzoo.losses.focal import PixelFocal
from tfzoo.losses.lovasz import LovaszSoftmax

LOSSES = {"cross_entropy": PixelCrossEntropy, "focal": PixelFocal, "dice": Dice, "lovasz": LovaszSoftmax}


@keras.saving.register_keras_serializable("tfzoo")
class CombinedLoss(keras.losses.Loss):
    """A weighted sum of losses, in float32.

    Args:
        terms: pairs of a ``keras.losses.Loss`` and its weight, at least one.

    ``y_true`` and ``y_pred`` are what the terms take.

    Raises:
        InputError: there is no term.
    """

    def __init__(self, terms, name="combined"):
        super().__init__(name=name, reduction="sum", dtype="float32")
        self.terms = [(loss, float(weight)) for loss, weight in terms]
        if not self.terms:
            raise InputError("A combined loss needs at least one pair of a loss and its weight.")

    def call(self, y_true, y_pred):
        return sum(weight * loss(y_true, y_pred) for loss, weight in self.terms)

    def get_config(self):
        terms = [[keras.saving.serialize_keras_object(loss), weight] for loss, weight in self.terms]
        return {"terms": terms, "name": self.name}

    @classmethod
    def from_config(cls, config):
        terms = [(keras.saving.deserialize_keras_object(loss), weight) for loss, weight in config["terms"]]
        return cls(**{**config, "terms": terms})


def make_loss(name: str, class_weights=None) -> keras.losses.Loss:
    """Returns a loss for segmentation by its name.

    Args:
        name: one of ``LOSSES``, or several joined by "+", which are added with weight 1 each: "cross_entropy+dice".
        class_weights: C numbers, or None. They weigh pixels in cross_entropy and focal, the mean over classes in dice and
            lovasz.

    Raises:
        InputError: there is no such loss.
    """
    losses = [_find(term.strip(), name)(class_weights=class_weights) for term in str(name).split("+")]
    return losses[0] if len(losses) == 1 else CombinedLoss([(loss, 1.0) for loss in losses])


def _find(term, name):
    if term not in LOSSES:
        where = f" in '{name}'" if term != name else ""
        raise InputError(
            f"There is no loss '{term}'{where}: give one of {', '.join(LOSSES)}, or several joined by '+'.{nearest(term, LOSSES)}"
        )
    return LOSSES[term]
