"""RetinaNet's loss with hard negatives alone, against loops in NumPy (the focal loss is compared with torchvision's elsewhere)."""

import numpy as np
import pytest
from detector_cases import small

ANCHORS = np.array([[x, y, x + 20, y + 20] for y in range(0, 80, 8) for x in range(0, 80, 8)], np.float32)


def entropies(logits, label):
    """Binary cross-entropies of an anchor's logits, summed; the label is -1 for background."""
    wanted = np.arange(len(logits)) == label
    return np.where(wanted, np.logaddexp(0, -logits), np.logaddexp(0, logits)).sum()


@pytest.mark.parametrize("ratio", [3, None])
def test_the_hardest_negatives_count_alone(ratio):
    model = small("retinanet_mobilenetv2_fpn", focal_gamma=0.0, focal_alpha=0.5, negatives_per_positive=ratio)
    boxes = np.array([[[16, 16, 36, 36], [0, 0, 0, 0]], [[40, 24, 62, 44], [8, 56, 28, 76]]], np.float32)
    labels = np.array([[2, -1], [0, 1]], np.int32)
    logits = np.random.default_rng(0).normal(0, 2, (2, len(ANCHORS), 3)).astype(np.float32)
    heads = {"cls_logits": logits, "bbox_regression": np.zeros((2, len(ANCHORS), 4), np.float32)}
    found = model.head_losses(heads, boxes, labels, labels >= 0, ANCHORS)

    expected = 0.0
    for picture in range(2):
        overlaps = np.array([[iou(anchor, box) for box in boxes[picture][labels[picture] >= 0]] for anchor in ANCHORS])
        best = overlaps.max(1)
        positive = (best >= 0.5) | (overlaps == overlaps.max(0)).any(1)
        owner = labels[picture][overlaps.argmax(1)]
        negative = np.sort([entropies(x, -1) for x in logits[picture][(best < 0.4) & ~positive]])[::-1]
        wanted = sum(entropies(x, label) for x, label in zip(logits[picture][positive], owner[positive], strict=True))
        wanted += negative[: ratio and ratio * positive.sum()].sum()
        expected += 0.5 * wanted / positive.sum() / 2
    assert float(found["classification"]) == pytest.approx(expected, rel=1e-5)


def iou(a, b):
    sides = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    shared = sides.clip(0).prod()
    return shared / ((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - shared)
