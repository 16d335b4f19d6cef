"""Atrous spatial pyramid pooling: the same map seen at several distances at once.

Chen, Papandreou, Schroff, Adam 2017: Rethinking Atrous Convolution for Semantic Image Segmentation (DeepLabv3), section 3.3.
"""

import keras

from tfzoo.layers.convolution import conv_norm_relu, convolution_norm, he_fan_out
from tfzoo.layers.resizing import ResizeLike


def atrous_spatial_pyramid_pooling(x, filters, rates, name, convolution=conv_norm_relu, initializer=he_fan_out):
    """1x1, 3x3 at each of ``rates`` and the mean of the whole map, side by side, projected: [B, H, W, C] to [B, H, W, filters].

    Args:
        filters: channels of each branch and of the result.
        rates: dilation of each 3x3 convolution.
        name: prefix of all layer names: NAME.convs.I and NAME.project, as in torchvision.
        convolution: ``conv_norm_relu`` or ``separable_conv_norm_relu``, for the dilated ones.
        initializer: function that makes the initializer of a kernel.
    """
    branches = [conv_norm_relu(x, filters, 1, f"{name}.convs.0", initializer=initializer)]
    for index, rate in enumerate(rates, start=1):
        branches.append(convolution(x, filters, 3, name=f"{name}.convs.{index}", dilation=rate, initializer=initializer))
    branches.append(image_pooling(x, filters, f"{name}.convs.{len(branches)}", initializer))
    x = keras.layers.Concatenate(name=f"{name}.convs")(branches)
    return conv_norm_relu(x, filters, 1, f"{name}.project", initializer=initializer)


def image_pooling(x, filters, name, initializer=he_fan_out):
    """The mean over the map, a 1x1 convolution (NAME.1) with its norm (NAME.2), and repeated over the map."""
    mean = keras.layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}.0")(x)
    mean = convolution_norm(mean, filters, 1, f"{name}.1", f"{name}.2", initializer=initializer)
    return ResizeLike(name=f"{name}.broadcast")([mean, x])  # which repeats a single pixel; runtimes keep their layout over it
