"""Heads that slide over every level of a pyramid with the same weights."""

import keras


def tower(width, depth, name, group_norm=False, use_bias=True, spacing=None):
    """Returns the layers of ``depth`` 3x3 convolutions with ReLU, to be called one after the other on each level.

    Args:
        width: channels.
        name: of the module; its convolutions are NAME.i.0 and their norms NAME.i.1, or, with ``spacing``, NAME.(spacing * i) and
            the following number, as torchvision's modules number them.
        group_norm: with group normalisation (32 groups, or as many as there are channels) before the ReLU.
        use_bias: of the convolutions.
    """
    layers = []
    for index in range(depth):
        conv, norm = (
            (f"{name}.{index}.0", f"{name}.{index}.1")
            if spacing is None
            else (f"{name}.{spacing * index}", f"{name}.{spacing * index + 1}")
        )
        layers.append(small_convolution(width, conv, use_bias=use_bias))
        if group_norm:
            layers.append(keras.layers.GroupNormalization(min(32, width), epsilon=1e-5, name=norm))
        layers.append(keras.layers.ReLU(name=f"{conv}.relu"))
    return layers


def small_convolution(filters, name, size=3, use_bias=True, bias=0.0):
    """A convolution that starts with weights of a standard deviation of 0.01 (Lin et al. 2017, Focal Loss, section 4.1)."""
    return keras.layers.Conv2D(
        filters,
        size,
        padding="same",
        use_bias=use_bias,
        kernel_initializer=keras.initializers.RandomNormal(stddev=0.01),
        bias_initializer=keras.initializers.Constant(bias),
        name=name,
    )


def over_levels(levels, layers, columns, name):
    """Applies the layers to each level [B, h, w, C] and lays the levels one after the other: [B, all h * w * A, columns].

    The last layer's channels are A * ``columns``, A slow.
    """
    flat = []
    for index, x in enumerate(levels):
        for layer in layers:
            x = layer(x)
        flat.append(keras.layers.Reshape((-1, columns), name=f"{name}.flat{index}")(x))
    return keras.layers.Concatenate(axis=1, name=f"{name}.levels")(flat)
