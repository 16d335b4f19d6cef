"""The small Fast R-CNN that tests build, and the Faster R-CNN that has its weights."""

import keras
import numpy as np
from decided_detectors import with_statistics

from tfzoo.models.fast_rcnn import FastRCNN
from tfzoo.models.faster_rcnn import FasterRCNN

SMALL = {"backbone": "mobilenetv2", "width_multiplier": 0.125, "box_batch_size_per_image": 64}


def small(classes=3, **options):
    """A small Fast R-CNN on the quickest backbone, with random weights."""
    return FastRCNN(classes, **{**SMALL, "name": "fastrcnn_small", **options})


def faster_alike(model, **options):
    """A Faster R-CNN with the same second stage, weights and all."""
    given = {key: value for key, value in model.get_config().items() if key not in ("name", "dtype")}
    faster = FasterRCNN(**given, **options)
    weights = {layer.name: layer.get_weights() for layer in model.named_layers()}
    for layer in faster.named_layers():
        if layer.weights and not layer.name.startswith("rpn"):
            layer.set_weights(weights[layer.name])
    return faster


def jittered(targets, size, count, seed=0):
    """Proposals float32 [B, count, 4] for pictures of ``size``: their true boxes, jittered four times, and random boxes."""
    rng = np.random.default_rng(seed)
    height, width = size
    limits = np.array([width, height, width, height])
    found = []
    for boxes, labels in zip(targets["boxes"], targets["labels"], strict=True):
        near = np.tile(boxes[labels >= 0], (4, 1))
        sides = np.tile(near[:, 2:] - near[:, :2], 2)
        near = near + rng.uniform(-0.1, 0.1, near.shape) * sides
        ends = np.sort(rng.uniform(size=(count - len(near), 2, 2)), axis=1).reshape(-1, 4) * limits
        found.append(np.clip(np.concatenate([near, ends]), 0, limits)[rng.permutation(count)])
    return np.stack(found).astype(np.float32)


def scattered(boxes, size, seed=0):
    """Proposals float32 [B, P, 4] anywhere in pictures of ``size``, for ``boxes`` = (B, P)."""
    nobody = {"boxes": np.zeros((boxes[0], 1, 4)), "labels": np.full((boxes[0], 1), -1)}
    return jittered(nobody, size, boxes[1], seed)


def answer_of(model, inputs, raw=False):
    """The deployed graph's answer as NumPy arrays, run operator by operator: for one batch that is quicker than a trace."""
    return keras.tree.map_structure(keras.ops.convert_to_numpy, model.deployed(raw=raw)(inputs))


def decide(model, inputs, spread=2.0):
    """Makes the scores lie apart: untrained a model gives nearly the same score everywhere."""
    for layer in model.box_stage.layers:
        if hasattr(layer, "kernel"):
            deviation = (2 / np.prod(layer.kernel.shape[:-1])) ** 0.5
            layer.kernel.assign(keras.random.normal(layer.kernel.shape, stddev=deviation, seed=1))
    with_statistics(model, lambda: model({name: value.astype("float32") for name, value in inputs.items()}, training=True))
    raw = answer_of(model, inputs, raw=True)
    for name, output, wanted in (("cls_score", "class_logits", spread), ("bbox_pred", "box_regression", 1.0)):
        layer = next(layer for layer in model.box_stage.layers if layer.name.endswith(name))
        layer.kernel.assign(layer.kernel * (wanted / raw[output].std()))
    return model
