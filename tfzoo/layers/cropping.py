"""Cropping to a size that is known only when the picture is there."""

import keras
from keras import ops


@keras.saving.register_keras_serializable("tfzoo")
class CropLike(keras.layers.Layer):
    """Crops ``x`` to the height and width of ``reference``; call it on [x, reference].

    Poolings and strides round odd sizes up, so what is brought up again can be a little too large. It lost nothing but
    padding at the bottom and right, where "top_left" cuts; "center" is for maps that lost a border on every side.

    Args:
        anchor: "top_left" or "center" (an odd remainder is cut at the bottom and right).
    """

    def __init__(self, anchor="top_left", **kwargs):
        super().__init__(**kwargs)
        if anchor not in ("top_left", "center"):
            raise ValueError(f"anchor is '{anchor}'; it must be 'top_left' or 'center'.")
        self.anchor = anchor

    def call(self, inputs):
        x, reference = inputs
        height, width = ops.shape(reference)[1:3]
        if self.anchor == "top_left":
            return x[:, :height, :width, :]
        top, left = (ops.shape(x)[1] - height) // 2, (ops.shape(x)[2] - width) // 2
        return x[:, top : top + height, left : left + width, :]

    def compute_output_shape(self, shapes):
        (batch, _, _, channels), (_, height, width, _) = shapes
        return batch, height, width, channels

    def get_config(self):
        return {**super().get_config(), "anchor": self.anchor}
