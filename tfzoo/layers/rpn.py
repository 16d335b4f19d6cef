"""Region proposal network (Ren et al. 2015, Faster R-CNN, section 3.1): where something may be, whatever it is."""

import keras
from keras import ops

from tfzoo.layers.box_coder import BoxCoder
from tfzoo.layers.boxes import clip_boxes
from tfzoo.layers.detection_head import over_levels, small_convolution
from tfzoo.layers.matcher import BACKGROUND, match, matched_boxes
from tfzoo.layers.nms import in_order, select, top_k
from tfzoo.layers.sampler import choose_balanced
from tfzoo.losses.smooth_l1 import smooth_l1

CODER = BoxCoder()
FOREGROUND_IOU, BACKGROUND_IOU = 0.7, 0.3
EXAMPLES, POSITIVE_SHARE = 256, 0.5  # anchors of each picture that the loss counts
BETA = 1 / 9  # of smooth L1
MIN_SIDE = 1e-3  # pixels: smaller proposals are none


def rpn_head(levels, width, per_cell, depth=1, name="rpn.head"):
    """Returns objectness logits [B, A, 1] and box numbers [B, A, 4], all levels one after the other.

    Args:
        levels: maps [B, h, w, C].
        width: channels of the 3x3 convolutions. per_cell: anchors in a cell. depth: number of those convolutions.
        name: of the module.
    """
    shared = []
    for index in range(depth):
        shared += [
            small_convolution(width, f"{name}.conv.{index}.0"),
            keras.layers.ReLU(name=f"{name}.conv.{index}.relu"),
        ]
    levels = [_through(shared, level) for level in levels]
    objectness = over_levels(levels, [small_convolution(per_cell, f"{name}.cls_logits", size=1)], 1, f"{name}.objectness")
    deltas = over_levels(levels, [small_convolution(4 * per_cell, f"{name}.bbox_pred", size=1)], 4, f"{name}.deltas")
    return objectness, deltas


def _through(layers, x):
    for layer in layers:
        x = layer(x)
    return x


class Proposals(keras.layers.Layer):
    """The boxes that the second stage looks at: (pictures, objectness [B, A, 1], numbers [B, A, 4]) to float32 [B, P, 4].

    Of each level the best anchors are decoded, cut off at the picture's border and, if they are not too small, go through NMS, each
    level by itself; the best P of all levels are left, in pixels of the network's input. Free places hold boxes of 0. No gradient
    passes.

    Args:
        sizes: gives (height, width) of the resized picture and of the network's input, for a picture's own.
        grid: gives the anchors, float32 [A, 4], and how many of them each level has, for (height, width) of the network's input.
        before, after: how many of each level go into NMS, and P: (training, else) each.
        nms_thresh: IoU.
        score_thresh: proposals of a lower probability are none.
    """

    def __init__(self, sizes, grid, before, after, nms_thresh, score_thresh, **kwargs):
        super().__init__(autocast=False, **kwargs)
        self.sizes, self.grid = sizes, grid
        self.before, self.after = before, after
        self.nms_thresh, self.score_thresh = nms_thresh, score_thresh

    def call(self, images, objectness, deltas, training=False):
        which = 0 if training else 1
        resized, padded = self.sizes(ops.shape(images)[1:3])
        anchors, counts = self.grid(padded)
        objectness = ops.stop_gradient(ops.cast(objectness[..., 0], "float32"))
        deltas = ops.stop_gradient(ops.cast(deltas, "float32"))
        parts, first = [], 0
        for level, count in enumerate(counts):
            logits, index = top_k(objectness[:, first : first + count], self.before[which])
            numbers = ops.take_along_axis(deltas[:, first : first + count], ops.expand_dims(index, -1), axis=1)
            boxes = CODER.decode(numbers, ops.take(anchors[first : first + count], index, axis=0))
            parts.append((logits, boxes, ops.full_like(index, level)))
            first = first + count
        # By logits: of probabilities that are rounded to 1 none is the better one.
        logits, boxes, levels = in_order(*(ops.concatenate(values, axis=1) for values in zip(*parts, strict=True)))
        boxes = clip_boxes(boxes, *resized)
        sides = boxes[..., 2:] - boxes[..., :2]
        wanted = ops.logical_and(ops.all(sides >= MIN_SIDE, axis=-1), ops.sigmoid(logits) >= self.score_thresh)
        scores = ops.where(wanted, 1.0, -1.0)  # the order is all that counts
        return select(boxes, scores, levels, self.nms_thresh, self.after[which], pictures=ops.shape(images)[0])["boxes"]

    def compute_output_spec(self, images, objectness, deltas, training=False):
        return keras.KerasTensor((images.shape[0], None, 4), dtype="float32")


def rpn_losses(objectness, deltas, truth, anchors, drawn):
    """The two losses of the first stage, equation 1: both over the number of anchors that count.

    Args:
        objectness: float32 [B, A, 1], logits; deltas: float32 [B, A, 4].
        truth: "boxes" float32 [B, N, 4] and "real" bool [B, N].
        anchors: float32 [A, 4].
        drawn: float32 [B, A], 0 to 1, by which anchors are chosen.

    Returns:
        {"objectness", "rpn_box"}, float32 scalars.
    """
    matched = match(truth["boxes"], truth["real"], anchors, FOREGROUND_IOU, BACKGROUND_IOU, low_quality=True)
    positive, negative = choose_balanced(matched >= 0, matched == BACKGROUND, EXAMPLES, POSITIVE_SHARE, drawn)
    positive, negative = (ops.cast(chosen, "float32") for chosen in (positive, negative))
    logits = objectness[..., 0]
    entropy = positive * ops.softplus(-logits) + negative * ops.softplus(logits)
    wanted = ops.where(ops.expand_dims(matched >= 0, -1), matched_boxes(truth["boxes"], matched), anchors)
    error = ops.sum(smooth_l1(deltas - CODER.encode(wanted, anchors), BETA), axis=-1)
    share = 1 / ops.maximum(ops.sum(positive + negative), 1.0)
    return {"objectness": ops.sum(entropy) * share, "rpn_box": ops.sum(error * positive) * share}
