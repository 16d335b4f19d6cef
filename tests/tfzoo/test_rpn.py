"""The region proposal network: its proposals and its losses."""

import math

import numpy as np
import pytest
from keras import ops

from tfzoo.layers.rpn import CODER, Proposals, rpn_losses

ANCHORS = np.array([[0, 0, 16, 16], [2, 0, 18, 16], [40, 40, 72, 72], [41, 40, 73, 72], [200, 200, 232, 232]], np.float32)


def proposals(objectness, deltas=None, counts=(2, 3), before=10, after=4, score_thresh=0.0, size=(128, 100)):
    """What is proposed in one picture of ``size`` whose anchors are ``ANCHORS``."""
    layer = Proposals(
        lambda given: (given, (128, 128)),
        lambda padded: (ANCHORS, list(counts)),
        before=(before, before),
        after=(after, after),
        nms_thresh=0.7,
        score_thresh=score_thresh,
    )
    deltas = np.zeros((1, 5, 4), np.float32) if deltas is None else np.array([deltas], np.float32)
    logits = np.array(objectness, np.float32).reshape(1, 5, 1)
    return np.asarray(layer(np.zeros((1, *size, 3), np.float32), logits, deltas))[0]


def test_the_best_of_each_heap_of_anchors_best_first():
    """Each second anchor overlaps the one before by 14/18 and 31/33 of the union; the last one lies outside the picture."""
    found = proposals([0.0, 1.0, 3.0, 2.0, 5.0])
    np.testing.assert_array_equal(found, [[40, 40, 72, 72], [2, 0, 18, 16], [0, 0, 0, 0], [0, 0, 0, 0]])


def test_levels_do_not_suppress_each_other():
    """The third and fourth anchor overlap by 31/33, but are of two levels here."""
    found = proposals([0.0, 1.0, 3.0, 2.0, -9.0], counts=(3, 2))
    np.testing.assert_array_equal(found, [[40, 40, 72, 72], [41, 40, 73, 72], [2, 0, 18, 16], [0, 0, 0, 0]])


def test_only_the_best_of_a_level_go_into_nms():
    found = proposals([0.0, 1.0, 3.0, 2.0, -9.0], before=1)
    np.testing.assert_array_equal(found[:3], [[40, 40, 72, 72], [2, 0, 18, 16], [0, 0, 0, 0]])


def test_boxes_are_moved_cut_off_and_dropped():
    deltas = [[0.5, 0, 0, 0], [0, -0.5, 0, math.log(2)], [0, 0, 0, 0], [-3, 0, 0, 0], [0, 0, 0, 0]]
    found = proposals([4.0, 3.0, -2.0, 1.0, 0.0], deltas, score_thresh=0.2)
    # Moved right by 8; moved up by 8 and twice as high, from -16 to 16; of logit -2, that is 0.12; moved left by 96, outside.
    np.testing.assert_allclose(found, [[8, 0, 24, 16], [2, 0, 18, 16], [0, 0, 0, 0], [0, 0, 0, 0]], atol=1e-5)


def test_losses_by_hand():
    """Anchor 0 is the box itself, 1 overlaps it by 14/18 (positive), 2 to 4 are background."""
    truth = {"boxes": ops.convert_to_tensor([[[0.0, 0, 16, 16]]]), "real": ops.convert_to_tensor([[True]])}
    logits = np.array([0.0, math.log(3), 0.0, -math.log(3), 0.0], np.float32).reshape(1, 5, 1)
    deltas = np.zeros((1, 5, 4), np.float32)
    deltas[0, 0] = (1.0, 0, 0, 0.05)
    found = rpn_losses(logits, deltas, truth, ANCHORS, ops.ones((1, 5)) * 0.5)
    entropy = (3 * math.log(2) + 2 * math.log(4 / 3)) / 5
    assert float(found["objectness"]) == pytest.approx(entropy, rel=1e-5)
    # Smooth L1 with beta 1/9: 1 - 1/18, and 0.05 ** 2 * 9 / 2; anchor 1 should have said -2/16: 0.125 - 1/18.
    assert float(found["rpn_box"]) == pytest.approx((17 / 18 + 0.05**2 * 4.5 + 0.125 - 1 / 18) / 5, rel=1e-4)
    np.testing.assert_allclose(np.asarray(CODER.encode(ANCHORS[:1], ANCHORS[1:2]))[0], [-0.125, 0, 0, 0], atol=1e-6)


def test_no_box():
    truth = {"boxes": ops.zeros((1, 1, 4)), "real": ops.convert_to_tensor([[False]])}
    found = rpn_losses(np.zeros((1, 5, 1), np.float32), np.ones((1, 5, 4), np.float32), truth, ANCHORS, ops.ones((1, 5)) * 0.5)
    assert float(found["objectness"]) == pytest.approx(math.log(2), rel=1e-6) and float(found["rpn_box"]) == 0.0
