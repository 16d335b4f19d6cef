"""The tf.data pipeline: shapes, seeds, and picture and label moving together."""

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tfzoo.data import load_dataset
from tfzoo.data.augmentation import FILL, Augmentation, change_geometry, scale_and_crop
from tfzoo.data.images import resize_image, resize_labels
from tfzoo.errors import find_sentence

COLOURS = np.array([(0, 0, 0), (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (255, 0, 255)], np.uint8)
GEOMETRY = {"brightness": 0, "contrast": 0}  # colours stay as they are


def blocks(seed, height=72, width=96, side=24):
    """A label map of large blocks at random, with an ignored one, and the picture that it paints: colour = class."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, len(COLOURS), (height // side, width // side)).astype(np.uint8)
    labels = coarse.repeat(side, axis=0).repeat(side, axis=1)
    image = COLOURS[labels]
    labels[:side, :side] = 255
    return image, labels


@pytest.fixture
def painted(tmp_path, write_masks):
    """The spec of a folder of ten such pictures."""
    return write_masks(tmp_path, {f"p{index}": blocks(index) for index in range(10)}, [f"c{i}" for i in range(len(COLOURS))])


def collect(data):
    return [(images.numpy(), labels.numpy()) for images, labels in data]


def assert_same(first, second):
    assert len(first) == len(second)
    for (images, labels), (other_images, other_labels) in zip(first, second, strict=True):
        np.testing.assert_array_equal(images, other_images)
        np.testing.assert_array_equal(labels, other_labels)


def differ(first, second):
    return any((a != b).any() for (a, _), (b, _) in zip(first, second, strict=True))


@pytest.mark.parametrize("training", [False, True])
def test_batches_have_the_shapes_and_types_promised(painted, training):
    data = load_dataset(painted, "train").batches(4, (32, 40), training)
    assert int(data.cardinality()) == 3
    images_spec, labels_spec = data.element_spec
    assert (images_spec.shape.as_list(), images_spec.dtype) == ([None, 32, 40, 3], tf.uint8)
    assert (labels_spec.shape.as_list(), labels_spec.dtype) == ([None, 32, 40], tf.uint8)
    shapes = [(images.shape, images.dtype, labels.shape, labels.dtype) for images, labels in collect(data)]
    assert shapes == [((n, 32, 40, 3), np.uint8, (n, 32, 40), np.uint8) for n in (4, 4, 2)]


def test_without_a_size_the_first_picture_gives_it(painted):
    assert load_dataset(painted, "train").batches(4).element_spec[0].shape.as_list() == [None, 72, 96, 3]


def test_without_training_pictures_come_in_order_and_are_only_resized(painted):
    dataset = load_dataset(painted, "train")
    batches = collect(dataset.batches(4, (48, 50), augmentation=Augmentation(scale=(0.5, 0.5))))
    images, labels = (np.concatenate(part) for part in zip(*batches, strict=True))
    for index in range(len(dataset)):
        sample = dataset.read(index)
        np.testing.assert_array_equal(images[index], resize_image(sample["images"], (48, 50)))
        np.testing.assert_array_equal(labels[index], resize_labels(sample["segmentation_masks"][..., 0], (48, 50)))


def test_without_training_at_its_own_size_nothing_is_changed(painted):
    for index, (images, labels) in enumerate(collect(load_dataset(painted, "train").batches(1))):
        image, label_map = blocks(index)
        np.testing.assert_array_equal(images[0], image)
        np.testing.assert_array_equal(labels[0], label_map)


@pytest.mark.parametrize(
    "augmentation", [None, Augmentation(rotation=15, translation=0.1, elastic=3, saturation=0.3, hue=0.3)], ids=["default", "all"]
)
def test_one_seed_gives_the_same_two_epochs_on_a_fresh_dataset(painted, augmentation):
    options = {"training": True, "seed": 3, "augmentation": augmentation}
    first, second = (load_dataset(painted, "train").batches(4, 48, **options) for _ in range(2))
    for _ in range(2):
        assert_same(collect(first), collect(second))


def test_epochs_differ(painted):
    data = load_dataset(painted, "train").batches(4, 48, training=True, seed=3)
    assert differ(collect(data), collect(data))


@pytest.mark.parametrize(
    "augmentation", [None, Augmentation(flip=None, **GEOMETRY), Augmentation(scale=(1, 1), flip=None, **GEOMETRY)]
)
def test_seeds_differ(painted, augmentation):
    first, second = (
        collect(load_dataset(painted, "train").batches(4, 48, training=True, seed=seed, augmentation=augmentation))
        for seed in (3, 4)
    )
    assert differ(first, second)


def test_each_pass_visits_every_picture_once(painted):
    augmentation = Augmentation(scale=(1, 1), flip=None, **GEOMETRY)
    data = load_dataset(painted, "train").batches(4, training=True, augmentation=augmentation)
    expected = sorted(blocks(index)[0].tobytes() for index in range(10))
    for _ in range(2):
        assert sorted(image.tobytes() for images, _ in collect(data) for image in images) == expected


def test_the_order_is_another_at_each_pass(painted):
    augmentation = Augmentation(scale=(1, 1), flip=None, **GEOMETRY)
    data = load_dataset(painted, "train").batches(4, training=True, augmentation=augmentation)
    assert differ(collect(data), collect(data))


def test_a_resumed_training_sees_the_order_and_crops_of_the_epoch_it_resumes(painted):
    augmentation = Augmentation(flip=None, rotation=15, translation=0.1, elastic=3, **GEOMETRY)
    options = {"training": True, "seed": 5, "augmentation": augmentation}
    whole = load_dataset(painted, "train").batches(4, 48, **options)
    collect(whole)
    resumed = load_dataset(painted, "train").batches(4, 48, first_epoch=1, **options)
    for _ in range(2):
        assert_same(collect(whole), collect(resumed))


def inner(labels, reach=2):
    """True where a pixel and all around it have one label, ignored ones left out."""
    padded = np.pad(labels, reach, mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (2 * reach + 1, 2 * reach + 1))
    return (windows.min(axis=(2, 3)) == windows.max(axis=(2, 3))) & (labels != 255)


def nearest_colour(image):
    return np.abs(image[..., None, :].astype(int) - COLOURS).sum(axis=-1).argmin(axis=-1)


@pytest.mark.parametrize(
    "augmentation",
    [
        Augmentation(flip=None, **GEOMETRY),
        Augmentation(scale=(1, 1), flip="horizontal", **GEOMETRY),
        Augmentation(flip="horizontal_and_vertical", **GEOMETRY),
        Augmentation(crop=0.6, **GEOMETRY),
        Augmentation(scale=(1, 1), flip=None, rotation=30, **GEOMETRY),
        Augmentation(scale=(1, 1), flip=None, translation=0.2, **GEOMETRY),
        Augmentation(scale=(1, 1), flip=None, elastic=4, **GEOMETRY),
        Augmentation(rotation=30, translation=0.1, elastic=3, **GEOMETRY),
    ],
    ids=["scale and crop", "flip", "both", "part", "rotation", "translation", "elastic", "all"],
)
@pytest.mark.parametrize("size", [(72, 96), (60, 50)])
def test_picture_and_label_move_together(painted, augmentation, size):
    data = load_dataset(painted, "train").batches(4, size, training=True, seed=1, augmentation=augmentation)
    right = total = 0
    for _ in range(3):
        for images, labels in collect(data):
            for image, label_map in zip(images, labels, strict=True):
                looked_at = inner(label_map)
                right += (nearest_colour(image) == label_map)[looked_at].sum()
                total += looked_at.sum()
    assert total > 30 * 500
    assert right / total >= 0.97


def test_flips_happen_to_some_pictures_and_not_to_others(painted):
    augmentation = Augmentation(scale=(1, 1), flip="horizontal", **GEOMETRY)
    data = load_dataset(painted, "train").batches(4, training=True, seed=1, augmentation=augmentation)
    straight = {blocks(index)[1].tobytes() for index in range(10)}
    mirrored = {blocks(index)[1][:, ::-1].tobytes() for index in range(10)}
    seen = [label_map.tobytes() for _, labels in collect(data) for label_map in labels]
    assert set(seen) <= straight | mirrored
    assert set(seen) & straight
    assert set(seen) & mirrored


def test_outside_a_shrunk_picture_labels_are_ignored(painted):
    augmentation = Augmentation(scale=(0.5, 0.5), flip=None, **GEOMETRY)
    for images, labels in collect(load_dataset(painted, "train").batches(4, training=True, augmentation=augmentation)):
        for image, label_map in zip(images, labels, strict=True):
            outside = (image == FILL).all(axis=-1)
            assert outside.sum() == 72 * 96 - 36 * 48
            assert (label_map[outside] == 255).all()
            assert (label_map[~outside] != 255).mean() > 0.8  # one block of twelve was ignored from the start


def test_an_enlarged_picture_fills_the_canvas():
    image, labels = blocks(0)
    labels[labels == 255] = 0
    for seed in range(20):
        picture, label_map = scale_and_crop(image, labels, (40, 40), (2.0, 2.0), np.random.default_rng(seed))
        assert picture.shape == (40, 40, 3)
        assert (label_map != 255).all()


def test_a_crop_has_its_share_of_the_wanted_size(painted):
    augmentation = Augmentation(scale=(1, 1), crop=0.5, flip=None, **GEOMETRY)
    images, labels = collect(load_dataset(painted, "train").batches(10, training=True, augmentation=augmentation))[0]
    assert images.shape == (10, 36, 48, 3) and labels.shape == (10, 36, 48)


def test_a_crop_keeps_the_scale():
    ramp = np.repeat(np.arange(96, dtype=np.uint8)[None, :, None], 72, axis=0).repeat(3, axis=2) * 2
    size, augmentation = Augmentation(scale=(1, 1), crop=0.5, flip=None, **GEOMETRY).at_size((72, 96))
    picture, _ = change_geometry(ramp, ramp[..., 0], size, augmentation, np.random.default_rng(0))
    assert picture.shape == (36, 48, 3)
    np.testing.assert_array_equal(np.diff(picture[:, 1:-1, 0].astype(int), axis=1), 2)  # as steep as the whole picture


def test_colour_changes_leave_labels_alone(painted):
    augmentation = Augmentation(scale=(1, 1), flip=None, brightness=0.5, contrast=0.5, saturation=0.5, hue=0.5)
    plain = Augmentation(scale=(1, 1), flip=None, **GEOMETRY)
    changed, same = (
        collect(load_dataset(painted, "train").batches(4, training=True, seed=2, augmentation=a)) for a in (augmentation, plain)
    )
    assert differ(changed, same)
    for (_, labels), (_, expected) in zip(changed, same, strict=True):
        np.testing.assert_array_equal(labels, expected)


def sentence_of_iterating(data):
    with pytest.raises(Exception) as caught:  # TensorFlow chooses the class
        for _ in data:
            pass
    return find_sentence(caught.value)


@pytest.mark.parametrize("kind", ["batches", "training batches", "samples"])
@pytest.mark.parametrize("fault", ["truncated", "missing"])
def test_a_damaged_picture_keeps_its_sentence_through_the_pipeline(tmp_path, write_masks, kind, fault):
    spec = write_masks(tmp_path, {name: blocks(0) for name in ("a", "b")}, [f"c{i}" for i in range(len(COLOURS))])
    (tmp_path / "images" / "b.png").unlink()
    path = tmp_path / "images" / "b.jpg"
    Image.fromarray(blocks(0)[0]).save(path)
    dataset = load_dataset(spec, "train")
    if fault == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:500])
    data = dataset.samples() if kind == "samples" else dataset.batches(1, 32, training=kind.startswith("training"))
    with pytest.raises(ValueError, match=r"b\.jpg") as direct:
        dataset.read(1)
    assert sentence_of_iterating(data) == str(direct.value)
