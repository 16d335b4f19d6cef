"""What every detector is: a Keras model of raw heads, whose ``predict`` gives the deployed answer; and what one-shot ones are."""

from numbers import Integral, Real

import keras
from keras import ops

from tfzoo.errors import InputError
from tfzoo.layers.boxes import per_box, real_boxes
from tfzoo.layers.detection_input import DetectionInput
from tfzoo.layers.nms import select
from tfzoo.layers.normalization import IMAGENET_MEAN, IMAGENET_STD
from tfzoo.models.base import DeployedModel, ZooModel

BACKGROUND_NAME = "__background__"  # as torchvision's lists of classes have it


class BoxDetector(ZooModel):
    """Base of all detectors, one-shot and two-stage.

    ``model(images)`` takes [B, H, W, 3], RGB, 0 to 255, any size from 32x32; it resizes (if ``min_size`` is set), normalises and
    pads them, and returns raw heads under torchvision's names, float32. ``fit`` takes targets {"boxes": float32 [B, N, 4], xyxy,
    in pixels of the given pictures, "labels": int [B, N], -1 = padding}; boxes without an area count as padding. ``predict``
    answers ``boxes`` float32 [B, D, 4] in pixels of the given pictures, ``scores`` float32 [B, D], falling, ``labels`` int32
    [B, D] and ``num_detections`` int32 [B]; free places hold 0, 0 and -1.

    A subclass gives ``build_network``, ``losses_of`` and ``build_deployed``, and calls ``keep_settings``.

    Args:
        num_classes: without a background.
        class_names, image_mean, image_std, image_size, dtype: see ``ZooModel``.
        min_size, max_size: what the network resizes pictures to, see ``DetectionInput``; None: it takes them as they are.
        **options: the architecture's own, kept in the configuration.
    """

    task = "detection"
    divisor = 32  # the network's input is padded to multiples of it
    loss_names = ("classification", "box")  # what ``losses_of`` returns, beside "foreground"
    setting_names = ()
    box_rule, score_rule = None, None  # names in ``export.decoding``
    float_layers = ()  # names of layers of the network that stay float in int8 files

    def __init__(
        self,
        num_classes,
        class_names=None,
        image_mean=IMAGENET_MEAN,
        image_std=IMAGENET_STD,
        image_size=None,
        min_size=None,
        max_size=None,
        dtype=None,
        name=None,
        **options,
    ):
        super().__init__(
            num_classes,
            class_names,
            image_mean,
            image_std,
            image_size,
            dtype,
            name,
            min_size=min_size,
            max_size=max_size,
            **options,
        )
        self.trackers = [keras.metrics.Mean(name=name) for name in (*self.loss_names, "foreground")]

    def keep_settings(self, **settings):
        """Makes attributes of what decides the answer alone and may be changed on a model at any time."""
        self.setting_names = tuple(settings)
        for name, value in settings.items():
            setattr(self, name, value)

    @classmethod
    def build_graph(cls, images, num_classes, image_mean, image_std, min_size, max_size, **options):
        pixels = cls.input_layer(image_mean, image_std, min_size, max_size, **options)(images)
        return cls.build_network(pixels, num_classes, **options)

    @classmethod
    def input_layer(cls, mean, std, min_size, max_size, **options):
        """Returns the ``DetectionInput``; a network of one fixed size makes another one."""
        return DetectionInput(mean, std, min_size, max_size, divisor=cls.divisor, name="input")

    @staticmethod
    def build_network(pixels, num_classes, **options):
        """Returns the raw heads, a dict of Keras tensors, for normalised and padded pixels [B, H, W, 3]."""
        raise NotImplementedError

    def losses_of(self, heads, truth, image_size, training):
        """Returns a dict: the ``loss_names`` and "foreground" (how many anchors stand for a box, a picture), float32 scalars.

        Args:
            heads: as the network returns them.
            truth: see ``scaled_targets``.
            image_size: (height, width) of the network's input.
            training: False in validation.
        """
        raise NotImplementedError

    def input_sizes(self, given):
        """(height, width) of the resized picture and of the network's padded input, for pictures of the size ``given``."""
        return self.get_layer("input").sizes(given)

    def compile(self, optimizer="adamw", loss=None, metrics=None, **kwargs):
        """As Keras's; the losses are the architecture's own."""
        super().compile(optimizer=optimizer, loss=loss, metrics=metrics, **kwargs)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """The sum of the architecture's losses, in float32; each is shown in the progress bar."""
        given = ops.shape(self.pictures_of(x))[1:3]
        resized, padded = self.input_sizes(given)
        found = self.losses_of(y_pred, self.scaled_targets(y, given, resized), padded, training)
        for tracker in self.trackers:
            tracker.update_state(found[tracker.name])
        return sum([found[name] for name in self.loss_names] + [ops.cast(loss, "float32") for loss in self.losses])

    def scaled_targets(self, y, given, resized) -> dict:
        """The targets, for pictures of the size ``given``, as the network sees them, ``resized``.

        Returns boxes float32 [B, N, 4], in pixels of the network's input; labels int32 [B, N]; real bool [B, N]: not padding, and
        with an area.
        """
        boxes = ops.cast(y["boxes"], "float32") * per_box(resized, given)
        labels = ops.cast(y["labels"], "int32")
        return {"boxes": boxes, "labels": labels, "real": real_boxes(boxes, labels)}

    def decoding(self, image_size):
        resized, padded = (tuple(map(int, size)) for size in self.input_sizes(tuple(image_size)))
        return {
            "boxes": self.box_rule,
            "numbers": self.box_numbers(),
            "scores": self.score_rule,
            "first_label": 0,
            "image_size": list(image_size),
            "network_size": list(resized),
            **self.decoding_settings(resized, padded),
        }

    def box_numbers(self) -> dict:
        """What ``box_rule`` needs beside the heads and anchors."""
        return {}

    def decoding_settings(self, resized, padded) -> dict:
        """What else ``decoding`` holds, for the network's input (height, width) without and with its padding."""
        raise NotImplementedError

    def integer_parts(self):
        """The network; where a box is, and which of two is the better one, needs more than 8 bits."""
        return [self.name], [*self.float_layers]

    def answer_settings(self):
        return tuple(getattr(self, name) for name in self.setting_names)

    def get_config(self):
        return {**super().get_config(), **dict(zip(self.setting_names, self.answer_settings(), strict=True))}


