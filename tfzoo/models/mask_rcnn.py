"""Mask R-CNN (He, Gkioxari, Dollar, Girshick 2017): Faster R-CNN that also draws the outline of what it finds."""

import keras

from tfzoo.models.faster_rcnn import FasterRCNN, scaled
from tfzoo.models.keypoint_branch import KeypointBranch
from tfzoo.models.mask_branch import MaskBranch


@keras.saving.register_keras_serializable("tfzoo")
class MaskRCNN(FasterRCNN):
    """Mask R-CNN on a feature pyramid.

    ``fit`` takes "masks" uint8 [B, N, H, W], 0 or 1, too; ``predict`` also answers ``masks`` float32 [B, D, 28, 28]: probabilities
    inside each box (see ``data.instance_masks.paste_masks``).

    Args:
        with_keypoints: it finds points too, as ``KeypointRCNN`` does.
        num_keypoints: K, of each object.
        **kwargs: see ``FasterRCNN``.
    """

    task = "instance"
    class_layers = FasterRCNN.class_layers | {"roi_heads.mask_predictor.mask_fcn_logits": 1}

    def __init__(self, num_classes, with_keypoints=False, num_keypoints=17, **kwargs):
        super().__init__(num_classes, with_keypoints=with_keypoints, num_keypoints=num_keypoints, **kwargs)

    def build_branches(self, channels, columns):
        options = self.options
        branches = [MaskBranch(channels, columns, scaled(256, options["width_multiplier"]), batch_norm=options["version"] == 2)]
        if options["with_keypoints"]:
            branches.append(KeypointBranch(channels, options["num_keypoints"], scaled(512, options["width_multiplier"])))
        return branches
