"""Rand scores against numbers worked by hand."""

import numpy as np
import pytest

from tfzoo.metrics.segments import pixel_error, rand_scores


def row(text):
    return np.array([[character == "#" for character in text]])


@pytest.mark.parametrize(
    ("truth", "predicted", "split", "merge"),
    [
        ("###.###", "###.###", 1, 1),
        ("####...", "##.#...", 6 / 16, 1),  # segments of 2 and 1 and a pixel alone: 4 + 1 + 1 of 4 * 4
        ("##.##..", "#####..", 1, 8 / 16),  # the pixel between is not counted: 2 * 2 + 2 * 2 of 4 * 4
        ("###.##.", ".......", 5 / 13, 1),  # every pixel alone
        ("###....", "###.###", 1, 1),  # what is predicted outside the true foreground is not looked at
        ("##.##..", "##.#...", 6 / 8, 1),
    ],
)
def test_rand_scores_worked_by_hand(truth, predicted, split, merge):
    scores = rand_scores(row(truth), row(predicted))
    assert scores["rand_split"] == pytest.approx(split, abs=1e-12)
    assert scores["rand_merge"] == pytest.approx(merge, abs=1e-12)
    assert scores["rand_error"] == pytest.approx(1 - 2 * split * merge / (split + merge), abs=1e-12)


def test_segments_touching_at_a_corner_are_two():
    corners = np.eye(2, dtype=bool)
    assert rand_scores(np.ones((2, 2), bool), corners)["rand_split"] == pytest.approx(4 / 16)


def test_no_foreground_is_all_right():
    nothing = np.zeros((3, 3), bool)
    assert rand_scores(nothing, ~nothing) == {"rand_error": 0.0, "rand_split": 1.0, "rand_merge": 1.0}


def test_pixel_error_is_the_share_of_wrong_pixels():
    assert pixel_error(row("##..##.."), row("###.##..")) == 1 / 8
