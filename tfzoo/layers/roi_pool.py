"""RoIPool and spatial pyramid pooling: the maximum of each bin of a region, whatever the region's size.

Girshick 2015 (Fast R-CNN, section 2.1); He et al. 2014 (SPP-net, section 2.2). A bin's maximum is that of nine overlapping windows,
three along each axis, whose sides are powers of three. The maxima of all such windows are computed once for the whole map, so every
bin costs nine reads, however large it is. Shapes are fixed, and every runtime has what it takes.
"""

import itertools

import numpy as np
from keras import ops

LARGEST = 243  # the longest side of a map whose size is not known when the graph is built


def roi_pool(features, boxes, size, scale):
    """The maximum of each of size x size bins of every box.

    A box's corners are rounded to pixels of the map (halves away from zero), both included, and a bin takes every pixel that it
    touches; pixels outside the map do not count, and a bin without any gives 0. That is what torchvision and Caffe do.

    Args:
        features: [B, h, w, C]; a side that is not known when the graph is built may have up to 243 pixels.
        boxes: float32 [B, R, 4], xyxy, pixels of the network's input. No gradient passes to them.
        size: bins along each side.
        scale: the map's side over the picture's.

    Returns:
        [B, R, size, size, C], in the dtype of the features.
    """
    count = ops.shape(boxes)[1]
    return ops.reshape(_pool(_table(features), features, boxes, size, scale), (-1, count, size, size, features.shape[-1]))


def spatial_pyramid_pooling(features, boxes, scale, levels=(1, 2, 4)):
    """One vector for every box: the maxima of its bins, for grids from coarse to fine.

    Args:
        features, boxes, scale: see ``roi_pool``, of whose bins these are.
        levels: bins along each side of each grid.

    Returns:
        [B, R, N * C], in the dtype of the features, N = the sum of all levels squared: grid after grid, row by row, channels last.
    """
    count, table = ops.shape(boxes)[1], _table(features)
    grids = [_pool(table, features, boxes, size, scale) for size in levels]
    vectors = [ops.reshape(grid, (-1, count, size * size * features.shape[-1])) for grid, size in zip(grids, levels, strict=True)]
    return ops.concatenate(vectors, axis=-1)


# === The maxima of all windows ===


def _windows(length):
    """The sides of windows three of which cover any stretch of ``length`` pixels, or of fewer."""
    length = length if isinstance(length, int) else LARGEST
    return [3**power for power in range(length) if power == 0 or 3**power < length]


def _table(features):
    """For every height and width of a window, and every pixel, the maximum of the window that begins there: [P, C], in the order of
    picture, height, width, row, column. Windows that reach beyond the map go on at its other end; no bin asks for them."""
    height, width = ops.shape(features)[1:3]
    tables = [by_width for by_height in _maxima(features, height, 1) for by_width in _maxima(by_height, width, 2)]
    channels = features.shape[-1]
    flat = [ops.reshape(table, (-1, height * width, channels)) for table in tables]
    return ops.reshape(ops.concatenate(flat, axis=1), (-1, channels))


def _maxima(x, length, axis):
    """The maxima of windows of each side along one axis of [B, h, w, C]."""
    maxima = [x]
    for side in _windows(length)[:-1]:
        x = maxima[-1]
        maxima.append(ops.maximum(ops.maximum(x, _shift(x, side, axis)), _shift(x, 2 * side, axis)))
    return maxima


def _shift(x, by, axis):
    before, after = (x[:, :by], x[:, by:]) if axis == 1 else (x[:, :, :by], x[:, :, by:])
    return ops.concatenate([after, before], axis=axis)


# === Bins ===


def _pool(table, features, boxes, size, scale):
    """[B * R, size, size, C]."""
    batch, height, width = ops.shape(features)[:3]
    corners = _round(ops.stop_gradient(ops.cast(boxes, "float32")) * scale)
    y, side_y, empty_y = _stretches(corners[..., 1], corners[..., 3], height, size)
    x, side_x, empty_x = _stretches(corners[..., 0], corners[..., 2], width, size)
    area, heights, widths = height * width, len(_windows(height)), len(_windows(width))
    picture = ops.arange(batch, dtype="int32") * (heights * widths * area)
    picture = ops.reshape(ops.expand_dims(picture, 1) + ops.zeros_like(boxes[..., 0], dtype="int32"), (-1, 1, 1))
    y = [ops.expand_dims(first * width + side_y * (widths * area), 2) + picture for first in y]
    x = [ops.expand_dims(first + side_x * area, 1) for first in x]
    result = None
    for begin in [down + across for down in y for across in x]:
        maxima = ops.take(table, begin, axis=0)
        result = maxima if result is None else ops.maximum(result, maxima)
    empty = ops.logical_or(ops.expand_dims(empty_y, 2), ops.expand_dims(empty_x, 1))
    return ops.where(ops.expand_dims(empty, -1), ops.zeros_like(result), result)


def _round(x):
    """To whole numbers, halves away from zero."""
    low = ops.floor(ops.abs(x))
    rounded = low + ops.cast(ops.abs(x) - low >= 0.5, "float32")
    return ops.where(x < 0, -rounded, rounded)


def _stretches(first, last, length, size):
    """The pixels of each bin along one axis, covered by three windows.

    Args:
        first, last: float32 [B, R]: the pixels that a box begins and ends with.
        length: how many pixels the map has.
        size: the number of bins.

    Returns:
        where the three windows begin, int32 [B * R, size] each; which of ``_windows`` they are, int32 [B * R, size]; and whether
        the bin has no pixel, bool [B * R, size].
    """
    first, last = (ops.reshape(corner, (-1, 1)) for corner in (first, last))
    length_ = ops.cast(length, "float32")
    side = ops.maximum(last - first + 1.0, 1.0)
    # torchvision and Caffe round this quotient to float32. Were the divisor a constant, compilers would multiply by its reciprocal,
    # which rounds otherwise, and some bins would begin or end at another pixel.
    bins = side / ops.minimum(side + size, size)
    index = np.arange(size, dtype=np.float32)
    begin, end = ops.floor(index * bins) + first, ops.ceil((index + 1.0) * bins) + first
    begin, end = (ops.maximum(ops.minimum(edge, length_), 0.0) for edge in (begin, end))
    empty = end <= begin
    begin, end = (ops.cast(edge, "int32") for edge in (ops.minimum(begin, length_ - 1.0), end))
    pixels = ops.maximum(end - begin, 1)
    sides = _windows(length)
    larger = [ops.cast(pixels >= side, "int32") for side in sides[1:]]
    which = sum(larger, ops.zeros_like(pixels))
    steps = [(after - before) * more for (before, after), more in zip(itertools.pairwise(sides), larger, strict=True)]
    spare = pixels - sum(steps, ops.full_like(pixels, sides[0]))
    return [begin, begin + spare // 2, begin + spare], which, empty
