"""Padding: by reflection, for sizes known only when the picture is there; and with channels of zeros."""

import keras
from keras import ops


def reflect_indices(length, before: int, total):
    """Positions 0 .. length-1 that ``total`` places, starting ``before`` places ahead of 0, mirror into.

    The edge is not repeated (2 1 0 1 2). Where the padding is longer than the picture it is mirrored again, which
    ``numpy.pad(mode="reflect")`` does too and TensorFlow's pad refuses. ``length`` and ``total`` may be tensors.
    """
    period = ops.maximum(2 * (length - 1), 1)  # of a single pixel everything is a mirror image
    position = (ops.arange(total) - before + period * before) % period  # + a multiple, so that nothing is negative
    return ops.minimum(position, period - position)


@keras.saving.register_keras_serializable("tfzoo")
class OverlapTilePadding(keras.layers.Layer):
    """Pads a picture by reflection until a U-Net of "valid" convolutions answers at least the picture's own size.

    Ronneberger et al. 2015, figure 2 (overlap-tile strategy). With depth d and a lowest map of b pixels, the network
    takes 2^d (b + 4) + 4 (2^d - 1) pixels and answers 2^d b - 4 (2^d - 1): b is the smallest that covers the picture, and
    every pooled map has an even size.

    Args:
        depth: number of poolings.
    """

    def __init__(self, depth, **kwargs):
        super().__init__(**kwargs)
        self.depth = depth

    def padded_length(self, length):
        """The length that the network takes for a picture of ``length`` (an int or a tensor)."""
        scale, border = 2**self.depth, 4 * (2**self.depth - 1)
        lowest = (length + border + scale - 1) // scale
        return scale * (lowest + 4) + border

    def call(self, images):
        before = 2 * 2**self.depth + 4 * (2**self.depth - 1)  # half of what the network takes off: 92 for depth 4
        for axis in (1, 2):
            length = ops.shape(images)[axis]
            images = ops.take(images, reflect_indices(length, before, self.padded_length(length)), axis=axis)
        return images

    def compute_output_shape(self, shape):
        batch, height, width, channels = shape
        return (batch, *(side and self.padded_length(side) for side in (height, width)), channels)

    def get_config(self):
        return {**super().get_config(), "depth": self.depth}


@keras.saving.register_keras_serializable("tfzoo")
class ZeroChannels(keras.layers.Layer):
    """Appends channels of zeros: [B, H, W, C] to [B, H, W, channels].

    Args:
        channels: number of channels of the result, not below C.
    """

    def __init__(self, channels, **kwargs):
        super().__init__(**kwargs)
        self.channels = channels

    def call(self, x):
        return ops.pad(x, ((0, 0), (0, 0), (0, 0), (0, self.channels - x.shape[-1])))

    def compute_output_shape(self, shape):
        return (*shape[:-1], self.channels)

    def get_config(self):
        return {**super().get_config(), "channels": self.channels}
