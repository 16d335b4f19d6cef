"""DeepLabv3: a dilated backbone, atrous spatial pyramid pooling, and scores brought up bilinearly.

Chen, Papandreou, Schroff, Adam 2017: Rethinking Atrous Convolution for Semantic Image Segmentation; in torchvision's form, whose
checkpoints fit.
"""

import keras

from tfzoo.backbones.mobilenet_v3 import mobilenet_v3_large_features
from tfzoo.backbones.resnet import resnet_features
from tfzoo.errors import InputError
from tfzoo.layers.aspp import atrous_spatial_pyramid_pooling
from tfzoo.layers.convolution import convolution, convolution_norm, uniform_fan_in
from tfzoo.layers.resizing import ResizeLike
from tfzoo.models.base import check_options
from tfzoo.models.fcn_resnet import fcn_head
from tfzoo.models.segmenter import Segmenter

# name: function, its fixed arguments, the maps that the head and the auxiliary head read, the output stride that torchvision has
BACKBONES = {
    "resnet50": (resnet_features, {"depth": 50}, "layer4", "layer3", 8),
    "resnet101": (resnet_features, {"depth": 101}, "layer4", "layer3", 8),
    "mobilenet_v3_large": (mobilenet_v3_large_features, {}, "16", "4", 16),
}


@keras.saving.register_keras_serializable("tfzoo")
class DeepLabV3(Segmenter):
    """DeepLabv3 (figure 5 of the paper).

    Args:
        num_classes, class_names, ...: see ``Segmenter``.
        backbone: "resnet50", "resnet101" or "mobilenet_v3_large".
        output_stride: stride of the backbone's last map: 8, 16 or 32 of a ResNet, 16 or 32 of a MobileNet; None: as published
            weights were trained, 8 and 16.
        atrous_rates: dilation of the pyramid's 3x3 convolutions; torchvision has these at both strides, the paper half of them at
            output stride 16.
        aux_loss: a second head, on a finer map, whose loss counts half.
        width_multiplier: factor on the backbone's channels and on the 256 of the head.
        dropout: rate after the pyramid; the auxiliary head drops 0.1 where it is above 0.
    """

    class_layers = ("classifier.4", "aux_classifier.4")  # whose shape depends on the number of classes

    def __init__(
        self,
        num_classes,
        backbone="resnet50",
        output_stride=None,
        atrous_rates=(12, 24, 36),
        aux_loss=False,
        width_multiplier=1.0,
        dropout=0.5,
        **kwargs,
    ):
        check_options(width_multiplier)
        if backbone not in BACKBONES:
            raise InputError(f"backbone is '{backbone}': it must be one of {', '.join(BACKBONES)}.")
        super().__init__(
            num_classes,
            backbone=backbone,
            output_stride=output_stride or BACKBONES[backbone][-1],
            atrous_rates=list(atrous_rates),
            aux_loss=aux_loss,
            width_multiplier=width_multiplier,
            dropout=dropout,
            **kwargs,
        )

    @staticmethod
    def build_network(pixels, num_classes, backbone, output_stride, atrous_rates, aux_loss, width_multiplier, dropout):
        # === Encoder ===
        build, arguments, last, finer, _ = BACKBONES[backbone]
        features = build(pixels, width_multiplier=width_multiplier, output_stride=output_stride, **arguments)

        # === Pyramid ===
        width = max(round(256 * width_multiplier), 1)
        x = atrous_spatial_pyramid_pooling(features[last], width, atrous_rates, "classifier.0", initializer=uniform_fan_in)
        if dropout:
            x = keras.layers.Dropout(dropout, name="classifier.0.project.3")(x)

        # === Heads ===
        names = {"name": "classifier.1", "norm": "classifier.2"}
        x = convolution_norm(x, width, 3, **names, initializer=uniform_fan_in)
        scores = convolution(x, num_classes, 1, "classifier.4", initializer=uniform_fan_in)
        logits = ResizeLike(name="resize_to_image")([scores, pixels])
        if not aux_loss:
            return logits
        scores = fcn_head(features[finer], num_classes, min(dropout, 0.1), name="aux_classifier")
        return {"out": logits, "aux": ResizeLike(name="resize_aux_to_image")([scores, pixels])}
