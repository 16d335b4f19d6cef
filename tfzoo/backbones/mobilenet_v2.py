"""MobileNetV2 (Sandler et al. 2018, table 2), up to its last inverted residual, which is where segmenters take its features, or
with the convolution behind it.

Feature contract, for [B, H, W, 3]: strides round up, so map i has ceil(H / stride) rows; channels at width 1:

    expanded_conv_project_BN: stride 2, 16 channels        block_2_add: stride 4, 24 channels
    block_5_add: stride 8, 32 channels                     block_12_add: stride 16, 96 channels
    block_16_project_BN: stride 32, 320 channels           block_13_expand_relu: stride 16, 576 channels
    out_relu: stride 32, 1280 channels, only with ``last_convolution``

block_13_expand_relu is the expansion inside that block, before it strides: where SSDLite reads (section 6.2 of the paper).

With ``output_stride`` 16 or 8 later strides become dilation, as in Chen et al. 2018 (DeepLabv3+, section 4.3). Layers bear the
names of ``keras.applications.MobileNetV2``, whose weights can be copied by name.
"""

import keras

from tfzoo.layers import atrous

# Table 2: expansion t, output channels c, repetitions n, stride s. The first row's block is "expanded_conv" in the published files.
STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
LAST_CHANNELS = 1280


def mobilenet_v2_features(pixels, width_multiplier=1.0, output_stride=32, last_convolution=False) -> dict:
    """Returns the maps of the feature contract, Keras tensors by layer name, for normalised pixels.

    Args:
        width_multiplier: the paper's, on every number of channels (rounded to eights).
        output_stride: 32, 16 or 8: the stride of the last map.
        last_convolution: with the 1x1 convolution to 1280 channels, which the paper does not make narrower for widths below 1.
    """
    x = _convolution(pixels, make_divisible(32 * width_multiplier), 3, 2, name="Conv1", norm="bn_Conv1", activation="Conv1_relu")
    features, stride, dilation, number = {}, 2, 1, 0
    for expansion, channels, repetitions, first_stride in STAGES:
        for index in range(repetitions):
            step, block_dilation = (first_stride if index == 0 else 1), dilation
            if (
                step == 2 and stride == output_stride
            ):  # the block that would stride keeps the dilation so far, the next ones double it
                step, dilation = 1, dilation * 2
            stride *= step
            prefix = f"block_{number}_" if number else "expanded_conv_"
            filters = make_divisible(channels * width_multiplier)
            x, widened = _inverted_residual(x, filters, expansion, step, block_dilation, prefix)
            features[f"{prefix}add" if index else f"{prefix}project_BN"] = x
            if widened is not None:
                features[f"{prefix}expand_relu"] = widened
            number += 1
    if last_convolution:
        filters = make_divisible(LAST_CHANNELS * max(width_multiplier, 1.0))
        features["out_relu"] = _convolution(x, filters, 1, 1, name="Conv_1", norm="Conv_1_bn", activation="out_relu")
    return features


def make_divisible(channels: float, divisor: int = 8) -> int:
    """The nearest multiple of ``divisor``, at least one, and never more than 10 % below ``channels``."""
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * channels else rounded


def _inverted_residual(x, filters, expansion, stride, dilation, prefix):
    """1x1 expansion, 3x3 depthwise convolution, linear 1x1 projection; added to its input where both have one shape (figure 4).

    Returns (map, expansion); None for the expansion where the block has none.
    """
    inputs, widened = x, None
    if expansion > 1:
        names = {"name": f"{prefix}expand", "norm": f"{prefix}expand_BN", "activation": f"{prefix}expand_relu"}
        x = widened = _convolution(x, expansion * inputs.shape[-1], 1, 1, **names)
    x = atrous.DepthwiseConv2D(3, strides=stride, dilation_rate=dilation, padding="same", name=f"{prefix}depthwise")(x)
    x = _norm(x, f"{prefix}depthwise_BN")
    x = keras.layers.ReLU(6, name=f"{prefix}depthwise_relu")(x)
    x = _convolution(x, filters, 1, 1, name=f"{prefix}project", norm=f"{prefix}project_BN")
    if stride == 1 and inputs.shape[-1] == filters:
        x = keras.layers.Add(name=f"{prefix}add")([inputs, x])
    return x, widened


def _convolution(x, filters, size, stride, name, norm, activation=None):
    x = keras.layers.Conv2D(
        filters, size, strides=stride, padding="same", use_bias=False, kernel_initializer="he_normal", name=name
    )(x)
    x = _norm(x, norm)
    return keras.layers.ReLU(6, name=activation)(x) if activation else x


def _norm(x, name):
    return keras.layers.BatchNormalization(epsilon=1e-3, momentum=0.9, name=name)(x)
