"""Weights for a model: from a file of ours, from one in torchvision's layout, or published."""

import importlib
import pathlib
import zipfile

from tfzoo.errors import InputError, MissingInputError
from tfzoo.weights.source import Source


def load_model(path):
    """Loads a model that was saved with ``model.save("x.keras")``.

    Raises:
        MissingInputError: there is no such file.
        InputError: the file is damaged, or holds a model that is not of this zoo.
    """
    path = _existing(path)
    if path.suffix != ".keras":
        raise InputError(f"{path} is not a .keras file: save the model with model.save('NAME.keras').")
    if not zipfile.is_zipfile(path):
        raise InputError(f"{path} is damaged, or no .keras file: save it again with model.save.")
    import keras

    register_all()
    try:
        model = keras.models.load_model(path)
    except Exception as error:  # a damaged archive fails in zipfile, json, h5py or in Keras, each with its own exception
        raise InputError(
            f"{path} cannot be read as a Keras model ({_first_line(error)}): save it again with model.save."
        ) from error
    if not hasattr(model, "task"):
        raise InputError(
            f"{path} holds a Keras model that is not of this zoo ({type(model).__name__}): give one made by tfzoo.create_model."
        )
    return model


def open_model(artifact, weights=None):
    """Opens a ``.keras`` file, or makes the model of this name in the zoo with these weights, classes and all.

    Raises:
        InputError: a name without weights, weights that do not tell the classes, or a path with weights.
    """
    from tfzoo.factory import create_model
    from tfzoo.zoo import MODELS, find_entry

    if str(artifact) in MODELS and not (weights is None and pathlib.Path(artifact).exists()):
        if weights is None:
            raise InputError(f"'{artifact}' is a model's name: give the file of one, or, where --weights is taken, its weights.")
        return create_model(str(artifact), weights=weights)
    if weights is not None:
        find_entry(str(artifact))
    return load_model(artifact)


def register_all():
    """Imports every class that a ``.keras`` file may name, so that Keras finds it."""
    from tfzoo import losses, metrics  # noqa: F401  (registers its classes)
    from tfzoo.zoo import MODELS

    for entry in MODELS.values():
        importlib.import_module(entry.builder.partition(":")[0])


def open_weights(weights, name, entry) -> Source:
    """Returns the weights that ``create_model(weights=...)`` names, for the model ``name``, whose line in the zoo is ``entry``.

    Raises:
        InputError: the weights are unknown, of another architecture, or not what was published.
        MissingInputError: the file is not there, or cannot be downloaded.
    """
    from tfzoo.weights import backbone, imagenet, shipped, torchvision

    if shipped.is_shipped(name, weights):
        return shipped.Shipped(name, weights)
    if weights == "imagenet" and weights in entry.weights:
        return imagenet.open_backbone(name, entry)
    if weights in entry.weights:
        return torchvision.Checkpoint(torchvision.fetch(torchvision.PUBLISHED[name]), entry)
    if str(weights).startswith(backbone.PREFIX):
        return backbone.Backbone(str(weights).removeprefix(backbone.PREFIX))
    path = pathlib.Path(str(weights))
    if path.suffix == ".keras":
        return KerasFile(path, entry)
    if path.suffix in torchvision.SUFFIXES:
        return torchvision.Checkpoint(_existing(path), entry)
    if path.suffix == ".h5":
        return WeightsFile(path, name)
    known = ", ".join(f"'{w}'" for w in entry.weights) or "none"
    raise InputError(
        f"Model '{name}' has no weights '{weights}': published ones are {known}; else give a .keras, .weights.h5 or .pth "
        "file, or backbone:FILE.keras for the backbone of another model."
    )


class KerasFile(Source):
    """A whole model of ours: it brings its classes, options and normalisation along."""

    def __init__(self, path, entry):
        self.path, self.stored = path, load_model(path)
        check_architecture(self.stored, entry, path)
        self.num_classes, self.class_names = self.stored.num_classes, self.stored.class_names
        self.options = stored_options(self.stored, entry)

    def load(self, model, new_head):
        """Copies the weights into a model of the same options and number of classes; else an InputError."""
        stored = self.stored
        if stored.num_classes != model.num_classes:
            raise InputError(
                f"{self.path} was trained for {stored.num_classes} classes, not {model.num_classes}: use data of the same classes."
            )
        if stored.options != model.options:
            differ = ", ".join(f"{k}={stored.options[k]}" for k in stored.options if stored.options[k] != model.options.get(k))
            raise InputError(f"{self.path} was built with {differ}: give the same options.")
        model.set_weights(stored.get_weights())


class WeightsFile(Source):
    """The weights of a model of ours, alone."""

    def __init__(self, path, name):
        self.path, self.name = _existing(path), name

    def load(self, model, new_head):
        """Puts the weights into a model of the same architecture, options and number of classes; else an InputError."""
        try:
            model.load_weights(self.path)
        except Exception as error:
            raise InputError(
                f"{self.path} does not fit model '{self.name}' with {model.num_classes} classes ({_first_line(error)})."
            ) from error


def stored_options(stored, entry) -> dict:
    """Returns the options that a stored model was built with, but for those that the name in the zoo fixes."""
    config = stored.get_config()
    left_out = {"num_classes", "class_names", "name", "dtype", *entry.options}
    return {key: value for key, value in config.items() if key not in left_out}


def check_architecture(stored, entry, path):
    """Raises an InputError unless the stored model is what the name in the zoo stands for."""
    wanted = entry.build_class()
    fixed = {key: value for key, value in entry.options.items() if stored.get_config().get(key) != value}
    if type(stored) is not wanted or fixed:
        raise InputError(
            f"{path} holds the model '{stored.name}' ({type(stored).__name__}), not a {wanted.__name__}"
            f"{''.join(f' of {key} {value}' for key, value in fixed.items())}: name the model that it was trained as."
        )


def _existing(path) -> pathlib.Path:
    path = pathlib.Path(path)
    if not path.is_file():
        raise MissingInputError(f"There is no file {path}: check the path.")
    return path


def _first_line(error):
    return str(error).strip().partition("\n")[0][:200] or type(error).__name__
