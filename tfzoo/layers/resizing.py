"""Resizing maps by interpolation, to sizes that may be known only when the picture is there.

Pixel centres lie at half-integers: output pixel i looks at input position (i + 0.5) * input length / output length - 0.5. Nothing
is smoothed before a map is made smaller. "bilinear" repeats the edge and is, for larger maps, what PyTorch calls
``interpolate(mode="bilinear", align_corners=False)``. "bicubic" is Keys's kernel with a = -0.5 (Keys 1981, equation 4), which
TensorFlow and Pillow take too (PyTorch and OpenCV take -0.75), its weights renormalised where taps fall outside the map.
"""

import keras
from keras import ops

from tfzoo.errors import InputError

INTERPOLATIONS = ("nearest", "bilinear", "bicubic")


def resize(x, size, interpolation="bilinear"):
    """Resizes [B, h, w, C] to [B, *size, C], in float32; the two sizes are ints or scalar tensors."""
    x = ops.cast(x, "float32")
    if interpolation != "bilinear":  # TensorFlow's kernels of these two are not in TFLite and today's ONNX
        resize_axis = _resize_bicubic if interpolation == "bicubic" else _resize_nearest
        for axis, length in zip((1, 2), size, strict=True):
            x = resize_axis(x, length, axis)
        return x
    if keras.backend.backend() == "tensorflow" and not isinstance(x, keras.KerasTensor):
        import tensorflow as tf  # keras.ops compares the size with 0, which a tensor of a graph cannot do

        return tf.image.resize(x, size, method="bilinear")
    return ops.image.resize(x, size, interpolation="bilinear")


def repeat(x, factor):
    """Repeats each value: [B, h, w, C] to [B, factor * h, factor * w, C], nearest neighbours for a whole factor, any dtype."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        size = [side * factor for side in ops.shape(x)[1:3]]
        return tf.raw_ops.ResizeNearestNeighbor(images=x, size=size)  # for whole factors its old pixel grid is the same
    return ops.repeat(ops.repeat(x, factor, axis=1), factor, axis=2)


def _positions(length, total):
    """Where the centres of ``total`` output pixels lie among those of ``length`` input pixels, float32."""
    scale = ops.cast(length, "float32") / ops.cast(total, "float32")
    return (ops.cast(ops.arange(total), "float32") + 0.5) * scale - 0.5


def _resize_nearest(x, total, axis):
    """Takes the nearest neighbour along ``axis``; halfway between two, the second."""
    length = ops.shape(x)[axis]
    nearest = ops.cast(ops.floor(_positions(length, total) + 0.5), "int32")
    return ops.take(x, ops.minimum(nearest, length - 1), axis=axis)


def _resize_bicubic(x, total, axis):
    """Weighs four neighbours along ``axis``."""
    length = ops.shape(x)[axis]
    position = _positions(length, total)
    taps = ops.expand_dims(ops.cast(ops.floor(position), "int32"), 1) + ops.convert_to_tensor([-1, 0, 1, 2], "int32")
    inside = ops.cast(ops.logical_and(taps >= 0, taps < length), "float32")
    weights = cubic_kernel(ops.expand_dims(position, 1) - ops.cast(taps, "float32")) * inside
    weights = weights / ops.sum(weights, axis=1, keepdims=True)
    taps = ops.maximum(ops.minimum(taps, length - 1), 0)
    shape = [1, 1, 1, 1]
    shape[axis] = -1
    return sum(ops.take(x, taps[:, tap], axis=axis) * ops.reshape(weights[:, tap], shape) for tap in range(4))


def cubic_kernel(distance):
    """Keys's interpolation kernel with a = -0.5: 1 at 0, 0 at every other whole number and from 2 on."""
    d = ops.abs(distance)
    near = (1.5 * d - 2.5) * d * d + 1.0
    far = ((-0.5 * d + 2.5) * d - 4.0) * d + 2.0
    return ops.where(d <= 1.0, near, ops.where(d < 2.0, far, ops.zeros_like(d)))


def check_interpolation(interpolation):
    """Raises an InputError unless the interpolation is known."""
    if interpolation not in INTERPOLATIONS:
        raise InputError(f"interpolation is '{interpolation}': it must be one of {', '.join(INTERPOLATIONS)}.")


@keras.saving.register_keras_serializable("tfzoo")
class ResizeLike(keras.layers.Layer):
    """Resizes ``x`` to the height and width of ``reference``; call it on [x, reference].

    [B, h, w, C] and [B, H, W, anything] to [B, H, W, C], reckoned in float32 and cast to the compute dtype.

    Args:
        interpolation: "bilinear", "nearest" or "bicubic"; see the module for what exactly they do.
    """

    def __init__(self, interpolation="bilinear", **kwargs):
        super().__init__(autocast=False, **kwargs)
        check_interpolation(interpolation)
        self.interpolation = interpolation

    def call(self, inputs):
        x, reference = inputs
        return ops.cast(resize(x, ops.shape(reference)[1:3], self.interpolation), self.compute_dtype)

    def compute_output_shape(self, shapes):
        (batch, _, _, channels), (_, height, width, _) = shapes
        return batch, height, width, channels

    def get_config(self):
        return {**super().get_config(), "interpolation": self.interpolation}


@keras.saving.register_keras_serializable("tfzoo")
class ResizeBy(keras.layers.Layer):
    """Resizes by a whole factor: [B, h, w, C] to [B, factor * h, factor * w, C], reckoned in float32.

    Args:
        factor: 1 or more.
        interpolation: "bilinear", "nearest" or "bicubic"; see the module for what exactly they do.
    """

    def __init__(self, factor, interpolation="bilinear", **kwargs):
        super().__init__(autocast=False, **kwargs)
        check_interpolation(interpolation)
        self.factor, self.interpolation = factor, interpolation

    def call(self, x):
        if self.interpolation == "nearest":
            return ops.cast(repeat(ops.cast(x, "float32"), self.factor), self.compute_dtype)
        size = [side * self.factor for side in ops.shape(x)[1:3]]
        return ops.cast(resize(x, size, self.interpolation), self.compute_dtype)

    def compute_output_shape(self, shape):
        batch, height, width, channels = shape
        return batch, height and height * self.factor, width and width * self.factor, channels

    def get_config(self):
        return {**super().get_config(), "factor": self.factor, "interpolation": self.interpolation}
