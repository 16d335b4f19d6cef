"""ResNet (He et al. 2016, table 1) in the form called v1.5: the stride of a bottleneck sits on its 3x3 convolution.

Feature contract, for [B, H, W, 3]: strides round up, so map i has ceil(H / stride) rows; channels at width 1, of ResNet-50 and
deeper (ResNet-18 and 34 have a quarter of them in the layers):

    stem: stride 2, 64 channels           layer1: stride 4, 256 channels         layer2: stride 8, 512 channels
    layer3: stride 16, 1024 channels      layer4: stride 32, 2048 channels

With ``output_stride`` 16 or 8 the last one or two stages dilate instead of striding; as in torchvision, the first block of such
a stage keeps the dilation of the stage before. Layers bear torchvision's names behind a prefix.
"""

import functools

import keras

from tfzoo.errors import InputError
from tfzoo.layers.convolution import activate, convolution_norm

# Blocks in each stage, and whether they are bottlenecks.
DEPTHS = {
    18: ((2, 2, 2, 2), False),
    34: ((3, 4, 6, 3), False),
    50: ((3, 4, 6, 3), True),
    101: ((3, 4, 23, 3), True),
}
OUTPUT_STRIDES = (8, 16, 32)


def resnet_features(pixels, depth=50, width_multiplier=1.0, output_stride=32, prefix="backbone.", epsilon=1e-5) -> dict:
    """Returns the maps of the feature contract, Keras tensors by name, for normalised pixels.

    Args:
        depth: 18, 34, 50 or 101.
        width_multiplier: factor on every number of channels.
        output_stride: 32, 16 or 8: the stride of layer4.
        prefix: of all layer names.
        epsilon: of the normalisations.

    Raises:
        InputError: the depth or the output stride is none of these.
    """
    check_output_stride(output_stride, OUTPUT_STRIDES)
    if depth not in DEPTHS:
        raise InputError(f"depth is {depth}: it must be one of {', '.join(map(str, DEPTHS))}.")
    repetitions, bottlenecks = DEPTHS[depth]
    conv_norm = functools.partial(convolution_norm, epsilon=epsilon)
    block = functools.partial(bottleneck if bottlenecks else basic_block, conv_norm)
    width = max(round(64 * width_multiplier), 1)
    x = conv_norm(pixels, width, 7, name=f"{prefix}conv1", norm=f"{prefix}bn1", stride=2)
    features = {"stem": x}
    x = keras.layers.ZeroPadding2D(1, name=f"{prefix}maxpool.pad")(x)  # nothing is below zero here, so zeros never win
    x = keras.layers.MaxPooling2D(3, strides=2, name=f"{prefix}maxpool")(x)
    reached, dilation = 4, 1
    for stage, blocks in enumerate(repetitions):
        stride, first_dilation = (1 if stage == 0 else 2), dilation
        if stride == 2 and reached == output_stride:
            stride, dilation = 1, dilation * 2
        reached *= stride
        for index in range(blocks):
            name = f"{prefix}layer{stage + 1}.{index}"
            x = block(x, width * 2**stage, stride if index == 0 else 1, first_dilation if index == 0 else dilation, name)
        features[f"layer{stage + 1}"] = x
    return features


def bottleneck(conv_norm, x, width, stride, dilation, name):
    """1x1, 3x3, 1x1 to 4 * width channels, and the shortcut (figure 5, right)."""
    inputs = x
    x = conv_norm(x, width, 1, name=f"{name}.conv1", norm=f"{name}.bn1")
    x = conv_norm(x, width, 3, name=f"{name}.conv2", norm=f"{name}.bn2", stride=stride, dilation=dilation)
    x = conv_norm(x, 4 * width, 1, name=f"{name}.conv3", norm=f"{name}.bn3", activation=None)
    return _join(conv_norm, x, inputs, stride, name)


def basic_block(conv_norm, x, width, stride, dilation, name):
    """Two 3x3 convolutions and the shortcut (figure 5, left)."""
    inputs = x
    x = conv_norm(x, width, 3, name=f"{name}.conv1", norm=f"{name}.bn1", stride=stride, dilation=dilation)
    x = conv_norm(x, width, 3, name=f"{name}.conv2", norm=f"{name}.bn2", dilation=dilation, activation=None)
    return _join(conv_norm, x, inputs, stride, name)


def _join(conv_norm, x, inputs, stride, name):
    if stride != 1 or inputs.shape[-1] != x.shape[-1]:
        names = {"name": f"{name}.downsample.0", "norm": f"{name}.downsample.1"}
        inputs = conv_norm(inputs, x.shape[-1], 1, stride=stride, activation=None, **names)
    x = keras.layers.Add(name=f"{name}.add")([x, inputs])
    return activate(x, "relu", f"{name}.relu")


def check_output_stride(output_stride, allowed):
    """Raises an InputError unless the output stride is one that the backbone has."""
    if output_stride not in allowed:
        raise InputError(f"output_stride is {output_stride}: this backbone has {', '.join(map(str, allowed))}.")
