"""YOLO, first version: the whole picture at once, a grid of cells, each of which tells a class and a few boxes.

Redmon, Divvala, Girshick, Farhadi 2016: You Only Look Once; the small network that its authors published (tiny-yolo 1.1), of which
the paper's Fast YOLO was the first form.
"""

import keras
import numpy as np
from keras import ops

from tfzoo.backbones.darknet import darknet_convolution, halve, scaled
from tfzoo.layers.boxes import box_area, box_iou, clip_boxes, from_centre, to_centre
from tfzoo.layers.matcher import matched_boxes, matched_labels
from tfzoo.layers.nms import top_candidates
from tfzoo.models.base import check_options
from tfzoo.models.detector import check_counts
from tfzoo.models.fixed_size import FixedSizeDetector

POOLED = (16, 32, 64, 128, 256, 512)  # channels of the convolutions that a pooling follows
LAST = (1024, 256)
STRIDE = 64
COORDINATE_WEIGHT, EMPTY_WEIGHT = 5.0, 0.5  # lambda_coord and lambda_noobj, section 2.2


@keras.saving.register_keras_serializable("tfzoo")
class YOLOv1(FixedSizeDetector):
    """YOLO with eight convolutions and one fully connected layer (section 2.1, "Fast YOLO").

    Pictures are stretched to 64 ``grid`` pixels (448), and the map of S x S cells is scored by one layer that sees all of it:
    S x S x (5B + C) numbers. The cell in which a box's centre lies answers for it; of two centres in one cell the first box counts.

    ``model(images)`` gives, cells row by row and the B boxes of a cell together:
        cls_logits: [B, S * S, C], the probability of each class, of a cell that has a box; regressed, not squashed.
        bbox_regression: [B, S * S * boxes, 4]: x, y of the centre within the cell (0 to 1), and the square roots of width and
            height as fractions of the picture's.
        objectness: [B, S * S * boxes, 1], the IoU with the object's box, or 0 where there is none; regressed too.

    The score of a box for a class is objectness times class probability (equation 1), each cut off at 0 and 1.

    Args:
        num_classes, class_names, ...: see ``Detector``.
        grid: S.
        boxes_per_cell: how many boxes each cell tells.
        width_multiplier: factor on the channels.
    """

    class_layers = ("connected",)
    box_rule, score_rule = "cells", "cells"
    loss_names = ("classification", "box", "objectness")

    def __init__(
        self,
        num_classes,
        grid=7,
        boxes_per_cell=2,
        width_multiplier=1.0,
        image_mean=(0.0, 0.0, 0.0),
        image_std=(255.0, 255.0, 255.0),
        score_thresh=0.01,
        nms_thresh=0.5,
        detections_per_img=100,
        **kwargs,
    ):
        check_options(width_multiplier)
        check_counts(grid=grid, boxes_per_cell=boxes_per_cell)
        super().__init__(
            num_classes,
            grid=grid,
            boxes_per_cell=boxes_per_cell,
            width_multiplier=width_multiplier,
            image_mean=image_mean,
            image_std=image_std,
            score_thresh=score_thresh,
            nms_thresh=nms_thresh,
            detections_per_img=detections_per_img,
            **kwargs,
        )

    @staticmethod
    def input_side(grid, **options):
        return STRIDE * grid

    @staticmethod
    def build_network(pixels, num_classes, grid, boxes_per_cell, width_multiplier):
        # === Backbone ===
        x = pixels
        for index, channels in enumerate(POOLED, start=1):
            x = darknet_convolution(x, scaled(channels, width_multiplier), 3, f"conv{index}")
            x = halve(x, f"pool{index}")
        for index, channels in enumerate(LAST, start=len(POOLED) + 1):
            x = darknet_convolution(x, scaled(channels, width_multiplier), 3, f"conv{index}")

        # === Head ===
        cells, width = grid * grid, num_classes + 5 * boxes_per_cell
        x = keras.layers.Flatten(name="flatten")(x)
        x = keras.layers.Dense(cells * width, name="connected")(x)
        x = keras.layers.Reshape((cells, width), name="cells")(x)
        boxes = x[..., num_classes : num_classes + 4 * boxes_per_cell]
        return {
            "cls_logits": x[..., :num_classes],
            "bbox_regression": keras.layers.Reshape((-1, 4), name="boxes")(boxes),
            "objectness": keras.layers.Reshape((-1, 1), name="confidences")(x[..., -boxes_per_cell:]),
        }

    # === Boxes ===

    @property
    def side(self):
        """Of the network's input, in pixels."""
        return self.input_side(**self.options)

    def anchors(self, image_size):
        """The cell of each box: a NumPy array float32 [S * S * boxes, 4], xyxy in pixels of the network's input."""
        corners = np.arange(self.options["grid"]) * STRIDE
        x, y = np.meshgrid(corners, corners)
        cells = np.stack([x, y, x + STRIDE, y + STRIDE], axis=-1).reshape(-1, 4).astype(np.float32)
        return np.repeat(cells, self.options["boxes_per_cell"], axis=0)

    def decode(self, told, cells):
        """Boxes [..., 4] in pixels, of what the network tells of them [..., 4], and their cells [..., 4]."""
        centres = cells[..., :2] + told[..., :2] * STRIDE
        return from_centre(ops.concatenate([centres, ops.square(told[..., 2:]) * self.side], axis=-1))

    def encode(self, boxes, cells):
        """What the network should tell [..., 4] of boxes [..., 4] in pixels, whose centres lie in these cells [..., 4]."""
        centred = to_centre(boxes)
        places = (centred[..., :2] - cells[..., :2]) / STRIDE
        return ops.concatenate([places, ops.sqrt(centred[..., 2:] / self.side)], axis=-1)

    # === Loss ===

    def head_losses(self, heads, boxes, labels, real, anchors):
        """Equation 3, a mean over the pictures of the batch: ``box`` and ``objectness`` with their weights, ``classification``.

        Of a cell's boxes the one with the largest IoU with the object is responsible for it; where none of them touches it, the
        nearest one. What of a box lies outside the picture is cut off.
        """
        grid, count = self.options["grid"], self.options["boxes_per_cell"]
        boxes = clip_boxes(boxes, self.side, self.side)
        owner = first_of_slot(cell_of_centre(boxes, STRIDE, grid, grid), with_area(boxes, real), grid * grid)
        present, cells = owner >= 0, ops.convert_to_tensor(anchors)[::count]
        truth = ops.where(present[..., None], matched_boxes(boxes, owner), cells)[:, :, None]

        told = ops.reshape(heads["bbox_regression"], (-1, grid * grid, count, 4))
        confidence = ops.reshape(heads["objectness"], (-1, grid * grid, count))
        decoded = ops.stop_gradient(self.decode(told, cells[:, None]))
        iou = box_iou(decoded, truth)[..., 0]
        responsible = responsible_predictor(iou, ops.sum(ops.square(decoded - truth), axis=-1)) * as_float(present)[..., None]

        errors = ops.sum(ops.square(told - self.encode(truth, cells[:, None])), axis=-1)
        classes = ops.one_hot(matched_labels(labels, owner), self.num_classes)
        class_errors = ops.sum(ops.square(heads["cls_logits"] - classes), axis=-1)
        full, empty = responsible * ops.square(confidence - iou), (1 - responsible) * ops.square(confidence)
        return {
            "classification": mean_over_pictures(as_float(present) * class_errors),
            "box": COORDINATE_WEIGHT * mean_over_pictures(responsible * errors),
            "objectness": mean_over_pictures(full + EMPTY_WEIGHT * empty),
            "foreground": mean_over_pictures(as_float(present)),
        }

    # === Answer ===

    def box_numbers(self):
        return {"stride": STRIDE, "side": self.side}

    def candidates(self, heads, anchors, image_size):
        grid, count = self.options["grid"], self.options["boxes_per_cell"]
        boxes = clip_boxes(self.decode(heads["bbox_regression"], ops.convert_to_tensor(anchors)), *image_size)
        confidence = ops.reshape(ops.clip(heads["objectness"], 0.0, 1.0), (-1, grid * grid, count, 1))
        scores = confidence * ops.clip(heads["cls_logits"], 0.0, 1.0)[:, :, None]
        scores = ops.reshape(scores, (-1, grid * grid * count, self.num_classes))
        return best_pairs(boxes, scores, self.topk_candidates, self.score_thresh)