class Detector(BoxDetector):
    """Base of the one-shot detectors.

    The heads are float32, all levels one after the other: ``cls_logits`` [B, A, K], ``bbox_regression`` [B, A, 4], and whatever
    else the architecture has. A subclass gives ``build_network``, ``anchors``, ``head_losses`` and ``candidates``.

    Args:
        num_classes, class_names, min_size, ...: see ``BoxDetector``.
        score_thresh: candidates must exceed it.
        nms_thresh: of two detections of one class whose IoU exceeds it only the better one is kept.
        detections_per_img: D, the places in the answer.
        topk_candidates: how many candidates are looked at (see the architecture for: of each what).
        **options: the architecture's own, kept in the configuration.

    Raises:
        InputError: a threshold outside 0 to 1, or a count below 1; and what ``ZooModel`` raises.
    """

    def __init__(
        self,
        num_classes,
        score_thresh=0.05,
        nms_thresh=0.5,
        detections_per_img=300,
        topk_candidates=1000,
        **kwargs,
    ):
        check_shares(score_thresh=score_thresh, nms_thresh=nms_thresh)
        check_counts(detections_per_img=detections_per_img, topk_candidates=topk_candidates)
        super().__init__(num_classes, **kwargs)
        self.keep_settings(
            score_thresh=score_thresh,
            nms_thresh=nms_thresh,
            detections_per_img=detections_per_img,
            topk_candidates=topk_candidates,
        )

    def anchors(self, image_size):
        """Returns what the heads refer to, float32 [A, 4], for the network's input (height, width), ints or scalar tensors."""
        raise NotImplementedError

    def head_losses(self, heads, boxes, labels, real, anchors):
        """Returns what ``losses_of`` does.

        Args:
            heads: as the network returns them.
            boxes: float32 [B, N, 4], in pixels of the network's input; labels: int32 [B, N].
            real: bool [B, N]: not padding, and with an area.
            anchors: float32 [A, 4].
        """
        raise NotImplementedError

    def decoding_settings(self, resized, padded):
        return {
            "anchors": ops.convert_to_numpy(self.anchors(padded)),
            "groups": self.anchor_groups(padded),
            **{name: getattr(self, name) for name in self.setting_names},
        }

    def anchor_groups(self, padded):
        """Numbers of anchors of which, one after the other, the best candidates are chosen; []: of all; None: of each class."""
        return []

    def losses_of(self, heads, truth, image_size, training):
        return self.head_losses(heads, truth["boxes"], truth["labels"], truth["real"], self.anchors(image_size))

    def candidates(self, heads, anchors, image_size):
        """Returns what may be detections, best first: boxes float32 [B, M, 4], scores float32 [B, M], labels int32 [B, M].

        Args:
            heads: as the network returns them.
            anchors: float32 [A, 4].
            image_size: (height, width) that boxes are cut off at: the network's input without its padding.

        What does not exceed ``score_thresh`` has a score of 0 or less.
        """
        raise NotImplementedError

    def build_deployed(self, network, raw):
        return DeployedDetector(network, raw=raw)


class DeployedDetector(DeployedModel):
    """A one-shot detector's answer."""

    def call(self, images):
        heads = self.network(ops.cast(images, "float32"), training=False)
        if self.raw:
            return heads
        given = ops.shape(images)[1:3]
        resized, padded = self.network.input_sizes(given)
        boxes, scores, labels = self.network.candidates(heads, self.network.anchors(padded), resized)
        limits = self.network.nms_thresh, self.network.detections_per_img
        answer = select(boxes, scores, labels, *limits, pictures=ops.shape(images)[0])
        return answer | {"boxes": answer["boxes"] * per_box(given, resized)}


def check_shares(**shares):
    """Raises an InputError unless all of these are numbers from 0 to 1."""
    for name, value in shares.items():
        if not (isinstance(value, Real) and 0 <= value <= 1):
            raise InputError(f"{name} is {value!r}: it must be a number from 0 to 1.")


def check_counts(**counts):
    """Raises an InputError unless all of these are whole numbers from 1."""
    for name, value in counts.items():
        if not (isinstance(value, Integral) and value >= 1):
            raise InputError(f"{name} is {value!r}: it must be a whole number from 1.")


def lists_background(class_names) -> bool:
    """Whether the first of the names is the background's, which then is label 0, as in torchvision's checkpoints."""
    return bool(class_names) and class_names[0] == BACKGROUND_NAME
