"""Proposals that come with the pictures (Girshick 2015, Fast R-CNN, section 2)."""

import keras
from keras import ops

from tfzoo.layers.boxes import box_area, clip_boxes


class GivenProposals(keras.layers.Layer):
    """(Pictures [B, H, W, 3], boxes [B, P, 4] in their pixels) to proposals float32 [B, P, 4] in pixels of the network's input.

    Boxes are cut off at the picture's borders; those that have no area then are 0, as free places are.

    Args:
        sizes: gives (height, width) of the resized picture and of the network's input, for a picture's own.
        to_input: gives factors [4] that take boxes in a picture of one size to one of another.
    """

    def __init__(self, sizes, to_input, **kwargs):
        super().__init__(autocast=False, **kwargs)
        self.sizes, self.to_input = sizes, to_input

    def call(self, images, boxes):
        given = ops.shape(images)[1:3]
        resized, _ = self.sizes(given)
        boxes = clip_boxes(ops.cast(boxes, "float32") * self.to_input(resized, given), *resized)
        return ops.where(ops.expand_dims(box_area(boxes) > 0, -1), boxes, 0.0)

    def compute_output_spec(self, images, boxes):
        return keras.KerasTensor(boxes.shape, dtype="float32")
