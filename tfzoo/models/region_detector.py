"""What every detector is that looks at regions: Fast R-CNN's second stage, wherever its regions come from."""

import keras
from keras import ops

from tfzoo.layers.box_coder import BoxCoder
from tfzoo.layers.boxes import box_area, clip_boxes, per_box
from tfzoo.layers.matcher import BACKGROUND, match, matched_boxes, matched_labels
from tfzoo.layers.nms import PADDING_LABEL, select, top_candidates
from tfzoo.layers.sampler import choose_balanced, draw, gather_chosen
from tfzoo.losses.smooth_l1 import smooth_l1
from tfzoo.models.base import INNER, DeployedModel, policy_scope
from tfzoo.models.detector import BoxDetector, check_counts, check_shares, lists_background
from tfzoo.models.roi_branch import per_region

CODER = BoxCoder((10.0, 10.0, 5.0, 5.0))
BETA = 1 / 9  # of smooth L1
POSITIVE_IOU = 0.5
MIN_SIDE = 1e-2  # pixels: smaller detections are none
MOST_CANDIDATES = 2000  # pairs of region and class that NMS looks at
BOX_SIZE = 7  # of the map that the box head takes of each region
FEATURES = "features_{}".format


class RegionDetector(BoxDetector):
    """Base of the detectors that score regions of a picture and correct their boxes (Girshick 2015, Fast R-CNN).

    The network's heads hold ``proposals`` [B, P, 4] in pixels of the network's input, boxes of 0 in free places, and the maps
    ``features_0`` ... that the second stage reads. ``fit`` draws regions from the proposals and runs the second stage on them;
    ``predict`` runs it on the proposals, and its branches on what was found. Raw exports answer ``class_logits`` [B, P, C + 1], the
    background first, and ``box_regression`` [B, P, C + 1, 4] of the proposals in place of the maps; proposals that are an input are
    answered as ``regions``.

    Where the first class name is "__background__", as in torchvision's checkpoints, that is column 0: there are C columns, labels
    count from the background's 0, and 0 is never answered. The option ``background_listed`` keeps that.

    A subclass gives ``build_graph``, ``pyramid``, ``build_box_stage`` and, where it has any, ``build_branches``.

    Args:
        num_classes, class_names, min_size, ...: see ``BoxDetector``.
        box_score_thresh: detections must exceed it.
        box_nms_thresh: of two detections of one class whose IoU exceeds it only the better one is kept.
        box_detections_per_img: D, the places in the answer.
        box_batch_size_per_image, box_positive_fraction: regions of each picture that the losses count, and how many of these may
            stand for an object at most.
        class_agnostic_boxes: the box head has one set of numbers for all classes.
        **options: the architecture's own, kept in the configuration.

    Raises:
        InputError: a threshold outside 0 to 1, or a count below 1; and what ``ZooModel`` raises.
    """

    background_column = True  # a checkpoint's columns are its classes and, first, the background
    box_rule, score_rule = "deltas", "softmax_of_regions"
    raw_in_integers = False  # proposals
    proposals_layer: str  # name of the layer in the graph that gives the proposals

    def __init__(
        self,
        num_classes,
        class_names=None,
        background_listed=None,
        box_score_thresh=0.05,
        box_nms_thresh=0.5,
        box_detections_per_img=100,
        box_batch_size_per_image=512,
        box_positive_fraction=0.25,
        class_agnostic_boxes=False,
        **kwargs,
    ):
        settings = {
            "box_score_thresh": box_score_thresh,
            "box_nms_thresh": box_nms_thresh,
            "box_detections_per_img": box_detections_per_img,
        }
        check_shares(box_score_thresh=box_score_thresh, box_nms_thresh=box_nms_thresh, box_positive_fraction=box_positive_fraction)
        check_counts(box_detections_per_img=box_detections_per_img, box_batch_size_per_image=box_batch_size_per_image)
        if background_listed is None:
            background_listed = lists_background(class_names)
        super().__init__(
            num_classes,
            class_names=class_names,
            background_listed=background_listed,
            class_agnostic_boxes=class_agnostic_boxes,
            box_batch_size_per_image=box_batch_size_per_image,
            box_positive_fraction=box_positive_fraction,
            **kwargs,
        )
        self.keep_settings(**settings)
        columns, channels = self.num_classes + self.first_column, self.output[FEATURES(0)].shape[-1]
        with policy_scope(keras.dtype_policies.get(self.policy_name)):
            self.box_stage = self.build_box_stage(channels, columns)
            self.branches = self.build_branches(channels, columns)
            self.branch_heads = [branch.head for branch in self.branches]  # so that Keras sees their weights
        self.trackers += [keras.metrics.Mean(name=branch.name) for branch in self.branches]
        self.random = keras.random.SeedGenerator(0)

    # === Graph ===

    @staticmethod
    def pyramid(**options):
        """Returns the ``Pyramid`` of these options: how regions are read from its maps."""
        raise NotImplementedError

    def build_box_stage(self, channels, columns):
        """Returns a functional model: maps [N, 7, 7, channels] to {"class_logits" [N, columns], "box_regression" [N, any * 4]}."""
        raise NotImplementedError

    def build_branches(self, channels, columns) -> list:
        """Returns further ``RoIBranch``es."""
        return []

    @property
    def stages(self):
        return [self.box_stage, *self.branch_heads]

    def named_layers(self):
        return [*super().named_layers(), *(layer for stage in self.stages for layer in stage.layers)]

    def integer_parts(self):
        return [self.name, *(stage.name for stage in self.stages)], [self.proposals_layer, *self.float_layers]

    def region_heads(self):
        return [(self.box_stage, self.usual_proposals), *((head, self.box_detections_per_img) for head in self.branch_heads)]

    @property
    def usual_proposals(self) -> int:
        """P, where nothing else is said, in ``predict``."""
        raise NotImplementedError

    @property
    def loss_names(self):
        branches = self.__dict__.get("branches", ())  # there are none yet while the graph is built
        return ("classification", "box", *(branch.name for branch in branches))

    @property
    def first_column(self):
        """The column of label 0."""
        return 0 if self.options["background_listed"] else 1

    def read_regions(self, heads, boxes, size):
        """The maps [B, R, size, size, C] of regions with boxes [B, R, 4]."""
        shape = self.pyramid(**self.options)
        return shape.read([heads[FEATURES(index)] for index in range(shape.maps)], boxes, size)

    def classify(self, heads, boxes):
        """The box head's answer for regions [B, R, 4]: class_logits float32 [B, R, C + 1], box_regression float32 [B, R, C + 1, 4].

        Of class-agnostic boxes: [B, R, 1, 4].
        """
        found = per_region(self.box_stage, self.read_regions(heads, boxes, BOX_SIZE))
        numbers = found["box_regression"]
        shape = (-1, ops.shape(numbers)[1], numbers.shape[2] // 4, 4)  # how many regions may be known at run time only
        return found["class_logits"], ops.reshape(numbers, shape)

    # === Training ===

    def scaled_targets(self, y, given, resized):
        truth = super().scaled_targets(y, given, resized)
        for branch in self.branches:
            truth |= branch.scaled_targets(y, given, resized)
        return truth

    def losses_of(self, heads, truth, image_size, training):
        rois = self._draw_regions(heads["proposals"], truth, self.seed_of(training))
        losses = self._box_losses(heads, rois, truth)
        most = max(int(self.options["box_batch_size_per_image"] * self.options["box_positive_fraction"]), 1)
        first = {name: values[:, :most] for name, values in rois.items()}  # all positives are among these
        for branch in self.branches:
            losses[branch.name] = branch.loss(self.read_regions(heads, first["boxes"], branch.size), first, truth)
        return losses | {"foreground": ops.mean(ops.sum(ops.cast(rois["positive"], "float32"), axis=1))}

    def seed_of(self, training):
        """What examples are drawn by: the same ones in every validation."""
        return self.random if training else None

    def _draw_regions(self, proposals, truth, seed):
        """A sample of proposals and true boxes, positives first: see ``RoIBranch.loss``, and "filled" bool [B, R]."""
        count = self.options["box_batch_size_per_image"]
        boxes = ops.concatenate([proposals, truth["boxes"]], axis=1)
        boxes = ops.pad(boxes, [[0, 0], [0, count], [0, 0]])  # so that there are never fewer than are drawn
        matched = match(truth["boxes"], truth["real"], boxes, POSITIVE_IOU, POSITIVE_IOU)
        real = box_area(boxes) > 0
        positive, negative = (ops.logical_and(real, kind) for kind in (matched >= 0, matched == BACKGROUND))
        drawn = draw(ops.shape(matched), seed)
        chosen = choose_balanced(positive, negative, count, self.options["box_positive_fraction"], drawn)
        index, filled = gather_chosen(*chosen, count)
        matched = ops.take_along_axis(matched, index, axis=1)
        positive = ops.logical_and(filled, matched >= 0)
        labels = matched_labels(truth["labels"], matched)
        return {
            "boxes": ops.stop_gradient(ops.take_along_axis(boxes, ops.expand_dims(index, -1), axis=1)),
            "matched": ops.maximum(matched, 0),
            "positive": positive,
            "filled": filled,
            "columns": ops.where(positive, labels + self.first_column, 0),
        }

    def _box_losses(self, heads, rois, truth):
        """Girshick 2015 (Fast R-CNN), equation 1: both over the number of regions."""
        logits, numbers = self.classify(heads, rois["boxes"])
        filled = ops.cast(rois["filled"], "float32")
        share = 1 / ops.maximum(ops.sum(filled), 1.0)
        entropy = ops.sparse_categorical_crossentropy(rois["columns"], logits, from_logits=True)
        positive = ops.expand_dims(rois["positive"], -1)
        own = ops.where(positive, rois["boxes"], ops.convert_to_tensor([0.0, 0.0, 1.0, 1.0]))
        wanted = ops.where(positive, matched_boxes(truth["boxes"], rois["matched"]), own)
        numbers = self._of_columns(numbers, rois["columns"])
        error = ops.sum(smooth_l1(numbers - CODER.encode(wanted, own), BETA), axis=-1)
        return {
            "classification": ops.sum(entropy * filled) * share,
            "box": ops.sum(error * ops.cast(rois["positive"], "float32")) * share,
        }

    def _of_columns(self, numbers, columns):
        """Of box numbers [B, R, C + 1, 4] those of columns [B, R]: [B, R, 4]."""
        if self.options["class_agnostic_boxes"]:
            return numbers[:, :, 0]
        return ops.take_along_axis(numbers, columns[..., None, None], axis=2)[:, :, 0]

    # === Answer ===

    def box_numbers(self):
        return {"weights": CODER.weights}

    def decoding_settings(self, resized, padded):
        return {
            "anchors": None,
            "groups": [],
            "topk_candidates": MOST_CANDIDATES,
            "min_side": MIN_SIDE,
            "first_label": 1 - self.first_column,
            "score_thresh": self.box_score_thresh,
            "nms_thresh": self.box_nms_thresh,
            "detections_per_img": self.box_detections_per_img,
        }

    def candidates(self, heads, image_size):
        """What may be detections: boxes float32 [B, M, 4], scores float32 [B, M], columns int32 [B, M]; see ``Detector``."""
        proposals = heads["proposals"]
        return self.decoded(proposals, *self.classify(heads, proposals), image_size)

    def decoded(self, proposals, logits, numbers, image_size):
        """The same, for proposals [B, P, 4] and what ``classify`` says of them."""
        scores = ops.softmax(logits, axis=-1)[..., 1:]
        scores = ops.where(ops.expand_dims(box_area(proposals) > 0, -1), scores, -1.0)
        scores, index, labels = top_candidates(scores, MOST_CANDIDATES)
        columns = labels + 1
        sets = numbers.shape[2]
        flat = ops.reshape(numbers, (-1, ops.shape(numbers)[1] * sets, 4))
        place = index if self.options["class_agnostic_boxes"] else index * sets + columns
        numbers = ops.take_along_axis(flat, ops.expand_dims(place, -1), axis=1)
        regions = ops.take_along_axis(proposals, ops.expand_dims(index, -1), axis=1)
        boxes = clip_boxes(CODER.decode(numbers, regions), *image_size)
        large = ops.all(boxes[..., 2:] - boxes[..., :2] >= MIN_SIDE, axis=-1)
        wanted = ops.logical_and(large, scores > self.box_score_thresh)
        return boxes, ops.where(wanted, scores, -1.0), columns

    def build_deployed(self, network, raw):
        return DeployedRegions(network, raw=raw)


class DeployedRegions(DeployedModel):
    """A ``RegionDetector``'s answer. Where proposals are an input, the call takes a dict of them and the pictures, "images"."""

    def call(self, inputs):
        heads = self.network(keras.tree.map_structure(lambda x: ops.cast(x, "float32"), inputs), training=False)
        if self.raw:
            return self._raw(heads)
        images = self.network.pictures_of(inputs)
        return self.answer(heads, ops.shape(images)[1:3], pictures=ops.shape(images)[0])

    def answer(self, heads, given, pictures=None):
        """The answer from the network's heads for ``pictures`` pictures of (height, width) ``given``."""
        network = self.network
        resized, _ = network.input_sizes(given)
        limits = network.box_nms_thresh, network.box_detections_per_img
        answer = select(*network.candidates(heads, resized), *limits, pictures=pictures)
        boxes, columns, to_given = answer["boxes"], answer["labels"], per_box(given, resized)
        found = ops.expand_dims(columns >= 0, -1)
        labels = ops.where(columns >= 0, columns - network.first_column, PADDING_LABEL)
        answer |= {"boxes": boxes * to_given, "labels": labels}
        for branch in network.branches:
            regions = network.read_regions(heads, boxes, branch.size)
            seen = branch.rescale(branch.answer(regions, boxes, ops.maximum(columns, 0)), to_given)
            answer |= {name: _where_found(found, values) for name, values in seen.items()}
        return answer

    def _raw(self, heads):
        logits, numbers = self.network.classify(heads, heads["proposals"])
        first = {name: head for name, head in heads.items() if not name.startswith(INNER)}
        if self.network.takes_proposals:  # an ONNX file cannot have an input and an output of one name
            first["regions"] = first.pop("proposals")
        return first | {"class_logits": logits, "box_regression": numbers}


def _where_found(found, values):
    """Zeros in free places; ``found`` is bool [B, D, 1], values [B, D, ...]."""
    return ops.where(ops.reshape(found, (-1, values.shape[1], *[1] * (len(values.shape) - 2))), values, 0.0)
