"""Decoding in the graph gives what Pillow gives."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageOps

from tfzoo.data import load_dataset
from tfzoo.data.images import decode_image, resize_image
from tfzoo.serving import decoding

RNG = np.random.default_rng(0)
decode = tf.function(decoding.decode, input_signature=[tf.TensorSpec((), tf.string)])


def encode(image, format, **options):
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def picture(height=37, width=53):
    return Image.fromarray(load_dataset("shapes", "val").read(0)["images"]).resize((width, height))


def jpeg(orientation=None, comment=None):
    """A JPEG with EXIF as Pillow writes it."""
    exif = Image.Exif()
    exif[0x010F] = "a camera"
    if comment is not None:
        exif[0x9286] = comment
    if orientation is not None:
        exif[0x0112] = orientation
    return encode(picture(), "JPEG", exif=exif.tobytes(), quality=90)


def tiff_jpeg(orientation, little):
    """A JPEG whose EXIF is put together by hand: one directory of two entries."""
    order = "little" if little else "big"

    def number(value, size):
        return value.to_bytes(size, order)

    entries = number(0x0100, 2) + number(4, 2) + number(1, 4) + number(640, 4)
    entries += number(0x0112, 2) + number(3, 2) + number(1, 4) + number(orientation, 2) + b"\0\0"
    header = (b"II" if little else b"MM") + number(42, 2) + number(8, 4)
    return encode(picture(), "JPEG", exif=b"Exif\0\0" + header + number(2, 2) + entries + number(0, 4))


@pytest.mark.parametrize("little", [False, True])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_turned_as_pillow_turns_it(orientation, little):
    data = tiff_jpeg(orientation, little)
    want = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
    assert want.shape[:2] == ((53, 37) if orientation >= 5 else (37, 53))
    np.testing.assert_array_equal(decode(data), want)


@pytest.mark.parametrize("orientation", [0, 9, 300])
def test_impossible_orientation_changes_nothing(orientation):
    data = tiff_jpeg(orientation, True)
    np.testing.assert_array_equal(decode(data), np.asarray(Image.open(io.BytesIO(data))))


def test_exif_that_pillow_wrote():
    np.testing.assert_array_equal(decode(jpeg(6)), decode_image(jpeg(6)))
    np.testing.assert_array_equal(decode(jpeg()), decode_image(jpeg()))


def test_pattern_of_an_orientation_outside_the_directory_does_not_count():
    comment = decoding.ORIENTATION["big"] + b"\0\6\0\0"
    data = encode(picture(), "JPEG", comment=b"Exif" + comment)
    np.testing.assert_array_equal(decode(data), decode_image(data))
    data = jpeg(comment=b"\0" * 8 + comment)
    np.testing.assert_array_equal(decode(data), decode_image(data))


@pytest.mark.parametrize("cut", range(12, 60, 6))
def test_exif_that_ends_early_changes_nothing(cut):
    whole = tiff_jpeg(6, True)
    start = whole.index(b"Exif")
    exif = whole[start : start + 6 + 8 + 2 + 24 + 4][:cut]
    data = encode(picture(), "JPEG", exif=exif)
    assert decode(data).shape in ((37, 53, 3), (53, 37, 3))


@pytest.mark.parametrize("mode", ["L", "P", "RGB", "RGBA", "LA", "1"])
def test_png_of_every_mode(mode):
    image = picture().convert(mode)
    if mode in ("RGBA", "LA"):
        image.putalpha(Image.fromarray(RNG.integers(0, 256, (37, 53), np.uint8)))
    np.testing.assert_array_equal(decode(encode(image, "PNG")), decode_image(encode(image, "PNG")))


def test_png_of_sixteen_bits():
    data = encode(Image.fromarray(RNG.integers(0, 65536, (20, 30)).astype(np.uint16)), "PNG")
    assert np.abs(decode(data).numpy().astype(int) - decode_image(data)).max() <= 1


@pytest.mark.parametrize("options", [{}, {"subsampling": 0}, {"progressive": True}])
def test_jpeg(options):
    for image in (picture(), picture().convert("L")):
        data = encode(image, "JPEG", **options)
        np.testing.assert_array_equal(decode(data), decode_image(data))


@pytest.mark.parametrize("size", [(64, 96), (200, 31), (30, 170), (37, 53)])
def test_resized_as_training_resizes(size):
    image = np.asarray(picture(150, 110)) if size != (37, 53) else np.asarray(picture())
    got, want = decoding.resize(tf.constant(image), size).numpy(), resize_image(image, size)
    assert got.dtype == np.uint8 and got.shape == want.shape
    difference = np.abs(got.astype(int) - want)
    assert difference.mean() <= 0.5 and difference.max() <= 2


def test_batch_of_different_pictures():
    files = [jpeg(6), encode(picture(64, 96), "PNG"), encode(picture(33, 200), "PNG")]
    pixels, shapes = tf.function(lambda data: decoding.decode_batch(data, (64, 96)))(tf.constant(files))
    assert pixels.shape == (3, 64, 96, 3) and pixels.dtype == tf.uint8
    np.testing.assert_array_equal(shapes, [[53, 37], [64, 96], [33, 200]])
    np.testing.assert_array_equal(pixels[1], np.asarray(picture(64, 96)))
