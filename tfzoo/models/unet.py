"""U-Net: a contracting path, an expanding path, and skips between them.

Ronneberger, Fischer, Brox 2015: U-Net: Convolutional Networks for Biomedical Image Segmentation.
"""

import keras

from tfzoo.backbones import feature_pyramid
from tfzoo.errors import InputError
from tfzoo.layers.cropping import CropLike
from tfzoo.layers.padding import OverlapTilePadding
from tfzoo.models.base import check_options
from tfzoo.models.segmenter import Segmenter


@keras.saving.register_keras_serializable("tfzoo")
class UNet(Segmenter):
    """U-Net (figure 1 of the paper).

    Args:
        num_classes, class_names, ...: see ``Segmenter``.
        width_multiplier: factor on the paper's 64, 128, ... channels.
        depth: number of poolings; the paper has 4.
        padding: "same", or the paper's "valid": maps lose a border in each convolution, skips are cropped, and the picture is
            first padded by reflection, so that the answer has the picture's size.
        batch_norm: batch normalisation after each 3x3 convolution. The paper has none; without it, training is slower.
        dropout: rate at the end of the contracting path (section 3.1).
    """

    def __init__(self, num_classes, width_multiplier=1.0, depth=4, padding="same", batch_norm=True, dropout=0.5, **kwargs):
        check_options(width_multiplier, batch_norm)
        if padding not in ("same", "valid"):
            raise InputError(f"padding is '{padding}': it must be 'same' or 'valid'.")
        if depth < 1:
            raise InputError(f"depth is {depth}: a U-Net has at least 1 pooling.")
        super().__init__(
            num_classes,
            width_multiplier=width_multiplier,
            depth=depth,
            padding=padding,
            batch_norm=batch_norm,
            dropout=dropout,
            **kwargs,
        )

    @staticmethod
    def build_network(pixels, num_classes, width_multiplier, depth, padding, batch_norm, dropout):
        widths = [max(round(64 * width_multiplier * 2**level), 1) for level in range(depth + 1)]
        x = OverlapTilePadding(depth, name="overlap_tile")(pixels) if padding == "valid" else pixels

        # === Contracting path ===
        skips = []
        for level in range(depth):
            x = double_convolution(x, widths[level], padding, batch_norm, name=f"down{level + 1}")
            skips.append(x)
            x = keras.layers.MaxPooling2D(2, padding="same", name=f"pool{level + 1}")(x)
        x = double_convolution(x, widths[depth], padding, batch_norm, name="bottom")
        if dropout:
            x = keras.layers.Dropout(dropout, name="dropout")(x)

        # === Expanding path ===
        for level in reversed(range(depth)):
            name = f"up{level + 1}"
            x = up_convolution(x, widths[level], name)
            x = join(skips[level], x, padding, name)
            x = double_convolution(x, widths[level], padding, batch_norm, name=name)

        # === Head ===
        x = keras.layers.Conv2D(num_classes, 1, name="head")(x)
        return CropLike(name="crop")([x, pixels]) if padding == "valid" else x


@keras.saving.register_keras_serializable("tfzoo")
class UNetWithBackbone(Segmenter):
    """U-Net's expanding path on the features of a classification network, as its contracting path.

    The skips are the backbone's features at strides 2, 4, 8 and 16; a last step without a skip brings the map to the picture's
    size.

    Args:
        num_classes, class_names, ...: see ``Segmenter``.
        backbone: one of ``tfzoo.backbones.PYRAMIDS``.
        width_multiplier: factor on the backbone's channels and on the 256, 128, 64, 32 and 16 of the expanding path.
        dropout: rate at the end of the contracting path.
    """

    def __init__(self, num_classes, backbone="resnet50", width_multiplier=1.0, dropout=0.2, **kwargs):
        check_options(width_multiplier)
        super().__init__(num_classes, backbone=backbone, width_multiplier=width_multiplier, dropout=dropout, **kwargs)

    @staticmethod
    def build_network(pixels, num_classes, backbone, width_multiplier, dropout):
        # === Contracting path ===
        *skips, x = feature_pyramid(backbone, pixels, width_multiplier)
        if dropout:
            x = keras.layers.Dropout(dropout, name="dropout")(x)

        # === Expanding path ===
        for level, skip in reversed(list(enumerate(skips, start=1))):
            width, name = max(round(16 * width_multiplier * 2**level), 1), f"up{level}"
            x = join(skip, up_convolution(x, width, name), "same", name)
            x = double_convolution(x, width, "same", batch_norm=True, name=name)
        width = max(round(16 * width_multiplier), 1)
        x = CropLike(name="up0_crop")([up_convolution(x, width, "up0"), pixels])
        x = double_convolution(x, width, "same", batch_norm=True, name="up0")

        # === Head ===
        return keras.layers.Conv2D(num_classes, 1, name="head")(x)


def up_convolution(x, filters, name):
    """2x2 transposed convolution that doubles the map."""
    return keras.layers.Conv2DTranspose(filters, 2, strides=2, kernel_initializer="he_normal", name=f"{name}_conv")(x)


def double_convolution(x, filters, padding, batch_norm, name):
    """Twice: 3x3 convolution, (batch normalisation,) ReLU."""
    for index in (1, 2):
        x = keras.layers.Conv2D(
            filters, 3, padding=padding, use_bias=not batch_norm, kernel_initializer="he_normal", name=f"{name}_conv{index}"
        )(x)
        if batch_norm:
            x = keras.layers.BatchNormalization(name=f"{name}_bn{index}")(x)
        x = keras.layers.ReLU(name=f"{name}_relu{index}")(x)
    return x


def join(skip, x, padding, name):
    """Crops whichever map is the larger one to the other, and concatenates.

    With "same" padding pooling rounds odd sizes up, so ``x`` can be one pixel too large; with "valid" the skip is larger.
    """
    if padding == "same":
        x = CropLike(name=f"{name}_crop")([x, skip])
    else:
        skip = CropLike("center", name=f"{name}_crop")([skip, x])
    return keras.layers.Concatenate(name=f"{name}_join")([skip, x])
