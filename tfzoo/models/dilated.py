"""Dilated convolutions on VGG16: a front end, and a context module that sees further at no loss of resolution.

Yu, Koltun 2016: Multi-Scale Context Aggregation by Dilated Convolutions (sections 3 and 4).
"""

import keras
import numpy as np
from keras import ops

from tfzoo.backbones.vgg import convolution, max_pool, vgg16_features
from tfzoo.errors import InputError
from tfzoo.layers import atrous
from tfzoo.layers.resizing import ResizeLike
from tfzoo.models.base import check_options
from tfzoo.models.segmenter import Segmenter

# Table 1: dilation of each 3x3 layer, and its channels as multiples of the number of classes in the basic and the large module.
DILATIONS = (1, 1, 2, 4, 8, 16, 1)
CHANNELS = {"basic": (1, 1, 1, 1, 1, 1, 1), "large": (2, 2, 4, 8, 16, 32, 32)}


@keras.saving.register_keras_serializable("tfzoo")
class DilatedVGG(Segmenter):
    """VGG16 without its last two poolings, dilated instead, and the context module on its scores.

    The reference network pads the picture by reflection and loses the border in each convolution; here convolutions pad with
    zeros, which keeps the maps aligned with the picture. Scores at stride 8 are brought up bilinearly.

    Args:
        num_classes, class_names, ...: see ``Segmenter``.
        context: "basic" or "large" (table 1), or None for the front end alone (section 4).
        width_multiplier: factor on VGG16's channels and on the 4096 of fc6 and fc7; the context module keeps its own.
        batch_norm: batch normalisation in VGG16, fc6 and fc7, for training from scratch.
        dropout: rate after fc6 and fc7.
    """

    def __init__(self, num_classes, context="basic", width_multiplier=1.0, batch_norm=False, dropout=0.5, **kwargs):
        check_options(width_multiplier, batch_norm)
        if context not in (None, *CHANNELS):
            raise InputError(f"context is '{context}': it must be 'basic', 'large' or None.")
        super().__init__(
            num_classes, context=context, width_multiplier=width_multiplier, batch_norm=batch_norm, dropout=dropout, **kwargs
        )

    @staticmethod
    def build_network(pixels, num_classes, context, width_multiplier, batch_norm, dropout):
        # === Front end ===
        x = vgg16_features(pixels, width_multiplier, batch_norm, pool=pool, dilations=(1, 1, 1, 1, 2))["pool5"]
        for name, size, dilation in (("fc6", 7, 4), ("fc7", 1, 1)):
            x = convolution(x, round(4096 * width_multiplier), size, batch_norm, name=name, dilation=dilation)
            if dropout:
                x = keras.layers.Dropout(dropout, name=f"{name}_dropout")(x)
        x = keras.layers.Conv2D(num_classes, 1, name="score")(x)

        # === Context module ===
        if context:
            x = context_module(x, num_classes, CHANNELS[context])

        # === Head ===
        return ResizeLike(name="upsample_to_image")([x, pixels])


def pool(x, name):
    """VGG16's pooling, left out of the last two blocks."""
    return x if name in ("block4_pool", "block5_pool") else max_pool(x, name)


def context_module(x, num_classes, channels):
    """Seven 3x3 convolutions of growing dilation, then 1x1, that start as the identity (section 3, equations 4 and 5)."""
    for index, (dilation, multiple) in enumerate(zip(DILATIONS, channels, strict=True), start=1):
        x = atrous.Conv2D(
            multiple * num_classes,
            3,
            dilation_rate=dilation,
            padding="same",
            activation="relu",
            kernel_initializer=IdentityInitializer(num_classes),
            name=f"context{index}",
        )(x)
    return keras.layers.Conv2D(num_classes, 1, kernel_initializer=IdentityInitializer(num_classes), name="context8")(x)


@keras.saving.register_keras_serializable("tfzoo")
class IdentityInitializer(keras.initializers.Initializer):
    """Equation 5: each class's share of the input channels is averaged into its share of the output channels, at the centre tap.

    Where both numbers of channels are the number of classes this is the identity (equation 4). Noise breaks the symmetry between
    channels of one class.

    Args:
        groups: number of classes C, which divides both numbers of channels.
        noise: standard deviation.
        seed: of the noise.
    """

    def __init__(self, groups, noise=1e-2, seed=None):
        self.groups, self.noise, self.seed = groups, noise, seed

    def __call__(self, shape, dtype=None):
        height, width, inputs, outputs = shape
        into, out_of = np.arange(outputs) * self.groups // outputs, np.arange(inputs) * self.groups // inputs
        kernel = np.zeros(shape, np.float32)
        kernel[height // 2, width // 2] = (out_of[:, None] == into[None, :]) * (self.groups / inputs)
        if inputs == outputs == self.groups:
            return ops.convert_to_tensor(kernel, dtype)
        noise = keras.random.normal(shape, stddev=self.noise, dtype="float32", seed=self.seed)
        return ops.cast(ops.convert_to_tensor(kernel) + noise, dtype or "float32")

    def get_config(self):
        return {"groups": self.groups, "noise": self.noise, "seed": self.seed}
