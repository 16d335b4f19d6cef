"""Batches whose size changes now and then."""

import numpy as np
import pytest
import tensorflow as tf

from tfzoo.data.several_sizes import at_several_sizes
from tfzoo.errors import InputError


def batches(count):
    images = np.random.default_rng(0).integers(0, 256, (count, 60, 80, 3), dtype=np.uint8)
    targets = {"boxes": np.tile(np.float32([[8, 6, 40, 30]]), (count, 1, 1)), "labels": np.zeros((count, 1), np.int32)}
    return tf.data.Dataset.from_tensor_slices((images, targets)).batch(2)


def test_boxes_follow_their_pictures():
    for images, targets in at_several_sizes(batches(8), [(30, 160), 60], every=1):
        height, width = images.shape[1:3]
        assert images.dtype == tf.uint8 and (height, width) in ((30, 160), (60, 60))
        np.testing.assert_allclose(
            targets["boxes"][0, 0], np.float32([0.1, 0.1, 0.5, 0.5]) * [width, height, width, height], rtol=1e-6
        )
        np.testing.assert_array_equal(targets["labels"], [[0], [0]])


def test_a_size_lasts_for_some_batches_and_each_pass_has_others():
    data = at_several_sizes(batches(48), [32, 64, 96, 128], every=4, seed=3)
    assert len(data) == 24
    passes = [[images.shape[1] for images, _ in data] for _ in range(2)]
    for sizes in passes:
        assert len(sizes) == 24 and all(len(set(sizes[i : i + 4])) == 1 for i in range(0, 24, 4)) and len(set(sizes)) > 1
    assert passes[0] != passes[1]
    again = at_several_sizes(batches(48), [32, 64, 96, 128], every=4, seed=3)
    assert [images.shape[1] for images, _ in again] == passes[0]


def test_the_same_size_changes_nothing():
    plain, stretched = (next(iter(data)) for data in (batches(2), at_several_sizes(batches(2), [(60, 80)])))
    np.testing.assert_array_equal(plain[0], stretched[0])
    np.testing.assert_allclose(plain[1]["boxes"], stretched[1]["boxes"])


@pytest.mark.parametrize(("sizes", "every"), [([], 10), ([0], 10), ([64], 0)])
def test_impossible_sizes_are_told(sizes, every):
    with pytest.raises(InputError, match="give sizes in pixels and 1 batch or more"):
        at_several_sizes(batches(2), sizes, every)
