"""Pixel normalisation, inside the model, so that training, export and serving cannot disagree about it."""

import keras
import numpy as np
from keras import ops

from tfzoo.layers.target import target

IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)


def _constant(channels, width):
    """Three numbers; for TFLite as often as a row has pixels: its kernels go through what is repeated in loops of three, slowly."""
    tiled = target().portable and width is not None
    return ops.convert_to_tensor(np.tile(np.float32(channels), (1, 1, width, 1)) if tiled else channels, "float32")


@keras.saving.register_keras_serializable("tfzoo")
class ImageNormalization(keras.layers.Layer):
    """(pixel - mean) / std for each channel, in float32, then cast to the compute dtype.

    Args:
        mean, std: three numbers each, RGB, in pixel values (0 to 255).

    Takes [B, H, W, 3], 0 to 255, of any dtype.
    """

    def __init__(self, mean=IMAGENET_MEAN, std=IMAGENET_STD, **kwargs):
        kwargs.setdefault("trainable", False)
        super().__init__(autocast=False, **kwargs)
        self.mean, self.std = tuple(mean), tuple(std)

    def call(self, images):
        scale = [1 / s for s in self.std]
        offset = [-m / s for m, s in zip(self.mean, self.std, strict=True)]
        scale, offset = (_constant(channels, images.shape[2]) for channels in (scale, offset))
        return ops.cast(ops.cast(images, "float32") * scale + offset, self.compute_dtype)

    def compute_output_spec(self, images):
        return keras.KerasTensor(images.shape, dtype=self.compute_dtype)

    def get_config(self):
        return {**super().get_config(), "mean": self.mean, "std": self.std}
