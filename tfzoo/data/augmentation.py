"""Random changes to training pictures, label map and picture always together; for boxes see ``box_augmentation``.

Geometry that resamples is drawn for each picture while it is resized, all of it as one map from pixels of the result to places
in the picture: the picture is interpolated once, labels are nearest, and what lies outside is filled with the ignore label.
Flips and colour are Keras's own layers on whole batches.
"""

import dataclasses
import math

import numpy as np

from tfzoo.data.images import IGNORE_LABEL, resize_image, resize_labels
from tfzoo.data.warping import elastic_displacements, pixel_centres, rotated, warp, warp_labels
from tfzoo.errors import InputError

FILL = (124, 116, 104)  # the ImageNet mean, which the default normalisation turns into about zero
FLIPS = ("horizontal", "vertical", "horizontal_and_vertical")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Augmentation:
    """What may happen to a training picture.

    Attributes:
        scale: (low, high): factor on the stretch to the wanted size. Above 1 a random part is cut out, below 1 the picture
            lies somewhere on a larger canvas. (1, 1) turns it off.
        crop: above 0 to 1: share of the sides of the wanted size. Training pictures are random parts so large of what they would
            be otherwise: a step costs less, and the model learns the size at which it will be asked. 1 turns it off.
        flip: "horizontal", "vertical", "horizontal_and_vertical", or None.
        brightness, contrast: 0 to 1, as in Keras's RandomBrightness and RandomContrast. 0 turns them off.
        rotation: degrees, 0 to 180: the largest turn, either way, about the centre.
        translation: 0 to 1: the largest shift, either way, as a share of the side.
        elastic: standard deviation, in pixels of the result, of the displacements of U-Net's elastic deformation (Ronneberger
            2015, section 3.1; there 10). 0 turns it off.
        elastic_grid: displacements are drawn at so many points along each side (there 3).
        saturation: 0 to 1: how far from its own the colourfulness may go; s is a factor between (1 - s) / (1 + s) and its
            inverse.
        hue: 0 to 1: the largest turn of the colour circle, either way; 1 is half a turn.
        zoom_out: with boxes only: every other picture lies somewhere on a canvas of up to so many times its sides (SSD: 4). 1
            turns it off.
        iou_crop: with boxes only: SSD's random crop, which overlaps an object by a drawn least IoU.
        mosaic: with boxes alone: 0 to 1: share of the pictures that are put together from four.
        max_objects: with boxes only: of a training picture with more objects a random choice of so many is kept; None keeps all.
            Padded masks take as much room as the fullest picture's.

    Raises:
        InputError: a value outside its range.
    """

    scale: tuple[float, float] = (0.75, 1.75)
    crop: float = 1.0
    flip: str | None = "horizontal"
    brightness: float = 0.15
    contrast: float = 0.2
    rotation: float = 0.0
    translation: float = 0.0
    elastic: float = 0.0
    elastic_grid: int = 3
    saturation: float = 0.0
    hue: float = 0.0
    zoom_out: float = 1.0
    iou_crop: bool = False
    mosaic: float = 0.0
    max_objects: int | None = None

    def __post_init__(self):
        if not 0 < self.scale[0] <= self.scale[1] < math.inf:
            raise InputError(f"scale is {self.scale}: give the smaller factor first, both above 0.")
        if not 0 < self.crop <= 1:
            raise InputError(f"crop is {self.crop}: it must be a share above 0, up to 1 (off).")
        if self.flip is not None and self.flip not in FLIPS:
            raise InputError(f"flip is '{self.flip}': it must be one of {', '.join(FLIPS)}, or None.")
        for name in ("brightness", "contrast", "saturation", "hue", "translation", "mosaic"):
            _check_range(name, getattr(self, name), 1, "a share")
        _check_range("rotation", self.rotation, 180, "degrees")
        if not 0 <= self.elastic < math.inf:
            raise InputError(f"elastic is {self.elastic}: it must be pixels, 0 (off) or more.")
        if self.elastic_grid != int(self.elastic_grid) or self.elastic_grid < 2:
            raise InputError(f"elastic_grid is {self.elastic_grid}: it must be a whole number from 2.")
        if not 1 <= self.zoom_out < math.inf:
            raise InputError(f"zoom_out is {self.zoom_out}: it must be a factor, 1 (off) or more.")
        if self.max_objects is not None and (self.max_objects != int(self.max_objects) or self.max_objects < 1):
            raise InputError(f"max_objects is {self.max_objects}: it must be a whole number from 1, or None (all).")

    @property
    def warps(self) -> bool:
        """Whether more than scaling and cutting happens to the geometry."""
        return bool(self.rotation or self.translation or self.elastic)

    def at_size(self, size):
        """(height, width) of training pictures for the wanted ``size``, and the augmentation that makes them, without a crop."""
        if self.crop == 1:
            return size, self
        cropped = tuple(max(round(side * self.crop), 1) for side in size)
        scale = tuple(factor / self.crop for factor in self.scale)
        return cropped, dataclasses.replace(self, scale=scale, crop=1.0)


