"""How well connected segments are told apart: the errors of the ISBI 2012 challenge on neuronal membranes."""

import numpy as np
from scipy import ndimage


def rand_scores(truth, predicted) -> dict[str, float]:
    """Foreground-restricted Rand scores of a segmentation (Arganda-Carreras et al. 2015, Rand F-score; the "adapted Rand error").

    Segments are 4-connected regions of foreground. Over the pixels that are foreground in the truth, n_ij counts those of the
    predicted segment i and the true segment j; a pixel that was predicted as background is a segment of its own.

        split = sum_ij n_ij^2 / sum_j (sum_i n_ij)^2      merge = sum_ij n_ij^2 / sum_i (sum_j n_ij)^2

    Args:
        truth, predicted: booleans [H, W], True for foreground (such as the inside of a cell).

    Returns:
        {"rand_error", "rand_split", "rand_merge"}: 1 minus the harmonic mean of the two, and the two, which are 1 where nothing is
        split or merged wrongly. Without any foreground in the truth all is right: 0, 1, 1.
    """
    true_segment, predicted_segment = (ndimage.label(mask)[0] for mask in (truth, predicted))
    inside = true_segment > 0
    if not inside.any():
        return {"rand_error": 0.0, "rand_split": 1.0, "rand_merge": 1.0}
    pairs = np.stack([predicted_segment[inside], true_segment[inside]])
    alone = np.count_nonzero(pairs[0] == 0)  # each a segment of one pixel, whose square is 1
    joint, merged = (_sum_of_squares(labels) + alone for labels in (pairs[:, pairs[0] > 0], pairs[0][pairs[0] > 0]))
    split = _sum_of_squares(pairs[1])
    return {"rand_error": 1 - 2 * joint / (split + merged), "rand_split": joint / split, "rand_merge": joint / merged}


def _sum_of_squares(labels) -> float:
    """The sum of the squared numbers of equal labels [N], or of equal columns [2, N]."""
    counts = np.unique(labels, axis=-1, return_counts=True)[1]
    return float(np.sum(counts.astype(np.float64) ** 2))


def pixel_error(truth, predicted) -> float:
    """The share of pixels that were called wrong; booleans [H, W]."""
    return float(np.mean(np.asarray(truth) != np.asarray(predicted)))
