"""DeconvNet: VGG16 with its fully connected layers, and its mirror image of unpooling and transposed convolutions.

Noh, Hong, Han 2015: Learning Deconvolution Network for Semantic Segmentation.
"""

import keras

from tfzoo.backbones.vgg import BLOCKS, convolution, vgg16_features
from tfzoo.layers.max_unpooling import MaxPoolingWithMask, MaxUnpooling
from tfzoo.models.base import check_options
from tfzoo.models.segmenter import Segmenter

MOMENTUM = 0.9  # the reference reckons the norms' statistics anew once it is trained; averages that follow fast come close to that


@keras.saving.register_keras_serializable("tfzoo")
class DeconvNet(Segmenter):
    """DeconvNet (section 3, figure 2; the layers' sizes are in the supplement's table).

    The paper's pictures have 224x224 pixels: fc6 turns their 7x7 map into one vector, and deconv-fc6 turns a vector into a 7x7
    map. Here both are padded by 3, so that they take maps of any size with the same weights; at 224x224 the middle of fc6 sees
    just what the paper's vector sees. The network answers for the whole picture; the paper's object proposals and CRF, which
    are steps around it, are left out.

    Args:
        num_classes, class_names, ...: see ``Segmenter``.
        width_multiplier: factor on VGG16's channels, in both halves, and on the 4096 of fc6 and fc7.
        batch_norm: batch normalisation after each (transposed) convolution but the last, as in the paper (section 4.1); its
            shift takes the bias's place.
        dropout: rate after fc6 and fc7; the paper's network has none.
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
            return x

        x = vgg16_features(pixels, width_multiplier, batch_norm, pool, momentum=MOMENTUM)["pool5"]
        for name, size in (("fc6", 7), ("fc7", 1)):
            x = convolution(x, round(4096 * width_multiplier), size, batch_norm, name, momentum=MOMENTUM)
            if dropout:
                x = keras.layers.Dropout(dropout, name=f"{name}_dropout")(x)

        # === Decoder ===
        x = transposed_convolution(x, round(512 * width_multiplier), 7, batch_norm, name="deconv_fc6")
        for block in range(5, 0, -1):
            x = MaxUnpooling(name=f"unpool{block}")([x, masks[block - 1]])
            for index, width in enumerate(deconvolution_channels(block), start=1):
                name = f"deconv{block}_{index}"
                x = transposed_convolution(x, round(width * width_multiplier), 3, batch_norm, name=name)

        # === Head ===
        return keras.layers.Conv2D(num_classes, 1, name="head")(x)


def deconvolution_channels(block) -> list[int]:
    """Channels of a block's transposed convolutions: the last one leads back to the block before, but for the first block."""
    convolutions, channels = BLOCKS[block - 1]
    return [channels] * (convolutions - 1) + [BLOCKS[max(block - 2, 0)][1]]


def transposed_convolution(x, channels, size, batch_norm, name):
    """Transposed convolution with stride 1 and "same" padding, (batch normalisation,) ReLU."""
    x = keras.layers.Conv2DTranspose(
        channels, size, padding="same", use_bias=not batch_norm, kernel_initializer="he_normal", name=name
    )(x)
    if batch_norm:
        x = keras.layers.BatchNormalization(momentum=MOMENTUM, name=f"{name}_bn")(x)
    return keras.layers.ReLU(name=f"{name}_relu")(x)
