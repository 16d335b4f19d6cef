"""DeepLab v1 (LargeFOV on VGG16) and v2 (atrous spatial pyramid pooling on a ResNet).

Chen, Papandreou, Kokkinos, Murphy, Yuille 2015: Semantic Image Segmentation with Deep Convolutional Nets and Fully Connected CRFs;
the same authors 2018: DeepLab: Semantic Image Segmentation with Deep Convolutional Nets, Atrous Convolution, and Fully Connected
CRFs. The CRF and the fusion of several input scales work on a network's answers and are not part of these networks.
"""

import keras

from tfzoo.backbones import feature_pyramid
from tfzoo.backbones.vgg import convolution, vgg16_features
from tfzoo.layers import atrous
from tfzoo.layers.resizing import ResizeLike
from tfzoo.models.base import check_options
from tfzoo.models.segmenter import Segmenter

FIELD_OF_VIEW = 12  # v1, section 3.1 of the journal's account (DeepLab-LargeFOV): 3x3 taps at this distance
ASPP_RATES = (6, 12, 18, 24)  # v2, figure 7 (ASPP-L)


@keras.saving.register_keras_serializable("tfzoo")
class DeepLabLargeFOV(Segmenter):
    """VGG16 at stride 8: poolings 4 and 5 do not stride, block 5 is dilated by 2, fc6 is 3x3 dilated by 12 with 1024 channels.

    Args:
        num_classes, class_names, ...: see ``Segmenter``.
        width_multiplier: factor on VGG16's channels and on the 1024 of fc6 and fc7.
        batch_norm: batch normalisation in VGG16, fc6 and fc7, for training from scratch.
        dropout: rate after fc6 and fc7.
    """

    def __init__(self, num_classes, width_multiplier=1.0, batch_norm=False, dropout=0.5, **kwargs):
        check_options(width_multiplier, batch_norm)
        super().__init__(num_classes, width_multiplier=width_multiplier, batch_norm=batch_norm, dropout=dropout, **kwargs)

    @staticmethod
    def build_network(pixels, num_classes, width_multiplier, batch_norm, dropout):
        # === Encoder ===
        x = vgg16_features(pixels, width_multiplier, batch_norm, pool=pool, dilations=(1, 1, 1, 1, 2))["pool5"]

        # === Head ===
        for name, size, dilation in (("fc6", 3, FIELD_OF_VIEW), ("fc7", 1, 1)):
            x = convolution(x, round(1024 * width_multiplier), size, batch_norm, name=name, dilation=dilation)
            if dropout:
                x = keras.layers.Dropout(dropout, name=f"{name}_dropout")(x)
        x = keras.layers.Conv2D(num_classes, 1, name="score")(x)
        return ResizeLike(name="upsample_to_image")([x, pixels])


def pool(x, name):
    """3x3 max pooling, which overlaps; in the last two blocks it does not stride."""
    strides = 1 if name in ("block4_pool", "block5_pool") else 2
    return keras.layers.MaxPooling2D(3, strides=strides, padding="same", name=name)(x)


@keras.saving.register_keras_serializable("tfzoo")
class DeepLabV2(Segmenter):
    """A ResNet at stride 8, and the sum of four 3x3 classifiers dilated by 6, 12, 18 and 24 (figure 7, ASPP-L).

    The ResNet is the one of the rest of the zoo (v1.5: the stride sits on the 3x3), so that its published weights fit.

    Args:
        num_classes, class_names, ...: see ``Segmenter``.
        backbone: "resnet50" or "resnet101".
        width_multiplier: factor on the backbone's channels.
    """

    def __init__(self, num_classes, backbone="resnet101", width_multiplier=1.0, **kwargs):
        check_options(width_multiplier)
        super().__init__(num_classes, backbone=backbone, width_multiplier=width_multiplier, **kwargs)

    @staticmethod
    def build_network(pixels, num_classes, backbone, width_multiplier):
        # === Encoder ===
        x = feature_pyramid(backbone, pixels, width_multiplier, output_stride=8)[-1]

        # === Head ===
        scores = [
            atrous.Conv2D(num_classes, 3, dilation_rate=rate, padding="same", name=f"aspp_rate{rate}")(x) for rate in ASPP_RATES
        ]
        x = keras.layers.Add(name="aspp")(scores)
        return ResizeLike(name="upsample_to_image")([x, pixels])
