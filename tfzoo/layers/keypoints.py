"""Keypoints as cells of a heatmap over a box, and back: He et al. 2017 (Mask R-CNN, section 5), in torchvision's form."""

import numpy as np
from keras import ops

from tfzoo.layers.decision import argmax

HIGH, HILLS = 8, 32  # the highest pixels of a first look at a map, and the tops of its highest hills: more is looked at around each
BEST = 6  # the best of these, which are looked at more closely where boxes are large
STEPS = 4  # pixels looked at on each side of a high one, spread over a cell; then
FINE_STEPS = 6  # on each side of the best of these: every pixel, while a cell has 24 of them at most
TAPS = 7  # cells along each side of what the pixels around a high one are interpolated from


def encode_keypoints(keypoints, boxes, size):
    """The cell that each keypoint lies in, of size x size cells over its box.

    Args:
        keypoints: float32 [B, R, K, 3]: x, y in pixels, visibility.
        boxes: float32 [B, R, 4], xyxy, pixels.
        size: cells along each side.

    Returns:
        index int32 [B, R, K], row by row, 0 where there is no valid keypoint; and valid bool [B, R, K]: visible (above 0) and
        inside its box, whose right and bottom borders belong to the last cells.
    """
    boxes = ops.expand_dims(boxes, -2)
    corner, sides, place = boxes[..., :2], boxes[..., 2:] - boxes[..., :2], keypoints[..., :2]
    cell = ops.floor((place - corner) * (size / ops.where(sides > 0, sides, 1.0)))
    cell = ops.where(place == boxes[..., 2:], float(size - 1), cell)
    inside = ops.all(ops.logical_and(ops.logical_and(cell >= 0, cell < size), sides > 0), axis=-1)
    valid = ops.logical_and(inside, keypoints[..., 2] > 0)
    return ops.cast(ops.where(valid, cell[..., 1] * size + cell[..., 0], 0.0), "int32"), valid


def decode_keypoints(heatmaps, boxes):
    """The keypoint that each heatmap shows: where it is highest when it is resized to its box.

    A map is resized to the box's sides, rounded up, by the bicubic kernel of a = -0.75 (half-pixel centres, edge repeated), and the
    keypoint is the centre of the highest pixel. Shapes are fixed, whatever the box: first one pixel a cell is computed, then more
    around the 8 highest and the tops of the 32 highest hills, then every pixel around the best (every second one where a cell has
    more than 24, and so on). On maps of mere noise one keypoint in a hundred is not on the highest pixel of all.

    Args:
        heatmaps: float32 [B, R, S, S, K], logits.
        boxes: float32 [B, R, 4], xyxy, pixels; sides below 1 count as 1.

    Returns:
        keypoints float32 [B, R, K, 3]: x, y in pixels, and 1.0; scores float32 [B, R, K]: the resized map's value there.
    """
    count, size, kinds = ops.shape(heatmaps)[1], heatmaps.shape[2], heatmaps.shape[4]
    maps = ops.reshape(ops.cast(heatmaps, "float32"), (-1, size, size, kinds))
    boxes = ops.reshape(ops.cast(boxes, "float32"), (-1, 4))
    sides = ops.maximum(boxes[:, 2:] - boxes[:, :2], 1.0)
    lengths = ops.ceil(sides)  # of the resized map, (x, y)
    a_cell = lengths / size
    reach = ops.where(a_cell > 1.0, ops.floor(a_cell + 0.5), 0.0)  # smaller maps were looked at whole
    step = ops.ceil(reach / STEPS)

    flat = ops.reshape(maps, (-1, size * size * kinds))
    pixels = _high_pixels(maps, lengths)
    values, pixels = _best_around(flat, pixels, lengths, reach, step, STEPS, size)
    values, best = ops.top_k(values, BEST)
    pixels = [ops.take_along_axis(pixel, best, axis=-1) for pixel in pixels]
    values, pixels = _best_around(flat, pixels, lengths, step, ops.ceil(step / FINE_STEPS), FINE_STEPS, size)
    best = ops.expand_dims(argmax(values), -1)
    scores = ops.max(values, axis=-1)
    place = ops.concatenate([ops.take_along_axis(pixel, best, axis=-1) for pixel in pixels], axis=-1) + 0.5

    place = place * ops.expand_dims(sides / lengths, 1) + ops.expand_dims(boxes[:, :2], 1)
    keypoints = ops.concatenate([place, ops.ones_like(place[..., :1])], axis=-1)
    return ops.reshape(keypoints, (-1, count, kinds, 3)), ops.reshape(scores, (-1, count, kinds))


def _position(pixel, length, size):
    """Where the centres of pixels lie, in cells from the centre of the first one."""
    return (pixel + 0.5) * (size / length) - 0.5


# === The first pass ===


