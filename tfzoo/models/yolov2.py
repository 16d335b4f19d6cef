"""YOLOv2: a fully convolutional YOLO with anchors found by clustering, which can be trained and used at several sizes.

Redmon & Farhadi 2017: YOLO9000: Better, Faster, Stronger; network and loss as its authors published them (Darknet, yolov2.cfg).
"""

import keras
import numpy as np
from keras import ops

from tfzoo.backbones.darknet import darknet19_features, darknet_convolution, scaled
from tfzoo.errors import InputError
from tfzoo.layers.box_coder import MAX_LOG_SCALE
from tfzoo.layers.boxes import box_iou, clip_boxes, from_centre, to_centre
from tfzoo.layers.matcher import matched_boxes, matched_labels
from tfzoo.models.base import check_options
from tfzoo.models.detector import Detector
from tfzoo.models.yolov1 import as_float, best_pairs, cell_of_centre, first_of_slot, mean_over_pictures, with_area

STRIDE = 32
# Found by the authors on VOC's boxes, in cells of 32 pixels.
VOC_ANCHORS = ((1.3221, 1.73145), (3.19275, 4.00944), (5.05587, 8.09892), (9.47112, 4.84053), (11.2364, 10.0071))
VOC_ANCHOR_SIZES = tuple((STRIDE * width, STRIDE * height) for width, height in VOC_ANCHORS)
OBJECT_WEIGHT = 5.0  # of the objectness where there is an object; all else weighs 1
BACKGROUND_IOU = 0.6  # a box that overlaps an object more than this is not taught that there is none


