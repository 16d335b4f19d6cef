"""A repository that TensorFlow Serving can watch: versions, signatures, and nothing half-written."""

import io
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import tfzoo
from tfzoo.data.images import resize_image
from tfzoo.errors import ExportError, InputError, MissingInputError, OutputExistsError
from tfzoo.export import load
from tfzoo.export import sidecar as sidecars
from tfzoo.serving import export_served, repository

SIZE = (64, 96)  # of the model in conftest.py
NAMES = ["background", "circle", "square", "triangle"]


def png(image):
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


def visible(folder):
    return sorted(path.name for path in pathlib.Path(folder).iterdir())


@pytest.fixture
def quick(monkeypatch):
    """Exports are not compared again: for tests of what comes after."""
    monkeypatch.setattr(repository, "verify", lambda *_: None)


def test_what_is_written(version):
    assert version.name == "1" and version.parent.name == "tiny"
    root = version.parent.parent
    assert visible(root) == ["docker-compose.yml", "models.config", "tiny"]
    assert visible(version.parent) == ["1"]
    assert (version / "assets" / "classes.txt").read_text().split() == NAMES
    compose = (root / "docker-compose.yml").read_text()
    assert "image: tensorflow/serving" in compose and ".:/models:ro" in compose
    assert "--model_config_file_poll_wait_seconds=60" in compose
    sidecar = sidecars.read(version)
    assert sidecar.class_names == NAMES and tuple(sidecar.image_size) == SIZE and sidecar.batch_size is None


def test_config_is_read_by_protobuf(version):
    config_pb2 = pytest.importorskip("tensorflow_serving.config.model_server_config_pb2")
    from google.protobuf import text_format

    text = (version.parent.parent / "models.config").read_text()
    config = text_format.Parse(text, config_pb2.ModelServerConfig()).model_config_list.config
    assert [(c.name, c.base_path, c.model_platform) for c in config] == [("tiny", "/models/tiny", "tensorflow")]


def test_signatures(signatures):
    import tensorflow as tf

    encoded, tensor = signatures["serving_default"], signatures["tensor"]
    assert encoded.structured_input_signature[1]["image_bytes"] == tf.TensorSpec((None,), tf.string, name="image_bytes")
    assert tensor.structured_input_signature[1]["images"] == tf.TensorSpec((None, *SIZE, 3), tf.uint8, name="images")
    assert {name: spec.dtype.name for name, spec in tensor.structured_outputs.items()} == {"labels": "uint8", "scores": "float32"}
    assert set(encoded.structured_outputs) == {"labels", "scores", "image_shape"}
    assert encoded.structured_outputs["image_shape"].dtype == tf.int32


@pytest.mark.parametrize("signature", ["tensor", "serving_default"])
def test_answers_like_predict_in_a_process_without_tfzoo(version, images, answer, signature, tmp_path):
    name, values = ("images", images) if signature == "tensor" else ("image_bytes", np.array([png(image) for image in images]))
    np.save(tmp_path / "input.npy", values)
    command = [sys.executable, "-m", "tensorflow.python.tools.saved_model_cli", "run", "--dir", str(version)]
    command += ["--tag_set", "serve", "--signature_def", signature, "--inputs", f"{name}={tmp_path / 'input.npy'}"]
    subprocess.run([*command, "--outdir", str(tmp_path)], check=True, capture_output=True, timeout=100, cwd=tmp_path)
    labels, scores = np.load(tmp_path / "labels.npy"), np.load(tmp_path / "scores.npy")
    assert labels.dtype == np.uint8 and scores.dtype == np.float32
    assert (labels == answer["labels"]).mean() >= 0.9995
    np.testing.assert_allclose(scores, answer["scores"], atol=1e-4)
    if signature == "serving_default":
        np.testing.assert_array_equal(np.load(tmp_path / "image_shape.npy"), [SIZE] * 3)


def test_picture_of_another_size_is_resized_as_in_training(signatures, model):
    import tensorflow as tf

    image = np.asarray(Image.fromarray(np.random.default_rng(1).integers(0, 256, (20, 30, 3), np.uint8)).resize((150, 110)))
    got = signatures["serving_default"](image_bytes=tf.constant([png(image)]))
    want = model.predict(resize_image(image, SIZE)[None], verbose=0)
    np.testing.assert_array_equal(got["image_shape"], [[110, 150]])
    assert (got["labels"].numpy() == want["labels"]).mean() > 0.99
    assert np.abs(got["scores"].numpy() - want["scores"]).mean() < 0.01


