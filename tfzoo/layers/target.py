"""What a graph is being built for: some operators have a form that only one runtime has, or that one runtime is faster in.

Training and ``predict`` run the forms for Keras's backend; an export builds its graph inside ``graph_for``.
"""

import contextlib
import contextvars
import dataclasses


@dataclasses.dataclass(frozen=True)
class Target:
    """What a graph is for.

    Attributes:
        portable: only operators that TFLite has builtin, and ONNX in its default domain.
        converted: a converter reads the graph; TensorFlow itself, which has no kernel of some operators, never runs it.
        integers: what TFLite's integer kernels are fast in.
    """

    portable: bool = False
    integers: bool = False
    converted: bool = False


_target = contextvars.ContextVar("target", default=None)


def target() -> Target:
    """What the graph that is being built is for."""
    return _target.get() or Target()


@contextlib.contextmanager
def graph_for(portable: bool = False, integers: bool = False, converted: bool = False):
    """Graphs built inside are for this ``Target``."""
    token = _target.set(Target(portable, integers, converted))
    try:
        yield
    finally:
        _target.reset(token)
