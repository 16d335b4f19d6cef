"""``create_model``: from a name in the zoo to a model, with the weights that were asked for."""

import inspect

from tfzoo.errors import InputError, nearest
from tfzoo.weights import open_weights
from tfzoo.zoo import find_entry


def create_model(name: str, num_classes: int | None = None, weights=None, class_names=None, **options):
    """Builds a model.

    Args:
        name: one of ``list_models()``.
        num_classes: number of classes; may be left out where ``class_names`` or ``weights`` tell it.
        weights: None (random), "imagenet" (backbone), "voc" (torchvision's published segmenter), or the path of a ``.keras``,
            ``.weights.h5`` or ``.pth`` file. A ``.keras`` file brings its options, classes and normalisation along. A ``.pth``
            file in torchvision's layout, "voc" too, brings its classes; where classes are given, the layers that score them
            start anew. "backbone:FILE.keras" takes what the layers of the backbone learned in another model of the zoo.
        class_names: their names, in label order.
        **options: the architecture's own: see its class.

    Returns:
        a ``keras.Model``, to ``compile`` and ``fit``; ``predict`` gives the deployed answer.

    Raises:
        InputError: an unknown name or option, or weights that do not fit the model.
        MissingInputError: the weights' file is not there, or cannot be downloaded.
    """
    entry = find_entry(name)
    source = None if weights is None else open_weights(weights, name, entry)
    if num_classes is None and class_names is not None:
        num_classes = len(class_names)
    new_head = num_classes is not None
    if source is not None and not new_head:
        num_classes, class_names = source.num_classes, source.class_names
    if num_classes is None:
        raise InputError(f"Model '{name}' needs to know its classes: give num_classes or class_names.")
    model = _build(name, entry, num_classes, class_names, {**(source.options if source else {}), **options})
    if source is not None:
        source.load(model, new_head)
    return model


def _build(name, entry, num_classes, class_names, options):
    builder = entry.build_class()
    allowed = _option_names(builder)
    for option in options:
        if option in entry.options or option not in allowed:
            raise InputError(
                f"Model '{name}' has no option '{option}': it has {', '.join(sorted(allowed - set(entry.options)))}."
                f"{nearest(option, allowed - set(entry.options))}"
            )
    try:
        return builder(num_classes, class_names=class_names, name=name, **entry.options, **options)
    except InputError:
        raise
    except (TypeError, ValueError) as error:  # a value that no layer takes, such as a dropout of 3
        reason = str(error).strip().partition("\n")[0]
        given = ", ".join(f"{key}={value!r}" for key, value in options.items())
        raise InputError(f"Model '{name}' cannot be built with {given} ({reason}): correct these options.") from error


def _option_names(builder) -> set[str]:
    names = set()
    for cls in inspect.getmro(builder):
        if cls.__module__.startswith("tfzoo."):
            names |= set(inspect.signature(cls.__init__).parameters)
    return names - {"self", "num_classes", "class_names", "name", "kwargs", "options"}
