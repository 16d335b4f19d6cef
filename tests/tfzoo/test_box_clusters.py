"""Anchors by k-means, against clusters that are known and numbers worked by hand."""

import numpy as np
import pytest

import tfzoo
from tfzoo.data.box_clusters import anchor_sizes, box_sizes, cluster_sizes, size_ious
from tfzoo.errors import InputError


def test_iou_of_sizes_by_hand():
    """2x4 and 4x2 share 2x2 of 8 + 8 - 4; 2x2 lies within 4x4."""
    np.testing.assert_allclose(
        size_ious(np.array([[2.0, 4.0], [2.0, 2.0]]), np.array([[4.0, 2.0], [4.0, 4.0]])), [[4 / 12, 8 / 16], [4 / 8, 4 / 16]]
    )


def test_clusters_are_found_and_sorted_by_area():
    rng = np.random.default_rng(3)
    truth = np.array([[10, 20], [40, 30], [25, 100], [120, 110]], np.float64)
    sizes = np.concatenate([size * rng.uniform(0.95, 1.05, (50, 2)) for size in truth])
    centres, mean_iou = cluster_sizes(sizes, 4)
    np.testing.assert_allclose(centres, truth, rtol=0.02)
    assert 0.93 < mean_iou < 1  # sides off by up to 5 %: 0.95 where both are


def test_mean_iou_by_hand():
    """One centre of 1x1, 1x1 and 4x1 is 2x1: IoU 1/2, 1/2 and 1/2."""
    centres, mean_iou = cluster_sizes([[1, 1], [1, 1], [4, 1]], 1)
    np.testing.assert_allclose(centres, [[2, 1]])
    assert mean_iou == pytest.approx(0.5)


def test_distance_is_iou_not_euclid():
    """Two small boxes of different shape are farther apart than two large ones of nearly the same, whatever the pixels say."""
    sizes = np.array([[4, 16], [16, 4], [200, 200], [240, 240]], np.float64)
    centres, _ = cluster_sizes(sizes, 3)
    np.testing.assert_allclose(centres[-1], [220, 220])


def test_the_same_seed_gives_the_same():
    sizes = np.random.default_rng(0).uniform(5, 200, (300, 2))
    np.testing.assert_array_equal(cluster_sizes(sizes, 5, seed=1)[0], cluster_sizes(sizes, 5, seed=1)[0])
    assert cluster_sizes(sizes, 6)[1] > cluster_sizes(sizes, 3)[1] > cluster_sizes(sizes, 1)[1]


def test_as_many_clusters_as_sizes_fit_exactly():
    sizes = np.repeat(np.array([[3.0, 7.0], [50.0, 20.0], [20.0, 50.0]]), 5, axis=0)
    centres, mean_iou = cluster_sizes(sizes, 3)
    assert mean_iou == pytest.approx(1) and {tuple(c) for c in centres} == {(3, 7), (50, 20), (20, 50)}


class Few(tfzoo.data.Dataset):
    """Two pictures of 100x200, the second one with a crowd and a box without height."""

    tasks = ("detection",)

    def __len__(self):
        return 2

    def read(self, index):
        boxes = [[[0, 0, 20, 10]], [[0, 0, 200, 100], [5, 5, 45, 55], [0, 7, 9, 7]]][index]
        crowd = [[False], [True, False, False]][index]
        found = {"boxes": np.array(boxes, np.float32), "labels": np.zeros(len(boxes), np.int32), "crowd": np.array(crowd)}
        return {"images": np.zeros((100, 200, 3), np.uint8), "bounding_boxes": found}


def test_sizes_of_a_data_set_by_hand():
    data = Few("few", "train", None)
    np.testing.assert_allclose(box_sizes(data), [[20, 10], [40, 50]])
    np.testing.assert_allclose(box_sizes(data, 100), [[10, 10], [20, 50]])
    np.testing.assert_allclose(anchor_sizes(data, 2, (200, 200)), [[20, 20], [40, 100]])


def test_impossible_numbers_of_clusters_are_told():
    with pytest.raises(InputError, match="3 sizes of anchors were asked for, of boxes of 2 different sizes"):
        cluster_sizes([[1, 2], [1, 2], [3, 4]], 3)
    with pytest.raises(InputError, match="0 sizes of anchors"):
        cluster_sizes([[1, 2]], 0)
    with pytest.raises(InputError, match="task='detection' in Python"):
        box_sizes(tfzoo.load_dataset("shapes", "train", task="semantic"))
