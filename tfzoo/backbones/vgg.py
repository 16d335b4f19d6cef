"""VGG16 (Simonyan & Zisserman 2015, table 1, column D), the convolutions alone.

Feature contract, for [B, H, W, 3]: poolings round up, so map i has ceil(H / stride) rows.

    pool3: stride 8, 256 * width_multiplier channels
    pool4: stride 16, 512 * width_multiplier channels
    pool5: stride 32, 512 * width_multiplier channels
    conv1 to conv5: the maps that these poolings take, of twice their size
"""

import keras

from tfzoo.layers import atrous

BLOCKS = ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512))
CONVOLUTIONS = tuple(f"block{block}_conv{i}" for block, (count, _) in enumerate(BLOCKS, start=1) for i in range(1, count + 1))


def max_pool(x, name):
    """2x2 max pooling."""
    return keras.layers.MaxPooling2D(2, padding="same", name=name)(x)


def vgg16_features(
    pixels,
    width_multiplier=1.0,
    batch_norm=False,
    pool=max_pool,
    dilations=(1, 1, 1, 1, 1),
    momentum=0.99,
    names=CONVOLUTIONS,
) -> dict:
    """Returns the maps of the feature contract, Keras tensors by name, for normalised pixels.

    Args:
        width_multiplier: factor on every number of channels.
        batch_norm: batch normalisation after each convolution, for training from scratch; published weights have none.
        pool: called on (x, name) after each block, returns what the next one takes: half the height and width, rounded up.
        dilations: of the convolutions of each block.
        momentum: of the batch normalisation's moving averages.
        names: of the thirteen convolutions, where a published file has others than Keras's.
    """
    features, x, names = {}, pixels, iter(names)
    for block, ((convolutions, channels), dilation) in enumerate(zip(BLOCKS, dilations, strict=True), start=1):
        for _ in range(convolutions):
            x = convolution(x, round(channels * width_multiplier), 3, batch_norm, next(names), dilation, momentum)
        features[f"conv{block}"] = x
        x = pool(x, name=f"block{block}_pool")
        features[f"pool{block}"] = x
    return features


def convolution(x, channels, size, batch_norm, name, dilation=1, momentum=0.99):
    """Convolution with "same" padding, (batch normalisation,) ReLU."""
    x = atrous.Conv2D(
        channels,
        size,
        dilation_rate=dilation,
        padding="same",
        use_bias=not batch_norm,
        kernel_initializer="he_normal",
        name=name,
    )(x)
    if batch_norm:
        x = keras.layers.BatchNormalization(momentum=momentum, name=f"{name}_bn")(x)
    return keras.layers.ReLU(name=f"{name}_relu")(x)
