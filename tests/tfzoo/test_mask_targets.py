"""What a mask head should answer."""

import numpy as np
import pytest

from tfzoo.layers.mask_targets import mask_targets

LEFT_HALF = np.zeros((1, 2, 8, 8), np.uint8)
LEFT_HALF[0, 1, :, :4] = 1


def target(box, size=4, index=1):
    return np.asarray(mask_targets(LEFT_HALF, np.array([[index]]), np.array([[box]], np.float32), size))[0, 0]


def test_the_whole_mask():
    """Cells of two pixels; samples stand at pixel centres, so that each cell is the mean of its four pixels."""
    np.testing.assert_allclose(target((0, 0, 8, 8)), [[1, 1, 0, 0]] * 4, atol=1e-6)


def test_a_part_of_it():
    """Cells of half a pixel from x = 3 to 5; between the middles of pixels 3 and 4 the value falls from 1 to 0.

    Samples stand at 3.125, 3.375, ... 4.875, that is -0.375, ... 1.375 from the middle of pixel 3: 1, 1, 1 - 0.125, 1 - 0.375, ...
    """
    np.testing.assert_allclose(target((3, 2, 5, 4)), [[1, 0.75, 0.25, 0]] * 4, atol=1e-6)


def test_the_other_object_and_the_outside():
    assert not target((0, 0, 8, 8), index=0).any()
    np.testing.assert_allclose(target((-8, 0, 0, 8)), 1.0)  # left of the picture its left edge goes on


def test_a_batch_of_many():
    rng = np.random.default_rng(0)
    masks = rng.integers(0, 2, (3, 5, 9, 11), dtype=np.uint8)
    index = rng.integers(0, 5, (3, 4))
    boxes = np.sort(rng.uniform(0, 9, (3, 4, 2, 2)), axis=2).reshape(3, 4, 4).astype(np.float32)
    together = np.asarray(mask_targets(masks, index, boxes, 6))
    for picture in range(3):
        for region in range(4):
            of_one = masks[picture, index[picture, region]][None, None]
            alone = mask_targets(of_one, np.zeros((1, 1), np.int32), boxes[picture, region][None, None], 6)
            np.testing.assert_allclose(together[picture, region], np.asarray(alone)[0, 0], atol=1e-6)
    assert together.min() >= 0 and together.max() == pytest.approx(1.0)
