"""Convolution, batch normalisation, activation: padded and started as torchvision does, whose checkpoints these layers read.

Layers bear the names of torchvision's modules (``backbone.layer1.0.conv1``), so that a checkpoint's key is the layer's name and
the array's. What has no weights is named after the layer that it follows.
"""

import keras
from keras import ops

from tfzoo.layers import atrous
from tfzoo.layers.target import target


def he_fan_out(depthwise=False):
    """He's normal distribution by fan-out, as torchvision starts its backbones.

    PyTorch counts the fan-out of a depthwise kernel over all its channels, which Keras calls its fan-in.
    """
    return keras.initializers.VarianceScaling(2.0, "fan_in" if depthwise else "fan_out", "untruncated_normal")


def uniform_fan_in():
    """Uniform within 1 / sqrt(fan-in), as PyTorch starts a convolution that nobody initialises: torchvision's heads."""
    return keras.initializers.VarianceScaling(1 / 3, "fan_in", "uniform")


def convolution_norm(
    x,
    filters,
    size,
    name,
    norm,
    stride=1,
    dilation=1,
    activation="relu",
    depthwise=False,
    epsilon=1e-5,
    momentum=0.9,
    initializer=he_fan_out,
):
    """Convolution without bias, batch normalisation, activation: [B, H, W, C] to [B, ceil(H / stride), ceil(W / stride), filters].

    Args:
        filters: number of output channels; of a depthwise convolution it is that of ``x``, and None will do.
        size: of the kernel; odd.
        name, norm: names of the convolution and of its normalisation.
        activation: "relu", "hard_swish" or None.
        depthwise: each channel has its own kernel.
        epsilon, momentum: of the normalisation; Keras's momentum is 1 minus PyTorch's.
        initializer: function that makes the initializer of the kernel; a depthwise one starts by ``he_fan_out``.
    """
    if depthwise:
        x = depthwise_convolution(x, size, name, stride, dilation)
    else:
        x = convolution(x, filters, size, name, stride, dilation, use_bias=False, initializer=initializer)
    x = keras.layers.BatchNormalization(epsilon=epsilon, momentum=momentum, name=norm)(x)
    return activate(x, activation, f"{norm}.{activation}")


def conv_norm_relu(x, filters, size, name, **options):
    """``convolution_norm`` as one module of two layers with weights, NAME.0 and NAME.1."""
    return convolution_norm(x, filters, size, f"{name}.0", f"{name}.1", **options)


def separable_conv_norm_relu(x, filters, size, name, stride=1, dilation=1, initializer=he_fan_out):
    """A depthwise convolution and a 1x1 one, NAME.depthwise and NAME.pointwise, each with normalisation and ReLU.

    Chollet 2017: Xception; with the norm and activation in between of Chen et al. 2018 (DeepLabv3+, section 3.2).
    """
    x = conv_norm_relu(x, None, size, f"{name}.depthwise", stride=stride, dilation=dilation, depthwise=True)
    return conv_norm_relu(x, filters, 1, f"{name}.pointwise", initializer=initializer)


def convolution(x, filters, size, name, stride=1, dilation=1, use_bias=True, initializer=he_fan_out):
    """Convolution with as much padding on the left as on the right."""
    x, padding = pad_symmetrically(x, size, stride, dilation, name)
    return atrous.Conv2D(
        filters,
        size,
        strides=stride,
        dilation_rate=dilation,
        padding=padding,
        use_bias=use_bias,
        kernel_initializer=initializer(),
        name=name,
    )(x)


def depthwise_convolution(x, size, name, stride=1, dilation=1):
    """Depthwise convolution without bias, with as much padding on the left as on the right."""
    x, padding = pad_symmetrically(x, size, stride, dilation, name)
    return atrous.DepthwiseConv2D(
        size,
        strides=stride,
        dilation_rate=dilation,
        padding=padding,
        depthwise_initializer=he_fan_out(depthwise=True),
        name=name,
    )(x)


def pad_symmetrically(x, size, stride, dilation, name):
    """Returns ``x`` and the padding that a convolution of it must ask for.

    Keras's "same" is symmetric at stride 1 only: at a larger one it pads an even map more on the right, where PyTorch pads
    both sides by dilation * (size - 1) / 2.
    """
    border = dilation * (size - 1) // 2
    if stride == 1 or border == 0:
        return x, "same"
    return keras.layers.ZeroPadding2D(border, name=f"{name}.pad")(x), "valid"


def activate(x, activation, name):
    """Applies "relu", "hard_swish", or nothing for None."""
    if activation is None:
        return x
    return keras.layers.Activation({"relu": ops.relu, "hard_swish": hard_swish}[activation], name=name)(x)


NEARLY_A_SIXTH = 0.16666


@keras.saving.register_keras_serializable("tfzoo")
def hard_sigmoid(x):
    """relu6(x + 3) / 6 (Howard et al. 2019, section 5.2)."""
    # At a number without axes behind a convolution tf2onnx gives up, and leaves its transposes; one with an axis ends oneDNN.
    three = ops.full((1,), 3.0, x.dtype) if target().converted else 3.0
    return ops.relu6(x + three) * (1 / 6)


@keras.saving.register_keras_serializable("tfzoo")
def hard_swish(x):
    """x * relu6(x + 3) / 6 (Howard et al. 2019, section 5.2), in the order of operations that TFLite knows as one operator.

    In integers that operator is slow, 20 ns for each number: a sixth that is off by 4e-5 keeps TFLite from seeing it, and puts the
    rounding where it is least, after relu6.
    """
    if target().integers:
        return x * (ops.relu6(x + 3.0) * NEARLY_A_SIXTH)
    return x * ops.relu6(x + 3.0) * (1 / 6)