def test_runner_takes_the_tensor_signature(version, images, answer):
    runner = load(version)
    assert runner.class_names == NAMES and runner.image_size == SIZE
    assert (runner.predict(images)["labels"] == answer["labels"]).mean() >= 0.9995
    assert runner.predict([np.zeros((70, 50, 3), np.uint8)])["labels"][0].shape == (70, 50)


def test_versions_count_up_and_old_ones_stay(model, tmp_path, quick):
    first = export_served(model, tmp_path, "m")
    before = {path: path.read_bytes() for path in first.rglob("*") if path.is_file()}
    (tmp_path / "docker-compose.yml").write_text("mine")
    assert export_served(model, tmp_path, "m", version=7).name == "7"
    assert export_served(model, tmp_path, "m").name == "8"
    assert export_served(model, tmp_path, "a.other-1").name == "1"
    with pytest.raises(OutputExistsError, match="version 7 already"):
        export_served(model, tmp_path, "m", version=7)
    assert visible(tmp_path / "m") == ["1", "7", "8"]
    assert before == {path: path.read_bytes() for path in first.rglob("*") if path.is_file()}
    assert (tmp_path / "docker-compose.yml").read_text() == "mine"
    config = (tmp_path / "models.config").read_text()
    assert [line.split('"')[1] for line in config.splitlines() if "name:" in line] == ["a.other-1", "m"]
    assert visible(tmp_path) == ["a.other-1", "docker-compose.yml", "m", "models.config"]


@pytest.mark.parametrize("earlier", [False, True])
def test_failed_check_leaves_nothing(model, tmp_path, monkeypatch, earlier):
    if earlier:
        (tmp_path / "m" / "3").mkdir(parents=True)

    def fail(*_):
        raise ExportError("off by far")

    monkeypatch.setattr(repository, "verify", fail)
    with pytest.raises(ExportError, match="off by far"):
        export_served(model, tmp_path, "m")
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")) == (["m", "m/3"] if earlier else [])


def test_another_answer_fails_the_check(model, version, monkeypatch):
    predict = type(model).predict

    def other(self, images, **options):
        out = predict(self, images, **options)
        return {**out, "labels": np.roll(out["labels"], 1, axis=0) + np.uint8(1)}

    monkeypatch.setattr(type(model), "predict", other)
    with pytest.raises(ExportError, match="does not answer what the model answers"):
        repository.verify(model, version, SIZE)


def test_model_without_a_size_takes_any(tmp_path):
    import tensorflow as tf

    model = tfzoo.create_model("unet", num_classes=2, width_multiplier=0.05, depth=2)
    place = export_served(model, tmp_path, "any")
    signatures = (loaded := tf.saved_model.load(str(place))).signatures
    assert signatures["tensor"](images=tf.zeros((2, 40, 72, 3), tf.uint8))["labels"].shape == (2, 40, 72)
    encoded = signatures["serving_default"](image_bytes=tf.constant([png(np.zeros((40, 72, 3), np.uint8))]))
    assert encoded["labels"].shape == (1, 256, 256)
    assert load(place).image_size is None
    del loaded
    assert load(export_served(model, tmp_path, "any", image_size="48x64")).image_size == (48, 64)


@pytest.mark.parametrize("name", ["", "a/b", "../x", ".hidden", "-x", "a b", "ü", "models.config"])
def test_bad_name(model, tmp_path, name):
    with pytest.raises(InputError, match="no plain folder name"):
        export_served(model, tmp_path, name)


def test_bad_input(model, tmp_path):
    with pytest.raises(MissingInputError):
        export_served(tmp_path / "nothing.keras", tmp_path, "m")
    with pytest.raises(InputError, match=r"give one made by tfzoo\.create_model"):
        export_served(object(), tmp_path, "m")
    with pytest.raises(InputError, match="at least 32x32"):
        export_served(model, tmp_path, "m", image_size=16)
    for version in (0, -1, "2", 1.0, True):
        with pytest.raises(InputError, match="no version"):
            export_served(model, tmp_path, "m", version=version)
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputExistsError):
        export_served(model, tmp_path, "file")
    with pytest.raises(OutputExistsError):
        export_served(model, tmp_path / "file", "m")
    assert visible(tmp_path) == ["file"]


def test_importing_the_room_imports_no_tensorflow():
    code = "import sys, tfzoo.serving, tfzoo.serving.client; assert not {'tensorflow', 'keras'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
