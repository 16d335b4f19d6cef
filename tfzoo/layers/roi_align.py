"""RoIAlign: regions of interest read off feature maps by bilinear samples, and the pyramid level that each region is read from.

He et al. 2017 (Mask R-CNN, section 3 and figure 3); Lin et al. 2017 (FPN, equation 1). The answers are those of torchvision's
compiled operator: a sample farther than one pixel outside the map counts zero, a nearer one takes the edge's value.

There are three forms, proved equal. On TensorFlow: ``crop_and_resize`` on maps with a repeated edge, the regions split by level, so
that each level is read once for its own regions. In portable graphs: a gather from all levels in a row, since TFLite and ONNX's
default domain lack that operator. Compiled by XLA, on JAX or TensorFlow: the same point by point, which XLA fuses into one loop.
``python -m tfzoo.benchmarks.roi_align`` times them. Float32 rounds a position 100 pixels from the map's corner by some 1e-5 pixels
(torchvision's own too), so answers differ by that much of the difference between neighbouring pixels.
"""

import keras
import numpy as np
from keras import ops

from tfzoo.layers.boxes import box_area
from tfzoo.layers.target import target

GATHERED_AT_ONCE = 2**25  # numbers of one picture, 128 MiB: 1000 regions of 7x7x256 would take 800 MB


def assign_levels(boxes, finest, coarsest, canonical_size=224, canonical_level=4):
    """The pyramid level of each box: floor(canonical_level + log2(side / canonical_size)), between ``finest`` and ``coarsest``.

    Args:
        boxes: float32 [..., 4], xyxy, pixels of the network's input; a box's side is the square root of its area.
        finest, coarsest: the levels that there are.
        canonical_size, canonical_level: a box of this side, in pixels, is read from this level.

    Returns:
        int32 [...]: 0 for ``finest``. A side within a millionth (of a level) of the next level's goes there, as in torchvision.
    """
    # Counting the sides at which levels begin needs no logarithm, which runtimes round differently.
    begins = [canonical_size * 2.0 ** (level - canonical_level - 1e-6) for level in range(finest + 1, coarsest + 1)]
    side = ops.expand_dims(ops.sqrt(box_area(boxes)), -1)
    return ops.sum(ops.cast(side >= ops.convert_to_tensor(begins, "float32"), "int32"), axis=-1)


def roi_align(features, boxes, size, scales, sampling_ratio=2, aligned=False, levels=None):
    """Averages bilinear samples in each of size x size bins of every box.

    Args:
        features: list of maps [B, h, w, C], fine to coarse.
        boxes: float32 [B, R, 4], xyxy, pixels of the network's input. No gradient passes to them.
        size: bins along each side.
        scales: of each map, its side over the picture's.
        sampling_ratio: samples along each side of a bin. 0 or None: as many as a bin has pixels, rounded up; this is slow for more
            than a few boxes, channels or levels.
        aligned: whether pixel centres lie at half-integers. False: they lie at integers, and a box's side counts as one pixel of
            the map at least (the published detectors).
        levels: int32 [B, R], which of the maps each box is read from, 0 the first; None where there is one map.

    Returns:
        [B, R, size, size, C], reckoned in float32, in the dtype of the features.

    Raises:
        ValueError: maps and scales are not of one number, or there are several and no levels.
    """
    if len(features) != len(scales):
        raise ValueError(f"There are {len(features)} maps and {len(scales)} scales; each map needs one.")
    if levels is None and len(features) > 1:
        raise ValueError(f"There are {len(features)} maps; levels must tell which of them each box is read from.")
    dtype = features[0].dtype
    features = [ops.cast(feature, "float32") for feature in features]
    boxes = ops.stop_gradient(ops.cast(boxes, "float32"))
    form = _form() if sampling_ratio else _adaptive
    return ops.cast(form(features, boxes, size, scales, sampling_ratio, aligned, levels), dtype)


def _form():
    """The fastest form where this runs."""
    if target().portable:
        return _gather
    if keras.backend.backend() != "tensorflow":
        return _gather_by_point
    import tensorflow as tf
    from tensorflow.python.ops import control_flow_util  # nothing public tells that XLA is to compile what is being traced

    compiled = control_flow_util.GraphOrParentsInXlaContext(tf.compat.v1.get_default_graph())
    return _gather_by_point if compiled else _crop_and_resize


def _regions(boxes, scale, aligned):
    """Left and top, and width and height, [..., 2] each, in pixels of the map."""
    boxes = boxes * scale - (0.5 if aligned else 0.0)
    start, sides = boxes[..., :2], boxes[..., 2:] - boxes[..., :2]
    return start, sides if aligned else ops.maximum(sides, 1.0)


# === TensorFlow's kernel ===


