"""``export_served``: a new version of a model in the folder that TensorFlow Serving watches, proved before it appears."""

import io
import os
import pathlib
import re
import shutil
import tempfile

import numpy as np
import tensorflow as tf
from PIL import Image

from tfzoo.data.images import parse_size
from tfzoo.data.objects import scale_found
from tfzoo.errors import ExportError, InputError, OutputExistsError
from tfzoo.export import sidecar as sidecars
from tfzoo.export import verify as parity
from tfzoo.export.calibration import pictures as draw_pictures
from tfzoo.export.exporter import CHECKED_PICTURES, DEFAULT_SIZE, check_exportable
from tfzoo.export.savedmodel import image_signature
from tfzoo.files import claim_folder, replacing
from tfzoo.models.base import check_images
from tfzoo.serving.decoding import decode_batch, resize
from tfzoo.serving.rest import BYTES, NAME, TENSOR
from tfzoo.weights import open_model
from tfzoo.zoo import MODELS

CONFIG_NAME, COMPOSE_NAME = "models.config", "docker-compose.yml"
CONFIG = """\
# Written anew by every export: one entry for each model in this folder.
model_config_list {{
{entries}}}
"""
CONFIG_ENTRY = """\
  config {{
    name: "{name}"
    base_path: "/models/{name}"
    model_platform: "tensorflow"
  }}
"""


def export_served(artifact, repository, name, image_size=None, version=None, weights=None) -> pathlib.Path:
    """Puts a model into a repository of TensorFlow Serving as a new version, once it has answered as Keras does.

    REPOSITORY/NAME/VERSION is a SavedModel with two signatures, both for any number of pictures:

    - ``serving_default`` takes ``image_bytes``, string [B], JPEG or PNG files, which are turned upright and resized to the
      export's image size in the graph;
    - ``tensor`` takes ``images``, uint8 [B, H, W, 3], of the image size that the export or the model states, else of any.

    Both answer what ``model.predict`` does; the first also ``image_shape`` int32 [B, 2], height and width of each picture as sent,
    in whose pixels boxes and keypoints are then, while label maps stay as large as the export's pictures. Class names lie in
    assets/classes.txt. REPOSITORY/models.config is brought up to date, and
    REPOSITORY/docker-compose.yml is written where there is none.

    Args:
        artifact: the path of a ``.keras`` file, a model of this zoo, or its name there.
        repository: the folder that the server watches; it is made where it is missing.
        name: what clients call the model: letters, digits, "_", "." and "-".
        image_size: N or (height, width). None: the size that the model was trained at or stretches pictures to; without one,
            pictures sent as bytes are resized to 256x256.
        version: a whole number from 1; None: one more than the highest that is there.
        weights: of an artifact that is a name, as ``create_model`` takes them.

    Returns:
        the version's folder; a server loads it by itself.

    Raises:
        InputError: an impossible name, version or size, or an artifact that is no model of this zoo, or one that wants proposals.
        MissingInputError: there is no such artifact.
        OutputExistsError: the version is there already; versions are never overwritten.
        ExportError: the export does not answer what the model answers; nothing is written then.
    """
    _check_name(name)
    model = _open(artifact, weights)
    size = parse_size(image_size) or model.image_size or model.fixed_size
    check_images((1, *(size or DEFAULT_SIZE), 3))
    repository = claim_folder(repository, allow_existing=True)
    place = repository / name / str(_choose_version(repository / name, version))
    with tempfile.TemporaryDirectory(prefix=f".{name}.", dir=repository) as folder:
        draft = pathlib.Path(folder) / "draft"
        write(model, draft, size)
        verify(model, draft, size)
        _put_in_place(draft, place)
    _write_config(repository)
    _write_compose(repository)
    return place


def write(model, folder, image_size=None) -> None:
    """Writes the SavedModel with both signatures, class names and sidecar; ``image_size`` None: ``tensor`` takes any."""
    with tempfile.TemporaryDirectory() as assets:
        classes = pathlib.Path(assets) / "classes.txt"
        classes.write_text("".join(f"{class_name}\n" for class_name in model.class_names), encoding="utf-8")
        served = ServedModel(model.deployed(), classes, image_size)
        tf.saved_model.save(served, str(folder), {BYTES: served.answer_bytes, TENSOR: served.answer_tensor})
    outputs = sidecars.meanings(model.task, served.answer_tensor.get_concrete_function().structured_outputs)
    sidecars.write(sidecars.Sidecar(model.name, model.task, model.class_names, image_size, None, outputs=outputs), folder)


class ServedModel(tf.Module):
    """What is saved: the deployed graph behind both signatures, its variables, and the file of class names.

    Args:
        deployed: the graph that answers.
        classes: path of the file of class names.
        image_size: (height, width), or None.
    """

    def __init__(self, deployed, classes, image_size=None):
        super().__init__()
        self.weights = [variable.value for variable in deployed.variables]
        self.classes = tf.saved_model.Asset(str(classes))

        def answer_bytes(image_bytes):
            size = image_size or DEFAULT_SIZE
            images, image_shape = decode_batch(image_bytes, size)
            return {**as_sent(deployed(images), size, image_shape), "image_shape": image_shape}

        def answer_tensor(images):
            return deployed(images)

        self.answer_bytes = tf.function(answer_bytes, input_signature=[tf.TensorSpec((None,), tf.string, name="image_bytes")])
        self.answer_tensor = tf.function(answer_tensor, input_signature=[image_signature(image_size, None)])


