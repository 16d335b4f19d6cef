"""Mining of hard examples, worked by hand and against NumPy."""

import numpy as np

from tfzoo.losses.hard_negatives import hard_negatives, hardest

LOSSES = np.array([[5.0, 1.0, 4.0, 3.0, 2.0, 0.5], [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]], np.float32)


def test_three_negatives_for_each_positive_by_hand():
    """Picture 1: one positive, of loss 5; the three hardest others are 4, 3 and 2. Picture 2: no positive, so no negative."""
    positive = np.zeros((2, 6), bool)
    positive[0, 0] = True
    expected = [[0, 0, 1, 1, 1, 0], [0] * 6]
    np.testing.assert_array_equal(hard_negatives(LOSSES, positive), np.array(expected, bool))


def test_other_ratios_by_hand():
    positive = np.zeros((2, 6), bool)
    positive[0, :2] = True
    picked = np.asarray(hard_negatives(LOSSES, positive, ratio=0.75))  # 1.5 of them: two
    np.testing.assert_array_equal(picked, np.array([[0, 0, 1, 1, 0, 0], [0] * 6], bool))


def test_no_more_negatives_than_there_are():
    positive = np.zeros((2, 6), bool)
    positive[:, 1:5] = True
    np.testing.assert_array_equal(hard_negatives(LOSSES, positive), ~positive)


def test_ignored_anchors_are_no_negatives():
    positive, counted = np.zeros((2, 6), bool), np.ones((2, 6), bool)
    positive[0, 1], counted[0, [0, 2]] = True, False
    picked = np.asarray(hard_negatives(LOSSES, positive, ratio=2, counted=counted))
    np.testing.assert_array_equal(picked, np.array([[0, 0, 0, 1, 1, 0], [0] * 6], bool))


def test_of_equal_losses_the_earlier_anchors_are_picked():
    positive = np.array([[False] * 4 + [True]])
    np.testing.assert_array_equal(hard_negatives(np.ones((1, 5), np.float32), positive), [[True, True, True, False, False]])


def test_hardest_is_a_sort():
    """Of 2000 random losses the 128 largest, whatever marks them as positive: NumPy's sort tells which."""
    losses = np.random.default_rng(0).normal(size=(3, 2000)).astype(np.float32)
    picked = np.asarray(hardest(losses, 128))
    limit = np.sort(losses, axis=1)[:, -128:][:, :1]
    np.testing.assert_array_equal(picked, losses >= limit)
