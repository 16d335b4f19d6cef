"""Large pictures by tiles."""

import pathlib
import types

import numpy as np
import pytest

from tfzoo.data.images import resize_image, resize_labels, resize_scores
from tfzoo.errors import InputError
from tfzoo.export import Runner, load
from tfzoo.export.tiling import TiledRunner, reflect, with_tiles


class FunctionRunner(Runner):
    """Stands for an artifact: its labels are a function of the picture [H, W, 3], its scores the red channel."""

    def __init__(self, function, image_size=None, batch_size=None, task="semantic"):
        self.path, self.format, self.name, self.threads = pathlib.Path("fake.onnx"), "onnx", "onnx", 1
        self.task, self.class_names = task, ["a", "b"]
        self.sidecar = types.SimpleNamespace(image_size=image_size, raw=False, proposals=None)
        self.image_size, self.batch_size, self.function = image_size, batch_size, function
        self.batches = []

    def _open(self): ...

    def run(self, images):
        self.batches.append(images.shape)
        labels = np.stack([self.function(image) for image in images])
        return {"labels": labels, "scores": images[..., 0].astype(np.float32) / 255}


def pointwise(image):
    return image[..., 0] // 2 + image[..., 1] // 2


def window_maximum(radius, mode):
    """The largest red value at most ``radius`` pixels away; outside the picture: 0, or its reflection."""

    def function(image):
        padded = np.pad(image[..., 0], radius, mode=mode)
        windows = np.lib.stride_tricks.sliding_window_view(padded, (2 * radius + 1,) * 2)
        return windows.max(axis=(2, 3))

    return function


def picture(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("length", [1, 2, 3, 7])
def test_reflection_is_that_of_numpy_however_long(length):
    expected = np.pad(np.arange(length), 40, mode="reflect")
    np.testing.assert_array_equal(reflect(np.arange(-40, length + 40), length), expected)


@pytest.mark.parametrize("size", [(32, 32), (33, 100), (101, 47), (64, 64), (150, 129)])
@pytest.mark.parametrize(("tile", "overlap"), [(32, 0), (64, 61), ("32x48", 7), (512, 100), (64, 16)])
def test_an_answer_that_looks_at_one_pixel_is_that_of_the_whole_picture(size, tile, overlap):
    image = picture(*size)
    whole = FunctionRunner(pointwise).predict([image])
    tiled = TiledRunner(FunctionRunner(pointwise), tile, overlap).predict([image])
    for name in ("labels", "scores"):
        assert tiled[name][0].dtype == whole[name][0].dtype
        np.testing.assert_array_equal(tiled[name][0], whole[name][0])


@pytest.mark.parametrize("radius", [1, 4, 15])
@pytest.mark.parametrize("odd", [0, 1])
def test_an_overlap_of_twice_the_receptive_field_s_radius_is_enough_and_needed(radius, odd):
    image = picture(131, 90) // 2
    image[::9, ::7] += 100  # single peaks: a window that is cut off misses them
    tiled = TiledRunner(FunctionRunner(window_maximum(radius, "constant")), 40, 2 * radius + odd).predict([image])["labels"][0]
    inner = np.s_[radius:-radius, radius:-radius]
    np.testing.assert_array_equal(tiled[inner], window_maximum(radius, "constant")(image)[inner])
    np.testing.assert_array_equal(tiled, window_maximum(radius, "reflect")(image))  # at the border too: U-Net's figure 2
    too_little = TiledRunner(FunctionRunner(window_maximum(radius, "constant")), 40, 2 * radius - 2).predict([image])
    assert (too_little["labels"][0][inner] != tiled[inner]).any()


def test_a_picture_smaller_than_a_tile_is_continued_by_reflection():
    image = picture(35, 50)
    tiled = TiledRunner(FunctionRunner(window_maximum(20, "constant")), 256, 200).predict([image])["labels"][0]
    np.testing.assert_array_equal(tiled, window_maximum(20, "reflect")(image))


@pytest.mark.parametrize("batch_size", [None, 1, 3])
def test_tiles_are_run_in_batches(batch_size):
    runner = FunctionRunner(pointwise, (32, 48) if batch_size else None, batch_size)
    images = [picture(100, 100, seed) for seed in range(2)]
    tiled = TiledRunner(runner, (32, 48), 8).predict(images)
    for image, labels in zip(images, tiled["labels"], strict=True):
        np.testing.assert_array_equal(labels, pointwise(image))
    # 100 pixels take 5 steps of 24 and 3 of 40: 15 tiles of a picture in groups of 8 and 7
    groups = {None: [8, 7], 1: [1] * 15, 3: [3] * 6}[batch_size]
    assert [shape[0] for shape in runner.batches] == groups * 2
    assert {shape[1:] for shape in runner.batches} == {(32, 48, 3)}


def test_arrays_and_lists_are_answered_alike():
    images = np.stack([picture(70, 90, seed) for seed in range(3)])
    runner = TiledRunner(FunctionRunner(pointwise), 64, 16)
    labels = runner.predict(images)["labels"]
    assert labels.shape == (3, 70, 90)
    np.testing.assert_array_equal(labels, np.stack(runner.predict(list(images))["labels"]))


def test_pictures_are_resized_before_they_are_cut_if_asked():
    image = picture(90, 120)
    runner = TiledRunner(FunctionRunner(pointwise), 48, 16, image_size="64x200")
    answer = runner.predict([image])
    small = resize_image(image, (64, 200))
    np.testing.assert_array_equal(answer["labels"][0], resize_labels(pointwise(small), (90, 120)))
    np.testing.assert_array_equal(answer["scores"][0], resize_scores(small[..., 0].astype(np.float32) / 255, (90, 120)))


def test_without_a_tile_nothing_changes():
    runner = FunctionRunner(pointwise)
    assert with_tiles(runner) is runner
    assert with_tiles(runner, 64).overlap == 16


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((64, -1), "one from 0 to 63"),
        ((64, 64), "one from 0 to 63"),
        (("40x96", 40), "one from 0 to 39"),
        ((31, 0), "give --tile 32 or more"),
        (("big", 0), "Tile 'big' is not a size"),
        ((None, 8), "give --tile too"),
    ],
)
def test_tiles_that_cannot_be_are_refused(arguments, sentence):
    with pytest.raises(InputError, match=sentence):
        with_tiles(FunctionRunner(pointwise), *arguments)


