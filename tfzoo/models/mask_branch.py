"""The branch that draws the outline of each object (He et al. 2017, Mask R-CNN, section 3 and figure 4, right)."""

import keras
from keras import ops

from tfzoo.layers.convolution import he_fan_out
from tfzoo.layers.mask_targets import mask_targets
from tfzoo.models.roi_branch import RoIBranch

DEPTH = 4


class MaskBranch(RoIBranch):
    """Four 3x3 convolutions on a region's 14x14 map, a transposed one to 28x28, a mask for each class.

    Args:
        channels: of the maps that regions are read from.
        columns: of the class scores, the background's among them.
        width: channels of the convolutions.
        batch_norm: normalisation in place of their bias.
    """

    name, size, answers = "mask", 14, ("masks",)

    def __init__(self, channels, columns, width, batch_norm):
        x = inputs = keras.Input((self.size, self.size, channels), name="mask_regions")
        for index in range(DEPTH):
            name = f"roi_heads.mask_head.{index}"
            x = keras.layers.Conv2D(
                width, 3, padding="same", use_bias=not batch_norm, kernel_initializer=he_fan_out(), name=f"{name}.0"
            )(x)
            if batch_norm:
                x = keras.layers.BatchNormalization(epsilon=1e-5, momentum=0.9, name=f"{name}.1")(x)
            x = keras.layers.ReLU(name=f"{name}.relu")(x)
        name = "roi_heads.mask_predictor"
        x = keras.layers.Conv2DTranspose(width, 2, strides=2, kernel_initializer=he_fan_out(), name=f"{name}.conv5_mask")(x)
        x = keras.layers.ReLU(name=f"{name}.relu")(x)
        x = keras.layers.Conv2D(columns, 1, kernel_initializer=he_fan_out(), name=f"{name}.mask_fcn_logits")(x)
        self.head = keras.Model(inputs, x, name="mask_branch")

    def scaled_targets(self, y, given, resized):
        height, width = (ops.cast(a, "float32") / ops.cast(b, "float32") for a, b in zip(given, resized, strict=True))
        return {"masks": y["masks"], "to_masks": ops.stack([width, height, width, height])}

    def loss(self, regions, rois, truth):
        """The mean binary cross-entropy of all cells of all positive regions, each in its own class's mask (section 3, L_mask)."""
        logits = self._own(self.run(regions), rois["columns"])
        wanted = mask_targets(truth["masks"], rois["matched"], rois["boxes"] * truth["to_masks"], logits.shape[-1])
        entropy = ops.mean(ops.maximum(logits, 0.0) - logits * wanted + ops.softplus(-ops.abs(logits)), axis=(2, 3))
        positive = ops.cast(rois["positive"], "float32")
        return ops.sum(entropy * positive) / ops.maximum(ops.sum(positive), 1.0)

    def answer(self, regions, boxes, columns):
        """{"masks": float32 [B, D, 28, 28]}: probabilities in the mask of each detection's class."""
        return {"masks": ops.sigmoid(self._own(self.run(regions), columns))}

    def rescale(self, answer, factors):
        return answer

    @staticmethod
    def _own(logits, columns):
        """Of masks [B, R, h, w, C] those of columns [B, R]: [B, R, h, w]."""
        size, classes = logits.shape[2], logits.shape[-1]
        flat = ops.reshape(ops.transpose(logits, (0, 1, 4, 2, 3)), (-1, logits.shape[1] * classes, size * size))
        place = ops.arange(logits.shape[1], dtype="int32") * classes + columns
        return ops.reshape(ops.take_along_axis(flat, ops.expand_dims(place, -1), axis=1), (-1, logits.shape[1], size, size))
