"""FCN on a dilated ResNet, as torchvision has it: scores from the last stage alone, brought up bilinearly.

Long, Shelhamer, Darrell 2015: Fully Convolutional Networks for Semantic Segmentation. The dilated ResNet and the auxiliary head
are those of Zhao et al. 2017 (PSPNet, section 3.3) and of torchvision's ``fcn_resnet50``, whose checkpoints fit.
"""

import keras

from tfzoo.backbones import resnet
from tfzoo.errors import InputError
from tfzoo.layers.convolution import conv_norm_relu, convolution, uniform_fan_in
from tfzoo.layers.resizing import ResizeLike
from tfzoo.models.base import check_options
from tfzoo.models.segmenter import Segmenter

BACKBONES = {"resnet50": 50, "resnet101": 101}


@keras.saving.register_keras_serializable("tfzoo")
class FCNResNet(Segmenter):
    """A ResNet whose last two stages dilate, and a head of one 3x3 and one 1x1 convolution.

    Args:
        num_classes, class_names, ...: see ``Segmenter``.
        backbone: "resnet50" or "resnet101".
        output_stride: 8, 16 or 32: stride of the backbone's last map; published weights were trained at 8.
        aux_loss: a second head, on the last stage but one, whose loss counts half.
        width_multiplier: factor on the backbone's channels; the heads follow them.
        dropout: rate before the last convolution of each head.
    """

    class_layers = ("classifier.4", "aux_classifier.4")  # whose shape depends on the number of classes

    def __init__(
        self, num_classes, backbone="resnet50", output_stride=8, aux_loss=False, width_multiplier=1.0, dropout=0.1, **kwargs
    ):
        check_options(width_multiplier)
        if backbone not in BACKBONES:
            raise InputError(f"backbone is '{backbone}': it must be one of {', '.join(BACKBONES)}.")
        super().__init__(
            num_classes,
            backbone=backbone,
            output_stride=output_stride,
            aux_loss=aux_loss,
            width_multiplier=width_multiplier,
            dropout=dropout,
            **kwargs,
        )

    @staticmethod
    def build_network(pixels, num_classes, backbone, output_stride, aux_loss, width_multiplier, dropout):
        # === Encoder ===
        features = resnet.resnet_features(pixels, BACKBONES[backbone], width_multiplier, output_stride)

        # === Heads ===
        scores = fcn_head(features["layer4"], num_classes, dropout, name="classifier")
        logits = ResizeLike(name="resize_to_image")([scores, pixels])
        if not aux_loss:
            return logits
        scores = fcn_head(features["layer3"], num_classes, dropout, name="aux_classifier")
        return {"out": logits, "aux": ResizeLike(name="resize_aux_to_image")([scores, pixels])}


def fcn_head(x, num_classes, dropout, name):
    """3x3 convolution to a quarter of the channels, dropout, 1x1 convolution to class scores."""
    x = conv_norm_relu(x, max(x.shape[-1] // 4, 1), 3, name, initializer=uniform_fan_in)
    if dropout:
        x = keras.layers.Dropout(dropout, name=f"{name}.3")(x)
    return convolution(x, num_classes, 1, f"{name}.4", initializer=uniform_fan_in)
