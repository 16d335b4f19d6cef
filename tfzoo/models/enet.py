"""ENet: bottlenecks all the way, a large encoder and a small decoder.

Paszke, Chaurasia, Kim, Culurciello 2016: ENet: A Deep Neural Network Architecture for Real-Time Semantic Segmentation.
"""

import keras

from tfzoo.layers import atrous
from tfzoo.layers.cropping import CropLike
from tfzoo.layers.max_unpooling import MaxPoolingWithMask, MaxUnpooling
from tfzoo.layers.padding import ZeroChannels
from tfzoo.models.base import check_options
from tfzoo.models.segmenter import Segmenter

# Table 1, stages 2 and 3: what the main convolution of bottlenecks 1 to 8 is.
CONTEXT = ({}, {"dilation": 2}, {"asymmetric": 5}, {"dilation": 4}, {}, {"dilation": 8}, {"asymmetric": 5}, {"dilation": 16})


@keras.saving.register_keras_serializable("tfzoo")
class ENet(Segmenter):
    """ENet (table 1 and figure 2 of the paper).

    As in the authors' code, the decoder has ReLU where the encoder has PReLU, and convolutions that a normalisation follows have
    no bias.

    Args:
        num_classes, class_names, ...: see ``Segmenter``.
        width_multiplier: factor on the paper's 16, 64 and 128 channels.
        dropout: rate of the spatial dropout at the end of each bottleneck's extension; a tenth of it in stage 1 (section 4).
    """

    remembers_maxima = True

    def __init__(self, num_classes, width_multiplier=1.0, dropout=0.1, **kwargs):
        check_options(width_multiplier)
        super().__init__(num_classes, width_multiplier=width_multiplier, dropout=dropout, **kwargs)

    @staticmethod
    def build_network(pixels, num_classes, width_multiplier, dropout):
        width = [max(round(channels * width_multiplier / 4), 1) * 4 for channels in (16, 64, 128)]

        # === Encoder ===
        x = initial_block(pixels, width[0])
        after_initial = x
        x, mask1 = downsampling(x, width[1], dropout / 10, name="bottleneck1_0")
        for index in range(1, 5):
            x = bottleneck(x, width[1], dropout / 10, name=f"bottleneck1_{index}")
        after_stage1 = x
        x, mask2 = downsampling(x, width[2], dropout, name="bottleneck2_0")
        for stage in (2, 3):
            for index, context in enumerate(CONTEXT, start=1):
                x = bottleneck(x, width[2], dropout, name=f"bottleneck{stage}_{index}", **context)

        # === Decoder ===
        x = upsampling(x, mask2, after_stage1, width[1], dropout, name="bottleneck4_0")
        for index in (1, 2):
            x = bottleneck(x, width[1], dropout, activation=relu, name=f"bottleneck4_{index}")
        x = upsampling(x, mask1, after_initial, width[0], dropout, name="bottleneck5_0")
        x = bottleneck(x, width[0], dropout, activation=relu, name="bottleneck5_1")

        # === Head ===
        x = keras.layers.Conv2DTranspose(num_classes, 2, strides=2, kernel_initializer="he_normal", name="fullconv")(x)
        return CropLike(name="crop_to_image")([x, pixels])


def initial_block(pixels, filters):
    """Figure 2a: a strided 3x3 convolution beside a max pooling, concatenated."""
    x = keras.layers.Conv2D(
        filters - 3, 3, strides=2, padding="same", use_bias=False, kernel_initializer="he_normal", name="initial_conv"
    )(pixels)
    pooled = keras.layers.MaxPooling2D(2, padding="same", name="initial_pool")(pixels)
    return norm(keras.layers.Concatenate(name="initial_join")([x, pooled]), prelu, "initial")


def bottleneck(x, filters, dropout, name, dilation=1, asymmetric=None, activation=None):
    """Figure 2b: the input plus 1x1 projection to a quarter, the main convolution, 1x1 expansion, spatial dropout."""
    activation = activation or prelu
    branch = convolution(x, filters // 4, 1, f"{name}_project", activation)
    if asymmetric:
        branch = convolution(branch, filters // 4, (asymmetric, 1), f"{name}_main_column", activation)
        branch = convolution(branch, filters // 4, (1, asymmetric), f"{name}_main_row", activation)
    else:
        branch = convolution(branch, filters // 4, 3, f"{name}_main", activation, dilation=dilation)
    return merge(x, extension(branch, filters, dropout, activation, name), activation, name)


def downsampling(x, filters, dropout, name):
    """A bottleneck whose projection is a strided 2x2 convolution, beside a max pooling that remembers, padded with zero channels.

    Returns the map and the pooling's mask.
    """
    branch = convolution(x, filters // 4, 2, f"{name}_project", prelu, stride=2)
    branch = convolution(branch, filters // 4, 3, f"{name}_main", prelu)
    branch = extension(branch, filters, dropout, prelu, name)
    pooled, mask = MaxPoolingWithMask(name=f"{name}_pool")(x)
    return merge(ZeroChannels(filters, name=f"{name}_pad")(pooled), branch, prelu, name), mask


def upsampling(x, mask, reference, filters, dropout, name):
    """A bottleneck whose main convolution is transposed, beside a 1x1 convolution that is unpooled where ``mask`` remembers."""
    branch = convolution(x, filters // 4, 1, f"{name}_project", relu)
    branch = keras.layers.Conv2DTranspose(
        filters // 4, 3, strides=2, padding="same", use_bias=False, kernel_initializer="he_normal", name=f"{name}_main"
    )(branch)
    branch = CropLike(name=f"{name}_crop")([norm(branch, relu, f"{name}_main"), reference])
    branch = extension(branch, filters, dropout, relu, name)
    main = MaxUnpooling(name=f"{name}_unpool")([convolution(x, filters, 1, f"{name}_skip", None), mask])
    return merge(main, branch, relu, name)


def extension(branch, filters, dropout, activation, name):
    """1x1 expansion, normalised, with spatial dropout."""
    branch = convolution(branch, filters, 1, f"{name}_expand", None)
    return keras.layers.SpatialDropout2D(dropout, name=f"{name}_dropout")(branch) if dropout else branch


def merge(main, branch, activation, name):
    return activation(keras.layers.Add(name=f"{name}_add")([main, branch]), f"{name}_out")


def convolution(x, filters, size, name, activation, stride=1, dilation=1):
    """Convolution without bias, batch normalisation, and the activation, if there is one."""
    x = atrous.Conv2D(
        filters,
        size,
        strides=stride,
        dilation_rate=dilation,
        padding="same",
        use_bias=False,
        kernel_initializer="he_normal",
        name=name,
    )(x)
    return norm(x, activation, name)


def norm(x, activation, name):
    x = keras.layers.BatchNormalization(momentum=0.9, name=f"{name}_bn")(x)
    return activation(x, name) if activation else x


def prelu(x, name):
    """One slope for each channel, starting at 0.25."""
    start = keras.initializers.Constant(0.25)
    return keras.layers.PReLU(alpha_initializer=start, shared_axes=(1, 2), name=f"{name}_prelu")(x)


def relu(x, name):
    return keras.layers.ReLU(name=f"{name}_relu")(x)
