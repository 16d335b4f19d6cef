"""One tiny model, exported once for all tests of this room."""

import numpy as np
import pytest

import tfzoo
from tfzoo.serving import export_served

SIZE = (64, 96)
NAMES = ["background", "circle", "square", "triangle"]


@pytest.fixture(scope="session")
def model():
    import keras

    keras.utils.set_random_seed(0)
    return tfzoo.create_model("unet", class_names=NAMES, width_multiplier=0.125, depth=2, image_size=SIZE)


@pytest.fixture(scope="session")
def artifact(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("artifact") / "tiny.keras"
    model.save(path)
    return path


@pytest.fixture(scope="session")
def version(artifact, tmp_path_factory):
    """REPOSITORY/tiny/1, for tests that only read it."""
    return export_served(artifact, tmp_path_factory.mktemp("repository"), "tiny")


@pytest.fixture(scope="session")
def signatures(version):
    import tensorflow as tf

    loaded = tf.saved_model.load(str(version))
    yield loaded.signatures
    del loaded


@pytest.fixture(scope="session")
def images():
    return np.random.default_rng(0).integers(0, 256, (3, *SIZE, 3), np.uint8)


@pytest.fixture(scope="session")
def answer(model, images):
    return model.predict(images, verbose=0)
