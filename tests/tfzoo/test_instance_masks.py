"""Masks inside boxes pasted into pictures as torchvision does, boxes of masks, and run lengths."""

import subprocess
import zlib

import numpy as np
from pycocotools import mask as mask_utils
from test_torchvision import reference_program

from tfzoo.data.instance_masks import encode_masks, encode_pasted, mask_boxes, paste_masks

SIZE = (60, 80)
BOXES = np.array(  # inside, a pixel, reaching out at each side, larger than the picture, between pixels
    [
        [10, 20, 50, 45],
        [30.2, 30.3, 30.9, 31.1],
        [-12.5, -7.3, 21, 18],
        [60.7, 40.2, 95.1, 88],
        [-40, -30, 140, 120],
        [5.5, 6.5, 7, 59],
    ],
    np.float32,
)


def masks(count=6):
    """Disks and dots, no probability near a half."""
    y, x = np.mgrid[:28, :28]
    disk = np.hypot(y - 13.5, x - 12) < 11
    dots = (37 * np.arange(28 * 28 * count)).reshape(count, 28, 28) % 101 / 101
    return np.where(disk, 0.4 + 0.6 * dots, 0.55 * dots).astype(np.float32)


def test_pasting_by_hand():
    """A mask of 28 ones in a box 28 wide: with its frame it is stretched from 30 pixels to the 31 places from 9 to 39.

    Place 0 is at .5 * 30/31 - .5 < 0, so on the frame; place 1 at .95, so it is .95 of a one; and so at the other end.
    """
    pasted = paste_masks(np.ones((1, 28, 28)), np.array([[10, 10, 38, 38]]), (50, 50))
    assert pasted.dtype == bool and pasted.shape == (1, 50, 50)
    assert pasted[0, 10:39, 10:39].all() and pasted.sum() == 29 * 29


def test_pasting_gives_what_torchvision_gave():
    """Pixels and a checksum of ``paste_masks_in_image(...) > 0.5`` (torchvision 0.28) for each mask."""
    found = [(int(mask.sum()), zlib.crc32(np.packbits(mask).tobytes())) for mask in paste_masks(masks(), BOXES, SIZE)]
    assert found == EXPECTED


EXPECTED = [
    (488, 2289333722), (2, 1401313400), (213, 3343354207), (206, 2605937846), (4704, 3027909339), (69, 696362134),
]  # fmt: skip

PROGRAM = """
import importlib, pathlib, sys
script, folder = sys.argv[1:]
sys.path.insert(0, str(pathlib.Path(script).parent))
importlib.import_module(pathlib.Path(script).stem)  # first: it mends a torchvision whose compiled part does not load
import numpy as np, torch
from torchvision.models.detection.roi_heads import paste_masks_in_image

given = np.load(folder + "/given.npz")
pasted = paste_masks_in_image(torch.tensor(given["masks"])[:, None], torch.tensor(given["boxes"]), tuple(given["size"].tolist()))
np.save(folder + "/pasted.npy", pasted[:, 0].numpy())
"""


def test_pasting_equals_torchvision(tmp_path):
    python, script = reference_program()
    size, rng = (211, 150), np.random.default_rng(0)
    corners, sides = rng.uniform(0, 1, (100, 2)) * size[::-1], rng.uniform(0.5, 1.2 * max(size), (100, 2))
    boxes = np.concatenate([corners - sides / 2, corners + sides / 2], axis=1).astype(np.float32)
    given = rng.random((100, 28, 28), np.float32)
    np.savez(tmp_path / "given.npz", masks=given, boxes=boxes, size=size)
    subprocess.run([python, "-c", PROGRAM, script, str(tmp_path)], check=True)
    theirs = np.load(tmp_path / "pasted.npy")
    for threshold in (0.3, 0.5):
        np.testing.assert_array_equal(paste_masks(given, boxes, size, threshold), theirs > np.float32(threshold))


def test_masks_beside_the_picture_and_no_masks_are_nothing():
    outside = np.array([[100, 10, 120, 30], [-50, 5, -20, 40], [10, 70, 30, 90], [10, -30, 30, -5]], np.float32)
    assert not paste_masks(masks(4), outside, SIZE).any()
    assert paste_masks(np.zeros((0, 28, 28)), np.zeros((0, 4)), SIZE).shape == (0, *SIZE)
    assert encode_pasted(np.zeros((0, 28, 28)), np.zeros((0, 4)), SIZE) == encode_masks(np.zeros((0, *SIZE), np.uint8)) == []


def test_the_threshold_is_a_probability():
    ramp = np.tile(np.linspace(0, 1, 28, dtype=np.float32), (1, 28, 1))
    areas = [paste_masks(ramp, BOXES[:1], SIZE, threshold).sum() for threshold in (0.1, 0.5, 0.9)]
    assert areas[0] > 1.5 * areas[1] > 2 * areas[2] > 0


def test_run_lengths_are_of_the_pasted_masks():
    pasted = paste_masks(masks(), BOXES, SIZE)
    runs = encode_pasted(masks(), BOXES, SIZE)
    np.testing.assert_array_equal(np.stack([mask_utils.decode(r) for r in runs]), pasted)
    assert encode_masks(pasted) == encode_masks(pasted.astype(np.uint8)) == runs
    assert runs[0]["size"] == list(SIZE)


def test_boxes_are_around_the_pixels():
    given = np.zeros((4, *SIZE), np.uint8)
    given[0, 10:20, 30:33] = given[1, 59, 79] = given[3] = given[1, 2, 70] = 1
    assert mask_boxes(given).tolist() == [[30, 10, 33, 20], [70, 2, 80, 60], [0, 0, 0, 0], [0, 0, 80, 60]]
    for pasted, box in zip(paste_masks(np.ones((6, 28, 28)), BOXES, SIZE), BOXES, strict=True):
        np.testing.assert_allclose(mask_boxes(pasted[None])[0], np.clip(box, 0, (80, 60, 80, 60)), atol=1.5)
