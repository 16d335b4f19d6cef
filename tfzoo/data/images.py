"""Pictures and label maps, from files to arrays: the one place that decodes and resizes.

Pictures are uint8 [height, width, 3], RGB, 0 to 255, turned the way their EXIF orientation says. Label maps are uint8
[height, width] of class indices, never colours; ``IGNORE_LABEL`` marks pixels that count nowhere.
"""

import io
import numbers
import operator
import pathlib
import struct

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from tfzoo.errors import InputError, MissingInputError

IGNORE_LABEL = 255
ORIENTATION_TAG, SIDEWAYS = 0x0112, (5, 6, 7, 8)  # EXIF: values that swap height and width
MAX_SIDE = 16384  # of a picture to work at, pixels
PNG_HEADER, PNG_GREY = struct.Struct(">4xIIBB"), 0  # IHDR from its name on: width, height, bits a channel, kind of colours
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")


def read_image(path) -> np.ndarray:
    """Reads a picture as a person sees it: uint8 [height, width, 3], RGB.

    EXIF orientation is applied; grey, palette and alpha pictures become RGB (alpha is dropped); of 16 bits the upper 8
    are kept, which is what ``tf.io.decode_png`` does too.

    Raises:
        MissingInputError: there is no such file.
        InputError: the file is no picture, or it is damaged.
    """
    path = pathlib.Path(path)
    return _decode(_read_bytes(path), str(path))


def decode_image(data: bytes, name: str = "picture") -> np.ndarray:
    """The same for the bytes of an encoded picture; ``name`` is what an error calls it."""
    return _decode(data, name)


def image_size(path) -> tuple[int, int]:
    """Returns (height, width) of the picture that ``read_image`` would return, without decoding its pixels.

    Raises:
        MissingInputError: there is no such file.
        InputError: the file is no picture.
    """
    path = pathlib.Path(path)
    try:
        with Image.open(path) as image:
            width, height = image.size
            turned = image.getexif().get(ORIENTATION_TAG, 1) in SIDEWAYS
    except FileNotFoundError:
        raise MissingInputError(f"There is no file {path}: check the name.") from None
    except (OSError, SyntaxError, ValueError) as error:
        raise InputError(f"{path} is not a picture that can be read ({error}): convert it to JPEG or PNG.") from None
    return (width, height) if turned else (height, width)


def read_label_map(path, num_classes: int | None = None) -> np.ndarray:
    """Reads a label map: uint8 [height, width], the stored indices (a palette's colours are not looked at).

    Args:
        path: an index image: grey (1 to 16 bits) or palette.
        num_classes: indices must be below it, or 255 (ignore). None: not checked.

    Raises:
        MissingInputError: there is no such file.
        InputError: colours instead of indices, a damaged file, or an index that no class has.
    """
    path = pathlib.Path(path)
    data = _read_bytes(path)
    image = _open(data, str(path))
    if image.mode not in ("L", "P", "1", "I", "I;16", "I;16B"):
        raise InputError(
            f"Label map {path} holds colours (mode {image.mode}), not class indices: save it as a single-channel PNG "
            "whose pixel values are the line numbers of classes.txt, counted from 0."
        )
    labels = np.asarray(ImageOps.exif_transpose(image)).astype(np.int64) // _stretch(image, data)
    _check_indices(labels, num_classes, path)
    return labels.astype(np.uint8)


def _stretch(image, data):
    """By what Pillow multiplied the stored values: it makes 2 and 4 bits of grey in a PNG reach up to 255, as a picture needs."""
    if image.format != "PNG" or image.mode != "L":
        return 1
    _, _, bits, colours = PNG_HEADER.unpack_from(data, data.index(b"IHDR"))
    return 255 // (2**bits - 1) if colours == PNG_GREY else 1


def _check_indices(labels, num_classes, path):
    limit = 255 if num_classes is None else min(num_classes, 255)
    wrong = labels[((labels >= limit) | (labels < 0)) & (labels != IGNORE_LABEL)]
    if wrong.size:
        known = f"classes.txt has {limit} classes (0 to {limit - 1})" if limit == num_classes else "indices end at 254"
        raise InputError(
            f"Label map {path} holds the class index {int(wrong.max())}, but {known}: "
            "add the class, or paint those pixels 255 (ignore)."
        )


def _read_bytes(path: pathlib.Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise MissingInputError(f"There is no file {path}: check the name.") from None
    except OSError as error:
        raise InputError(f"File {path} cannot be read: {error.strerror}.") from None


def _open(data: bytes, name: str) -> Image.Image:
    try:
        image = Image.open(io.BytesIO(data))
        image.load()
    except UnidentifiedImageError:
        raise InputError(f"{name} is not a picture that can be read: convert it to JPEG or PNG.") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"{name} is damaged ({error}): replace it or leave it out.") from None
    return image


def _decode(data: bytes, name: str) -> np.ndarray:
    image = ImageOps.exif_transpose(_open(data, name))
    if image.mode.startswith("I"):  # 16 bits: Pillow's own conversion would clip instead of scale
        values = np.asarray(image).astype(np.int64)
        image = Image.fromarray((np.clip(values, 0, 65535) >> 8).astype(np.uint8))
    elif image.mode == "F":
        raise InputError(f"{name} holds floating-point pixels: convert it to 8 or 16 bits.")
    return np.asarray(image.convert("RGB"))


def resize_image(image: np.ndarray, size, window=None) -> np.ndarray:
    """Resizes uint8 [H, W, 3] to ``size`` = (height, width): bilinear, antialiased when shrinking.

    ``window`` = (left, top, right, bottom), in pixels of the picture, takes that part instead of the whole.
    """
    return _resize(image, size, window, Image.Resampling.BILINEAR)


def resize_labels(labels: np.ndarray, size, window=None) -> np.ndarray:
    """Resizes uint8 [H, W] to ``size`` by nearest neighbour (pixel centres), so that no new index can appear."""
    return _resize(labels, size, window, Image.Resampling.NEAREST)


def resize_scores(scores: np.ndarray, size) -> np.ndarray:
    """Resizes float32 [H, W] or [H, W, C] to ``size``, bilinear."""
    if scores.shape[:2] == tuple(size):
        return scores
    channels = scores[..., None] if scores.ndim == 2 else scores
    planes = [_resize(channels[..., c], size, None, Image.Resampling.BILINEAR) for c in range(channels.shape[-1])]
    return np.stack(planes, axis=-1).reshape((*size, *scores.shape[2:]))


def _resize(array, size, window, resample):
    height, width = size
    if array.shape[:2] == (height, width) and window is None:
        return array
    return np.asarray(Image.fromarray(array).resize((width, height), resample, box=window))


def parse_size(text) -> tuple[int, int] | None:
    """Turns "256", "192x256" (height x width), 256, (192, 256) or None into (height, width).

    Raises:
        InputError: anything else, or a side above 16384.
    """
    if text is None:
        return None
    parts = text.lower().split("x") if isinstance(text, str) else text
    try:
        parts = [parts] if isinstance(parts, numbers.Integral) else list(parts)
        sides = [int(part) if isinstance(part, str) else operator.index(part) for part in parts]
    except (TypeError, ValueError):
        sides = []
    if len(sides) not in (1, 2) or min(sides) < 1:
        raise InputError(f"Image size '{text}' is not a size: give N or HEIGHTxWIDTH, such as 256 or 192x256.")
    if max(sides) > MAX_SIDE:
        raise InputError(f"Image size '{text}' has a side of more than {MAX_SIDE} pixels: give a smaller one.")
    return (sides[0], sides[-1])
