"""Detectors whose network takes pictures of one size only."""

from tfzoo.errors import InputError
from tfzoo.layers.detection_input import DetectionInput
from tfzoo.models.detector import Detector


class FixedSizeDetector(Detector):
    """Base of the detectors that stretch every picture to a square.

    A subclass gives ``input_side``, the side of that square in pixels, for its options.
    """

    divisor = 1

    @staticmethod
    def input_side(**options) -> int:
        raise NotImplementedError

    @property
    def fixed_size(self):
        """(height, width) of what the network sees, in pixels."""
        return (self.input_side(**self.options),) * 2

    @classmethod
    def input_layer(cls, mean, std, min_size, max_size, **options):
        if min_size is not None or max_size is not None:
            raise InputError("min_size and max_size are for networks that take any size, and this one stretches: leave them out.")
        side = cls.input_side(**options)
        return DetectionInput(mean, std, fixed_size=(side, side), divisor=cls.divisor, name="input")
