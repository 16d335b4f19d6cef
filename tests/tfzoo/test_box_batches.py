"""Batches with boxes, from both feeds: padding, what is left out, and the same pictures."""

import warnings

import numpy as np
import pytest
import tensorflow as tf

from tfzoo.data import load_dataset, shapes
from tfzoo.data.augmentation import Augmentation
from tfzoo.data.dataset import Dataset
from tfzoo.data.images import resize_image

SIZE = (48, 40)
GEOMETRY = Augmentation(brightness=0, contrast=0, zoom_out=2.0, iou_crop=True, mosaic=0.3)  # nothing that goes batch by batch


@pytest.fixture
def drawn(monkeypatch):
    monkeypatch.setitem(shapes.COUNTS, "train", 10)
    return load_dataset("shapes:32x48", "train", "detection")


class Listed(Dataset):
    """Grey pictures of 32x48 with the boxes given, labelled 0, 1, ...; ``flags``: "crowd" or "difficult", as many lists."""

    tasks = ("detection",)

    def __init__(self, *pictures, **flags):
        super().__init__("listed", "train", None, [f"c{label}" for label in range(9)])
        self._pictures, self._flags = pictures, flags

    def __len__(self):
        return len(self._pictures)

    def read(self, index):
        boxes = np.array(self._pictures[index], np.float32).reshape(-1, 4)
        found = {"boxes": boxes, "labels": np.arange(len(boxes), dtype=np.int32), "crowd": np.zeros(len(boxes), bool)}
        found |= {name: np.array(values[index], bool) for name, values in self._flags.items()}
        return {"images": np.full((32, 48, 3), 90, np.uint8), "image_id": str(index), "bounding_boxes": found}


def collect(data):
    return [(images.numpy(), {key: value.numpy() for key, value in targets.items()}) for images, targets in data]


def assert_same(first, second):
    assert len(first) == len(second)
    for batch, other in zip(first, second, strict=True):
        tf.nest.map_structure(np.testing.assert_array_equal, batch, other)


def test_batches_have_the_shapes_and_types_promised(drawn):
    data = drawn.batches(4, SIZE, training=True)
    images, targets = data.element_spec
    assert (images.shape.as_list(), images.dtype) == ([None, *SIZE, 3], tf.uint8)
    assert {key: (spec.shape.as_list(), spec.dtype) for key, spec in targets.items()} == {
        "boxes": ([None, 4, 4], tf.float32),
        "labels": ([None, 4], tf.int32),
    }
    batches = collect(data)
    assert [len(images) for images, _ in batches] == [4, 4, 2]
    loader = drawn.loader(4, SIZE, training=True)
    for images, targets in (*batches, loader[0]):
        assert images.dtype == np.uint8 and targets["boxes"].dtype == np.float32 and targets["labels"].dtype == np.int32
        padding = targets["labels"] == -1
        assert padding.any() and not targets["boxes"][padding].any()
        left, top, right, bottom = np.moveaxis(targets["boxes"][~padding], -1, 0)
        assert ((left >= 0) & (left < right) & (right <= SIZE[1])).all()
        assert ((top >= 0) & (top < bottom) & (bottom <= SIZE[0])).all()


def test_without_training_boxes_are_only_scaled(drawn):
    for batch, (images, targets) in enumerate(collect(drawn.batches(1, SIZE))):
        sample = drawn.read(batch)
        np.testing.assert_array_equal(images[0], resize_image(sample["images"], SIZE))
        found = targets["labels"][0] >= 0
        expected = sample["bounding_boxes"]["boxes"] * np.array([40 / 48, 48 / 32] * 2)
        np.testing.assert_allclose(targets["boxes"][0][found], expected, rtol=1e-6)
        np.testing.assert_array_equal(targets["labels"][0][found], sample["bounding_boxes"]["labels"])


@pytest.mark.parametrize("training", [False, True])
def test_both_feeds_give_the_same_pictures_and_boxes(drawn, training):
    options = {"training": training, "seed": 5, "first_epoch": 2, "augmentation": GEOMETRY}
    data, loader = drawn.batches(4, SIZE, **options), drawn.loader(4, SIZE, **options)
    for _ in range(2):
        assert_same(collect(data), [loader[index] for index in range(len(loader))])
        loader.on_epoch_end()


