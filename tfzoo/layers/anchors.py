"""Anchors: boxes of some sizes and shapes at every cell of every level (Ren et al. 2015, section 3.1.1), by torchvision's rules."""

import numpy as np
from keras import ops


class AnchorGenerator:
    """Boxes around the corners of a pyramid's cells.

    The order is that of heads' maps when they are flattened: level, row, column, ratio, size. The grid starts at the picture's
    corner; the step between cells is the picture's side // the map's side, whole pixels.

    Args:
        sizes: for each level, the square roots of the areas, in pixels.
        ratios: height / width, the same on every level.
    """

    def __init__(self, sizes, ratios):
        self.sizes, self.ratios = [tuple(level) for level in sizes], tuple(ratios)
        self.cells = [_cell(level, self.ratios) for level in self.sizes]

    @property
    def per_cell(self) -> int:
        return len(self.cells[0])

    def grid(self, feature_sizes, image_size):
        """Returns the anchors, float32 [A, 4].

        Args:
            feature_sizes: (height, width) of each level's map; image_size: (height, width) of the picture; ints, which give a
                NumPy array, or scalar tensors.
        """
        fixed = all(isinstance(side, int) for side in (*image_size, *(side for size in feature_sizes for side in size)))
        levels = [
            _shifted(cell, size, image_size, np if fixed else ops) for cell, size in zip(self.cells, feature_sizes, strict=True)
        ]
        return np.concatenate(levels) if fixed else ops.concatenate(levels)


def _cell(sizes, ratios):
    """Anchors [ratios * sizes, 4] about 0, whole pixels: half the side is rounded, half to even."""
    sizes, heights = np.array(sizes, np.float32), np.sqrt(np.array(ratios, np.float32))
    height, width = (heights[:, None] * sizes).ravel(), ((1 / heights)[:, None] * sizes).ravel()
    return np.round(np.stack([-width, -height, width, height], axis=1) / 2).astype(np.float32)


def _shifted(cell, feature_size, image_size, xp):
    rows, columns = feature_size
    y, x = xp.arange(rows) * (image_size[0] // rows), xp.arange(columns) * (image_size[1] // columns)
    x, y = xp.meshgrid(x, y)
    corners = xp.reshape(xp.stack([x, y, x, y], axis=-1), (-1, 1, 4))
    corners = corners.astype("float32") if xp is np else ops.cast(corners, "float32")
    return xp.reshape(corners + cell, (-1, 4))
