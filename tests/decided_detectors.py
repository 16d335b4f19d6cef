"""Small detectors whose scores lie apart, so that they find things: untrained they would give nearly the same score everywhere."""

import detector_cases
import keras
import numpy as np
import two_stage_cases

SIZE = (96, 128)
PICTURES = np.random.default_rng(0).integers(0, 256, (3, *SIZE, 3), dtype=np.uint8)
SPREADS = {"cls_logits": 1.5, "bbox_reg": 0.3, "bbox_pred": 0.3, "cls_score": 2.0}  # of what the heads' last layers give


def one_shot(name):
    """A one-shot detector of ``detector_cases``; it answers 50 detections at most."""
    keras.utils.set_random_seed(3)
    model = detector_cases.small(name, detections_per_img=50)
    _draw_heads(model, "head")
    with_statistics(model, lambda: model(PICTURES, training=True))
    heads = model.deployed(raw=True).predict(PICTURES, verbose=0)
    for kind, output in (("cls_logits", "cls_logits"), ("bbox_reg", "bbox_regression")):
        _spread(model, kind, heads[output])
    model.score_thresh = widest_gap(model.predict(PICTURES, verbose=0)["scores"])
    return model


def two_stage(name, **options):
    """A two-stage detector of ``two_stage_cases``; it answers 20 detections at most."""
    keras.utils.set_random_seed(3)
    model = two_stage_cases.small(name, box_detections_per_img=20, box_score_thresh=0.0, **options)
    _draw_heads(model, ("rpn", "roi_heads"))

    def look():
        heads = model(PICTURES.astype("float32"), training=True)
        model.classify(heads, heads["proposals"])

    with_statistics(model, look)
    for kinds, outputs in ((("cls_logits", "bbox_pred"), ("objectness", "pred_bbox_deltas")), (("cls_score",), ("class_logits",))):
        heads = model.deployed(raw=True).predict(PICTURES, verbose=0)  # what the second stage sees follows from the first
        for kind, output in zip(kinds, outputs, strict=True):
            _spread(model, kind, heads[output])
    model.box_score_thresh = widest_gap(model.predict(PICTURES, verbose=0)["scores"])
    return model


def with_statistics(model, look):
    """Gives the norms the statistics of what ``look`` shows them, as they are."""
    norms = [layer for layer in model.named_layers() if isinstance(layer, keras.layers.BatchNormalization)]
    momenta = [layer.momentum for layer in norms]
    for layer in norms:
        layer.momentum = 0.0
    look()
    for layer, momentum in zip(norms, momenta, strict=True):
        layer.momentum = momentum


def _draw_heads(model, prefixes):
    for layer in model.named_layers():
        if layer.name.startswith(prefixes) and hasattr(layer, "kernel"):
            deviation = (2 / np.prod(layer.kernel.shape[:-1])) ** 0.5
            layer.kernel.assign(keras.random.normal(layer.kernel.shape, stddev=deviation, seed=1))


def _spread(model, kind, numbers):
    for layer in model.named_layers():
        if layer.name.endswith(kind) and hasattr(layer, "kernel"):
            layer.kernel.assign(layer.kernel * (SPREADS[kind] / numbers.std()))


def widest_gap(scores):
    """The middle of the widest gap between neighbours among the better scores: no score is near it, whoever computes it."""
    scores = np.sort(scores.ravel())[::-1][20:80]
    place = np.argmax(scores[:-1] - scores[1:])
    return float(scores[place : place + 2].mean())
