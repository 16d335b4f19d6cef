"""Bringing coarse maps up to a finer grid: ``upsample`` is the one choice of ways."""

import keras
import numpy as np
from keras import ops

from tfzoo.errors import InputError
from tfzoo.layers.max_unpooling import MaxUnpooling
from tfzoo.layers.resizing import ResizeBy

METHODS = ("nearest", "bilinear", "bicubic", "bed_of_nails", "max_unpooling", "resize_convolution", "transposed_convolution")


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


@keras.saving.register_keras_serializable("tfzoo")
class BedOfNails(keras.layers.Layer):
    """Puts each value at the top left of its cell, zeros elsewhere: [B, h, w, C] to [B, factor * h, factor * w, C].

    Args:
        factor: side of the cells, 2 or more.
    """

    def __init__(self, factor=2, **kwargs):
        super().__init__(**kwargs)
        self.factor = factor

    def call(self, x):
        zeros = ops.zeros_like(x)
        return ops.depth_to_space(ops.concatenate([x] + [zeros] * (self.factor**2 - 1), axis=-1), self.factor)

    def compute_output_shape(self, shape):
        batch, height, width, channels = shape
        return batch, height and height * self.factor, width and width * self.factor, channels

    def get_config(self):
        return {**super().get_config(), "factor": self.factor}


def upsample(x, method, channels=None, factor=2, mask=None, kernel_size=None, name=None):
    """Brings [B, h, w, C] up to [B, factor * h, factor * w, channels] by one of ``METHODS``.

    Without weights, keeping the number of channels:
        "nearest", "bilinear", "bicubic": interpolation between pixel centres, see ``tfzoo.layers.resizing``.
        "bed_of_nails": each value at the top left of its cell, zeros elsewhere.
        "max_unpooling": each value where its cell's maximum stood (``mask``), zeros elsewhere; it has the mask's height and
            width, so an odd last row or column is cut.
    With weights:
        "resize_convolution": nearest neighbours, then a convolution (Odena et al. 2016): no checkerboard whatever the kernel.
        "transposed_convolution": its kernel is divisible by the stride unless another size is given, so that every output pixel
            sums over the same number of taps; others draw a checkerboard (same source). It starts as bilinear interpolation
            where the number of channels stays, else at random.

    Args:
        channels: of the result; None: those of x.
        factor: whole number from 2; "max_unpooling" has 2.
        mask: of ``MaxPoolingWithMask``, [B, H, W, C], for "max_unpooling".
        kernel_size: of the (transposed) convolution; None: 3, or twice the factor for the transposed one.
        name: of the layer; "resize_convolution" has two, the first called ``{name}_resize``.

    Raises:
        InputError: an unknown method, or arguments that it does not have.
    """
    _check(method, x.shape[-1], channels, factor, mask, kernel_size)
    channels = channels or x.shape[-1]
    if method == "bed_of_nails":
        return BedOfNails(factor, name=name)(x)
    if method == "max_unpooling":
        return MaxUnpooling(name=name)([x, mask])
    if method == "resize_convolution":
        x = ResizeBy(factor, "nearest", name=name and f"{name}_resize")(x)
        return keras.layers.Conv2D(channels, kernel_size or 3, padding="same", kernel_initializer="he_normal", name=name)(x)
    if method == "transposed_convolution":
        initializer = BilinearInitializer() if channels == x.shape[-1] else "he_normal"
        return keras.layers.Conv2DTranspose(
            channels, kernel_size or 2 * factor, strides=factor, padding="same", kernel_initializer=initializer, name=name
        )(x)
    return ResizeBy(factor, method, name=name)(x)


def _check(method, channels_before, channels, factor, mask, kernel_size):
    if method not in METHODS:
        raise InputError(f"Upsampling method '{method}' is not known: it is one of {', '.join(METHODS)}.")
    if not isinstance(factor, int) or factor < 2 or (method == "max_unpooling" and factor != 2):
        raise InputError(f"Upsampling factor is {factor!r}: it must be a whole number from 2, and 2 for max_unpooling.")
    if (mask is not None) != (method == "max_unpooling"):
        raise InputError(f"Upsampling by '{method}': a mask of the maxima belongs to max_unpooling, and to it alone.")
    if method in ("resize_convolution", "transposed_convolution"):
        if method == "transposed_convolution" and kernel_size is not None and kernel_size < factor:
            raise InputError(f"kernel_size is {kernel_size}: below the factor {factor} it leaves holes; make it at least as large.")
    elif channels not in (None, channels_before) or kernel_size is not None:
        raise InputError(f"Upsampling by '{method}' has no weights: leave out kernel_size, and channels but for {channels_before}.")