def _check_range(name, value, largest, unit):
    if not 0 <= value <= largest:
        raise InputError(f"{name} is {value}: it must be {unit}, 0 (off) to {largest}.")


NO_AUGMENTATION = Augmentation(scale=(1.0, 1.0), flip=None, brightness=0.0, contrast=0.0)


def change_geometry(image, labels, size, augmentation: Augmentation, rng: np.random.Generator):
    """Brings a picture and its label map to ``size``, with whatever of the augmentation's geometry is on but the flips.

    Args:
        image: uint8 [H, W, 3]; labels: uint8 [H, W].
        size: (height, width) of the result.

    Returns:
        the picture, uint8 [height, width, 3], and the label map, uint8 [height, width].
    """
    if augmentation.warps:
        return scale_and_warp(image, labels, size, augmentation, rng)
    if tuple(augmentation.scale) == (1.0, 1.0):
        return resize_image(image, size), resize_labels(labels, size)
    return scale_and_crop(image, labels, size, augmentation.scale, rng)


def scale_and_crop(image, labels, size, scale, rng: np.random.Generator):
    """Resizes a picture and its label map to ``size``, at a random scale and place.

    Args:
        image: uint8 [H, W, 3]; labels: uint8 [H, W].
        size: (height, width) of the result.
        scale: (low, high), see ``Augmentation``; drawn uniformly in the logarithm.
    """
    factor = draw_factor(scale, rng)
    if factor < 1:
        return _shrink(image, labels, size, factor, rng)
    height, width = image.shape[:2]
    left = rng.uniform(0, width - width / factor)
    top = rng.uniform(0, height - height / factor)
    window = (left, top, min(left + width / factor, width), min(top + height / factor, height))
    return resize_image(image, size, window), resize_labels(labels, size, window)


def draw_factor(scale, rng: np.random.Generator) -> float:
    """Draws a factor between (low, high), uniform in the logarithm."""
    return float(np.exp(rng.uniform(np.log(scale[0]), np.log(scale[1]))))


def _shrink(image, labels, size, factor, rng):
    small = (max(round(size[0] * factor), 1), max(round(size[1] * factor), 1))
    top, left = (int(rng.integers(0, whole - part + 1)) for whole, part in zip(size, small, strict=True))
    area = np.s_[top : top + small[0], left : left + small[1]]
    picture = np.full((*size, 3), FILL, np.uint8)
    picture[area] = resize_image(image, small)
    label_map = np.full(size, IGNORE_LABEL, np.uint8)
    label_map[area] = resize_labels(labels, small)
    return picture, label_map