def _crop_and_resize(features, boxes, size, scales, sampling, aligned, levels):
    """Boxes are split by level, and what was read is put into their order afterwards."""
    import tensorflow as tf

    batch, count = ops.shape(boxes)[:2]
    flat = tf.reshape(boxes, (-1, 4))
    pictures = tf.repeat(tf.range(batch), count)
    if levels is None:
        result = _crop_level(features[0], flat, pictures, size, scales[0], sampling, aligned)
    else:
        levels = tf.reshape(levels, (-1,))
        where = [tf.cast(tf.where(tf.equal(levels, level))[:, 0], "int32") for level in range(len(features))]
        parts = [
            _crop_level(feature, tf.gather(flat, chosen), tf.gather(pictures, chosen), size, scale, sampling, aligned)
            for feature, scale, chosen in zip(features, scales, where, strict=True)
        ]
        result = tf.gather(tf.concat(parts, axis=0), tf.math.invert_permutation(tf.concat(where, axis=0)))
    return tf.reshape(result, (batch, count, size, size, features[0].shape[-1]))


def _crop_level(feature, boxes, pictures, size, scale, sampling, aligned):
    """[M, size, size, C] for boxes [M, 4] of ``pictures`` int32 [M].

    A map whose edge is repeated ends where samples begin to count zero, as the kernel has it.
    """
    import tensorflow as tf

    padded = tf.pad(feature, [[0, 0], [1, 1], [1, 1], [0, 0]], mode="SYMMETRIC")
    samples = size * sampling
    start, sides = _regions(boxes, scale, aligned)
    start, bins = tf.cast(start, "float64"), tf.cast(sides / size, "float64")
    ends = [start + bins * (sample / sampling) + 1.0 for sample in (0.5, samples - 0.5)]  # the first and the last sample
    last_pixel = tf.cast(tf.shape(padded)[2:0:-1] - 1, "float64")  # (x, y): the kernel wants positions as parts of the map,
    corners = tf.concat([(end / last_pixel)[:, ::-1] for end in ends], axis=-1)  # and (y, x)
    corners = tf.cast(corners, "float32")  # rounded only here, as the kernel rounds some more
    crops = tf.image.crop_and_resize(padded, corners, pictures, (samples, samples))
    return crops if sampling == 1 else tf.nn.avg_pool2d(crops, sampling, sampling, "VALID")


# === Gathers ===


