"""MobileNetV3-Large (Howard et al. 2019, table 1), the convolutions alone.

Feature contract, for [B, H, W, 3]: maps are named by their index in torchvision's ``features``; strides round up, so map i has
ceil(H / stride) rows; channels at width 1:

    0, 1: stride 2, 16 channels           2, 3: stride 4, 24 channels            4, 5, 6: stride 8, 40 channels
    7 to 10: stride 16, 80 channels       11, 12: stride 16, 112 channels        13 to 15: stride 32, 160 channels
    16: stride 32, 960 channels           i.block.0: the expansion inside block i from 2 on, before it strides

With ``output_stride`` 16 blocks 13 to 15 dilate instead of striding, the first one too. Layers bear torchvision's names behind
a prefix.
"""

import keras

from tfzoo.backbones.mobilenet_v2 import make_divisible
from tfzoo.backbones.resnet import check_output_stride
from tfzoo.layers.convolution import conv_norm_relu, convolution, hard_sigmoid

# Table 1: kernel, expansion, output channels, squeeze-and-excitation, nonlinearity, stride.
BLOCKS = (
    (3, 16, 16, False, "relu", 1),
    (3, 64, 24, False, "relu", 2),
    (3, 72, 24, False, "relu", 1),
    (5, 72, 40, True, "relu", 2),
    (5, 120, 40, True, "relu", 1),
    (5, 120, 40, True, "relu", 1),
    (3, 240, 80, False, "hard_swish", 2),
    (3, 200, 80, False, "hard_swish", 1),
    (3, 184, 80, False, "hard_swish", 1),
    (3, 184, 80, False, "hard_swish", 1),
    (3, 480, 112, True, "hard_swish", 1),
    (3, 672, 112, True, "hard_swish", 1),
    (5, 672, 160, True, "hard_swish", 2),
    (5, 960, 160, True, "hard_swish", 1),
    (5, 960, 160, True, "hard_swish", 1),
)
LAST_STAGE = 13  # the block whose stride is the last one
OUTPUT_STRIDES = (16, 32)
EPSILON = 1e-3  # of the batch normalisation, unless a published file has another one


def mobilenet_v3_large_features(
    pixels, width_multiplier=1.0, output_stride=32, reduced_tail=False, prefix="backbone.", momentum=0.99, epsilon=EPSILON
) -> dict:
    """Returns the maps of the feature contract, Keras tensors by name, for normalised pixels.

    Args:
        width_multiplier: the paper's, on every number of channels (rounded to eights).
        output_stride: 32 or 16: the stride of the last map.
        reduced_tail: half the channels from block 13's output on (section 6.3 of the paper).
        prefix: of all layer names; or a function from a module's path inside ``features`` ("0", "13.block.2") to its name, where
            a published file has others.
        momentum, epsilon: of the batch normalisation.

    Raises:
        InputError: the output stride is none of these.
    """
    check_output_stride(output_stride, OUTPUT_STRIDES)
    named = prefix if callable(prefix) else f"{prefix}{{}}".format
    norm = {"epsilon": epsilon, "momentum": momentum}
    x = conv_norm_relu(pixels, make_divisible(16 * width_multiplier), 3, named("0"), stride=2, activation="hard_swish", **norm)
    features = {"0": x}
    for index, (size, expanded, filters, squeeze, activation, stride) in enumerate(BLOCKS, start=1):
        if reduced_tail and index >= LAST_STAGE:
            filters //= 2
            expanded //= 2 if index > LAST_STAGE else 1
        dilation = 2 if output_stride == 16 and index >= LAST_STAGE else 1
        widths = make_divisible(expanded * width_multiplier), make_divisible(filters * width_multiplier)
        names = [named(f"{index}.block.{part}") for part in (*range(4), "add")]
        stride = 1 if dilation > 1 else stride
        x, expansion = _inverted_residual(x, *widths, size, stride, dilation, squeeze, activation, names, norm)
        features[str(index)] = x
        if expansion is not None:
            features[f"{index}.block.0"] = expansion
    last = len(BLOCKS) + 1
    features[str(last)] = conv_norm_relu(x, 6 * x.shape[-1], 1, named(str(last)), activation="hard_swish", **norm)
    return features


def _inverted_residual(x, expanded, filters, size, stride, dilation, squeeze, activation, names, norm):
    """Figure 4: expansion, depthwise convolution, squeeze-and-excitation, linear projection, shortcut; returns (map, expansion).

    Where the expansion would keep the number of channels it is left out (None), and what follows moves up by one name.
    """
    inputs, expansion, (*parts, shortcut) = x, None, names
    parts = iter(parts)
    if expanded != inputs.shape[-1]:
        x = expansion = conv_norm_relu(x, expanded, 1, next(parts), activation=activation, **norm)
    strides = {"stride": stride, "dilation": dilation}
    x = conv_norm_relu(x, None, size, next(parts), activation=activation, depthwise=True, **strides, **norm)
    if squeeze:
        x = squeeze_excitation(x, make_divisible(expanded // 4), next(parts))
    x = conv_norm_relu(x, filters, 1, next(parts), activation=None, **norm)
    if stride == 1 and inputs.shape[-1] == filters:
        x = keras.layers.Add(name=shortcut)([x, inputs])
    return x, expansion


def squeeze_excitation(x, squeezed, name):
    """Scales each channel by a factor from 0 to 1 that all of the map decides (section 5.3): mean, 1x1, ReLU, 1x1, hard sigmoid."""
    factor = keras.layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}.avgpool")(x)
    factor = convolution(factor, squeezed, 1, f"{name}.fc1")
    factor = keras.layers.ReLU(name=f"{name}.relu")(factor)
    factor = convolution(factor, x.shape[-1], 1, f"{name}.fc2")
    factor = keras.layers.Activation(hard_sigmoid, name=f"{name}.scale")(factor)
    return keras.layers.Multiply(name=f"{name}.multiply")([x, factor])
