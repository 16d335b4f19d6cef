"""The branch that finds points (He et al. 2017, Mask R-CNN, section 5): a heat map for each point, one cell of which is right."""

import keras
from keras import ops

from tfzoo.layers.convolution import he_fan_out, uniform_fan_in
from tfzoo.layers.keypoints import decode_keypoints, encode_keypoints
from tfzoo.layers.resizing import ResizeBy
from tfzoo.models.roi_branch import RoIBranch

DEPTH = 8


class KeypointBranch(RoIBranch):
    """Eight 3x3 convolutions on a region's 14x14 map, a transposed one to 28x28, bilinear to 56x56.

    Args:
        channels: of the maps that regions are read from.
        keypoints: K.
        width: channels of the convolutions (512).
    """

    name, size, answers = "keypoint", 14, ("keypoints", "keypoint_scores")

    def __init__(self, channels, keypoints, width):
        x = inputs = keras.Input((self.size, self.size, channels), name="keypoint_regions")
        for index in range(DEPTH):
            name = f"roi_heads.keypoint_head.{2 * index}"
            x = keras.layers.Conv2D(width, 3, padding="same", kernel_initializer=he_fan_out(), name=name)(x)
            x = keras.layers.ReLU(name=f"{name}.relu")(x)
        x = keras.layers.Conv2DTranspose(
            keypoints,
            4,
            strides=2,
            padding="same",
            kernel_initializer=uniform_fan_in(),
            name="roi_heads.keypoint_predictor.kps_score_lowres",
        )(x)
        x = ResizeBy(2, "bilinear", dtype="float32", name="roi_heads.keypoint_predictor.upsample")(x)
        self.head = keras.Model(inputs, x, name="keypoint_branch")

    def scaled_targets(self, y, given, resized):
        factors = [ops.cast(a, "float32") / ops.cast(b, "float32") for a, b in zip(resized, given, strict=True)]
        points = ops.cast(y["keypoints"], "float32")
        return {"keypoints": points * ops.stack([factors[1], factors[0], ops.ones_like(factors[0])])}

    def loss(self, regions, rois, truth):
        """The mean cross-entropy over the cells, of all visible points inside positive regions."""
        maps = self.run(regions)  # [B, R, h, w, K]
        size, points = maps.shape[2], maps.shape[-1]
        own = ops.take_along_axis(truth["keypoints"], rois["matched"][..., None, None], axis=1)
        cells, valid = encode_keypoints(own, rois["boxes"], size)
        valid = ops.cast(ops.logical_and(valid, ops.expand_dims(rois["positive"], -1)), "float32")
        logits = ops.reshape(ops.transpose(maps, (0, 1, 4, 2, 3)), (-1, maps.shape[1], points, size * size))
        entropy = ops.sparse_categorical_crossentropy(cells, logits, from_logits=True)
        return ops.sum(entropy * valid) / ops.maximum(ops.sum(valid), 1.0)

    def answer(self, regions, boxes, columns):
        """{"keypoints": float32 [B, D, K, 3], "keypoint_scores": float32 [B, D, K]}, in pixels of the network's input."""
        points, scores = decode_keypoints(self.run(regions), boxes)
        return {"keypoints": points, "keypoint_scores": scores}

    def rescale(self, answer, factors):
        """Takes the points from the network's input to the given picture."""
        to = ops.concatenate([factors[:2], ops.ones_like(factors[:1])])
        return answer | {"keypoints": answer["keypoints"] * to}