def _high_pixels(maps, lengths):
    """The highest pixels among one a cell, and the highest of those that none beside them exceeds.

    Args:
        maps: float32 [N, size, size, K].
        lengths: float32 [N, 2]: width and height of the resized map.

    Returns:
        (x, y), float32 [N, K, HIGH + HILLS] each.
    """
    size, kinds = maps.shape[2:]
    (x, x_new), (y, y_new) = (_one_a_cell(lengths[:, axis : axis + 1], size) for axis in (0, 1))
    values = ops.matmul(_weights(y, lengths[:, 1:], size), ops.reshape(maps, (-1, size, size * kinds)))
    values = ops.matmul(ops.expand_dims(_weights(x, lengths[:, :1], size), 1), ops.reshape(values, (-1, size, size, kinds)))
    new = ops.expand_dims(ops.logical_and(ops.expand_dims(y_new, 2), ops.expand_dims(x_new, 1)), -1)
    low = ops.min(values, axis=(1, 2), keepdims=True) - 1.0
    values = ops.where(new, values, low)
    # The slopes of a high hill would leave no place for another one, whose top may lie between pixels of this look.
    hills = ops.where(values >= ops.max_pool(values, 3, strides=1, padding="same"), values, low)
    cells = ops.concatenate([_largest(values, HIGH), _largest(hills, HILLS)], axis=-1)
    cells = ops.reshape(cells, (-1, kinds * (HIGH + HILLS)))
    places = ((x, cells % size), (y, cells // size))
    return [ops.reshape(ops.take_along_axis(pixels, index, axis=-1), (-1, kinds, HIGH + HILLS)) for pixels, index in places]


def _largest(values, count):
    """The places of the largest of values [N, size, size, K] in each map: int32 [N, K, count]."""
    size, kinds = values.shape[2:]
    flat = ops.transpose(ops.reshape(values, (-1, size * size, kinds)), (0, 2, 1))
    return ops.cast(ops.top_k(flat, count)[1], "int32")


def _one_a_cell(length, size):
    """For each of ``size`` cells one of ``length`` [N, 1] pixels, [N, size]: the one at its centre, or, where there are not more
    pixels than cells, one after the other; and whether it is another one than the last, bool."""
    cell = np.arange(size, dtype=np.float32)
    pixel = ops.where(length > size, ops.floor((cell + 0.5) * (length / size)), cell)
    return ops.minimum(pixel, length - 1.0), cell < length


def _weights(pixel, length, size):
    """[N, P, size]: what each cell counts for pixels [N, P] of ``length`` [N, 1]."""
    cells = np.arange(-2, size + 2, dtype=np.float32)
    kernel = _cubic(ops.expand_dims(_position(pixel, length, size), -1) - cells)
    first = ops.sum(kernel[..., :3], axis=-1, keepdims=True)  # the edge stands for what lies beyond it
    last = ops.sum(kernel[..., -3:], axis=-1, keepdims=True)
    return ops.concatenate([first, kernel[..., 3:-3], last], axis=-1)


# === The others ===


def _best_around(flat, pixels, lengths, reach, step, steps, size):
    """The highest of the pixels around each of some, up to ``steps`` of ``step`` pixels, and at most ``reach``, away.

    Args:
        flat: float32 [N, size * size * K], heatmaps.
        pixels: (x, y), float32 [N, K, P] each.
        lengths, reach, step: float32 [N, 2], of (x, y).
        steps: an int.

    Returns:
        the highest values, float32 [N, K, P]; and where they stand, as ``pixels``.
    """
    kinds, count = pixels[0].shape[1:]
    window = 2 * steps + 1
    (x, column, x_weights), (y, row, y_weights) = (
        _around(pixel, *(ops.reshape(part[:, axis], (-1, 1, 1, 1)) for part in (lengths, reach, step)), steps, size)
        for axis, pixel in enumerate(pixels)
    )
    values = ops.matmul(y_weights, ops.matmul(_patches(flat, row, column, size), ops.swapaxes(x_weights, -1, -2)))
    values = ops.reshape(values, (-1, kinds, count, window * window))
    best = ops.expand_dims(argmax(values), -1)
    places = [ops.take_along_axis(x, best % window, axis=-1), ops.take_along_axis(y, best // window, axis=-1)]
    return ops.max(values, axis=-1), [ops.squeeze(place, -1) for place in places]


def _around(pixel, length, reach, step, steps, size):
    """Along one axis: the pixels around each of ``pixel`` [N, K, P], [N, K, P, W], some of them perhaps more than once; the cell in
    the middle, [N, K, P]; and what the cells around that one count for each pixel, [N, K, P, W, TAPS]."""
    pixel = ops.expand_dims(pixel, -1)
    cell = ops.maximum(ops.minimum(ops.floor(_position(pixel, length, size) + 0.5), size - 1.0), 0.0)
    away = step * np.arange(-steps, steps + 1, dtype=np.float32)
    around = pixel + ops.maximum(ops.minimum(away, reach), -reach)
    around = ops.maximum(ops.minimum(around, length - 1.0), 0.0)
    taps = np.arange(TAPS, dtype=np.float32) - TAPS // 2
    distance = ops.expand_dims(_position(around, length, size) - cell, -1) - taps
    return around, ops.squeeze(cell, -1), _cubic(distance)


def _patches(flat, row, column, size):
    """[N, K, P, TAPS, TAPS] around cells float32 [N, K, P] of heatmaps [N, size * size * K], edges repeated."""
    kinds, count = row.shape[1:]
    taps = np.arange(TAPS, dtype=np.float32) - TAPS // 2
    row, column = (ops.maximum(ops.minimum(ops.expand_dims(cell, -1) + taps, size - 1.0), 0.0) for cell in (row, column))
    cell = ops.expand_dims(row, -1) * size + ops.expand_dims(column, -2)
    index = ops.cast(ops.reshape(cell, (-1, kinds, count * TAPS * TAPS)), "int32") * kinds
    index = ops.reshape(index + np.arange(kinds, dtype=np.int32)[:, None], (-1, kinds * count * TAPS * TAPS))
    return ops.reshape(ops.take_along_axis(flat, index, axis=-1), (-1, kinds, count, TAPS, TAPS))


def _cubic(distance):
    """Keys's interpolation kernel with a = -0.75, which PyTorch and OpenCV take (``resizing`` has the one with -0.5).

    0.75 (u - 1) u^2 - 2 v^3 of the distances u to 2 and v to 1, 0 beyond them: for this a, both of Keys's cubics in one.
    """
    d = ops.abs(distance)
    u, v = ops.maximum(2.0 - d, 0.0), ops.maximum(1.0 - d, 0.0)
    return 0.75 * (u - 1.0) * u * u - 2.0 * v * v * v
