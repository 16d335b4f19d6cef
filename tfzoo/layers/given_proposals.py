"""Proposals that come with the pictures (Girshick 2015, Fast R-CNN, section 2)."""

import keras
from keras import ops

from tfzoo.layers.boxes import box_area, clip_boxes, per_box


class GivenProposals(keras.layers.Layer):
    """(Pictures [B, H, W, 3], boxes [B, P, 4] in their pixels) to proposals float32 [B, P, 4] in pixels of the network's input.

    Boxes are cut off at the picture's borders; those that have no area then are 0, as free places are.

    Args:
        sizes: gives (height, width) of the resized picture and of the network's input, for a picture's own.
    """

    def __init__(self, sizes, **kwargs):
        super().__init__(autocast=False, **kwargs)
        self.sizes = sizes

    def call(self, images, boxes):
        given = ops.shape(images)[1:3]
        resized, _ = self.sizes(given)
        boxes = clip_boxes(ops.cast(boxes, "float32") * per_box(resized, given), *resized)
        return ops.where(ops.expand_dims(box_area(boxes) > 0, -1), boxes, 0.0)

    def compute_output_spec(self, images, boxes):
        return keras.KerasTensor(boxes.shape, dtype="float32")
