"""Real pictures for an export: to set int8 ranges, and to compare the file with Keras on."""

import numpy as np

from tfzoo.data import Dataset, load_dataset
from tfzoo.data.images import resize_image
from tfzoo.errors import InputError

COUNT = 64
FALLBACK = "shapes"


def scattered_boxes(pictures: int, count: int, size, seed=0) -> np.ndarray:
    """Boxes anywhere in pictures of ``size`` = (height, width), of all sizes: float32 [pictures, count, 4]."""
    ends = np.sort(np.random.default_rng(seed).uniform(size=(pictures, count, 2, 2)), axis=2)
    return (ends.reshape(pictures, count, 4) * [size[1], size[0], size[1], size[0]]).astype(np.float32)


def pictures(source, image_size, count=COUNT, seed=0) -> tuple[list[np.ndarray], dict]:
    """Draws pictures through the path that training and evaluation take.

    Args:
        source: a data set spec (its train split), a ``Dataset``, arrays [N, H, W, 3], a list of pictures, or None (drawn shapes).
        image_size: (height, width) to resize to.
        count: at most so many, drawn without repetition by ``seed``.

    Returns:
        list of uint8 [H, W, 3], and {"source", "pictures", "seed"}.

    Raises:
        InputError: there are none, or they are not pictures.
    """
    if source is None or isinstance(source, str):
        source = load_dataset(source or FALLBACK, "train")
    name = f"{source.spec} {source.split}" if isinstance(source, Dataset) else "given pictures"
    if len(source) == 0:
        raise InputError("There are no pictures to calibrate with: give at least one.")
    chosen = np.random.default_rng(seed).permutation(len(source))[:count]
    images = []
    for index in chosen:
        image = source.read(int(index))["images"] if isinstance(source, Dataset) else np.asarray(source[int(index)])
        if image.ndim != 3 or image.shape[-1] != 3:
            raise InputError(f"Pictures to calibrate with must be [height, width, 3]; one has the shape {image.shape}.")
        images.append(resize_image(np.clip(np.rint(image), 0, 255).astype(np.uint8), image_size))
    return images, {"source": name, "pictures": len(images), "seed": seed}
