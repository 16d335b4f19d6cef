"""Behind a server: ``export_served`` writes what TensorFlow Serving watches, ``Client`` asks it.

Nothing heavy is imported until it is used: a client over REST needs no TensorFlow.
"""

import importlib

_LAZY = {"export_served": "tfzoo.serving.repository", "Client": "tfzoo.serving.client"}

__all__ = ["Client", "export_served"]


def __getattr__(name):
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'tfzoo.serving' has no attribute '{name}'")


def __dir__():
    return sorted([*globals(), *_LAZY])
