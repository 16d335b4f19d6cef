"""Losses with ignored pixels."""

from tfzoo.losses.cross_entropy import PixelCrossEntropy

__all__ = ["PixelCrossEntropy"]
