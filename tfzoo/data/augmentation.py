"""Random changes to training pictures, label and picture always together.

Geometry that changes the scale is drawn for each picture while it is resized (one resampling, labels nearest, what lies
outside the picture filled with the ignore label). Flips and colour are Keras's own layers on whole batches.
"""

import dataclasses

import numpy as np

from tfzoo.data.images import IGNORE_LABEL, resize_image, resize_labels

FILL = (124, 116, 104)  # the ImageNet mean, which the default normalisation turns into about zero


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """What may happen to a training picture.

    Attributes:
        scale: (low, high): factor on the stretch to the wanted size. Above 1 a random part is cut out, below 1 the picture
            lies somewhere on a larger canvas. (1, 1) turns it off.
        flip: "horizontal", "vertical", "horizontal_and_vertical", or None.
        brightness, contrast: 0 to 1, as in Keras's RandomBrightness and RandomContrast. 0 turns them off.
    """

    scale: tuple[float, float] = (0.75, 1.75)
    flip: str | None = "horizontal"
    brightness: float = 0.15
    contrast: float = 0.2


NO_AUGMENTATION = Augmentation(scale=(1.0, 1.0), flip=None, brightness=0.0, contrast=0.0)


def scale_and_crop(image, labels, size, scale, rng: np.random.Generator):
    """Resizes a picture and its label map to ``size``, at a random scale and place.

    Args:
        image: uint8 [H, W, 3]; labels: uint8 [H, W].
        size: (height, width) of the result.
        scale: (low, high), see ``Augmentation``; drawn uniformly in the logarithm.
    """
    factor = float(np.exp(rng.uniform(np.log(scale[0]), np.log(scale[1]))))
    if factor < 1:
        return _shrink(image, labels, size, factor, rng)
    height, width = image.shape[:2]
    left = rng.uniform(0, width - width / factor)
    top = rng.uniform(0, height - height / factor)
    window = (left, top, min(left + width / factor, width), min(top + height / factor, height))
    return resize_image(image, size, window), resize_labels(labels, size, window)


def _shrink(image, labels, size, factor, rng):
    small = (max(round(size[0] * factor), 1), max(round(size[1] * factor), 1))
    top, left = (int(rng.integers(0, whole - part + 1)) for whole, part in zip(size, small, strict=True))
    area = np.s_[top : top + small[0], left : left + small[1]]
    picture = np.full((*size, 3), FILL, np.uint8)
    picture[area] = resize_image(image, small)
    label_map = np.full(size, IGNORE_LABEL, np.uint8)
    label_map[area] = resize_labels(labels, small)
    return picture, label_map


def batch_layers(augmentation: Augmentation, seed: int, first_epoch: int = 0):
    """Returns Keras's layers for flips and colour, to be applied in turn to {"images", "segmentation_masks"} batches.

    Args:
        seed, first_epoch: each layer draws from its own stream of them.
    """
    import keras

    seeds = [int(part) for part in np.random.SeedSequence([seed, first_epoch]).generate_state(3) >> 1]  # Keras takes int32
    layers = []
    if augmentation.flip:
        layers.append(keras.layers.RandomFlip(augmentation.flip, seed=seeds[0], dtype="float32"))
    for name, layer, seed in (("brightness", "RandomBrightness", seeds[1]), ("contrast", "RandomContrast", seeds[2])):
        strength = getattr(augmentation, name)
        if strength:
            layers.append(getattr(keras.layers, layer)(strength, value_range=(0, 255), seed=seed, dtype="float32"))
    return layers
