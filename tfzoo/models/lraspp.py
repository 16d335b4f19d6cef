"""LR-ASPP: the smallest head that still sees the whole picture, on MobileNetV3.

Howard et al. 2019: Searching for MobileNetV3 (section 6.4, figure 10); in torchvision's form, whose checkpoints fit: the mean is
taken over the whole map, not over windows of 49x49.
"""

import keras

from tfzoo.backbones.mobilenet_v3 import mobilenet_v3_large_features
from tfzoo.layers.convolution import convolution, convolution_norm, uniform_fan_in
from tfzoo.layers.resizing import ResizeLike
from tfzoo.models.base import check_options
from tfzoo.models.segmenter import Segmenter


@keras.saving.register_keras_serializable("tfzoo")
class LRASPP(Segmenter):
    """MobileNetV3-Large whose last blocks dilate, a gate from the mean of its last map, and scores from two maps.

    Args:
        num_classes, class_names, ...: see ``Segmenter``.
        output_stride: 16 or 32: stride of the backbone's last map; published weights were trained at 16.
        width_multiplier: factor on the backbone's channels and on the 128 of the head.
    """

    class_layers = ("classifier.low_classifier", "classifier.high_classifier")  # whose shape depends on the number of classes

    def __init__(self, num_classes, output_stride=16, width_multiplier=1.0, **kwargs):
        check_options(width_multiplier)
        super().__init__(num_classes, output_stride=output_stride, width_multiplier=width_multiplier, **kwargs)

    @staticmethod
    def build_network(pixels, num_classes, output_stride, width_multiplier):
        # === Encoder ===
        features = mobilenet_v3_large_features(pixels, width_multiplier, output_stride)
        low, high = features["4"], features["16"]

        # === Head ===
        width = max(round(128 * width_multiplier), 1)
        x = convolution_norm(high, width, 1, "classifier.cbr.0", "classifier.cbr.1", initializer=uniform_fan_in)
        gate = keras.layers.GlobalAveragePooling2D(keepdims=True, name="classifier.scale.0")(high)
        gate = convolution(gate, width, 1, "classifier.scale.1", use_bias=False, initializer=uniform_fan_in)
        gate = keras.layers.Activation("sigmoid", name="classifier.scale.2")(gate)
        x = keras.layers.Multiply(name="classifier.multiply")([x, gate])
        x = ResizeLike(name="resize_to_low")([x, low])
        low = convolution(low, num_classes, 1, "classifier.low_classifier", initializer=uniform_fan_in)
        high = convolution(x, num_classes, 1, "classifier.high_classifier", initializer=uniform_fan_in)
        scores = keras.layers.Add(name="classifier.add")([low, high])
        return ResizeLike(name="resize_to_image")([scores, pixels])
