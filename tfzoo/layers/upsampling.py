"""Bringing coarse maps up to a finer grid."""

import keras
import numpy as np
from keras import ops


def bilinear_kernel(size: int) -> np.ndarray:
    """The bilinear interpolation filter of Long et al. 2015 (section 3.3): float32 [size, size].

    With stride s and size 2s - s % 2 a transposed convolution by it interpolates bilinearly between pixel centres.
    """
    factor = (size + 1) // 2
    centre = factor - 1 if size % 2 else factor - 0.5
    weights = 1 - np.abs(np.arange(size) - centre) / factor
    return np.outer(weights, weights).astype(np.float32)


@keras.saving.register_keras_serializable("tfzoo")
class BilinearInitializer(keras.initializers.Initializer):
    """Fills a transposed convolution's kernel [k, k, out, in] with the bilinear filter, each channel to itself."""

    def __call__(self, shape, dtype=None):
        height, width, out_channels, in_channels = shape
        if height != width or out_channels != in_channels:
            raise ValueError(
                f"The bilinear kernel is square and keeps the number of channels; the shape asked for is {tuple(shape)}."
            )
        kernel = np.zeros(shape, np.float32)
        for channel in range(out_channels):
            kernel[:, :, channel, channel] = bilinear_kernel(height)
        return ops.convert_to_tensor(kernel, dtype)


def upsample_bilinear(x, channels: int, stride: int, name: str, trainable: bool = True):
    """A transposed convolution that starts as bilinear interpolation by ``stride``: [B, h, w, C] to [B, s*h, s*w, C].

    Its kernel (2 * stride) is divisible by the stride, so every output pixel sums over the same number of taps and no
    checkerboard appears.
    """
    return keras.layers.Conv2DTranspose(
        channels,
        2 * stride,
        strides=stride,
        padding="same",
        use_bias=False,
        kernel_initializer=BilinearInitializer(),
        trainable=trainable,
        name=name,
    )(x)
