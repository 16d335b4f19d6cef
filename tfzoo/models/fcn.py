"""FCN-32s, FCN-16s and FCN-8s on VGG16.

Long, Shelhamer, Darrell 2015: Fully Convolutional Networks for Semantic Segmentation (sections 3 and 4.2).
"""

import keras

from tfzoo.backbones.vgg import convolution, vgg16_features
from tfzoo.errors import InputError
from tfzoo.layers.cropping import CropLike
from tfzoo.layers.upsampling import upsample_bilinear
from tfzoo.models.base import check_options
from tfzoo.models.segmenter import Segmenter


@keras.saving.register_keras_serializable("tfzoo")
class FCN(Segmenter):
    """VGG16 with its fully connected layers turned into convolutions, and skips from pool4 and pool3.

    Scoring layers start at zero, as in section 4.1; upsampling between the streams is learned from a bilinear start, the last
    one stays bilinear, as in section 4.3. Where the reference network pads the picture by 100 pixels and crops with an offset,
    this one pads fc6 by 3, which keeps every map aligned with the picture's top left corner.

    Args:
        num_classes, class_names, ...: see ``Segmenter``.
        stride: 32, 16 or 8: of the finest scores before the last upsampling.
        width_multiplier: factor on VGG16's channels and on the 4096 of fc6 and fc7.
        batch_norm: batch normalisation in VGG16, fc6 and fc7, for training from scratch.
        dropout: rate after fc6 and fc7.
    """

    def __init__(self, num_classes, stride=8, width_multiplier=1.0, batch_norm=False, dropout=0.5, **kwargs):
        check_options(width_multiplier, batch_norm)
        if stride not in (8, 16, 32):
            raise InputError(f"stride is {stride}: it must be 8, 16 or 32.")
        super().__init__(
            num_classes, stride=stride, width_multiplier=width_multiplier, batch_norm=batch_norm, dropout=dropout, **kwargs
        )

    @staticmethod
    def build_network(pixels, num_classes, stride, width_multiplier, batch_norm, dropout):
        # === Encoder ===
        features = vgg16_features(pixels, width_multiplier, batch_norm)
        x = features["pool5"]
        for name, size in (("fc6", 7), ("fc7", 1)):
            x = convolution(x, round(4096 * width_multiplier), size, batch_norm, name=name)
            if dropout:
                x = keras.layers.Dropout(dropout, name=f"{name}_dropout")(x)

        # === Decoder ===
        x = score(x, num_classes, "fc7")
        reached = 32
        for skip in ("pool4", "pool3"):
            if reached == stride:
                break
            finer = score(features[skip], num_classes, skip)
            x = upsample_bilinear(x, num_classes, 2, name=f"upsample_to_{skip}")
            x = CropLike(name=f"crop_to_{skip}")([x, finer])
            x = keras.layers.Add(name=f"add_{skip}")([x, finer])
            reached //= 2

        # === Head ===
        x = upsample_bilinear(x, num_classes, stride, name="upsample_to_image", trainable=False)
        return CropLike(name="crop_to_image")([x, pixels])


def score(x, num_classes, name):
    """1x1 convolution to class scores, starting at zero."""
    return keras.layers.Conv2D(num_classes, 1, kernel_initializer="zeros", name=f"score_{name}")(x)
