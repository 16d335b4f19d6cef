"""Max pooling that remembers where the maxima stood, and the unpooling that puts values back there.

Zeiler & Fergus 2014 (section 2.1, switches); Badrinarayanan et al. 2017 (SegNet, figure 3); Noh et al. 2015 (figure 3).

Written with masks and rearrangements (space to depth and back) in place of TensorFlow's argmax kernel and a scatter: those convert
to neither TFLite's builtin operators nor ONNX, and are slower (``python -m tfzoo.benchmarks.unpooling``).
"""

import keras
from keras import ops

from tfzoo.layers.resizing import repeat


@keras.saving.register_keras_serializable("tfzoo")
class MaxPoolingWithMask(keras.layers.Layer):
    """2x2 max pooling with stride 2: [B, H, W, C] to (pooled [B, ceil(H/2), ceil(W/2), C], mask [B, H, W, C]).

    ``mask`` is 1 where a cell's maximum stands and 0 elsewhere, in the dtype of ``pooled``; no gradient passes through it. Of
    equal values the first one counts, row by row, in the gradient too, as in TensorFlow's ``max_pool_with_argmax``. Odd sizes
    round up, as with padding "same".
    """

    def call(self, x):
        return _pool(x)

    def compute_output_shape(self, shape):
        batch, height, width, channels = shape
        halves = (side and (side + 1) // 2 for side in (height, width))
        return (batch, *halves, channels), (batch, height, width, channels)


@keras.saving.register_keras_serializable("tfzoo")
class MaxUnpooling(keras.layers.Layer):
    """Undoes ``MaxPoolingWithMask``; call it on [x, mask].

    Each value of x [B, ceil(H/2), ceil(W/2), C] is put where the mask [B, H, W, C] is 1 in its cell, zeros fill the rest: the
    result has the size that the map had before pooling.
    """

    def call(self, inputs):
        return _unpool(*inputs)

    def compute_output_shape(self, shapes):
        return shapes[1]


# The gradient of pooling is unpooling. Left to the backend, it would run back through every rearrangement.


@ops.custom_gradient
def _pool(x):
    quarters = _quarters(_pad_to_even(x))
    top, bottom = ops.maximum(quarters[0], quarters[1]), ops.maximum(quarters[2], quarters[3])
    mask = _crop_like(_mask(quarters, top, bottom), x)

    def gradient(*upstream, **_):
        pooled = upstream[0] if len(upstream) == 2 else upstream[0][0]  # JAX hands over both in one tuple
        return _put_back(pooled, mask)

    return (ops.maximum(top, bottom), mask), gradient


@ops.custom_gradient
def _unpool(x, mask):
    def gradient(*upstream, **_):
        return sum(_quarters(_pad_to_even(upstream[0] * mask, "constant"))), ops.zeros_like(mask)

    return _put_back(x, mask), gradient


def _put_back(x, mask):
    return _crop_like(repeat(x, 2), mask) * mask


def _quarters(x):
    """The four values of each 2x2 cell, row by row: [B, H, W, C] to four of [B, H/2, W/2, C]."""
    return ops.split(ops.space_to_depth(x, 2), 4, axis=-1)


def _pad_to_even(x, mode="symmetric"):
    """Repeats the last row and column (or, with "constant", adds zeros) where their number is odd.

    The original comes first in its cell, so a repeated value is never the one that is remembered, and, unlike a very low value,
    it leaves the range of the map as it is, which quantization looks at.
    """
    height, width = ops.shape(x)[1:3]
    if _is_even(height) and _is_even(width):
        return x
    padded = ops.pad(x, [[0, 0], [0, height % 2], [0, width % 2], [0, 0]], mode=mode)
    batch, *size = ops.shape(padded)[:3]
    return ops.reshape(padded, (batch, *size, x.shape[-1]))  # padding by an unknown amount forgets the number of channels


def _crop_like(x, reference):
    """Cuts what ``_pad_to_even`` added."""
    height, width = ops.shape(reference)[1:3]
    return x if _is_even(height) and _is_even(width) else x[:, :height, :width, :]


def _is_even(length):
    """Whether it is known, before there is a picture, that nothing has to be added."""
    return isinstance(length, int) and length % 2 == 0


def _mask(quarters, top, bottom):
    """1 for the first of the largest of each cell's four values."""
    upper = ops.greater_equal(top, bottom)
    lower = ops.logical_not(upper)
    left_of_upper, left_of_lower = ops.greater_equal(quarters[0], quarters[1]), ops.greater_equal(quarters[2], quarters[3])
    first = [
        ops.logical_and(upper, left_of_upper),
        ops.logical_and(upper, ops.logical_not(left_of_upper)),
        ops.logical_and(lower, left_of_lower),
        ops.logical_and(lower, ops.logical_not(left_of_lower)),
    ]
    return ops.depth_to_space(ops.concatenate([ops.cast(where, top.dtype) for where in first], axis=-1), 2)
