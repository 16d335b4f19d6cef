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
    """

    builder: str
    task: str
    paper: str
    options: dict = dataclasses.field(default_factory=dict)
    weights: tuple[str, ...] = ()

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