@keras.saving.register_keras_serializable("tfzoo")
class YOLOv2(Detector):
    """YOLOv2 on Darknet-19 (section 2).

    Three 3x3 convolutions stand on Darknet-19; before the last one the finer map at stride 16 is passed through: squeezed to 64
    channels, each 2x2 block of it laid into channels, and joined (the paper's text leaves the squeezing out, its published
    network has it). Each cell of stride 32 tells one box for each anchor. Pictures are taken at any size, padded to multiples of
    32: training at several sizes (``data.several_sizes``) needs nothing else.

    ``model(images)`` gives, cells row by row and the boxes of a cell in the order of the anchors, A = cells * anchors:
        cls_logits: [B, A, C]; softmax gives the probability of each class, where there is an object.
        bbox_regression: [B, A, 4]: t_x, t_y, t_w, t_h of figure 3.
        objectness: [B, A, 1]; sigmoid gives the expected IoU with an object.

    The score of a box for a class is the product of both probabilities.

    Args:
        num_classes, class_names, ...: see ``Detector``.
        anchor_sizes: (width, height) in pixels of the network's input, of each anchor; ``data.box_clusters.anchor_sizes`` finds
            those that fit a data set. Default: the authors', for VOC.
        width_multiplier: factor on the channels.
    """

    class_layers = ("conv22",)
    box_rule, score_rule = "cells_and_anchors", "objectness_and_softmax"
    loss_names = ("classification", "box", "objectness")

    def __init__(
        self,
        num_classes,
        anchor_sizes=VOC_ANCHOR_SIZES,
        width_multiplier=1.0,
        image_mean=(0.0, 0.0, 0.0),
        image_std=(255.0, 255.0, 255.0),
        score_thresh=0.005,
        nms_thresh=0.45,
        detections_per_img=100,
        **kwargs,
    ):
        check_options(width_multiplier)
        super().__init__(
            num_classes,
            anchor_sizes=check_anchor_sizes(anchor_sizes),
            width_multiplier=width_multiplier,
            image_mean=image_mean,
            image_std=image_std,
            score_thresh=score_thresh,
            nms_thresh=nms_thresh,
            detections_per_img=detections_per_img,
            **kwargs,
        )

    # The numbers are of several kinds, and 8 bits for all of them too few for the boxes.
    float_layers = ("conv22", "boxes", "strided_slice")

    @staticmethod
    def build_network(pixels, num_classes, anchor_sizes, width_multiplier):
        # === Backbone ===
        features = darknet19_features(pixels, width_multiplier)

        # === Pass-through (section 2, "Fine-Grained Features") ===
        x = features["stage5"]
        for number in (19, 20):
            x = darknet_convolution(x, scaled(1024, width_multiplier), 3, f"conv{number}")
        fine = darknet_convolution(features["stage4"], scaled(64, width_multiplier), 1, "passthrough")
        x = keras.layers.Concatenate(name="joined")([SpaceToDepth(name="passthrough.blocks")(fine), x])
        x = darknet_convolution(x, scaled(1024, width_multiplier), 3, "conv21")

        # === Head ===
        x = keras.layers.Conv2D(len(anchor_sizes) * (5 + num_classes), 1, name="conv22")(x)
        x = keras.layers.Reshape((-1, 5 + num_classes), name="boxes")(x)
        return {"cls_logits": x[..., 5:], "bbox_regression": x[..., :4], "objectness": x[..., 4:5]}

    # === Boxes ===

    def anchors(self, image_size):
        """Float32 [A, 4], xyxy in pixels: the anchors around the centre of each cell; a NumPy array where the size is of ints."""
        xp = np if all(isinstance(side, int) for side in image_size) else ops
        rows, columns = (side // STRIDE for side in image_size)
        x, y = xp.meshgrid(xp.arange(columns) * STRIDE + STRIDE // 2, xp.arange(rows) * STRIDE + STRIDE // 2)
        half = np.array(self.options["anchor_sizes"], np.float32) / 2
        centres = xp.reshape(xp.stack([x, y, x, y], axis=-1), (-1, 1, 4))
        centres = centres.astype("float32") if xp is np else ops.cast(centres, "float32")
        return xp.reshape(centres + np.concatenate([-half, half], axis=1), (-1, 4))

    @staticmethod
    def decode(numbers, anchors):
        """Boxes [..., 4] in pixels, of t_x, t_y, t_w, t_h [..., 4] and their anchors [..., 4] (figure 3); sides grow 62.5 times
        at most."""
        anchors = to_centre(anchors)
        centres = anchors[..., :2] + (ops.sigmoid(numbers[..., :2]) - 0.5) * STRIDE
        sides = anchors[..., 2:] * ops.exp(ops.minimum(numbers[..., 2:], MAX_LOG_SCALE))
        return from_centre(ops.concatenate([centres, sides], axis=-1))

    # === Loss ===

    def head_losses(self, heads, boxes, labels, real, anchors):
        """Darknet's region loss, a mean over the pictures of the batch: half the squares of errors, and cross-entropy.

        Darknet's pull of all boxes towards their anchors, during the first 12,800 pictures, is left out.


        A box is given to the cell of its centre and there to the anchor whose shape overlaps its own most; of two boxes with one
        place the first counts. Small boxes weigh more, up to twice as much as one of the picture's size. Objectness is taught the
        IoU of the box that was told, and 0 where that overlaps no object by more than 0.6.
        """
        anchors = ops.convert_to_tensor(anchors)
        # The last cell's centre tells the picture's size; in float32 that may lie a little below the true one.
        sides = STRIDE * ops.round(to_centre(anchors[-1])[:2] / STRIDE + 0.5)
        boxes = clip_boxes(boxes, sides[1], sides[0])
        real = with_area(boxes, real)
        owner = first_of_slot(self._slots(boxes, sides), real, ops.shape(anchors)[0])
        present = owner >= 0
        truth = ops.where(present[..., None], matched_boxes(boxes, owner), anchors)

        decoded = ops.stop_gradient(self.decode(heads["bbox_regression"], anchors))
        overlaps = ops.where(real[:, None], box_iou(decoded, boxes), 0.0)
        iou = box_iou(decoded[:, :, None], truth[:, :, None])[..., 0, 0]
        objectness = ops.sigmoid(heads["objectness"][..., 0])
        empty = ops.logical_and(ops.logical_not(present), ops.max(overlaps, axis=2) <= BACKGROUND_IOU)

        weight = as_float(present) * (2 - ops.prod(to_centre(truth)[..., 2:] / sides, axis=-1))
        entropy = ops.sparse_categorical_crossentropy(
            ops.maximum(matched_labels(labels, owner), 0), heads["cls_logits"], from_logits=True
        )
        errors = OBJECT_WEIGHT * as_float(present) * ops.square(objectness - iou) + as_float(empty) * ops.square(objectness)
        return {
            "classification": mean_over_pictures(as_float(present) * entropy),
            "box": 0.5 * mean_over_pictures(weight * self._box_errors(heads["bbox_regression"], truth, anchors)),
            "objectness": 0.5 * mean_over_pictures(errors),
            "foreground": mean_over_pictures(as_float(present)),
        }

    def _slots(self, boxes, sides):
        """Index, int32 [B, N], of the anchor that stands for each box."""
        sizes = ops.convert_to_tensor(self.options["anchor_sizes"], "float32")
        shapes = from_centre(ops.concatenate([ops.zeros_like(sizes), sizes], axis=-1))
        centred = to_centre(boxes)[..., 2:]
        own = from_centre(ops.concatenate([ops.zeros_like(centred), centred], axis=-1))
        best = ops.cast(ops.argmax(box_iou(own, shapes), axis=-1), "int32")
        columns, rows = (ops.cast(sides[axis] / STRIDE, "int32") for axis in (0, 1))
        cell = cell_of_centre(boxes, STRIDE, rows, columns)
        return cell * len(self.options["anchor_sizes"]) + best

    @staticmethod
    def _box_errors(numbers, truth, anchors):
        """Squared errors [B, A] of sigmoid(t_x), sigmoid(t_y), t_w, t_h against what would give the true boxes [B, A, 4]."""
        truth, anchors = to_centre(truth), to_centre(anchors)
        places = (truth[..., :2] - anchors[..., :2]) / STRIDE + 0.5
        scales = ops.log(truth[..., 2:] / anchors[..., 2:])
        shift = ops.square(ops.sigmoid(numbers[..., :2]) - places)
        return ops.sum(shift + ops.square(numbers[..., 2:] - scales), axis=-1)

    # === Answer ===

    def box_numbers(self):
        return {"stride": STRIDE}

    def candidates(self, heads, anchors, image_size):
        boxes = clip_boxes(self.decode(heads["bbox_regression"], ops.convert_to_tensor(anchors)), *image_size)
        scores = ops.sigmoid(heads["objectness"]) * ops.softmax(heads["cls_logits"], axis=-1)
        return best_pairs(boxes, scores, self.topk_candidates, self.score_thresh)


@keras.saving.register_keras_serializable("tfzoo")
class SpaceToDepth(keras.layers.Layer):
    """Lays the pixels of each 2x2 block behind each other into channels: [B, H, W, C] to [B, H / 2, W / 2, 4C]; H and W even."""

    def call(self, x):
        return ops.concatenate([x[:, row::2, column::2] for row in (0, 1) for column in (0, 1)], axis=-1)

    def compute_output_shape(self, shape):
        batch, height, width, channels = shape
        return (batch, height and height // 2, width and width // 2, 4 * channels)


def check_anchor_sizes(sizes) -> list:
    """Returns them as lists of two floats each, or raises an InputError unless they are (width, height) pairs above 0."""
    try:
        array = np.asarray(sizes, np.float64)
    except (TypeError, ValueError):  # no numbers, or not as many in each
        array = np.empty(0)
    if array.ndim != 2 or array.shape[1] != 2 or not (np.isfinite(array) & (array > 0)).all():
        raise InputError(f"anchor_sizes is {sizes!r}: it must be (width, height) pairs in pixels, above 0.")
    return array.tolist()
