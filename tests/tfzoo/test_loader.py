"""The loader without TensorFlow: the tf.data pipeline's pictures, seeds, epochs, and a training where TensorFlow is missing."""

import os
import subprocess
import sys

import numpy as np
import pytest

from tfzoo.data import load_dataset
from tfzoo.data.augmentation import Augmentation

SIZE = (40, 56)
GEOMETRY = Augmentation(flip=None, brightness=0, contrast=0, rotation=20, elastic=3)  # nothing that goes batch by batch
EVERYTHING = Augmentation(rotation=20, translation=0.1, elastic=3, saturation=0.3, hue=0.2)


@pytest.fixture(scope="module")
def painted(masks_folder):
    """Eight pictures: with three a batch, two batches of three and one of two."""
    return load_dataset(f"masks:{masks_folder}", "train")


def load(dataset, augmentation=EVERYTHING, **options):
    return dataset.loader(3, SIZE, training=True, augmentation=augmentation, **{"seed": 3} | options)


def epochs(loader, count=2):
    """The batches of so many epochs, taken as ``fit`` does."""
    taken = []
    for _ in range(count):
        taken.append([loader[index] for index in range(len(loader))])
        loader.on_epoch_end()
    return taken


def assert_same(first, second):
    for batches, others in zip(first, second, strict=True):
        for batch, other in zip(batches, others, strict=True):
            for one, two in zip(batch, other, strict=True):
                np.testing.assert_array_equal(one, two)


def differ(first, second):
    return any((a != b).any() for (a, _), (b, _) in zip(first, second, strict=True))


def test_batches_have_the_shapes_and_types_of_the_pipeline(painted):
    loader = load(painted)
    assert len(loader) == loader.num_batches == 3
    shapes = [(images.shape, images.dtype, labels.shape, labels.dtype) for images, labels in loader]
    assert shapes == [((n, *SIZE, 3), np.uint8, (n, *SIZE), np.uint8) for n in (3, 3, 2)]


@pytest.mark.parametrize("training", [True, False])
def test_pictures_their_order_and_geometry_are_those_of_the_pipeline(painted, training):
    options = {"training": training, "seed": 5, "first_epoch": 2, "augmentation": GEOMETRY}
    data = painted.batches(3, SIZE, **options)
    pipeline = [[(images.numpy(), labels.numpy()) for images, labels in data] for _ in range(2)]
    assert_same(epochs(painted.loader(3, SIZE, **options)), pipeline)


def test_one_seed_gives_the_same_epochs_however_many_threads(painted):
    first, second = epochs(load(painted, workers=1), 3), epochs(load(painted, workers=4), 3)
    assert_same(first, second)
    assert all(differ(first[a], first[b]) for a, b in ((0, 1), (1, 2), (0, 2)))


def test_seeds_differ(painted):
    assert differ(*(epochs(load(painted, seed=seed), 1)[0] for seed in (3, 4)))


def test_a_resumed_training_sees_what_it_would_have_seen(painted):
    assert_same(epochs(load(painted), 3)[1:], epochs(load(painted, first_epoch=1), 2))


def test_the_epoch_goes_on_only_when_all_its_batches_were_taken(painted):
    loader = load(painted)
    first = loader[0]
    loader.on_epoch_end()  # what Keras says after it has looked at a batch
    assert loader.epoch == 0
    assert_same([[first]], [[loader[0]]])
    for index in (2, 1):
        loader[index]
    loader.on_epoch_end()
    assert loader.epoch == 1
    assert differ([first], [loader[0]])


def test_a_filled_last_batch_goes_on_with_the_first_pictures(painted):
    [short], [full] = epochs(load(painted), 1), epochs(load(painted, fill=True), 1)
    assert_same([short[:2]], [full[:2]])
    assert [len(images) for images, _ in full] == [3, 3, 3]
    without_colour = load(painted, augmentation=GEOMETRY, fill=True)
    np.testing.assert_array_equal(without_colour[2][0][2], without_colour[0][0][0])


def test_batches_taken_out_of_turn_are_the_same(painted):
    in_turn = epochs(load(painted), 1)[0]
    loader = load(painted)
    shuffled = {index: loader[index] for index in (2, 0, 1)}
    assert_same([in_turn], [[shuffled[index] for index in range(3)]])


