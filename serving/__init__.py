"""Behind a server: ``export_served`` writes what TensorFlow Serving watches, ``Client`` asks it; ``LocalServer`` answers
from any artifact as TensorFlow Serving does.

Nothing heavy is imported until it is used: a client over REST needs no TensorFlow.
"""

import importlib

_LAZY = {
    "export_served": "tfzoo.serving.repository",
    "Client": "tfzoo.serving.client",
    "LocalServer": "tfzoo.serving.server",
}

__all__ = ["Client", "LocalServer", "export_served"]


def __getattr__(name):
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'tfzoo.serving' has no attribute '{name}'")


def __dir__():
    return sorted([*globals(), *_LAZY])
