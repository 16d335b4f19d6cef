"""Keypoint R-CNN (He, Gkioxari, Dollar, Girshick 2017, section 5): Faster R-CNN that also finds points of each object."""

import keras

from tfzoo.models.faster_rcnn import FasterRCNN, scaled
from tfzoo.models.keypoint_branch import KeypointBranch


@keras.saving.register_keras_serializable("tfzoo")
class KeypointRCNN(FasterRCNN):
    """Keypoint R-CNN on a feature pyramid.

    ``fit`` takes "keypoints" float32 [B, N, K, 3] too: x and y in pixels of the given pictures, visibility 0, 1 or 2; ``predict``
    also answers ``keypoints`` float32 [B, D, K, 3] (x, y, 1) and ``keypoint_scores`` float32 [B, D, K], logits. Points and masks in
    one model: ``MaskRCNN`` with ``with_keypoints``.

    Args:
        num_keypoints: K, of each object.
        **kwargs: see ``FasterRCNN``.
    """

    task = "keypoint"
    class_lists = {2: ("__background__", "person")}  # of the published checkpoint, by number of classes

    def __init__(self, num_classes, num_keypoints=17, **kwargs):
        super().__init__(num_classes, num_keypoints=num_keypoints, **kwargs)

    def build_branches(self, channels, columns):
        return [KeypointBranch(channels, self.options["num_keypoints"], scaled(512, self.options["width_multiplier"]))]
