"""Metrics that stream."""

from tfzoo.metrics.confusion import (
    ConfusionMatrix,
    FrequencyWeightedIoU,
    MeanIoU,
    MeanPixelAccuracy,
    PixelAccuracy,
)

__all__ = ["ConfusionMatrix", "FrequencyWeightedIoU", "MeanIoU", "MeanPixelAccuracy", "PixelAccuracy"]
