"""Metrics that stream."""

from tfzoo.metrics.coco import CocoEvaluator
from tfzoo.metrics.confusion import (
    ConfusionMatrix,
    FrequencyWeightedIoU,
    MeanIoU,
    MeanPixelAccuracy,
    PixelAccuracy,
)
from tfzoo.metrics.voc import VocEvaluator

__all__ = [
    "CocoEvaluator",
    "ConfusionMatrix",
    "FrequencyWeightedIoU",
    "MeanIoU",
    "MeanPixelAccuracy",
    "PixelAccuracy",
    "VocEvaluator",
]
