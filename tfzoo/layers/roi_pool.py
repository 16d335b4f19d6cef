"""RoIPool: the largest value in each bin of a region (Girshick 2015, Fast R-CNN, section 2.1), and pooling in a pyramid of bins.

Bins are ranges of whole pixels, so the largest value of one is the largest of four overlapping windows whose sides are powers of
two. The largest values of all such windows are tabled once for the map, by doubling, and every bin takes four of them: shapes stay
fixed, and no operator is needed that a runtime lacks.
"""

from keras import ops

LONGEST = 5  # windows of 1, 2, ... 16 pixels a side: two of them cover a bin of 32
MOST_PIXELS = 2 * 2 ** (LONGEST - 1)


def roi_pool(features, boxes, size, scale):
    """The largest value in each of size x size bins of every box.

    A box's corners are rounded to pixels of the map, both inclusive; bins are rounded outwards and cut off at the map's border. A
    bin of more than 32 pixels a side is cut off there.

    Args:
        features: map [B, h, w, C].
        boxes: float32 [B, R, 4], xyxy, pixels of the network's input. No gradient passes to them.
        size: bins along each side.
        scale: side of the map over that of the picture.

    Returns:
        [B, R, size, size, C] in the dtype of the features; 0 in bins that lie outside the map.
    """
    boxes = ops.stop_gradient(ops.cast(boxes, "float32"))
    corners = ops.cast(ops.floor(boxes * scale + 0.5), "int32")
    height, width, channels = ops.shape(features)[1], ops.shape(features)[2], features.shape[-1]
    top, bottom = _bins(corners[..., 1], corners[..., 3], size, height)
    left, right = _bins(corners[..., 0], corners[..., 2], size, width)
    tall, wide = _power(bottom - top), _power(right - left)
    picture = ops.reshape(ops.arange(ops.shape(boxes)[0], dtype="int32"), (-1, 1, 1, 1))

    tables = ops.reshape(_tables(features), (-1, channels))
    of_window = (ops.expand_dims(tall[0], -1) * LONGEST + ops.expand_dims(wide[0], -2)) * height
    result = None
    for y in (top, ops.maximum(bottom - tall[1], 0)):
        for x in (left, ops.maximum(right - wide[1], 0)):
            row = picture * (LONGEST * LONGEST * height) + of_window + ops.expand_dims(y, -1)
            place = row * width + ops.expand_dims(x, -2)
            values = ops.take(tables, ops.reshape(place, (-1,)), axis=0)
            result = values if result is None else ops.maximum(result, values)
    result = ops.reshape(result, (-1, boxes.shape[1], size, size, channels))
    filled = ops.logical_and(ops.expand_dims(bottom > top, -1), ops.expand_dims(right > left, -2))
    return ops.where(ops.expand_dims(filled, -1), result, ops.zeros_like(result))


def spatial_pyramid_pooling(features, boxes, scale, levels=(1, 2, 4)):
    """The largest values in ever finer bins of every box, one after the other (He et al. 2014, SPP-net, section 2.2).

    Args:
        features, boxes, scale: see ``roi_pool``.
        levels: bins along each side.

    Returns:
        [B, R, sum of level^2, C].
    """
    channels = features.shape[-1]
    pooled = [roi_pool(features, boxes, size, scale) for size in levels]
    flat = [ops.reshape(x, (-1, boxes.shape[1], size * size, channels)) for x, size in zip(pooled, levels, strict=True)]
    return ops.concatenate(flat, axis=2)


def _bins(first, last, size, length):
    """Along one axis: first pixel of each bin, and the one behind its last, int32 [B, R, size], for inclusive ends [B, R]."""
    extent = ops.expand_dims(ops.maximum(last - first + 1, 1), -1)
    number = ops.arange(size, dtype="int32")
    start = ops.expand_dims(first, -1) + number * extent // size
    stop = ops.expand_dims(first, -1) + ((number + 1) * extent + size - 1) // size
    start, stop = (ops.minimum(ops.maximum(edge, 0), length) for edge in (start, stop))
    inside = ops.minimum(start, length - 1)
    return inside, ops.where(stop > start, ops.minimum(stop, inside + MOST_PIXELS), inside)


def _power(extent):
    """The largest power of two that is not above the extents: its exponent and itself, int32; of 0 as of 1."""
    exponent = sum(ops.cast(extent >= 2**k, "int32") for k in range(1, LONGEST))
    return exponent, sum(ops.cast(exponent == k, "int32") * 2**k for k in range(LONGEST))


def _tables(features):
    """The largest value of the window of 2^i x 2^j pixels that begins at each pixel: [B, i, j, h, w, C]."""
    rows = [features]
    for k in range(LONGEST - 1):
        rows.append(ops.maximum(rows[-1], _shifted(rows[-1], 2**k, axis=1)))
    tables = []
    for table in rows:
        columns = [table]
        for k in range(LONGEST - 1):
            columns.append(ops.maximum(columns[-1], _shifted(columns[-1], 2**k, axis=2)))
        tables += columns
    return ops.stack(tables, axis=1)


def _shifted(x, step, axis):
    """What lies ``step`` further along an axis; behind the end, where no window of a bin reaches, 0."""
    shape, padding = ops.shape(x), [[0, 0]] * 4
    padding[axis] = [0, step]
    if axis == 1:
        return ops.pad(x[:, step:], padding)[:, : shape[1]]
    return ops.pad(x[:, :, step:], padding)[:, :, : shape[2]]
