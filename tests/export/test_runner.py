"""One interface for every artifact."""

import json
import shutil

import numpy as np
import pytest

from tfzoo.data.images import resize_image, resize_labels
from tfzoo.errors import InputError, MissingInputError
from tfzoo.export import load
from tfzoo.export import sidecar as sidecars

FORMS = ["keras", "savedmodel", "onnx", "float32"]


@pytest.fixture
def artifact(exported, small_unet):
    return lambda form: small_unet[1] if form == "keras" else exported[form][0]


@pytest.mark.parametrize("form", FORMS)
def test_pictures_of_any_size_are_answered_at_their_own_size(artifact, small_unet, form):
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in ((64, 96), (130, 77), (40, 300))]
    runner = load(artifact(form))
    answer = runner.predict(pictures)
    assert runner.image_size == (64, 96) and runner.class_names == small_unet[0].class_names
    for picture, labels, scores in zip(pictures, answer["labels"], answer["scores"], strict=True):
        assert labels.shape == scores.shape == picture.shape[:2]
        assert labels.dtype == np.uint8 and scores.dtype == np.float32
        inside = small_unet[0].predict(resize_image(picture, (64, 96))[None], verbose=0)["labels"][0]
        assert (labels == resize_labels(inside, picture.shape[:2])).mean() >= 0.999


@pytest.mark.parametrize("form", FORMS)
def test_more_pictures_than_a_batch_keep_their_order(artifact, form, pictures):
    runner = load(artifact(form))
    many = np.concatenate([pictures[0]] * 3)
    answer = runner.predict(many)
    for row, image in enumerate(many):
        np.testing.assert_allclose(answer["scores"][row], runner.predict(image[None])["scores"][0], atol=1e-5)


def test_float_pictures_are_rounded_to_bytes(artifact, pictures):
    runner = load(artifact("float32"))
    images = pictures[0][:1]
    np.testing.assert_array_equal(runner.predict(images + 0.2)["scores"], runner.predict(images)["scores"])


def test_size_of_a_keras_file_can_be_chosen_but_not_of_a_fixed_one(artifact):
    assert load(artifact("keras"), image_size="96x64").image_size == (96, 64)
    with pytest.raises(InputError, match="takes pictures of 64x96 only, not 96x64"):
        load(artifact("float32"), image_size="96x64")


@pytest.mark.parametrize(
    "images", [np.zeros((64, 96, 3), np.uint8), np.zeros((1, 64, 96, 4), np.uint8), [], np.zeros((1, 8, 8, 3))]
)
def test_what_is_no_picture_is_refused(artifact, images):
    with pytest.raises(InputError):
        load(artifact("float32")).predict(images)


def test_damaged_and_foreign_artifacts_are_refused(exported, tmp_path):
    for form in ("onnx", "float32"):
        path = exported[form][0]
        (tmp_path / path.name).write_bytes(path.read_bytes()[:1000])
        with pytest.raises(MissingInputError, match="lacks the JSON"):
            load(tmp_path / path.name)
        sidecars.place(tmp_path / path.name).write_text(sidecars.place(path).read_text())
        with pytest.raises(InputError, match="is damaged or not the one that"):
            load(tmp_path / path.name)
    with pytest.raises(MissingInputError, match="There is no artifact"):
        load(tmp_path / "none.onnx")
    with pytest.raises(InputError, match="is no SavedModel"):
        load(tmp_path)
    sidecars.place(tmp_path / "unet.onnx").write_text("{}")
    with pytest.raises(InputError, match="is damaged"):
        load(tmp_path / "unet.onnx")


@pytest.fixture
def retold(exported, tmp_path):
    """A function that copies an artifact, with some values of its sidecar changed, and returns its path."""

    def copy(form, **changed):
        path = exported[form][0]
        shutil.copy(path, tmp_path / path.name)
        sidecars.place(tmp_path / path.name).write_text(json.dumps(json.loads(sidecars.place(path).read_text()) | changed))
        return tmp_path / path.name

    return copy


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("task", "depth"),
        ("task", ["semantic"]),
        ("class_names", None),
        ("class_names", "cell"),
        ("image_size", [64]),
        ("image_size", "64"),
        ("image_size", [64, "96"]),
        ("image_size", [0, 96]),
        ("batch_size", 0),
        ("batch_size", True),
        ("proposals", "some"),
        ("input", {}),
        ("input", []),
        ("input", ["images"]),
        ("input", {"name": "images", "dtype": "int4"}),
    ],
)
def test_faulty_sidecars_are_told_in_a_sentence(retold, key, value):
    with pytest.raises(InputError, match=rf"is damaged \(.* is no '{key}'\): export again\.$"):
        load(retold("float32", **{key: value}))


@pytest.mark.parametrize(
    ("form", "changed", "own", "told"),
    [
        ("float32", {"image_size": [96, 64]}, "1, 64, 96", "1, 96, 64"),
        ("float32", {"image_size": None}, "1, 64, 96", "1, any, any"),
        ("float32", {"batch_size": 2}, "1, 64, 96", "2, 64, 96"),
        ("onnx", {"image_size": [96, 64]}, "any, 64, 96", "any, 96, 64"),
        ("onnx", {"image_size": None}, "any, 64, 96", "any, any, any"),
    ],
)
def test_a_sidecar_of_another_shape_than_the_file_takes_is_refused(retold, form, changed, own, told):
    path = retold(form, **changed)
    with pytest.raises(
        InputError, match=rf"{path.name} takes pictures of .* \[{own}\], but .*{path.name}\.json tells of \[{told}\]"
    ):
        load(path)
    assert load(retold(form)).image_size == (64, 96)