# === What both versions share ===


def cell_of_centre(boxes, stride, rows, columns):
    """Index, int32 [B, N], of the cell in which each box's centre lies, row by row; the numbers of cells are ints or tensors."""
    cell = ops.cast(to_centre(boxes)[..., :2] / stride, "int32")
    return ops.clip(cell[..., 1], 0, rows - 1) * columns + ops.clip(cell[..., 0], 0, columns - 1)


def with_area(boxes, real):
    """``real``, bool [B, N], without those boxes that have no area: after they were cut off."""
    return ops.logical_and(real, box_area(boxes) > 0)


def first_of_slot(slots, real, count):
    """Index, int32 [B, count], of the first real box that was given each slot, -1 where none was.

    Args:
        slots: int32 [B, N], 0 to count - 1.
        real: bool [B, N].
        count: number of slots, an int or a tensor.
    """
    given = ops.logical_and(slots[..., None] == ops.arange(count, dtype="int32"), real[..., None])
    first = ops.cast(ops.argmax(ops.cast(given, "int32"), axis=1), "int32")
    return ops.where(ops.any(given, axis=1), first, -1)


def responsible_predictor(iou, distance):
    """1.0 for the box of the largest IoU, of those of each cell, 0.0 for the others; the nearest one where all IoUs are 0."""
    merit = ops.where(ops.max(iou, axis=-1, keepdims=True) > 0, iou, -distance)
    return ops.one_hot(ops.argmax(merit, axis=-1), iou.shape[-1])


def mean_over_pictures(losses):
    """Sum of [B, ...] / B."""
    return ops.sum(losses) / ops.cast(ops.shape(losses)[0], "float32")


def best_pairs(boxes, scores, count, score_thresh):
    """The best (box, class) pairs: boxes [B, M, 4], scores [B, M], labels [B, M], of boxes [B, A, 4] and scores [B, A, K]."""
    scores, index, labels = top_candidates(scores, count)
    return ops.take_along_axis(boxes, index[..., None], axis=1), ops.where(scores > score_thresh, scores, -1.0), labels


def as_float(mask):
    return ops.cast(mask, "float32")
