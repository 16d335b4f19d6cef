"""L2 normalisation over channels with a learned scale."""

import keras
from keras import ops


@keras.saving.register_keras_serializable("tfzoo")
class L2Normalization(keras.layers.Layer):
    """Divides each pixel's channels by their length and scales each channel by a learned factor: [B, H, W, C] to the same shape.

    Liu et al. 2016 (ParseNet, section 3.3); SSD (Liu et al. 2016, section 3.1) puts it on conv4_3, whose activations are larger
    than those of the other maps. Computed in float32 whatever the dtype policy; a pixel that is zero stays zero.

    Args:
        scale: what the factors start at.
    """

    def __init__(self, scale=20.0, **kwargs):
        super().__init__(**kwargs)
        self.scale = scale

    def build(self, shape):
        start = keras.initializers.Constant(self.scale)
        self.scale_weight = self.add_weight(shape=(shape[-1],), initializer=start, name="scale_weight")

    def call(self, x):
        x = ops.cast(x, "float32")
        # The bound is the square of 1e-12; below it the root would have no finite slope.
        squares = ops.maximum(ops.sum(ops.square(x), axis=-1, keepdims=True), 1e-24)
        return ops.cast(x * ops.rsqrt(squares) * ops.cast(self.scale_weight, "float32"), self.compute_dtype)

    def compute_output_shape(self, shape):
        return shape

    def get_config(self):
        return {**super().get_config(), "scale": self.scale}
