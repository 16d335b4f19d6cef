"""Losses with ignored pixels."""

from tfzoo.losses.combined import LOSSES, CombinedLoss, make_loss
from tfzoo.losses.cross_entropy import PixelCrossEntropy, inverse_frequency_weights, median_frequency_weights
from tfzoo.losses.dice import Dice
from tfzoo.losses.focal import PixelFocal, sigmoid_focal_crossentropy
from tfzoo.losses.lovasz import LovaszSoftmax

__all__ = [
    "LOSSES",
    "CombinedLoss",
    "Dice",
    "LovaszSoftmax",
    "PixelCrossEntropy",
    "PixelFocal",
    "inverse_frequency_weights",
    "make_loss",
    "median_frequency_weights",
    "sigmoid_focal_crossentropy",
]
