"""Pooling to a fixed number of bins, whatever the size of the map."""

import keras
from keras import ops


def bin_weights(length, bins: int):
    """[bins, length]: row i averages the positions floor(i * length / bins) up to ceil((i + 1) * length / bins), exclusive.

    Neighbouring bins overlap where ``length`` is not divisible, and one position can be in several where it is below ``bins``.
    """
    position, index = ops.arange(length), ops.arange(bins)
    first = index * length // bins
    after = ((index + 1) * length + bins - 1) // bins
    inside = (position[None, :] >= first[:, None]) & (position[None, :] < after[:, None])
    return ops.cast(inside, "float32") / ops.cast(after - first, "float32")[:, None]


@keras.saving.register_keras_serializable("tfzoo")
class BinPooling(keras.layers.Layer):
    """Averages a map over a grid of bins x bins: [B, H, W, C] to [B, bins, bins, C] (He et al. 2014; PyTorch's AdaptiveAvgPool2d).

    Written as a product with one matrix for each axis, since H and W are known only when the picture is there.
    """

    def __init__(self, bins, **kwargs):
        super().__init__(**kwargs)
        self.bins = bins

    def call(self, x):
        height, width = ops.shape(x)[1:3]
        channels = x.shape[-1]
        rows = ops.cast(bin_weights(height, self.bins), x.dtype)
        columns = ops.cast(bin_weights(width, self.bins), x.dtype)
        x = ops.matmul(rows, ops.reshape(x, (-1, height, width * channels)))
        return ops.matmul(columns, ops.reshape(x, (-1, self.bins, width, channels)))

    def compute_output_shape(self, shape):
        return (shape[0], self.bins, self.bins, shape[-1])

    def get_config(self):
        return {**super().get_config(), "bins": self.bins}
