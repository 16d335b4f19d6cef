"""PSPNet: a pyramid of pooled maps tells each pixel about its surroundings, up to the whole picture.

Zhao, Shi, Qi, Wang, Jia 2017: Pyramid Scene Parsing Network.
"""

import keras

from tfzoo.backbones import feature_pyramid
from tfzoo.layers.convolution import conv_norm_relu
from tfzoo.layers.pooling import BinPooling
from tfzoo.layers.resizing import ResizeLike
from tfzoo.models.base import check_options
from tfzoo.models.segmenter import Segmenter

BINS = (1, 2, 3, 6)  # section 3.2


@keras.saving.register_keras_serializable("tfzoo")
class PSPNet(Segmenter):
    """PSPNet (figures 3 and 4 of the paper).

    The ResNet is the one of the rest of the zoo (one 7x7 convolution as its stem), so that its published weights fit.

    Args:
        num_classes, class_names, ...: see ``Segmenter``.
        backbone: "resnet50" or "resnet101".
        aux_loss: an auxiliary head on the third stage (section 3.3).
        width_multiplier: factor on the backbone's channels and on the 512 of the head.
        dropout: rate before the last convolution of each head.
    """

    aux_loss_weight = 0.4  # section 5.1

    def __init__(self, num_classes, backbone="resnet50", aux_loss=False, width_multiplier=1.0, dropout=0.1, **kwargs):
        check_options(width_multiplier)
        super().__init__(
            num_classes, backbone=backbone, aux_loss=aux_loss, width_multiplier=width_multiplier, dropout=dropout, **kwargs
        )

    @staticmethod
    def build_network(pixels, num_classes, backbone, aux_loss, width_multiplier, dropout):
        # === Encoder ===
        *_, third, x = feature_pyramid(backbone, pixels, width_multiplier, output_stride=8)

        # === Pyramid pooling ===
        branches = [x]
        for bins in BINS:
            pooled = BinPooling(bins, name=f"pool{bins}")(x)
            pooled = conv_norm_relu(pooled, max(x.shape[-1] // len(BINS), 1), 1, name=f"pyramid{bins}")
            branches.append(ResizeLike(name=f"pyramid{bins}_upsample")([pooled, x]))
        x = keras.layers.Concatenate(name="pyramid")(branches)

        # === Heads ===
        logits = head(x, pixels, num_classes, max(round(512 * width_multiplier), 1), dropout, name="head")
        if not aux_loss:
            return logits
        return {"out": logits, "aux": head(third, pixels, num_classes, max(round(256 * width_multiplier), 1), dropout, name="aux")}


def head(x, pixels, num_classes, width, dropout, name):
    """3x3 convolution, dropout, 1x1 convolution to scores, brought up to the picture's size."""
    x = conv_norm_relu(x, width, 3, name=f"{name}_conv")
    if dropout:
        x = keras.layers.Dropout(dropout, name=f"{name}_dropout")(x)
    x = keras.layers.Conv2D(num_classes, 1, name=f"{name}_score")(x)
    return ResizeLike(name=f"{name}_upsample")([x, pixels])
