"""Which box each anchor stands for, worked by hand."""

import numpy as np

from tfzoo.layers.matcher import BACKGROUND, IGNORED, match, matched_boxes, matched_labels

# A row of anchors of 10 x 10; a box of the same height, whose left and right decide the overlap.
ANCHORS = np.array([(0, 0, 10, 10), (10, 0, 20, 10), (20, 0, 30, 10), (100, 0, 110, 10)], np.float32)


def matched(*boxes, real=None, **options):
    given = np.array([boxes], np.float32)
    real = np.array([real or [True] * len(boxes)])
    return np.asarray(match(given, real, ANCHORS, **{"high": 0.5, "low": 0.4, **options}))[0].tolist()


def test_thresholds():
    # IoU 8 / 12 with the second anchor, 2 / 18 with the third
    assert matched((12, 0, 22, 10)) == [BACKGROUND, 0, BACKGROUND, BACKGROUND]
    # IoU 0.45 with the first (4.5 of 10 rows): neither
    assert matched((0, 0, 10, 4.5)) == [IGNORED, BACKGROUND, BACKGROUND, BACKGROUND]
    # exactly the thresholds: "high" is foreground, "low" is in between
    assert matched((0, 0, 10, 5)) == [0, BACKGROUND, BACKGROUND, BACKGROUND]
    assert matched((0, 0, 10, 2.5), low=0.25) == [IGNORED, BACKGROUND, BACKGROUND, BACKGROUND]


def test_an_anchor_takes_the_box_that_it_overlaps_most():
    assert matched((0, 0, 10, 8), (0, 0, 10, 9), (0, 0, 10, 7))[0] == 1
    assert matched((0, 0, 10, 9), (10, 0, 20, 10)) == [0, 1, BACKGROUND, BACKGROUND]


def test_low_quality_matches():
    poor = (14, 0, 17, 10)  # IoU 0.3 with the second anchor alone
    assert matched(poor) == [BACKGROUND] * 4
    assert matched(poor, low_quality=True) == [BACKGROUND, 0, BACKGROUND, BACKGROUND]
    # of anchors that overlap it equally each one is a match
    assert matched((5, 0, 15, 10), low_quality=True) == [0, 0, BACKGROUND, BACKGROUND]


def test_a_low_quality_match_keeps_the_box_that_the_anchor_overlaps_most():
    """torchvision's rule: the second box's best anchor is the first, which overlaps the first box more."""
    assert matched((0, 0, 10, 9), (0, 0, 10, 2), low_quality=True)[0] == 0


def test_a_box_that_no_anchor_touches_matches_none():
    assert matched((50, 50, 60, 60), low_quality=True) == [BACKGROUND] * 4
    assert matched((-40, -30, -5, -2), (0, 0, 10, 10), low_quality=True) == [1] + [BACKGROUND] * 3


def test_padding_and_empty_boxes_never_match():
    exact = (0, 0, 10, 10)
    for low_quality in (False, True):
        assert matched(exact, real=[False], low_quality=low_quality) == [BACKGROUND] * 4
        assert matched(exact, (10, 0, 20, 10), real=[False, True], low_quality=low_quality) == [BACKGROUND, 1] + [BACKGROUND] * 2
        # an empty box overlaps nothing, whether it is called real or not
        assert matched((5, 5, 5, 5), (5, 0, 5, 10), low_quality=low_quality) == [BACKGROUND] * 4


def test_each_picture_has_its_own_boxes():
    boxes = np.array([[(0, 0, 10, 10), (0, 0, 0, 0)], [(0, 0, 0, 0), (20, 0, 30, 10)]], np.float32)
    labels = np.array([[7, -1], [-1, 3]], np.int32)
    found = match(boxes, labels >= 0, ANCHORS, 0.5, 0.4)
    assert found.dtype == "int32"
    np.testing.assert_array_equal(found, [[0, -1, -1, -1], [-1, -1, 1, -1]])
    np.testing.assert_array_equal(np.asarray(matched_boxes(boxes, found))[[0, 1], [0, 2]], boxes[[0, 1], [0, 1]])
    np.testing.assert_array_equal(np.asarray(matched_labels(labels, found))[[0, 1], [0, 2]], [7, 3])


def test_anchors_of_each_picture():
    anchors = np.stack([ANCHORS, ANCHORS[::-1]])
    boxes = np.array([[(0, 0, 10, 10)]] * 2, np.float32)
    found = match(boxes, np.ones((2, 1), bool), anchors, 0.5, 0.4)
    np.testing.assert_array_equal(found, [[0, -1, -1, -1], [-1, -1, -1, 0]])
