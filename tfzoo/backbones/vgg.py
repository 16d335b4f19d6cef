"""VGG16 (Simonyan & Zisserman 2015, table 1, column D), the convolutions alone.

Feature contract, for [B, H, W, 3]: poolings round up, so map i has ceil(H / stride) rows.

    pool3: stride 8, 256 * width_multiplier channels
    pool4: stride 16, 512 * width_multiplier channels
    pool5: stride 32, 512 * width_multiplier channels
"""

import keras

BLOCKS = ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512))


def vgg16_features(pixels, width_multiplier=1.0, batch_norm=False) -> dict:
    """Returns {"pool1": ..., "pool5": ...}, Keras tensors, for normalised pixels.

    Args:
        width_multiplier: factor on every number of channels.
        batch_norm: batch normalisation after each convolution, for training from scratch; published weights have none.
    """
    features, x = {}, pixels
    for block, (convolutions, channels) in enumerate(BLOCKS, start=1):
        for index in range(1, convolutions + 1):
            x = convolution(x, round(channels * width_multiplier), 3, batch_norm, name=f"block{block}_conv{index}")
        x = keras.layers.MaxPooling2D(2, padding="same", name=f"block{block}_pool")(x)
        features[f"pool{block}"] = x
    return features


def convolution(x, channels, size, batch_norm, name):
    """Convolution with "same" padding, (batch normalisation,) ReLU."""
    x = keras.layers.Conv2D(channels, size, padding="same", use_bias=not batch_norm, kernel_initializer="he_normal", name=name)(x)
    if batch_norm:
        x = keras.layers.BatchNormalization(name=f"{name}_bn")(x)
    return keras.layers.ReLU(name=f"{name}_relu")(x)