def test_there_is_no_batch_beyond_the_last(painted):
    for index in (3, -1):
        with pytest.raises(IndexError, match="3 batches"):
            load(painted)[index]


def test_flips_move_picture_and_label_together():
    """Every colour is a class: each pixel's label can be told from the picture."""
    dataset = load_dataset("shapes:32x40", "val")
    dataset.read = lambda index: paint(index)
    flip_only = Augmentation(scale=(1, 1), flip="horizontal_and_vertical", brightness=0, contrast=0)
    loader = dataset.loader(10, (32, 40), training=True, augmentation=flip_only)
    images, labels = (np.concatenate(part) for part in zip(*(loader[index] for index in range(len(loader))), strict=True))
    np.testing.assert_array_equal(images[..., 0], labels)
    corners = {int(label_map[0, 0]) for label_map in labels}
    assert corners == {1, 2, 3, 4}  # straight, mirrored, upside down, both


def paint(index):
    labels = np.ones((32, 40), np.uint8)
    labels[:, 20:] += 1
    labels[16:] += 2
    return {"images": labels[..., None].repeat(3, axis=-1), "segmentation_masks": labels[..., None]}


def test_labels_are_only_classes_and_the_ignored_one(painted):
    for epoch in epochs(load(painted)):
        for _, labels in epoch:
            assert set(np.unique(labels)) <= {*range(5), 255}


@pytest.mark.parametrize("wrong", [{"batch_size": 0}, {"workers": 0}])
def test_a_loader_needs_something_to_do_and_someone_to_do_it(expect_sentence, painted, wrong):
    expect_sentence(lambda: painted.loader(**wrong), next(iter(wrong)))


def test_a_damaged_picture_keeps_its_sentence(expect_sentence, tmp_path, write_masks):
    image = np.zeros((32, 32, 3), np.uint8)
    spec = write_masks(tmp_path, dict.fromkeys(("a", "b"), (image, image[..., 0])), ["c"])
    dataset = load_dataset(spec, "train")
    path = tmp_path / "images" / "b.png"
    path.write_bytes(path.read_bytes()[:60])
    loader = dataset.loader(1)
    loader[0]
    expect_sentence(lambda: loader[1], "b.png")


WITHOUT_TENSORFLOW = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "tensorflow":
            raise ModuleNotFoundError("No module named 'tensorflow'", name="tensorflow")

sys.meta_path.insert(0, Missing())

import keras
import tfzoo
import tfzoo.benchmarks.accuracy
from tfzoo.data.augmentation import Augmentation
from tfzoo.errors import InputError

assert keras.backend.backend() == "jax"
keras.utils.set_random_seed(0)
train = tfzoo.load_dataset("shapes:32x48", "test")
loader = train.loader(50, training=True, augmentation=Augmentation(rotation=10, elastic=2, saturation=0.2, hue=0.1))
model = tfzoo.create_model("unet", class_names=train.class_names, width_multiplier=0.0625, depth=1)
model.compile(keras.optimizers.Adam(1e-2))
history = model.fit(loader, epochs=2, shuffle=False, verbose=0).history
assert loader.epoch == 2, loader.epoch
assert history["loss"][1] < history["loss"][0], history
images, labels = train.loader(50)[0]
answer = model.predict(images, batch_size=50, verbose=0)["labels"]
assert answer.shape == labels.shape and answer.max() < len(train.class_names)
for call in (train.batches, train.samples):
    try:
        call()
    except InputError as error:
        assert "loader()" in str(error)
    else:
        raise AssertionError("a tf.data pipeline without TensorFlow")
model.save(sys.argv[1])
assert 0 < tfzoo.benchmarks.accuracy.evaluate(sys.argv[1], "shapes:32x48", "test", (32, 48))["pixel_accuracy"] <= 1
assert "tensorflow" not in sys.modules
print("trained without TensorFlow")
"""


def test_trains_and_evaluates_where_tensorflow_is_not_installed(tmp_path):
    hurry = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"  # what is compiled runs only once
    environment = {**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu", "XLA_FLAGS": hurry}
    command = [sys.executable, "-c", WITHOUT_TENSORFLOW, tmp_path / "model.keras"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.endswith("trained without TensorFlow\n")
