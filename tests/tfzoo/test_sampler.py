"""The random choice of anchors and regions."""

import keras
import numpy as np
import pytest
from keras import ops

from tfzoo.layers.sampler import choose_balanced, draw, gather_chosen


def chosen(positives, negatives, count, share, total=40):
    """How many of each kind are chosen, of a picture with so many of each."""
    kinds = np.array([[1] * positives + [-1] * negatives + [0] * (total - positives - negatives)])
    drawn = draw((1, total))
    picked = choose_balanced(ops.convert_to_tensor(kinds == 1), ops.convert_to_tensor(kinds == -1), count, share, drawn)
    positive, negative = (np.asarray(mask)[0] for mask in picked)
    assert not (positive & (kinds[0] != 1)).any() and not (negative & (kinds[0] != -1)).any()
    return positive.sum(), negative.sum()


@pytest.mark.parametrize(
    ("positives", "negatives", "expected"),
    [
        (20, 20, (4, 12)),  # a quarter of 16
        (2, 30, (2, 14)),  # fewer positives than may be: negatives take their places
        (0, 30, (0, 16)),
        (20, 3, (4, 3)),  # fewer negatives than are wanted: the sample is smaller
        (20, 0, (4, 0)),
        (0, 0, (0, 0)),
    ],
)
def test_counts(positives, negatives, expected):
    assert chosen(positives, negatives, count=16, share=0.25) == expected


def test_more_wanted_than_there_are():
    assert chosen(3, 4, count=512, share=0.25, total=10) == (3, 4)


def test_every_one_is_as_likely():
    positive = ops.ones((2000, 10), dtype="bool")
    picked, _ = choose_balanced(positive, ops.logical_not(positive), 10, 0.3, draw((2000, 10), keras.random.SeedGenerator(1)))
    share = np.asarray(picked).mean(axis=0)
    np.testing.assert_allclose(share, 0.3, atol=0.05)  # five standard deviations of 2000 draws


def test_without_a_generator_the_same_is_drawn():
    numbers = np.asarray(draw((3, 5)))
    np.testing.assert_array_equal(numbers, draw((3, 5)))
    np.testing.assert_allclose(numbers, [np.arange(5) * 4093 / 2**20] * 3, rtol=1e-6)
    assert len(np.unique(draw((1, 300_000)))) == 300_000
    generator = keras.random.SeedGenerator(0)
    assert not np.array_equal(draw((3, 5), generator), draw((3, 5), generator))


def test_gathered_positives_come_first():
    positive = np.array([[False, True, False, True, False]])
    negative = np.array([[True, False, False, False, True]])
    index, filled = gather_chosen(ops.convert_to_tensor(positive), ops.convert_to_tensor(negative), 5)
    assert np.asarray(index)[0, :4].tolist() == [1, 3, 0, 4] and np.asarray(filled)[0].tolist() == [True] * 4 + [False]
