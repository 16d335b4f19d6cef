"""SSD's default boxes (Liu et al. 2016, section 2.2), laid out as torchvision does, whose checkpoints depend on their order."""

import math

import numpy as np

from tfzoo.errors import InputError


class PriorBoxes:
    """Default boxes of several aspect ratios and sizes around the centre of each cell of some feature maps.

    In a cell they come in this order: a square of the level's scale s, a square of sqrt(s s') where s' is the next level's
    scale, then for each aspect ratio r a wide box, s sqrt(r) by s / sqrt(r), and the same one upright. Their sides are cut off at
    the picture's, before they are laid around the centres; the boxes may reach over the border.

    Args:
        aspect_ratios: for each level the ratios r above 1, such as (2, 3).
        scales: one more than levels, fractions of the picture's sides; the last one is only the s' of the last level.
        steps: pixels from one centre to the next, for each level: the first centre lies at half of it. None: the picture's side
            divided by the number of cells.

    Raises:
        InputError: scales or steps are not as many as the levels ask for, or not above 0.
    """

    def __init__(self, aspect_ratios, scales, steps=None):
        self.aspect_ratios = tuple(tuple(ratios) for ratios in aspect_ratios)
        self.scales, self.steps = tuple(scales), None if steps is None else tuple(steps)
        levels = len(self.aspect_ratios)
        if len(self.scales) != levels + 1:
            raise InputError(f"There are {len(self.scales)} scales for {levels} levels of default boxes: give {levels + 1}.")
        if self.steps is not None and len(self.steps) != levels:
            raise InputError(f"There are {len(self.steps)} steps for {levels} levels of default boxes: give as many.")
        if min(self.scales) <= 0 or min(self.steps or [1]) <= 0:
            raise InputError(f"The default boxes have scales {self.scales} and steps {self.steps}: all must be above 0.")

    @property
    def per_cell(self) -> list[int]:
        """Number of boxes around each centre, for each level."""
        return [2 + 2 * len(ratios) for ratios in self.aspect_ratios]

    def grid(self, feature_sizes, image_size) -> np.ndarray:
        """Returns the boxes float32 [A, 4], xyxy in pixels: levels, rows, columns, the boxes of a cell, the last one fastest.

        Args:
            feature_sizes: (rows, columns) of each level.
            image_size: (height, width) of the picture in pixels.
        """
        levels = [self._level(level, size, image_size) for level, size in enumerate(feature_sizes)]
        return np.concatenate(levels)

    def sides(self, level) -> np.ndarray:
        """Widths and heights of a level's boxes as fractions of the picture's, float32 [boxes in a cell, 2]."""
        scale, following = self.scales[level : level + 2]
        pairs = [(scale, scale), (math.sqrt(scale * following),) * 2]
        for ratio in self.aspect_ratios[level]:
            wide, narrow = scale * math.sqrt(ratio), scale / math.sqrt(ratio)
            pairs += [(wide, narrow), (narrow, wide)]
        return np.clip(np.array(pairs, np.float32), 0, 1)

    def _level(self, level, feature_size, image_size):
        y, x = (self._centres(level, cells, side) for cells, side in zip(feature_size, image_size, strict=True))
        sides = self.sides(level)
        centres = np.stack(np.meshgrid(x, y), axis=-1)[:, :, None]
        boxes = np.concatenate(np.broadcast_arrays(centres - 0.5 * sides, centres + 0.5 * sides), axis=-1)
        height, width = image_size
        return boxes.reshape(-1, 4) * np.array([width, height, width, height], np.float32)

    def _centres(self, level, cells, side):
        """Of one axis, as fractions of the picture's side; in float32 from the first step on, as torchvision reckons."""
        steps = cells if self.steps is None else side / self.steps[level]
        return (np.arange(cells, dtype=np.float32) + np.float32(0.5)) / np.float32(steps)
