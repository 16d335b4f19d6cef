"""What a mask head should answer for a region: its object's mask, seen through the region's grid (He et al. 2017, section 3.1)."""

from keras import ops

SAMPLES = 2  # along each side of a cell


def mask_targets(masks, index, boxes, size):
    """Averages SAMPLES x SAMPLES bilinear samples of a mask in each of size x size cells of a box: RoIAlign of the mask.

    Args:
        masks: [B, N, H, W], 0 or 1, any dtype.
        index: int32 [B, R]: which mask each box is for.
        boxes: float32 [B, R, 4], xyxy, in pixels of the masks.
        size: cells along each side.

    Returns:
        float32 [B, R, size, size], 0 to 1. Outside the picture the edge's value counts.
    """
    number, height, width = ops.shape(masks)[1], ops.shape(masks)[2], ops.shape(masks)[3]
    flat = ops.reshape(masks, (-1, number * height * width))
    first = ops.expand_dims(ops.cast(index, "int32"), -1) * (height * width)  # [B, R, 1]: where the mask begins
    left, top, right, bottom = (boxes[..., i] for i in range(4))
    above, below, vertical = _neighbours(top, bottom, size, height)
    before, behind, horizontal = _neighbours(left, right, size, width)

    def row(y):
        """The row's values at all sampled columns, [B, R, samples of y, samples of x]."""
        start = ops.expand_dims(first + y * width, -1)
        values = [_take(flat, start + ops.expand_dims(x, -2)) for x in (before, behind)]
        return values[0] + (values[1] - values[0]) * ops.expand_dims(horizontal, -2)

    upper, lower = row(above), row(below)
    sampled = upper + (lower - upper) * ops.expand_dims(vertical, -1)
    cells = ops.reshape(sampled, (-1, ops.shape(boxes)[1], size, SAMPLES, size, SAMPLES))
    return ops.mean(cells, axis=(3, 5))


def _neighbours(start, stop, size, length):
    """For the samples along one side, [B, R, size * SAMPLES]: the pixels on both sides, int32, and how near the second one is."""
    steps = (ops.arange(size * SAMPLES, dtype="float32") + 0.5) / (size * SAMPLES)
    last = ops.cast(length - 1, "float32")
    # A pixel's value stands at its middle, as when the network's input is resized.
    place = ops.expand_dims(start, -1) + ops.expand_dims(stop - start, -1) * steps - 0.5
    place = ops.clip(place, 0.0, last)
    low = ops.floor(place)
    high = ops.minimum(low + 1, last)
    return ops.cast(low, "int32"), ops.cast(high, "int32"), place - low


def _take(flat, index):
    shape = ops.shape(index)
    values = ops.take_along_axis(flat, ops.reshape(index, (-1, shape[1] * shape[2] * shape[3])), axis=1)
    return ops.reshape(ops.cast(values, "float32"), shape)
