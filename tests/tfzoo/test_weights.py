"""Weights: files of ours, and the published backbone."""

import keras
import numpy as np
import pytest

import tfzoo
from tfzoo.errors import InputError, MissingInputError
from tfzoo.weights import imagenet


def test_a_keras_file_starts_another_training(small_unet, pictures):
    model, path = small_unet
    again = tfzoo.create_model("unet", weights=str(path), width_multiplier=0.125, depth=2)
    assert again.class_names == model.class_names
    np.testing.assert_array_equal(again.predict(pictures[0], verbose=0)["scores"], model.predict(pictures[0], verbose=0)["scores"])


def test_a_weights_file_starts_another_training(small_unet, pictures, tmp_path):
    model, _ = small_unet
    model.save_weights(tmp_path / "unet.weights.h5")
    again = tfzoo.create_model("unet", num_classes=5, weights=tmp_path / "unet.weights.h5", width_multiplier=0.125, depth=2)
    np.testing.assert_array_equal(again.predict(pictures[0], verbose=0)["scores"], model.predict(pictures[0], verbose=0)["scores"])


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("fcn8s_vgg16", {"num_classes": 5, "width_multiplier": 0.125}, r"holds the model 'unet' \(UNet\), not a FCN"),
        ("unet", {"num_classes": 4, "width_multiplier": 0.125, "depth": 2}, "was trained for 5 classes, not 4"),
        ("unet", {"num_classes": 5, "width_multiplier": 0.125, "depth": 3}, "was built with depth=2"),
    ],
)
def test_checkpoint_of_another_model_is_refused(small_unet, name, options, message):
    with pytest.raises(InputError, match=message):
        tfzoo.create_model(name, weights=str(small_unet[1]), **options)


def test_a_keras_file_brings_its_options_along(small_unet):
    again = tfzoo.create_model("unet", weights=str(small_unet[1]))
    assert again.get_config() == small_unet[0].get_config()


def test_fcn8s_is_no_fcn32s(tmp_path):
    tfzoo.create_model("fcn32s_vgg16", num_classes=2, width_multiplier=0.0625).save(tmp_path / "m.keras")
    with pytest.raises(InputError, match="not a FCN of stride 8"):
        tfzoo.create_model("fcn8s_vgg16", weights=str(tmp_path / "m.keras"))


def test_missing_and_foreign_files_are_refused(tmp_path):
    with pytest.raises(MissingInputError, match="There is no file"):
        tfzoo.load_model(tmp_path / "none.keras")
    (tmp_path / "broken.keras").write_bytes(b"PK\x03\x04 not really")
    with pytest.raises(InputError, match="cannot be read as a Keras model"):
        tfzoo.load_model(tmp_path / "broken.keras")
    keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]).save(tmp_path / "foreign.keras")
    with pytest.raises(InputError, match="not of this zoo"):
        tfzoo.load_model(tmp_path / "foreign.keras")


def test_truncated_checkpoint_is_refused(small_unet, tmp_path):
    (tmp_path / "half.keras").write_bytes(small_unet[1].read_bytes()[:5000])
    with pytest.raises(InputError, match="cannot be read as a Keras model"):
        tfzoo.load_model(tmp_path / "half.keras")


@pytest.mark.slow
def test_vgg16_computes_what_keras_vgg16_computes():
    """On random weights: Keras's network on its own input (BGR minus mean), our fc7 at 224x224 without padding effects."""
    published = keras.applications.VGG16(weights=None)
    model = tfzoo.create_model("fcn8s_vgg16", num_classes=2, **imagenet.VGG16_TRANSFORM)
    imagenet.copy_vgg16(published, model)
    images = np.random.default_rng(0).integers(0, 256, (1, 224, 224, 3)).astype("float32")
    expected = keras.Model(published.input, published.get_layer("block5_pool").output)(
        keras.applications.vgg16.preprocess_input(images.copy())
    )
    ours = keras.Model(model.input, model.get_layer("block5_pool").output)(images)
    np.testing.assert_allclose(ours, expected, atol=1e-4 * np.abs(expected).max())
    # fc6 sees the whole 7x7 map at its centre, so the convolution answers there what the dense layer answers.
    fc7 = keras.Model(published.input, published.get_layer("fc2").output)(keras.applications.vgg16.preprocess_input(images.copy()))
    ours = keras.Model(model.input, model.get_layer("fc7_relu").output)(images)[:, 3, 3]
    np.testing.assert_allclose(ours, fc7, atol=1e-4 * np.abs(fc7).max())


def test_offline_imagenet_says_which_file_goes_where(monkeypatch, tmp_path):
    def refuse(**_):
        raise Exception("URL fetch failure")

    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setattr(keras.applications, "VGG16", refuse)
    with pytest.raises(MissingInputError, match=f"put Keras's file at {tmp_path}.*{imagenet.VGG16_FILE}"):
        tfzoo.create_model("fcn8s_vgg16", num_classes=3, weights="imagenet")


def test_imagenet_needs_the_published_width():
    with pytest.raises(InputError, match="width_multiplier=1"):
        imagenet.copy_vgg16(None, tfzoo.create_model("fcn8s_vgg16", num_classes=3, width_multiplier=0.125))
