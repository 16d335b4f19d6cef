"""Masks and keypoints that move with their picture, and batches of them."""

import numpy as np
import pytest
import tensorflow as tf
from test_box_batches import assert_same, collect

from tfzoo.data import load_dataset, shapes
from tfzoo.data.augmentation import NO_AUGMENTATION, Augmentation
from tfzoo.data.box_augmentation import change_geometry, show
from tfzoo.data.dataset import Dataset
from tfzoo.data.images import resize_labels
from tfzoo.data.instance_masks import mask_boxes
from tfzoo.data.objects import Objects, View, scale_found, sides_swapped

SIZE = (48, 40)
STILL = {"scale": (1, 1), "flip": None, "brightness": 0, "contrast": 0}
GEOMETRY = Augmentation(brightness=0, contrast=0, zoom_out=2.0, iou_crop=True, flip="horizontal_and_vertical")
WHOLE = (0, 0, 160, 120)


def painted(seed=0, height=120, width=160):
    """A black picture with three white ellipses that do not touch; the objects, each with its mask and its box."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width] + 0.5
    masks = []
    for label in range(3):
        centre, radii = (rng.uniform(27, 30) + 53 * label, rng.uniform(30, 90)), rng.uniform(10, 22, 2)
        masks.append(((x - centre[0]) / radii[0]) ** 2 + ((y - centre[1]) / radii[1]) ** 2 < 1)
    masks = np.array(masks, np.uint8)
    image = (255 * masks.max(axis=0))[..., None].repeat(3, axis=-1)
    return image, Objects(mask_boxes(masks).astype(np.float32), np.arange(3, dtype=np.int32), masks=masks)


def person(*points, order=None):
    """One object with the points given, in a box around the picture of 160x120."""
    order = None if order is None else np.array([order])
    boxes = np.array([WHOLE], np.float32)
    return Objects(boxes, np.zeros(1, np.int32), keypoints=np.array([points], np.float32), mirrored_points=order)


IMAGE = np.zeros((120, 160, 3), np.uint8)


# === Masks ===


@pytest.mark.parametrize(
    "augmentation",
    [
        NO_AUGMENTATION,
        Augmentation(**STILL | {"flip": "horizontal_and_vertical"}),
        Augmentation(**STILL | {"scale": (0.5, 2.0)}),
        Augmentation(**STILL, zoom_out=4.0),
        Augmentation(**STILL, iou_crop=True),
    ],
    ids=["none", "flips", "scale", "zoom-out", "crop"],
)
@pytest.mark.parametrize("size", [(120, 160), (97, 71)])
def test_masks_stay_on_what_they_are_masks_of(augmentation, size):
    """What is white is masked, but for edges that interpolation blurs; each mask has its box, but for a tip between two pixels."""
    kept = 0
    for seed in range(20):
        picture, found = change_geometry(*painted(seed), size, augmentation, np.random.default_rng(seed))
        assert found.masks.shape == (len(found), *size) and found.masks.dtype == np.uint8 and set(np.unique(found.masks)) <= {0, 1}
        black_or_white = ((picture < 30) | (picture > 225)).all(axis=-1) & (np.ptp(picture, axis=-1) < 3)
        covered = found.masks.max(axis=0, initial=0)
        wrong = black_or_white & (covered != (picture[..., 0] > 128))
        assert wrong.mean() < 0.002  # a sliver of which not even a pixel is seen is dropped
        np.testing.assert_allclose(found.boxes, mask_boxes(found.masks), atol=1.5)
        kept += len(found)
    assert kept > 20


def test_a_cut_object_has_the_box_of_what_is_left():
    """An L: upright x 10 to 20, y 10 to 50; foot to x 60 at y 40 to 50. Above y 40 only the upright is left, its centre is not."""
    mask = np.zeros((1, 120, 160), np.uint8)
    mask[0, 10:50, 10:20] = mask[0, 40:50, 10:60] = 1
    objects = Objects(np.array([[10, 10, 60, 50]], np.float32), np.zeros(1, np.int32), masks=mask)
    _, found = show(IMAGE, objects, (0, 0, 160, 30), (60, 320))
    np.testing.assert_array_equal(found.boxes, [[20, 20, 40, 60]])
    assert found.masks.sum() == 20 * 40
    _, found = show(IMAGE, objects, (15.5, 20, 55.5, 45), (50, 80))  # between two pixels
    np.testing.assert_array_equal(found.boxes, [[0, 0, 80, 50]])
    _, found = show(IMAGE, objects, (25, 0, 160, 38), (76, 270))  # inside its box, where it has no pixel
    assert len(found) == 0 and found.masks.shape == (0, 76, 270)


def test_a_box_that_is_not_cut_stays_as_annotated():
    mask = np.zeros((1, 120, 160), np.uint8)
    mask[0, 10:50, 10:20] = 1
    objects = Objects(np.array([[9.7, 10.4, 20.3, 49.6]], np.float32), np.zeros(1, np.int32), masks=mask)
    _, found = show(IMAGE, objects, (-10, 0, 150, 120), (240, 320))
    np.testing.assert_allclose(found.boxes, [[39.4, 20.8, 60.6, 99.2]], rtol=1e-6)


@pytest.mark.parametrize(
    ("window", "size"), [(WHOLE, (60, 80)), (WHOLE, (97, 71)), ((20, 10, 60, 30), (40, 80)), (WHOLE, (240, 320))]
)
def test_masks_are_resized_as_label_maps(window, size):
    _, objects = painted()
    moved = View((120, 160), window, size).move_masks(objects.masks, mask_boxes(objects.masks))
    for mask, shown in zip(objects.masks, moved, strict=True):
        np.testing.assert_array_equal(shown, resize_labels(mask, size, window))


def test_masks_are_mirrored_with_their_boxes():
    image, objects = painted()
    for mirrored, axis in ((("horizontal",), 2), (("vertical",), 1)):
        _, found = show(image, objects, WHOLE, (120, 160), mirrored)
        np.testing.assert_array_equal(found.masks, np.flip(objects.masks, axis))
        np.testing.assert_array_equal(found.boxes, mask_boxes(found.masks))


def test_an_object_too_thin_for_the_size_is_dropped():
    mask = np.zeros((2, 120, 160), np.uint8)
    mask[0, 31, :] = mask[1, 20:100, 20:100] = 1
    objects = Objects(mask_boxes(mask).astype(np.float32), np.arange(2, dtype=np.int32), masks=mask)
    assert show(IMAGE, objects, WHOLE, (30, 40))[1].labels.tolist() == [1]


# === Keypoints ===


def test_points_move_with_the_window_and_those_outside_become_unknown():
    """The window x 20 to 60, y 10 to 30 at twice its size: by hand, (x - 20) * 2 and (y - 10) * 2."""
    objects = person((30, 15, 2), (20, 30, 1), (19, 15, 2), (30, 31, 2), (60, 30, 2), (0, 0, 0))
    found = objects.through(View((120, 160), (20, 10, 60, 30), (40, 80)))
    expected = [[20, 10, 2], [0, 40, 1], [0, 0, 0], [0, 0, 0], [80, 40, 2], [0, 0, 0]]
    np.testing.assert_array_equal(found.keypoints, [expected])
    assert found.keypoints.dtype == np.float32


def test_a_mirror_swaps_left_and_right_and_two_mirrors_do_not():
    order = sides_swapped(["nose", "left_eye", "right_eye"])
    objects = person((80, 10, 2), (100, 20, 2), (0, 0, 0), order=order)
    for mirrored, expected in (
        (("horizontal",), [[80, 10, 2], [0, 0, 0], [60, 20, 2]]),
        (("vertical",), [[80, 110, 2], [0, 0, 0], [100, 100, 2]]),
        (("horizontal", "vertical"), [[80, 110, 2], [60, 100, 2], [0, 0, 0]]),
    ):
        _, found = show(IMAGE, objects, WHOLE, (120, 160), mirrored)
        np.testing.assert_array_equal(found.keypoints, [expected])


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["nose", "left_eye", "right_eye", "left_ear", "right_ear"], [0, 2, 1, 4, 3]),
        (["Right Knee", "Left Knee", "tail"], [1, 0, 2]),
        (["left_wing", "beak"], [0, 1]),  # without a counterpart
        ([f"corner_{index}" for index in range(3)], [0, 1, 2]),
        ([], []),
    ],
)
def test_sides_are_known_by_name(names, expected):
    assert sides_swapped(names).tolist() == expected


def test_an_answer_is_scaled_but_its_masks():
    answer = {"boxes": np.ones((2, 4), np.float32), "keypoints": np.ones((2, 5, 3), np.float32), "masks": np.ones((2, 28, 28))}
    scaled = scale_found(answer, (10, 20), (30, 80))
    assert scaled["boxes"][0].tolist() == [4, 3, 4, 3] and scaled["keypoints"][0, 0].tolist() == [4, 3, 1]
    assert scaled["masks"] is answer["masks"] and scaled["keypoints"].dtype == np.float32


# === Batches ===


@pytest.fixture
def few(monkeypatch):
    monkeypatch.setitem(shapes.COUNTS, "train", 10)


@pytest.mark.parametrize("task", ["instance", "keypoint"])
def test_batches_have_the_shapes_and_types_promised(few, task):
    dataset = load_dataset("shapes:32x48", "train", task)
    name, shape, dtype = {"instance": ("masks", [4, *SIZE], tf.uint8), "keypoint": ("keypoints", [4, 5, 3], tf.float32)}[task]
    data = dataset.batches(4, SIZE, training=True)
    images, targets = data.element_spec
    assert (images.shape.as_list(), images.dtype) == ([None, *SIZE, 3], tf.uint8)
    assert {key: (spec.shape.as_list(), spec.dtype) for key, spec in targets.items()} == {
        "boxes": ([None, 4, 4], tf.float32),
        "labels": ([None, 4], tf.int32),
        name: ([None, *shape], dtype),
    }
    for images, targets in (*collect(data), dataset.loader(4, SIZE, training=True)[0]):
        assert images.dtype == np.uint8 and targets[name].dtype == dtype.as_numpy_dtype
        padding = targets["labels"] == -1
        assert padding.any() and not targets[name][padding].any() and not targets["boxes"][padding].any()
        if task == "instance":
            assert targets[name][~padding].any(axis=(1, 2)).all()


@pytest.mark.parametrize("task", ["instance", "keypoint"])
@pytest.mark.parametrize("training", [False, True])
def test_both_feeds_give_the_same(few, task, training):
    dataset = load_dataset("shapes:32x48", "train", task)
    options = {"training": training, "seed": 5, "first_epoch": 2, "augmentation": GEOMETRY}
    data, loader = dataset.batches(4, SIZE, **options), dataset.loader(4, SIZE, **options)
    for _ in range(2):
        assert_same(collect(data), [loader[index] for index in range(len(loader))])
        loader.on_epoch_end()


@pytest.mark.parametrize("task", ["instance", "keypoint"])
def test_without_training_objects_are_those_of_the_sample(few, task):
    dataset = load_dataset("shapes:32x48", "train", task)
    for batch, (_, targets) in enumerate(collect(dataset.batches(1, (32, 48)))):
        sample = dataset.read(batch)
        found = targets["labels"][0] >= 0
        np.testing.assert_array_equal(targets["boxes"][0][found], sample["bounding_boxes"]["boxes"])
        if task == "instance":
            np.testing.assert_array_equal(targets["masks"][0][found], sample["instance_masks"])
        else:
            np.testing.assert_array_equal(targets["keypoints"][0][found], sample["keypoints"])


class Cells(Dataset):
    """One picture with a row of cells, the second one a crowd."""

    tasks = ("instance",)

    def __init__(self, count):
        super().__init__("cells", "train", None, ["cell"])
        self._count = count

    def __len__(self):
        return 1

    def read(self, index):
        masks = np.zeros((self._count, 32, 8 * self._count), np.uint8)
        for number in range(self._count):
            masks[number, 8:20, 8 * number : 8 * number + 6] = 1
        crowd = np.arange(self._count) == 1
        found = {"boxes": mask_boxes(masks).astype(np.float32), "labels": np.zeros(self._count, np.int32), "crowd": crowd}
        image = np.zeros((*masks.shape[1:], 3), np.uint8)
        return {"images": image, "image_id": "0", "bounding_boxes": found, "instance_masks": masks}


def test_crowds_are_no_targets():
    ((_, targets),) = collect(Cells(4).batches(1))
    np.testing.assert_array_equal(targets["boxes"][0, :, 0], [0, 16, 24])
    assert not targets["masks"][..., 8:14].any() and targets["masks"].sum() == 3 * 12 * 6


def test_of_too_many_objects_some_are_chosen_at_random():
    options = {"training": True, "augmentation": Augmentation(**STILL, max_objects=5)}
    seen = set()
    for seed in range(12):
        (_, targets), (_, again) = (Cells(20).loader(1, seed=seed, **options)[0] for _ in range(2))
        assert targets["masks"].shape == (1, 5, 32, 160)
        np.testing.assert_array_equal(targets["boxes"], again["boxes"])
        np.testing.assert_array_equal(targets["boxes"][0], mask_boxes(targets["masks"][0]))
        starts = set(targets["boxes"][0, :, 0].tolist())
        assert len(starts) == 5
        seen |= starts
    assert len(seen) == 19  # each but the crowd
    for data, count in ((Cells(20).batches(1), 19), (Cells(3).batches(1, **options), 2)):  # all of them where nothing is bounded
        assert data.element_spec[1]["labels"].shape[1] == count


def test_what_is_for_another_task_is_refused(few, expect_sentence):
    mosaic = Augmentation(mosaic=0.5)
    for task in ("instance", "keypoint"):
        dataset = load_dataset("shapes:32x48", "train", task)
        expect_sentence(lambda: dataset.batches(2, training=True, augmentation=mosaic), "mosaic is 0.5", task)  # noqa: B023
    label_maps = load_dataset("shapes:32x48", "train", "semantic")
    bounded = Augmentation(max_objects=3)
    expect_sentence(lambda: label_maps.loader(2, training=True, augmentation=bounded), "max_objects", "label maps")
    expect_sentence(lambda: Augmentation(max_objects=0), "max_objects is 0")


# === Real data ===


def test_nuclei(dsb2018):
    dataset = load_dataset(dsb2018, "val", "instance")
    loader = dataset.loader(2, 128, training=True, seed=1, augmentation=Augmentation(max_objects=60))
    images, targets = loader.load(0, 0)
    assert images.shape == (2, 128, 128, 3) and targets["masks"].shape == (2, 60, 128, 128)
    real = targets["labels"] >= 0
    assert real.sum() > 10
    # Nuclei are shrunk to half and less here: a tip of a pixel is in the box, but may be between two of the mask's pixels.
    np.testing.assert_allclose(targets["boxes"][real], mask_boxes(targets["masks"][real]), atol=2.0)


def test_persons(coco_person_kp):
    """A mirrored picture: who had a left shoulder has a right one, on the other side."""
    dataset = load_dataset(coco_person_kp, "val", "keypoint")
    assert dataset.mirrored_points.tolist() == [[0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15]]
    sample = next(s for s in map(dataset.read, range(len(dataset))) if s["keypoints"][0, 5, 2] > 0)
    size = sample["images"].shape[:2]
    objects = Objects.wanted(sample, dataset.mirrored_points)
    _, found = show(sample["images"], objects, (0, 0, *size[::-1]), size, ("horizontal",))
    before, after = objects.keypoints[0, 5], found.keypoints[0, 6]
    np.testing.assert_allclose(after, [size[1] - before[0], before[1], before[2]])
