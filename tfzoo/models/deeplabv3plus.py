"""DeepLabv3+: atrous spatial pyramid pooling, and a small decoder that brings back the outlines.

Chen, Zhu, Papandreou, Schroff, Adam 2018: Encoder-Decoder with Atrous Separable Convolution for Semantic Image Segmentation.
"""

import keras

from tfzoo.backbones import feature_pyramid
from tfzoo.errors import InputError
from tfzoo.layers.aspp import atrous_spatial_pyramid_pooling
from tfzoo.layers.convolution import conv_norm_relu, separable_conv_norm_relu
from tfzoo.layers.resizing import ResizeLike
from tfzoo.models.base import check_options
from tfzoo.models.segmenter import Segmenter

RATES = {16: (6, 12, 18), 8: (12, 24, 36)}  # section 3.1: the rates double where the output stride halves


@keras.saving.register_keras_serializable("tfzoo")
class DeepLabV3Plus(Segmenter):
    """DeepLabv3+ (figure 2 of the paper).

    Args:
        num_classes, class_names, ...: see ``Segmenter``.
        backbone: one of ``tfzoo.backbones.PYRAMIDS``.
        output_stride: 16 or 8: stride of the encoder's last map.
        separable: depthwise separable convolutions in pyramid pooling and decoder (section 3.2), or plain ones.
        width_multiplier: factor on the backbone's channels, the 256 of the pyramid and the 48 of the decoder.
        dropout: rate before the pyramid's result is used.
    """

    def __init__(
        self, num_classes, backbone="resnet50", output_stride=16, separable=True, width_multiplier=1.0, dropout=0.5, **kwargs
    ):
        check_options(width_multiplier)
        if output_stride not in RATES:
            raise InputError(f"output_stride is {output_stride}: it must be 8 or 16.")
        super().__init__(
            num_classes,
            backbone=backbone,
            output_stride=output_stride,
            separable=separable,
            width_multiplier=width_multiplier,
            dropout=dropout,
            **kwargs,
        )

    @staticmethod
    def build_network(pixels, num_classes, backbone, output_stride, separable, width_multiplier, dropout):
        width, low_width = max(round(256 * width_multiplier), 1), max(round(48 * width_multiplier), 1)
        convolution = separable_conv_norm_relu if separable else conv_norm_relu

        # === Encoder ===
        _, low, *_, x = feature_pyramid(backbone, pixels, width_multiplier, output_stride)
        x = atrous_spatial_pyramid_pooling(x, width, RATES[output_stride], convolution=convolution, name="aspp")
        if dropout:
            x = keras.layers.Dropout(dropout, name="aspp_dropout")(x)

        # === Decoder ===
        low = conv_norm_relu(low, low_width, 1, name="decoder_low")
        x = ResizeLike(name="decoder_upsample")([x, low])
        x = keras.layers.Concatenate(name="decoder_join")([x, low])
        for index in (1, 2):
            x = convolution(x, width, 3, name=f"decoder_conv{index}")

        # === Head ===
        x = keras.layers.Conv2D(num_classes, 1, name="head")(x)
        return ResizeLike(name="upsample_to_image")([x, pixels])
