"""Encoded pictures to pixels inside the graph, in TensorFlow operators that a server has.

What ``tfzoo.data.images`` does with Pillow, here as a graph: JPEGs come out equal and turned the way their EXIF orientation
says, PNGs become 8-bit RGB, and resizing is bilinear and antialiased.
"""

import tensorflow as tf

EXIF_REACH = 65536  # bytes from the start in which the EXIF segment is looked for: it is the first or second of a file
# An entry of the EXIF directory starts with tag 0x0112 (orientation), type 3 (SHORT), count 1; the value follows.
ORIENTATION = {"little": b"\x12\x01\x03\x00\x01\x00\x00\x00", "big": b"\x01\x12\x00\x03\x00\x00\x00\x01"}
ENTRY_BYTES = 12


def decode_batch(image_bytes, image_size):
    """Decodes and resizes encoded pictures.

    Args:
        image_bytes: string [B], JPEG or PNG files.
        image_size: (height, width) to resize to.

    Returns:
        uint8 [B, height, width, 3] and int32 [B, 2], height and width of each picture as sent, upright.
    """
    height, width = image_size

    def one(data):
        pixels = decode(data)
        return resize(pixels, image_size), tf.shape(pixels)[:2]

    signature = (tf.TensorSpec((height, width, 3), tf.uint8), tf.TensorSpec((2,), tf.int32))
    return tf.map_fn(one, image_bytes, fn_output_signature=signature)


def decode(data):
    """Decodes one JPEG or PNG (string scalar) to uint8 [H, W, 3]; a JPEG is turned upright."""
    return tf.cond(
        tf.io.is_jpeg(data),
        lambda: upright(tf.io.decode_jpeg(data, channels=3, dct_method="INTEGER_ACCURATE"), orientation(data)),
        lambda: tf.io.decode_png(data, channels=3),
    )


def resize(pixels, image_size):
    """Resizes uint8 [H, W, 3] to ``image_size``, bilinear and antialiased, as uint8."""
    resized = tf.image.resize(pixels, image_size, antialias=True)
    resized = tf.cast(tf.clip_by_value(tf.round(resized), 0, 255), tf.uint8)
    return tf.ensure_shape(resized, (*image_size, 3))


def upright(pixels, turn):
    """Undoes an EXIF orientation (int32 scalar, 1 to 8; anything else means 1), as Pillow's ``ImageOps.exif_transpose`` does."""
    branches = [
        lambda: pixels,
        lambda: pixels[:, ::-1],
        lambda: pixels[::-1, ::-1],
        lambda: pixels[::-1],
        lambda: tf.transpose(pixels, (1, 0, 2)),
        lambda: tf.transpose(pixels, (1, 0, 2))[:, ::-1],
        lambda: tf.transpose(pixels, (1, 0, 2))[::-1, ::-1],
        lambda: tf.transpose(pixels, (1, 0, 2))[::-1],
    ]
    return tf.switch_case(tf.where((turn >= 1) & (turn <= 8), turn - 1, 0), branches)


def orientation(data):
    """Reads the EXIF orientation of a JPEG (string scalar): int32 scalar, 1 where it states none."""
    head = tf.io.decode_raw(tf.strings.substr(data, 0, EXIF_REACH), tf.uint8)
    starts = tf.where(_matches(head, b"Exif\x00\x00II*\x00") | _matches(head, b"Exif\x00\x00MM\x00*"))[:, 0]
    return tf.cond(tf.size(starts) > 0, lambda: _first_directory(head[starts[0] + 6 :]), lambda: 1)


def _matches(values, pattern):
    """bool [n - len(pattern) + 1]: where ``pattern`` starts in ``values``, uint8 [n]."""
    count = tf.maximum(tf.size(values) - len(pattern) + 1, 0)
    return tf.reduce_all(tf.stack([values[i : i + count] == byte for i, byte in enumerate(pattern)]), axis=0)


def _first_directory(tiff):
    """The orientation in the first directory of EXIF's TIFF block, uint8 [n]; the second one describes the thumbnail."""
    little = tiff[0] == ord("I")
    start = _number(tiff[4:8], little)
    count = _number(tiff[start : start + 2], little)
    entries = tiff[start + 2 : start + 2 + count * ENTRY_BYTES]
    entries = tf.reshape(entries[: tf.size(entries) // ENTRY_BYTES * ENTRY_BYTES], (-1, ENTRY_BYTES))
    wanted = tf.where(little, tf.constant(list(ORIENTATION["little"]), tf.uint8), tf.constant(list(ORIENTATION["big"]), tf.uint8))
    values = tf.boolean_mask(entries, tf.reduce_all(entries[:, : len(ORIENTATION["big"])] == wanted, axis=1))[:, 8:10]
    return tf.cond(tf.shape(values)[0] > 0, lambda: tf.cast(_number(values[0], little), tf.int32), lambda: 1)


def _number(part, little):
    """The whole number that a few bytes, uint8 [n], spell in their order: int64 scalar."""
    digits = tf.cast(tf.where(little, part[::-1], part), tf.int64)
    return tf.reduce_sum(digits * 256 ** tf.range(tf.size(part, tf.int64) - 1, -1, -1, tf.int64))
