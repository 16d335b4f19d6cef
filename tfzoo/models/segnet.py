"""SegNet and SegNet-Basic: an encoder, and a decoder that unpools by the places where the encoder's maxima stood.

Badrinarayanan, Kendall, Cipolla 2017: SegNet: A Deep Convolutional Encoder-Decoder Architecture for Image Segmentation.
"""

import keras

from tfzoo.backbones.vgg import BLOCKS, convolution, vgg16_features
from tfzoo.layers.max_unpooling import MaxPoolingWithMask, MaxUnpooling
from tfzoo.models.base import check_options
from tfzoo.models.segmenter import Segmenter

MOMENTUM = 0.9  # the reference reckons the norms' statistics anew once it is trained; averages that follow fast come close to that


@keras.saving.register_keras_serializable("tfzoo")
class SegNet(Segmenter):
    """SegNet (section 3, figure 2): VGG16's thirteen convolutions and their mirror image.

    Args:
        num_classes, class_names, ...: see ``Segmenter``.
        width_multiplier: factor on VGG16's channels, in encoder and decoder.
        batch_norm: batch normalisation after each convolution but the last, as in the paper; its shift takes the bias's place.
        dropout: rate after the three deepest encoders and decoders, where Bayesian SegNet has 0.5 (Kendall et al. 2017, section
            3.1); SegNet itself has none.
    """

    remembers_maxima = True  # a rounding that turns a near-tie round moves a value: see tfzoo.export.verify

    def __init__(self, num_classes, width_multiplier=1.0, batch_norm=True, dropout=0.0, **kwargs):
        check_options(width_multiplier, batch_norm)
        super().__init__(num_classes, width_multiplier=width_multiplier, batch_norm=batch_norm, dropout=dropout, **kwargs)

    @staticmethod
    def build_network(pixels, num_classes, width_multiplier, batch_norm, dropout):
        # === Encoder ===
        masks = []

        def pool(x, name):
            x, mask = MaxPoolingWithMask(name=name)(x)
            masks.append(mask)
            return drop(x, dropout if len(masks) >= 3 else 0, name)

        x = vgg16_features(pixels, width_multiplier, batch_norm, pool, momentum=MOMENTUM)["pool5"]

        # === Decoder ===
        for block in range(5, 0, -1):
            x = MaxUnpooling(name=f"unpool{block}")([x, masks[block - 1]])
            channels = mirrored_channels(block)
            for index, width in zip(range(len(channels), 0, -1), channels, strict=True):
                x = convolution(x, round(width * width_multiplier), 3, batch_norm, f"decode{block}_conv{index}", momentum=MOMENTUM)
            x = drop(x, dropout if block >= 3 else 0, f"decode{block}")

        # === Head ===
        return keras.layers.Conv2D(num_classes, 3, padding="same", name="head")(x)


@keras.saving.register_keras_serializable("tfzoo")
class SegNetBasic(Segmenter):
    """SegNet-Basic (section 3.1): four encoders and four decoders of one 7x7 convolution each, 64 features everywhere.

    Decoders have no ReLU. The reference network (github.com/alexgkendall/SegNet-Tutorial) differs in two details: its
    convolutions keep a bias, which batch normalisation takes out again, and it starts with a local response normalisation
    across the three colours, in whose place stands the pixel normalisation that every model here has.

    Args:
        num_classes, class_names, ...: see ``Segmenter``.
        width_multiplier: factor on the 64 features.
        batch_norm: batch normalisation after each 7x7 convolution, as in the paper; its shift takes the bias's place.
        dropout: rate after the two deepest encoders and decoders, where Bayesian SegNet-Basic has 0.5 (Kendall et al. 2017,
            section 3.1); SegNet-Basic itself has none.
    """

    remembers_maxima = True  # a rounding that turns a near-tie round moves a value: see tfzoo.export.verify

    def __init__(self, num_classes, width_multiplier=1.0, batch_norm=True, dropout=0.0, **kwargs):
        check_options(width_multiplier, batch_norm)
        super().__init__(num_classes, width_multiplier=width_multiplier, batch_norm=batch_norm, dropout=dropout, **kwargs)

    @staticmethod
    def build_network(pixels, num_classes, width_multiplier, batch_norm, dropout):
        features = max(round(64 * width_multiplier), 1)

        # === Encoder ===
        x, masks = pixels, []
        for level in range(1, 5):
            x = convolution(x, features, 7, batch_norm, f"encode{level}_conv", momentum=MOMENTUM)
            x, mask = MaxPoolingWithMask(name=f"pool{level}")(x)
            masks.append(mask)
            x = drop(x, dropout if level >= 3 else 0, f"encode{level}")

        # === Decoder ===
        for level in range(4, 0, -1):
            x = MaxUnpooling(name=f"unpool{level}")([x, masks[level - 1]])
            x = keras.layers.Conv2D(
                features, 7, padding="same", use_bias=not batch_norm, kernel_initializer="he_normal", name=f"decode{level}_conv"
            )(x)
            if batch_norm:
                x = keras.layers.BatchNormalization(momentum=MOMENTUM, name=f"decode{level}_conv_bn")(x)
            x = drop(x, dropout if level >= 3 else 0, f"decode{level}")

        # === Head ===
        return keras.layers.Conv2D(num_classes, 1, name="head")(x)


def mirrored_channels(block) -> list[int]:
    """Channels of the decoder's ReLU convolutions at a VGG16 block, which lead back to the channels of the block before.

    In the first block the convolution that would lead back to the picture is the head.
    """
    convolutions, channels = BLOCKS[block - 1]
    return [channels] * (convolutions - 1) + ([BLOCKS[block - 2][1]] if block > 1 else [])


def drop(x, rate, name):
    return keras.layers.Dropout(rate, name=f"{name}_dropout")(x) if rate else x
