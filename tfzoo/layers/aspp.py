"""Atrous spatial pyramid pooling: the same map seen at several distances at once.

Chen, Papandreou, Schroff, Adam 2017: Rethinking Atrous Convolution for Semantic Image Segmentation (DeepLabv3), section 3.3.
"""

import keras
from keras import ops

from tfzoo.layers.convolution import conv_norm_relu, convolution_norm, he_fan_out


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
    return BroadcastLike(name=f"{name}.broadcast")([mean, x])


@keras.saving.register_keras_serializable("tfzoo")
class BroadcastLike(keras.layers.Layer):
    """Repeats [B, 1, 1, C] over the height and width of a reference; call it on [x, reference]."""

    def call(self, inputs):
        x, reference = inputs
        batch, height, width = ops.shape(reference)[:3]
        return ops.broadcast_to(x, (batch, height, width, x.shape[-1]))

    def compute_output_shape(self, shapes):
        (batch, _, _, channels), (_, height, width, _) = shapes
        return batch, height, width, channels
