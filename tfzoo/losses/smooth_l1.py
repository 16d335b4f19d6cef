"""Smooth L1 loss (Girshick 2015, Fast R-CNN, equation 3)."""

from keras import ops


def smooth_l1(error, beta=1.0):
    """0.5 error^2 / beta where |error| < beta, else |error| - 0.5 beta; element by element. ``beta`` 0 gives |error|."""
    size = ops.abs(error)
    if beta == 0:
        return size
    return ops.where(size < beta, 0.5 * size * size / beta, size - 0.5 * beta)
