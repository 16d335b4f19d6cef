"""tfzoo: Keras models for dense vision that train with ``fit``, and exports that are proved.

Nothing heavy is imported until it is used: ``import tfzoo`` imports neither Keras nor TensorFlow.
"""

import importlib

__version__ = "0.1.0"

_LAZY = {
    "list_models": "tfzoo.zoo",
    "create_model": "tfzoo.factory",
    "load_dataset": "tfzoo.data",
    "load_model": "tfzoo.weights",
}
_ROOMS = (
    "backbones",
    "benchmarks",
    "data",
    "errors",
    "export",
    "layers",
    "losses",
    "metrics",
    "models",
    "serving",
    "training",
    "weights",
    "zoo",
)

__all__ = ["__version__", *_LAZY]


def __getattr__(name):
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    if name in _ROOMS:
        return importlib.import_module(f"tfzoo.{name}")
    raise AttributeError(f"module 'tfzoo' has no attribute '{name}'")


def __dir__():
    return sorted([*globals(), *_LAZY, *_ROOMS])
