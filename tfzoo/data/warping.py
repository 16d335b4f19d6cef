"""Warps: a picture sampled at coordinates of one's own choice. NumPy alone, vectorised over pixels.

Coordinates are [2, height, width]: y and x in pixels of the picture that is sampled, for every pixel of the result. Centres of
pixels lie at whole numbers: (0, 0) is the centre of the upper left one.
"""

import numpy as np
from PIL import Image


def warp(image: np.ndarray, coordinates: np.ndarray, fill=None) -> np.ndarray:
    """Samples a picture, bilinear.

    Args:
        image: [H, W] or [H, W, C], uint8 or float.
        coordinates: float [2, height, width], see above.
        fill: the value outside, one for all channels or C of them, blended over the last pixel; None repeats the border.

    Returns:
        [height, width] or [height, width, C] of the picture's dtype; uint8 is rounded.
    """
    channels = image.reshape(*image.shape[:2], -1)
    if fill is not None:
        channels, coordinates = _framed(channels, fill), coordinates + 1
    height, width = channels.shape[:2]
    y, x = np.clip(coordinates[0], 0, height - 1), np.clip(coordinates[1], 0, width - 1)
    top, left = np.floor(y), np.floor(x)
    down, right = (y - top)[..., None], (x - left)[..., None]
    corner = top.astype(np.intp) * width + left.astype(np.intp)
    below, beside = np.where(top < height - 1, width, 0), np.where(left < width - 1, 1, 0)

    pixels = channels.reshape(height * width, -1)
    working_type = np.result_type(channels, np.float32)
    upper, lower = (
        _between(pixels.take(row, axis=0).astype(working_type), pixels.take(row + beside, axis=0).astype(working_type), right)
        for row in (corner, corner + below)
    )
    values = _between(upper, lower, down)
    if image.dtype == np.uint8:
        np.rint(values, out=values)
    return values.astype(image.dtype).reshape(*y.shape, *image.shape[2:])


def _between(first, second, share):
    """first + share * (second - first); the second is overwritten."""
    second -= first
    second *= share
    second += first
    return second


def warp_labels(labels: np.ndarray, coordinates: np.ndarray, fill: int) -> np.ndarray:
    """Samples a label map [H, W] at coordinates [2, height, width], nearest neighbour; ``fill`` is the label outside."""
    framed = _framed(labels, fill)
    y, x = (
        np.clip(np.floor(axis + 1.5), 0, side - 1).astype(np.intp)  # rounded to the nearest, one further for the frame
        for axis, side in zip(coordinates, framed.shape, strict=True)
    )
    return framed[y, x]


def _framed(array, fill):
    """The array with one pixel of ``fill`` around it: coordinates that are clamped to it take that value."""
    framed = np.empty((array.shape[0] + 2, array.shape[1] + 2, *array.shape[2:]), array.dtype)
    framed[:] = fill
    framed[1:-1, 1:-1] = array
    return framed


def dense_image_warp(image: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """Moves a picture along a flow: result[y, x] = image[y - flow_y, x - flow_x], bilinear, the border repeated.

    Args:
        image: [H, W] or [H, W, C].
        flow: float [H, W, 2], y and x in pixels.
    """
    return warp(image, pixel_centres(image.shape[:2]) - np.moveaxis(flow, -1, 0))


def rotate(image: np.ndarray, radians: float, fill=0) -> np.ndarray:
    """Turns a picture counter-clockwise about its centre, bilinear; ``fill`` is the value outside."""
    size = image.shape[:2]
    return warp(image, rotated(pixel_centres(size), size, radians), fill)


def pixel_centres(size) -> np.ndarray:
    """The coordinates float32 [2, height, width] at which a picture of ``size`` = (height, width) stays as it is."""
    return np.indices(size, np.float32)


def rotated(coordinates: np.ndarray, size, radians: float) -> np.ndarray:
    """Turns coordinates about the centre of a picture of ``size``, so that what is sampled there turns counter-clockwise."""
    centre_y, centre_x = (size[0] - 1) / 2, (size[1] - 1) / 2
    cosine, sine = float(np.cos(radians)), float(np.sin(radians))
    y, x = coordinates[0] - centre_y, coordinates[1] - centre_x
    return np.stack([sine * x + cosine * y + centre_y, cosine * x - sine * y + centre_x])


def elastic_displacements(size, deviation: float, grid: int, rng: np.random.Generator) -> np.ndarray:
    """Draws a smooth random deformation: displacements float32 [2, height, width], in pixels.

    Ronneberger 2015, section 3.1: Gaussian displacements on a coarse grid, between them bicubic interpolation. The grid's
    points are the centres of ``grid`` x ``grid`` equal cells; the paper has 3 x 3 and a deviation of 10 pixels at 512 x 512.
    """
    coarse = rng.normal(0, deviation, (2, grid, grid)).astype(np.float32)
    return np.stack([np.asarray(Image.fromarray(plane).resize(tuple(size)[::-1], Image.Resampling.BICUBIC)) for plane in coarse])
