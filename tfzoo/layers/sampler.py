"""Random choice of examples, so many of them positive at most (Ren et al. 2015, section 3.1.3; Girshick 2015, section 2.3)."""

import keras
from keras import ops

from tfzoo.layers.nms import top_k

STEP, PERIOD = 4093, 2**20  # multiples of the one modulo the other run through all numbers below it, well mixed


def draw(shape, seed=None):
    """Numbers to choose by, float32 ``shape`` = [B, R], 0 to 1.

    Args:
        seed: a ``keras.random.SeedGenerator``; None: always the same numbers, in every picture and on every backend.
    """
    if seed is not None:
        return keras.random.uniform(shape, seed=seed)
    mixed = ops.cast(ops.arange(shape[1], dtype="int32") * STEP % PERIOD, "float32") / PERIOD
    return ops.broadcast_to(ops.expand_dims(mixed, 0), shape)


def choose_balanced(positive, negative, count, share, drawn):
    """Chooses ``count`` examples of each picture: at most ``share`` of them positive, the rest negative, as far as there are any.

    Args:
        positive, negative: bool [B, R]; what is neither is never chosen.
        drawn: float32 [B, R], 0 to 1: those of the highest numbers are chosen (all of them, where the last ones are equal).

    Returns:
        which positives and which negatives are chosen, bool [B, R] each.
    """
    most = int(count * share)
    chosen = _highest(positive, drawn, ops.full_like(positive[:, 0], most, dtype="int32"), most)
    left = count - ops.sum(ops.cast(chosen, "int32"), axis=1)
    return chosen, _highest(negative, drawn, left, count)


def _highest(wanted, drawn, count, most):
    """The ``count`` [B] wanted ones of the highest numbers; ``count`` is ``most`` at most."""
    values = ops.where(wanted, drawn, -1.0)
    falling, _ = top_k(values, most)
    last = ops.expand_dims(ops.clip(count - 1, 0, ops.shape(falling)[1] - 1), 1)
    enough = ops.logical_and(values >= ops.take_along_axis(falling, last, axis=1), ops.expand_dims(count > 0, 1))
    return ops.logical_and(wanted, enough)


def gather_chosen(positive, negative, count):
    """The places of the chosen ones: int32 [B, count], the positives first, and which of these are filled, bool [B, count].

    Args:
        positive, negative: bool [B, R], the chosen ones; R >= ``count``.
    """
    order = ops.where(positive, 2.0, ops.where(negative, 1.0, 0.0))
    values, index = ops.top_k(order, count)
    return ops.cast(index, "int32"), values > 0