def _gather(features, boxes, size, scales, sampling, aligned, levels):
    """All points of a bin in one gather, and a product with their weights; a part of the boxes at a time."""
    pixels, index, weights = _points(features, boxes, size, scales, sampling, aligned, levels)
    points, channels = index.shape[-1], pixels.shape[-1]

    def read(index, weights, count):
        values = ops.take(pixels, ops.reshape(index, (-1, points)), axis=0)
        result = ops.matmul(ops.reshape(weights, (-1, 1, points)), values)
        return ops.reshape(result, (-1, count, size, size, channels))

    count = ops.shape(boxes)[1]
    step = max(GATHERED_AT_ONCE // (size * size * points * channels), 1)
    if not isinstance(count, int) or count <= step:
        return read(index, weights, count)
    slices = [slice(at, min(at + step, count)) for at in range(0, count, step)]
    return ops.concatenate([read(index[:, part], weights[:, part], part.stop - part.start) for part in slices], axis=1)


def _gather_by_point(features, boxes, size, scales, sampling, aligned, levels):
    """A gather for each point of a bin."""
    pixels, index, weights = _points(features, boxes, size, scales, sampling, aligned, levels)
    weights = ops.expand_dims(weights, -1)
    result = sum(ops.take(pixels, index[..., point], axis=0) * weights[..., point, :] for point in range(index.shape[-1]))
    batch, count = ops.shape(boxes)[:2]
    return ops.reshape(result, (batch, count, size, size, pixels.shape[-1]))


def _points(features, boxes, size, scales, sampling, aligned, levels):
    """What each bin is a weighted sum of: the four neighbours of each of its samples.

    Returns:
        the pixels of all maps, [P, C], level by level in each picture; of each bin its points' index, int32 [B, R, size * size, N],
        and weights, float32; N = 4 * sampling**2.
    """
    channels = features[0].shape[-1]
    heights, widths = ([ops.shape(feature)[axis] for feature in features] for axis in (1, 2))
    areas = [height * width for height, width in zip(heights, widths, strict=True)]
    rows = [ops.reshape(feature, (-1, area, channels)) for feature, area in zip(features, areas, strict=True)]
    pixels = ops.reshape(ops.concatenate(rows, axis=1), (-1, channels))
    begins = [sum(areas[:level]) for level in range(len(features))]

    levels = ops.zeros_like(boxes[..., 0], dtype="int32") if levels is None else levels
    height, width, begin = (ops.take(_vector(values), levels, axis=0) for values in (heights, widths, begins))
    scale = ops.take(ops.convert_to_tensor(scales, "float32"), levels, axis=0)
    begin = begin + ops.expand_dims(ops.arange(ops.shape(boxes)[0], dtype="int32"), -1) * sum(areas)
    start, sides = _regions(boxes, ops.expand_dims(scale, -1), aligned)

    y, y_weights = _taps(start[..., 1], sides[..., 1], height, size, sampling)
    x, x_weights = _taps(start[..., 0], sides[..., 0], width, size, sampling)
    y = y * ops.reshape(width, (-1, 1, 1)) + ops.reshape(begin, (-1, 1, 1))
    along_y, along_x = (-1, size, 1, 2 * sampling, 1), (-1, 1, size, 1, 2 * sampling)
    index = ops.reshape(y, along_y) + ops.reshape(x, along_x)
    weights = ops.reshape(y_weights, along_y) * ops.reshape(x_weights, along_x)
    shape = (-1, ops.shape(boxes)[1], size * size, 4 * sampling**2)
    return pixels, ops.reshape(index, shape), ops.reshape(weights, shape)


def _vector(values):
    """int32 [L] of ints, some of them perhaps not known yet."""
    if all(isinstance(value, int) for value in values):
        return ops.convert_to_tensor(values, "int32")
    return ops.stack([ops.cast(value, "int32") for value in values])


def _taps(start, sides, length, size, sampling):
    """Along one axis: the two neighbours of every sample, int32 [M, size, 2 * sampling], and their weights, float32.

    ``start``, ``sides`` float32 and ``length`` int32, [B, R] each, M = B * R.
    """
    places = (np.arange(size * sampling, dtype=np.float32) + 0.5) / sampling  # in bins
    position = ops.reshape(start, (-1, 1)) + ops.reshape(sides / size, (-1, 1)) * places
    length = ops.cast(ops.reshape(length, (-1, 1)), "float32")
    inside = ops.logical_and(position >= -1.0, position <= length)
    position = ops.minimum(ops.maximum(position, 0.0), length - 1.0)
    low = ops.floor(position)
    counts = ops.cast(inside, "float32") / sampling
    upper = (position - low) * counts
    taps = ops.stack([low, ops.minimum(low + 1.0, length - 1.0)], axis=-1)
    weights = ops.stack([counts - upper, upper], axis=-1)
    shape = (-1, size, 2 * sampling)
    return ops.reshape(ops.cast(taps, "int32"), shape), ops.reshape(weights, shape)


# === As many samples as there are pixels ===


def _adaptive(features, boxes, size, scales, sampling, aligned, levels):
    """A product with one matrix for each axis of every box, since the number of samples differs from box to box."""
    result = 0.0
    for level, (feature, scale) in enumerate(zip(features, scales, strict=True)):
        start, sides = _regions(boxes, scale, aligned)
        height, width = ops.shape(feature)[1:3]
        rows = _averages(start[..., 1], sides[..., 1], height, size)
        columns = _averages(start[..., 0], sides[..., 0], width, size)
        if levels is not None:
            rows = rows * ops.cast(levels == level, "float32")[..., None, None]
        result = result + ops.einsum("brjw,briwc->brijc", columns, ops.einsum("brih,bhwc->briwc", rows, feature))
    return result


def _averages(start, sides, length, size):
    """[B, R, size, length]: row i averages the samples of bin i along one axis. No gradient passes through it."""
    bins = sides / size
    samples = ops.ceil(bins)
    divisor = ops.maximum(samples, 1.0)  # no samples are in a box of no or negative extent
    pixel = ops.cast(ops.arange(length), "float32")
    last = ops.cast(length, "float32") - 1.0
    index = ops.arange(size, dtype="float32")

    def weights(sample):
        within = (sample + 0.5) / divisor
        position = start[..., None] + bins[..., None] * (index + within[..., None])
        inside = ops.logical_and(position >= -1.0, position <= last + 1.0)
        counts = ops.logical_and(inside, (sample < samples)[..., None])
        position = ops.minimum(ops.maximum(position, 0.0), last)
        tent = ops.maximum(1.0 - ops.abs(position[..., None] - pixel), 0.0)
        return tent * ops.cast(counts, "float32")[..., None]

    def more(sample, total):
        return sample < ops.max(samples)

    def add(sample, total):
        return sample + 1.0, total + weights(sample)

    _, total = ops.while_loop(more, add, (ops.convert_to_tensor(0.0), ops.zeros_like(weights(0.0))))
    return ops.stop_gradient(total / divisor[..., None, None])
