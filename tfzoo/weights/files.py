"""Weights for a model: a file of ours, or a published backbone."""

import importlib
import pathlib

from tfzoo.errors import InputError, MissingInputError

SUFFIXES = (".h5",)


def load_model(path):
    """Loads a model that was saved with ``model.save("x.keras")``.

    Raises:
        MissingInputError: there is no such file.
        InputError: the file is damaged, or holds a model that is not of this zoo.
    """
    path = _existing(path)
    if path.suffix != ".keras":
        raise InputError(f"{path} is not a .keras file: save the model with model.save('NAME.keras').")
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


def register_all():
    """Imports every class that a ``.keras`` file may name, so that Keras finds it."""
    from tfzoo import losses, metrics  # noqa: F401  (registers its classes)
    from tfzoo.zoo import MODELS

    for entry in MODELS.values():
        importlib.import_module(entry.builder.partition(":")[0])


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


def input_transform(entry, weights) -> dict:
    """Returns the ``image_mean`` and ``image_std`` that the weights were trained with, as options; {} for the defaults."""
    if weights == "imagenet" and "imagenet" in entry.weights:
        from tfzoo.weights import imagenet

        return dict(imagenet.VGG16_TRANSFORM)
    return {}


def load(model, name, entry, weights):
    """Puts published weights, or those of a ``.weights.h5`` file, into a model.

    Raises:
        InputError: the weights are unknown, or of another architecture, width or number of classes.
        MissingInputError: the file is not there.
    """
    if weights in entry.weights:
        from tfzoo.weights import imagenet

        imagenet.load_vgg16(model)
        return
    path = pathlib.Path(str(weights))
    if path.suffix not in SUFFIXES:
        known = ", ".join(f"'{w}'" for w in entry.weights) or "none"
        raise InputError(
            f"Model '{name}' has no weights '{weights}': published ones are {known}; else give a .keras or .weights.h5 file."
        )
    _existing(path)
    try:
        model.load_weights(path)
    except Exception as error:
        raise InputError(f"{path} does not fit model '{name}' with {model.num_classes} classes ({_first_line(error)}).") from error


def copy(stored, model, path):
    """Copies a stored model's weights into one of the same architecture, options and number of classes; else an InputError."""
    if stored.num_classes != model.num_classes:
        raise InputError(
            f"{path} was trained for {stored.num_classes} classes, not {model.num_classes}: use data of the same classes."
        )
    if stored.options != model.options:
        differ = ", ".join(f"{k}={stored.options[k]}" for k in stored.options if stored.options[k] != model.options.get(k))
        raise InputError(f"{path} was built with {differ}: give the same options.")
    model.set_weights(stored.get_weights())


def _existing(path) -> pathlib.Path:
    path = pathlib.Path(path)
    if not path.is_file():
        raise MissingInputError(f"There is no file {path}: check the path.")
    return path


def _first_line(error):
    return str(error).strip().partition("\n")[0][:200] or type(error).__name__