def as_sent(answer, size, image_shape) -> dict:
    """Carries boxes and keypoints from pictures of (height, width) ``size`` to those of int32 [B, 2] ``image_shape``."""
    down, across = tf.unstack(tf.cast(image_shape, tf.float32) / tf.constant(size, tf.float32), axis=1)
    factors = {
        "boxes": tf.stack([across, down, across, down], axis=1)[:, None],
        "keypoints": tf.stack([across, down, tf.ones_like(down)], axis=1)[:, None, None],
    }
    return {name: value * factors[name] if name in factors else value for name, value in answer.items()}


def verify(model, folder, image_size=None) -> None:
    """Loads the SavedModel anew and holds both signatures against ``model.predict``, on one drawn picture and on several.

    Files are sent twice as high and three times as wide as the model takes pictures, so that what is carried back shows.

    Raises:
        ExportError: an answer is missing, of another kind, or too far off.
    """
    loaded = tf.saved_model.load(str(folder))  # kept: a signature holds its variables weakly
    size = image_size or DEFAULT_SIZE
    images = np.stack(draw_pictures(None, size, CHECKED_PICTURES)[0])
    answer = _ask(loaded.signatures[TENSOR], images=images)
    _check(model, answer, model.predict(images, verbose=0))
    sent = images.repeat(2, axis=1).repeat(3, axis=2)
    taken = np.stack([resize(picture, size) for picture in sent])
    answer = _ask(loaded.signatures[BYTES], image_bytes=np.array([_encode(picture) for picture in sent], dtype=object))
    if not (answer.pop("image_shape") == sent.shape[1:3]).all():
        raise ExportError("The served model is wrong about the size of pictures sent as files; nothing was written.")
    _check(model, answer, scale_found(model.predict(taken, verbose=0), size, sent.shape[1:3]))


def _ask(signature, **inputs):
    ((argument, values),) = inputs.items()
    parts = [signature(**{argument: tf.constant(part)}) for part in (values[:1], values[1:])]
    return {output: np.concatenate([part[output].numpy() for part in parts]) for output in parts[0]}


def _check(model, answer, want):
    parity.check(parity.compare(answer, want), None, model.remembers_maxima)


def _encode(image):
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


def _check_name(name):
    if not NAME.fullmatch(str(name)) or name in (CONFIG_NAME, COMPOSE_NAME):
        raise InputError(
            f"Model name '{name}' is no plain folder name: give one of letters, digits, '_', '.' and '-' that starts with "
            "none of the last two and is not the name of a file of the repository."
        )


def _open(artifact, weights):
    if weights is not None and str(artifact) in MODELS:
        refuse_proposals(artifact, MODELS[str(artifact)].build_class())  # before weights are downloaded
    model = open_model(artifact, weights) if isinstance(artifact, (str, os.PathLike)) else artifact
    check_exportable(model)
    refuse_proposals(model.name, model)
    return model


def refuse_proposals(name, model) -> None:
    """Raises an InputError where a model, its class or its runner wants more than pictures."""
    if model.takes_proposals:
        raise InputError(
            f"Model {name} wants proposals with each picture, and served models take pictures alone: serve a two-stage detector, "
            "which finds its own."
        )


def _choose_version(folder, version):
    if folder.exists() and not folder.is_dir():
        raise OutputExistsError(f"{folder} is a file, not a folder of versions: choose another model name.")
    taken = [int(inner.name) for inner in _versions(folder)]
    if version is None:
        return max(taken, default=0) + 1
    if isinstance(version, bool) or not isinstance(version, int) or version < 1:
        raise InputError(f"Version {version!r} is no version: give a whole number from 1, or none for the next one.")
    if version in taken:
        raise OutputExistsError(f"{folder} has a version {version} already: choose another number, or none for the next one.")
    return version


def _versions(folder):
    """The folders that a server takes for versions: those whose name is a number."""
    return [inner for inner in folder.glob("*") if re.fullmatch("[0-9]+", inner.name)] if folder.is_dir() else []


def _put_in_place(draft, place):
    place.parent.mkdir(exist_ok=True)
    try:
        os.replace(draft, place)
    except OSError as error:
        raise OutputExistsError(f"{place} cannot be put in place ({error.strerror}): export again.") from None


def _write_config(repository):
    names = sorted(
        folder.name for folder in repository.glob("[!.]*") if any((v / "saved_model.pb").is_file() for v in _versions(folder))
    )
    with replacing(repository / CONFIG_NAME) as draft:
        draft.write_text(CONFIG.format(entries="".join(CONFIG_ENTRY.format(name=name) for name in names)))


def _write_compose(repository):
    place = repository / COMPOSE_NAME
    if not place.exists():
        shutil.copyfile(pathlib.Path(__file__).with_name(COMPOSE_NAME), place)
