"""Darknet-19 (Redmon & Farhadi 2017, YOLO9000, table 6), up to its last 3x3 convolution.

Feature contract, for [B, H, W, 3]: poolings round up, so map i has ceil(H / stride) rows; channels at width 1:

    stage1: stride 2, 64 channels         stage2: stride 4, 128 channels        stage3: stride 8, 256 channels
    stage4: stride 16, 512 channels       stage5: stride 32, 1024 channels

A stage is what stands between two poolings. Its convolutions are conv1 to conv18, each with batch normalisation (NAME.bn).
"""

import keras

# Table 6: (channels, kernel) of the convolutions of each stage; a pooling stands before each but the first.
STAGES = (
    ((32, 3),),
    ((64, 3),),
    ((128, 3), (64, 1), (128, 3)),
    ((256, 3), (128, 1), (256, 3)),
    ((512, 3), (256, 1), (512, 3), (256, 1), (512, 3)),
    ((1024, 3), (512, 1), (1024, 3), (512, 1), (1024, 3)),
)


def darknet19_features(pixels, width_multiplier=1.0, momentum=0.99, prefix="backbone.") -> dict:
    """Returns the maps of the feature contract, Keras tensors by name, for normalised pixels.

    Args:
        width_multiplier: factor on every number of channels.
        momentum: of the batch normalisation's moving averages; Darknet's is 0.99.
        prefix: of all layer names.
    """
    features, x, number = {}, pixels, 0
    for stage, convolutions in enumerate(STAGES):
        if stage:
            x = halve(x, f"{prefix}pool{stage}")
        for channels, size in convolutions:
            number += 1
            x = darknet_convolution(x, scaled(channels, width_multiplier), size, f"{prefix}conv{number}", momentum)
        if stage:
            features[f"stage{stage}"] = x
    return features


def darknet_convolution(x, filters, size, name, momentum=0.99):
    """Convolution without bias, batch normalisation, ReLU that leaks 0.1: [B, H, W, C] to [B, H, W, filters]."""
    x = keras.layers.Conv2D(filters, size, padding="same", use_bias=False, kernel_initializer="he_normal", name=name)(x)
    x = keras.layers.BatchNormalization(momentum=momentum, epsilon=1e-5, name=f"{name}.bn")(x)
    return keras.layers.LeakyReLU(0.1, name=f"{name}.leaky")(x)


def halve(x, name):
    """2x2 max pooling."""
    return keras.layers.MaxPooling2D(2, padding="same", name=name)(x)


def scaled(channels, width_multiplier):
    """The number of channels at a width, 1 at least."""
    return max(round(channels * width_multiplier), 1)
