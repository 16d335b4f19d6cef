"""The one table of what the zoo has: name, builder, task, and what is published about it."""

import dataclasses
import importlib

from tfzoo.errors import InputError, nearest


@dataclasses.dataclass(frozen=True)
class Entry:
    """One line of the table.

    Attributes:
        builder: "module:Class".
        task: "semantic", "detection", "instance" or "keypoint".
        paper: first author and year.
        options: what this name fixes of the class's arguments.
        weights: names that ``create_model(weights=...)`` takes, beside paths.
        minimum_size: smallest height and width in pixels.
    """

    builder: str
    task: str
    paper: str
    options: dict = dataclasses.field(default_factory=dict)
    weights: tuple[str, ...] = ()
    minimum_size: int = 32

    def build_class(self):
        """Imports and returns the class (this imports Keras)."""
        module, name = self.builder.split(":")
        return getattr(importlib.import_module(module), name)


MODELS = {
    "fcn8s_vgg16": Entry("tfzoo.models.fcn:FCN", "semantic", "Long 2015", {"stride": 8}, ("imagenet",)),
    "fcn16s_vgg16": Entry("tfzoo.models.fcn:FCN", "semantic", "Long 2015", {"stride": 16}, ("imagenet",)),
    "fcn32s_vgg16": Entry("tfzoo.models.fcn:FCN", "semantic", "Long 2015", {"stride": 32}, ("imagenet",)),
    "unet": Entry("tfzoo.models.unet:UNet", "semantic", "Ronneberger 2015"),
}


def list_models(task: str | None = None) -> list[str]:
    """Returns the names that ``create_model`` takes, sorted; ``task`` keeps those of one task.

    Raises:
        InputError: the task is not known.
    """
    from tfzoo.data.dataset import TASKS

    if task is not None and task not in TASKS:
        raise InputError(f"Task '{task}' is not known: it is one of {', '.join(TASKS)}.{nearest(task, TASKS)}")
    return sorted(name for name, entry in MODELS.items() if task in (None, entry.task))


def find_entry(name: str) -> Entry:
    """Returns the table's line, or raises an InputError that suggests the nearest name."""
    if name not in MODELS:
        raise InputError(f"There is no model '{name}': 'tfzoo models' lists them.{nearest(name, MODELS)}")
    return MODELS[name]


def create_model(name: str, num_classes: int | None = None, weights=None, class_names=None, **options):
    """Builds a model.

    Args:
        name: one of ``list_models()``.
        num_classes: number of classes; may be left out where ``class_names`` or ``weights`` tell it.
        weights: None (random), "imagenet" (backbone), or the path of a ``.keras`` or ``.weights.h5`` file.
        class_names: their names, in label order.
        **options: the architecture's own: see its class.

    Returns:
        a ``keras.Model``, to ``compile`` and ``fit``; ``predict`` gives the deployed answer.

    Raises:
        InputError: an unknown name or option, or weights that do not fit the model.
        MissingInputError: the weights' file is not there, or cannot be downloaded.
    """
    from tfzoo import weights as weight_files

    entry = find_entry(name)
    if num_classes is None and class_names is not None:
        num_classes = len(class_names)
    if num_classes is None and weights is not None:
        class_names = weight_files.stored_class_names(name, entry, weights)
        num_classes = class_names and len(class_names)
    if num_classes is None:
        raise InputError(f"Model '{name}' needs to know its classes: give num_classes or class_names.")
    options = {**weight_files.input_transform(entry, weights), **options}
    model = _build(name, entry, num_classes, class_names, options)
    if weights is not None:
        weight_files.load(model, name, entry, weights)
    return model


def _build(name, entry, num_classes, class_names, options):
    builder = entry.build_class()
    allowed = _option_names(builder)
    for option in options:
        if option in entry.options or option not in allowed:
            raise InputError(
                f"Model '{name}' has no option '{option}': it has {', '.join(sorted(allowed - set(entry.options)))}."
                f"{nearest(option, allowed)}"
            )
    return builder(num_classes, class_names=class_names, name=name, **entry.options, **options)


def _option_names(builder) -> set[str]:
    import inspect

    names = set()
    for cls in inspect.getmro(builder):
        if cls.__module__.startswith("tfzoo."):
            names |= set(inspect.signature(cls.__init__).parameters)
    return names - {"self", "num_classes", "class_names", "name", "kwargs", "options"}