def test_seeds_and_epochs_differ(drawn):
    data = drawn.batches(10, SIZE, training=True, seed=3, augmentation=GEOMETRY)
    first, second = collect(data)[0], collect(data)[0]
    other = collect(drawn.batches(10, SIZE, training=True, seed=4, augmentation=GEOMETRY))[0]
    again = collect(drawn.batches(10, SIZE, training=True, seed=3, augmentation=GEOMETRY))[0]
    assert_same([first], [again])
    assert (first[0] != second[0]).any() and (first[0] != other[0]).any()


def test_colour_leaves_boxes_alone(drawn):
    plain = {"scale": (1, 1), "flip": "horizontal", "contrast": 0}
    changed, same = (
        collect(drawn.batches(10, SIZE, training=True, augmentation=Augmentation(brightness=b, **plain)))[0] for b in (0.5, 0)
    )
    assert (changed[0] != same[0]).any()
    tf.nest.map_structure(np.testing.assert_array_equal, changed[1], same[1])


def test_there_is_room_for_the_most_boxes_and_four_times_as_many_in_a_mosaic():
    dataset = Listed([[0, 0, 9, 9]] * 3, [], [[0, 0, 9, 9]] * 7)
    assert dataset.batches(1, SIZE).element_spec[1]["boxes"].shape.as_list() == [None, 7, 4]
    with_mosaic = dataset.batches(1, SIZE, training=True, augmentation=Augmentation(mosaic=0.5))
    assert with_mosaic.element_spec[1]["labels"].shape.as_list() == [None, 28]


def test_without_any_box_there_is_one_place_that_is_padding():
    ((_, targets),) = collect(Listed([], []).batches(2, SIZE, training=True))
    np.testing.assert_array_equal(targets["labels"], [[-1], [-1]])
    np.testing.assert_array_equal(targets["boxes"], np.zeros((2, 1, 4)))


def test_crowds_and_difficult_boxes_are_no_targets():
    boxes = [[0, 0, 9, 9], [5, 5, 20, 20], [8, 8, 30, 30]]
    dataset = Listed(boxes, boxes[:1], crowd=[[False, True, False], [False]], difficult=[[False, False, True], [False]])
    ((_, targets),) = collect(dataset.batches(2))
    np.testing.assert_array_equal(targets["boxes"], [[[0, 0, 9, 9]], [[0, 0, 9, 9]]])


def test_boxes_without_an_area_are_left_out_and_counted():
    """In 32x48: no width, upside down, beside the picture; reaching out of it is no fault, and cut off."""
    first = [[5, 5, 5, 20], [5, 20, 15, 10], [50, 0, 60, 9], [40, -3, 60, 9]]
    dataset = Listed(first, [[1, 1, 20, 20]])
    with pytest.warns(
        UserWarning, match=r"split 'train': 3 of 5 boxes are less than a pixel .* at 32x48 and are left out"
    ) as caught:
        data = dataset.batches(2)
    assert len(caught) == 1
    ((_, targets),) = collect(data)
    np.testing.assert_array_equal(targets["labels"], [[3, -1, -1, -1], [0, -1, -1, -1]])
    np.testing.assert_array_equal(targets["boxes"][:, 0], [[40, 0, 48, 9], [1, 1, 20, 20]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dataset = Listed([[1, 1, 20, 20]])
        dataset.batches(2)  # nothing to warn of


def test_augmentation_of_the_other_task_is_refused(drawn, expect_sentence):
    turned = Augmentation(rotation=10)
    expect_sentence(lambda: drawn.batches(2, SIZE, training=True, augmentation=turned), "rotation is 10", "boxes")
    label_maps = load_dataset("shapes:32x48", "train", "semantic")
    expect_sentence(lambda: label_maps.loader(2, SIZE, training=True, augmentation=GEOMETRY), "mosaic", "label maps")


@pytest.mark.filterwarnings("ignore:.*less than a pixel")
@pytest.mark.parametrize("name", ["bccd", "coco_mini"])
def test_real_boxes(request, name):
    dataset = load_dataset(request.getfixturevalue(name), "train", "detection")
    loader = dataset.loader(16, 128, training=True, seed=1)
    images, targets = loader.load(0, 0)
    assert images.shape == (16, 128, 128, 3) and (targets["labels"] < len(dataset.class_names)).all()
    assert (targets["labels"] >= 0).sum() > 30
    if name == "bccd":
        assert targets["labels"].shape == (16, 28)  # its README: 2804 boxes; the fullest picture has 28