def test_a_file_of_a_fixed_size_takes_tiles_of_that_size():
    with pytest.raises(InputError, match="takes pictures of 64x96 only, not tiles of 64x64: give --tile 64x96"):
        TiledRunner(FunctionRunner(pointwise, (64, 96)), 64)
    assert TiledRunner(FunctionRunner(pointwise, (64, 96)), "64x96").overlap == 16


def test_only_segmenters_are_run_by_tiles():
    with pytest.raises(InputError, match="its task is 'detection'"):
        TiledRunner(FunctionRunner(pointwise, task="detection"), 64)


def test_a_unet_answers_by_tiles_what_it_answers_at_once(small_unet):
    """Two poolings: 2 + 4 + 8 + 4 + 2 pixels of 3x3 convolutions and less than 8 of pooling and upsampling are below 32."""
    image = picture(150, 201)
    image[40:120, 50:130] = (200, 30, 30)
    whole = load(small_unet[1])
    whole.image_size = None
    whole = whole.predict([image])
    tiled = TiledRunner(load(small_unet[1]), 96, 64).predict([image])
    inner = np.s_[32:-32, 32:-32]
    np.testing.assert_allclose(tiled["scores"][0][inner], whole["scores"][0][inner], atol=1e-5)  # float32, another batch
    assert len(np.unique(whole["labels"][0][inner])) > 1
    assert (tiled["labels"][0][inner] == whole["labels"][0][inner]).mean() >= 0.9999


@pytest.mark.parametrize("form", ["savedmodel", "onnx", "float32"])
def test_files_answer_by_tiles_what_keras_answers(exported, small_unet, form):
    image = picture(100, 150)
    expected = TiledRunner(load(small_unet[1]), "64x96", 32).predict([image])
    answer = TiledRunner(load(exported[form][0]), "64x96", 32).predict([image])
    np.testing.assert_allclose(answer["scores"][0], expected["scores"][0], atol=1e-4)
    assert (answer["labels"][0] == expected["labels"][0]).mean() >= 0.999
