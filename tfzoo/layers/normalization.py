"""Pixel normalisation, inside the model, so that training, export and serving cannot disagree about it."""

import keras
from keras import ops

IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)


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
        images = ops.cast(images, "float32") * ops.convert_to_tensor(scale, "float32")
        return ops.cast(images + ops.convert_to_tensor(offset, "float32"), self.compute_dtype)

    def compute_output_spec(self, images):
        return keras.KerasTensor(images.shape, dtype=self.compute_dtype)

    def get_config(self):
        return {**super().get_config(), "mean": self.mean, "std": self.std}