def scale_and_warp(image, labels, size, augmentation: Augmentation, rng: np.random.Generator):
    """Scales, cuts, turns, shifts and deforms a picture and its label map, in one resampling to ``size``.

    In words, the picture is scaled and cut as by ``scale_and_crop``, turned about the centre, shifted, and deformed; but what a
    turn or a shift brings in comes from the picture, as far as it goes. Bilinear sampling alone would skip pixels of a picture
    that is made smaller, so such a picture is first shrunk (antialiased) to the resolution of the result; labels never are.

    Args:
        image: uint8 [H, W, 3]; labels: uint8 [H, W].
        size: (height, width) of the result.
    """
    factor = draw_factor(augmentation.scale, rng)
    left, top = (rng.uniform(*sorted((0.0, side - side / factor))) for side in (image.shape[1], image.shape[0]))
    places = _draw_places(size, augmentation, rng)
    steps = [whole / factor / part for whole, part in zip(image.shape, size, strict=False)]  # pixels of the picture in one of ours
    y, x = ((axis + 0.5) * step + start for axis, step, start in zip(places, steps, (top, left), strict=True))
    label_map = warp_labels(labels, np.stack([y - 0.5, x - 0.5]), IGNORE_LABEL)

    shrunk = resize_image(image, [max(round(side / max(step, 1)), 1) for side, step in zip(image.shape, steps, strict=False)])
    y, x = y * (shrunk.shape[0] / image.shape[0]) - 0.5, x * (shrunk.shape[1] / image.shape[1]) - 0.5
    return warp(shrunk, np.stack([y, x]), FILL), label_map


def _draw_places(size, augmentation, rng):
    """For each pixel of the result, where it comes from on the scaled and cut picture: float32 [2, height, width]."""
    angle = math.radians(rng.uniform(-augmentation.rotation, augmentation.rotation))
    shift = rng.uniform(-augmentation.translation, augmentation.translation, 2) * size
    places = pixel_centres(size) - shift.astype(np.float32)[:, None, None]
    if augmentation.elastic:
        places += elastic_displacements(size, augmentation.elastic, augmentation.elastic_grid, rng)
    return rotated(places, size, angle)


RANDOM_STREAMS = ("flip", "brightness", "contrast", "saturation", "hue", "second_flip")  # one for each layer, by its name


def layer_seeds(*stream: int) -> dict[str, int]:
    """The seed of each of the ``batch_layers``, by its name, for whole numbers such as seed and epoch."""
    state = np.random.SeedSequence(stream).generate_state(len(RANDOM_STREAMS))
    return {name: int(part) >> 1 for name, part in zip(RANDOM_STREAMS, state, strict=True)}  # Keras takes int32


def batch_layers(augmentation: Augmentation, *stream: int):
    """Returns Keras's layers for flips and colour, to be applied in turn to {"images", "segmentation_masks"} batches.

    Args:
        stream: whole numbers, such as seed and epoch; each layer draws from its own stream of them.
    """
    import keras

    seeds = layer_seeds(*stream)

    def layer(kind, name, *arguments, **options):
        return kind(*arguments, **options, seed=seeds[name], name=name, dtype="float32")

    layers = []
    # Keras's own "horizontal_and_vertical" does both or neither: two layers give all four.
    directions = augmentation.flip.split("_and_") if augmentation.flip else []
    for direction, name in zip(directions, ("flip", "second_flip"), strict=False):
        layers.append(layer(keras.layers.RandomFlip, name, direction))
    if augmentation.brightness:
        layers.append(layer(keras.layers.RandomBrightness, "brightness", augmentation.brightness, (0, 255)))
    if augmentation.contrast:
        layers.append(layer(keras.layers.RandomContrast, "contrast", augmentation.contrast, value_range=(0, 255)))
    if augmentation.saturation:
        reach = augmentation.saturation / 2  # to Keras 0.5 is the picture's own
        # The layer keeps the saturation itself, which goes from 0 to 1 whatever the pixels do, within this range.
        layers.append(layer(keras.layers.RandomSaturation, "saturation", (0.5 - reach, 0.5 + reach), (0, 1)))
    if augmentation.hue:
        layers.append(layer(keras.layers.RandomHue, "hue", augmentation.hue, (0, 255)))
    return layers
