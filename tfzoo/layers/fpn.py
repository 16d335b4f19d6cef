"""Feature pyramid network (Lin et al. 2017, Feature Pyramid Networks for Object Detection, section 3), in torchvision's layout."""

import keras

from tfzoo.layers.convolution import conv_norm_relu, convolution, uniform_fan_in
from tfzoo.layers.resizing import ResizeBy


def feature_pyramid_network(features, width, extra, prefix="backbone.fpn.", steps=None, batch_norm=False):
    """Returns maps of ``width`` channels from fine to coarse, for backbone maps from fine to coarse.

    Args:
        features: Keras tensors, from fine to coarse; the picture's sides are multiples of the coarsest stride.
        width: channels of every level.
        extra: further levels at doubled strides: "pool" (one, every second value of the last, as in Faster R-CNN), "p5" or "c5"
            (two by 3x3 convolutions of stride 2, on the last level or on the backbone's last map, as in RetinaNet).
        prefix: of the layers' names.
        steps: stride of each map over that of the map before, 1 or 2, for all but the first; None: 2 everywhere.
        batch_norm: normalisation in place of the bias of each convolution.
    """
    steps = steps or [2] * (len(features) - 1)
    convolve = _conv_norm if batch_norm else _convolution
    laterals = [convolve(x, width, 1, f"{prefix}inner_blocks.{i}") for i, x in enumerate(features)]
    merged = laterals[-1:]
    for i in reversed(range(len(laterals) - 1)):
        coarser = merged[0]
        if steps[i] > 1:
            coarser = ResizeBy(steps[i], "nearest", name=f"{prefix}inner_blocks.{i}.upsample")(coarser)
        merged.insert(0, keras.layers.Add(name=f"{prefix}inner_blocks.{i}.add")([laterals[i], coarser]))
    levels = [convolve(x, width, 3, f"{prefix}layer_blocks.{i}") for i, x in enumerate(merged)]
    if extra == "pool":
        return [*levels, keras.layers.MaxPooling2D(1, strides=2, name=f"{prefix}extra_blocks.pool")(levels[-1])]
    p6 = convolution(
        features[-1] if extra == "c5" else levels[-1], width, 3, f"{prefix}extra_blocks.p6", stride=2, initializer=uniform_fan_in
    )
    p7 = keras.layers.ReLU(name=f"{prefix}extra_blocks.relu")(p6)
    return [*levels, p6, convolution(p7, width, 3, f"{prefix}extra_blocks.p7", stride=2, initializer=uniform_fan_in)]


def _convolution(x, width, size, name):
    return convolution(x, width, size, f"{name}.0", initializer=uniform_fan_in)


def _conv_norm(x, width, size, name):
    return conv_norm_relu(x, width, size, name, activation=None, initializer=uniform_fan_in)


def level_sizes(image_size, finest_stride, backbone_levels, levels):
    """(height, width) of each level's map, for a picture whose sides are multiples of the backbone's coarsest stride."""
    sizes = [tuple(side // (finest_stride * 2**i) for side in image_size) for i in range(backbone_levels)]
    while len(sizes) < levels:
        sizes.append(tuple((side + 1) // 2 for side in sizes[-1]))
    return sizes
