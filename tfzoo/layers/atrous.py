"""Dilated ("atrous") convolutions that converted files hold as one operator each.

TensorFlow's graphs cut a map into interleaved ones, convolve these, and put them together again (SpaceToBatch), since not every
kernel of its own knows dilation, or its gradient. Converters see through that only where the size of the map is known: a file for
pictures of any size would keep some thirty operators for each convolution. So what a converter reads says what is meant.
"""

import keras
from keras import ops

from tfzoo.layers.target import target


def _says_what_is_meant(layer):
    return target().converted and max(layer.dilation_rate) > 1


@keras.saving.register_keras_serializable("tfzoo")
class Conv2D(keras.layers.Conv2D):
    """Keras's layer, whose ``dilation_rate`` may be above 1."""

    def convolution_op(self, inputs, kernel):
        if not _says_what_is_meant(self):
            return super().convolution_op(inputs, kernel)
        import tensorflow as tf

        return tf.nn.conv2d(inputs, ops.convert_to_tensor(kernel), 1, self.padding.upper(), dilations=self.dilation_rate)


@keras.saving.register_keras_serializable("tfzoo")
class DepthwiseConv2D(keras.layers.DepthwiseConv2D):
    """Keras's layer without bias and activation, whose ``dilation_rate`` may be above 1."""

    def __init__(self, kernel_size, use_bias=False, **kwargs):
        if use_bias or kwargs.get("activation") not in (None, "linear"):
            raise ValueError("This depthwise convolution has no bias and no activation: they follow in layers of their own.")
        super().__init__(kernel_size, use_bias=False, **kwargs)

    def call(self, inputs):
        if not _says_what_is_meant(self):
            return super().call(inputs)
        import tensorflow as tf

        return tf.raw_ops.DepthwiseConv2dNative(
            input=inputs,
            filter=ops.convert_to_tensor(self.kernel),
            strides=[1, 1, 1, 1],
            padding=self.padding.upper(),
            dilations=[1, *self.dilation_rate, 1],
        )
