"""What a detector does to pictures first: normalise, resize, pad (torchvision's GeneralizedRCNNTransform)."""

import math

import keras
from keras import ops

from tfzoo.errors import InputError
from tfzoo.layers.normalization import IMAGENET_MEAN, IMAGENET_STD, ImageNormalization
from tfzoo.layers.resizing import resize


@keras.saving.register_keras_serializable("tfzoo")
class DetectionInput(keras.layers.Layer):
    """Pictures [B, H, W, 3], 0 to 255, any dtype, to normalised pixels [B, H', W', 3] of the compute dtype.

    Resizing is bilinear, with half-pixel centres and without smoothing; the padding is zeros (the mean) at the bottom and right.

    Args:
        mean, std: RGB, in pixel values.
        min_size, max_size: the shorter side becomes ``min_size``, unless the longer one would exceed ``max_size``, which it then
            becomes. None for the former: pictures stay as large as they are.
        fixed_size: (height, width) that every picture is stretched to, in place of that rule.
        divisor: sides are padded to multiples of it.

    Raises:
        InputError: impossible sizes.
    """

    def __init__(self, mean=IMAGENET_MEAN, std=IMAGENET_STD, min_size=None, max_size=None, fixed_size=None, divisor=32, **kwargs):
        super().__init__(autocast=False, **kwargs)
        if min_size is not None and not (min_size >= 1 and (max_size is None or max_size >= 1)):
            raise InputError(f"min_size is {min_size} and max_size {max_size}: they must be pixels, 1 or more.")
        if min_size is None and max_size is not None:
            raise InputError(f"max_size is {max_size} and there is no min_size, without which nothing is resized: give both.")
        self.min_size, self.max_size, self.divisor = min_size, max_size, divisor
        self.fixed_size = fixed_size and tuple(fixed_size)
        self.normalization = ImageNormalization(mean, std, dtype="float32", name="normalization")

    def call(self, images):
        given = ops.shape(images)[1:3]
        pixels = self.normalization(images)
        resized, padded = self.sizes(given)
        if (self.fixed_size or self.min_size) and not _equal(given, resized):
            pixels = resize(pixels, resized)
        if self.divisor > 1:
            pixels = ops.pad(pixels, [[0, 0], [0, padded[0] - resized[0]], [0, padded[1] - resized[1]], [0, 0]])
        return ops.cast(pixels, self.compute_dtype)

    def compute_output_spec(self, images):
        batch, height, width, channels = images.shape
        size = self.sizes((height, width))[1] if height and width else self.fixed_size or (None, None)
        return keras.KerasTensor((batch, *size, channels), dtype=self.compute_dtype)

    def sizes(self, given):
        """(height, width) after resizing, and after padding, of pictures of that size: ints for ints, else scalar tensors."""
        resized = self._resized(given)
        return resized, tuple(multiple_above(side, self.divisor) for side in resized)

    def _resized(self, given):
        if self.fixed_size:
            return self.fixed_size
        if self.min_size is None:
            return tuple(given)
        if all(isinstance(side, int) for side in given):
            scale = self.min_size / min(given)
            scale = scale if self.max_size is None else min(scale, self.max_size / max(given))
            return tuple(math.floor(side * scale) for side in given)
        # torchvision reckons in Python's floats: in float32 half of all sizes would come out a pixel smaller or larger
        sides = [ops.cast(side, "float64") for side in given]
        scale = self.min_size / ops.minimum(*sides)
        scale = scale if self.max_size is None else ops.minimum(scale, self.max_size / ops.maximum(*sides))
        return tuple(ops.cast(ops.floor(side * scale), "int32") for side in sides)

    def get_config(self):
        return {
            **super().get_config(),
            "mean": self.normalization.mean,
            "std": self.normalization.std,
            "min_size": self.min_size,
            "max_size": self.max_size,
            "fixed_size": self.fixed_size,
            "divisor": self.divisor,
        }


def _equal(size, other):
    """Whether both sizes are known and equal."""
    return all(isinstance(side, int) for side in (*size, *other)) and tuple(size) == tuple(other)


def multiple_above(side, divisor):
    """The smallest multiple of ``divisor`` that is not below ``side``, an int or a tensor above 0."""
    return (side + divisor - 1) // divisor * divisor  # not -(-side // divisor): ONNX rounds quotients towards 0
