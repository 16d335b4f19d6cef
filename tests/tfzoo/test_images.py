"""Pictures are read as people see them, label maps as indices."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from tfzoo.data.images import (
    decode_image,
    parse_size,
    read_image,
    read_label_map,
    resize_image,
    resize_labels,
    resize_scores,
)

RED, GREEN, BLUE, YELLOW = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0)


def quadrants():
    """16 high, 32 wide: red, green over blue, yellow."""
    picture = np.zeros((16, 32, 3), np.uint8)
    picture[:8, :16], picture[:8, 16:], picture[8:, :16], picture[8:, 16:] = RED, GREEN, BLUE, YELLOW
    return picture


def corners(picture):
    return [tuple(int(v) for v in picture[y, x]) for y in (3, -4) for x in (3, -4)]


def noise(height=24, width=40, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def save(image, path, **options):
    image.save(path, **options)
    return path


@pytest.mark.parametrize(
    ("orientation", "expected"),
    [(6, [BLUE, RED, YELLOW, GREEN]), (8, [GREEN, YELLOW, RED, BLUE])],  # turned a quarter clockwise, anticlockwise
)
def test_exif_orientation_is_applied(tmp_path, orientation, expected):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(Image.fromarray(quadrants()), tmp_path / "turned.jpg", exif=exif, quality=100, subsampling=0)
    picture = read_image(path)
    assert picture.shape == (32, 16, 3)
    np.testing.assert_allclose(corners(picture), expected, atol=6)


def test_without_orientation_nothing_is_turned(tmp_path):
    np.testing.assert_array_equal(read_image(save(Image.fromarray(quadrants()), tmp_path / "a.png")), quadrants())


def test_grey_becomes_three_equal_channels(tmp_path):
    grey = noise()[..., 0]
    picture = read_image(save(Image.fromarray(grey), tmp_path / "grey.png"))
    assert picture.dtype == np.uint8
    np.testing.assert_array_equal(picture, np.repeat(grey[..., None], 3, axis=2))


def test_palette_becomes_its_colours(tmp_path):
    indices = Image.fromarray(np.array([[0, 1], [2, 1]], np.uint8)).convert("P")
    indices.putpalette([*RED, *GREEN, *BLUE])
    picture = read_image(save(indices, tmp_path / "palette.png"))
    np.testing.assert_array_equal(picture, np.array([[RED, GREEN], [BLUE, GREEN]], np.uint8))


def test_alpha_is_dropped(tmp_path):
    rgb = noise()
    alpha = noise(seed=1)[..., :1]
    picture = read_image(save(Image.fromarray(np.concatenate([rgb, alpha], axis=2)), tmp_path / "alpha.png"))
    np.testing.assert_array_equal(picture, rgb)


def test_sixteen_bit_grey_is_scaled_not_clipped(tmp_path):
    values = np.array([[0, 255, 256, 257], [4096, 32768, 65280, 65535]], np.uint16)
    picture = read_image(save(Image.fromarray(values), tmp_path / "deep.png"))
    assert picture.dtype == np.uint8
    np.testing.assert_array_equal(picture, np.repeat((values >> 8).astype(np.uint8)[..., None], 3, axis=2))


def test_bytes_decode_as_the_file_reads(tmp_path):
    path = save(Image.fromarray(noise()), tmp_path / "a.jpg")
    np.testing.assert_array_equal(decode_image(path.read_bytes()), read_image(path))


@pytest.mark.parametrize("suffix", ["jpg", "png"])
@pytest.mark.parametrize("share", [0.5, 0.9])
def test_truncated_picture_is_refused_with_its_path(tmp_path, expect_sentence, suffix, share):
    path = save(Image.fromarray(noise(64, 64)), tmp_path / f"half.{suffix}")
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    expect_sentence(lambda: read_image(path), path, "damaged")


@pytest.mark.parametrize("content", [b"", b"not a picture at all"])
@pytest.mark.parametrize("read", [read_image, read_label_map])
def test_what_is_no_picture_is_refused_with_its_path(tmp_path, expect_sentence, read, content):
    path = tmp_path / "notes.png"
    path.write_bytes(content)
    expect_sentence(lambda: read(path), path)


@pytest.mark.parametrize("read", [read_image, read_label_map])
def test_missing_file_is_named(tmp_path, expect_sentence, read):
    expect_sentence(lambda: read(tmp_path / "gone.png"), tmp_path / "gone.png", missing=True)


def test_a_folder_is_no_picture(tmp_path, expect_sentence):
    expect_sentence(lambda: read_image(tmp_path), tmp_path)


def test_floating_point_picture_is_refused(tmp_path, expect_sentence):
    path = save(Image.fromarray(np.ones((4, 4), np.float32)), tmp_path / "depth.tif")
    expect_sentence(lambda: read_image(path), path)


def test_a_picture_too_large_for_pillow_is_refused_with_its_path(tmp_path, expect_sentence, monkeypatch):
    path = save(Image.fromarray(noise(64, 64)), tmp_path / "huge.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    expect_sentence(lambda: read_image(path), path)


@pytest.mark.filterwarnings("ignore")  # Pillow warns of what is odd in a damaged file
@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp", "bmp"])
def test_whatever_is_damaged_the_error_is_a_sentence_with_the_path(expect_sentence, monkeypatch, suffix):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10**6)  # a damaged header may ask for gigabytes
    file = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    options = {} if suffix == "bmp" else {"exif": exif}
    Image.fromarray(noise(16, 16)).save(file, {"jpg": "JPEG", "tif": "TIFF"}.get(suffix, suffix.upper()), **options)
    rng = np.random.default_rng(0)
    for _ in range(200):
        data = bytearray(file.getvalue())
        for position in rng.integers(0, min(len(data), 200), rng.integers(1, 6)):
            data[position] = rng.integers(256)
        try:
            picture = decode_image(bytes(data), "PATH")
        except Exception:
            expect_sentence(lambda data=data: decode_image(bytes(data), "PATH"), "PATH")
        else:
            assert picture.dtype == np.uint8
            assert picture.shape[2] == 3


INDICES = np.array([[0, 1, 2], [3, 255, 1]], np.uint8)


def test_palette_label_map_is_read_as_indices(tmp_path):
    image = Image.fromarray(INDICES).convert("P")
    image.putpalette(noise(1, 256).ravel().tolist())
    path = save(image, tmp_path / "labels.png")
    assert Image.open(path).mode == "P"
    labels = read_label_map(path, 4)
    assert labels.dtype == np.uint8
    np.testing.assert_array_equal(labels, INDICES)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_grey_label_map_is_read_unscaled(tmp_path, dtype):
    labels = read_label_map(save(Image.fromarray(INDICES.astype(dtype)), tmp_path / "labels.png"), 4)
    assert labels.dtype == np.uint8
    np.testing.assert_array_equal(labels, INDICES)


def test_one_bit_label_map_holds_zero_and_one(tmp_path):
    bits = np.array([[0, 1, 1], [1, 0, 0]], bool)
    path = save(Image.fromarray(bits), tmp_path / "labels.png")
    assert Image.open(path).mode == "1"
    np.testing.assert_array_equal(read_label_map(path, 2), bits.astype(np.uint8))


def write_png(path, indices, bits, kind):
    """A PNG of so few bits a pixel, by hand: grey (kind 0) or palette (3)."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    height, width = indices.shape
    rows = np.unpackbits(indices[..., None], axis=2)[..., -bits:].reshape(height, -1)
    lines = b"".join(b"\0" + row.tobytes() for row in np.packbits(rows, axis=1))  # 0: pixels as they are, without a filter
    palette = chunk(b"PLTE", bytes(3 * 2**bits)) if kind == 3 else b""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + palette + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b""))
    return path


@pytest.mark.parametrize("kind", [0, 3])
@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_label_maps_of_few_bits_are_read_as_stored(tmp_path, bits, kind):
    indices = (np.arange(35).reshape(5, 7) * 5 % 2**bits).astype(np.uint8)  # of a width that fills no byte
    assert indices.max() >= min(2**bits - 1, 35 * 4)
    np.testing.assert_array_equal(read_label_map(write_png(tmp_path / "labels.png", indices, bits, kind)), indices)


def test_an_index_of_few_bits_beyond_the_classes_is_told_as_stored(tmp_path, expect_sentence):
    path = write_png(tmp_path / "labels.png", np.array([[0, 15]], np.uint8), 4, 0)  # of which Pillow makes 255
    expect_sentence(lambda: read_label_map(path, 4), path, "index 15,", "4 classes")


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_colour_label_map_is_refused(tmp_path, expect_sentence, mode):
    path = save(Image.fromarray(noise()).convert(mode), tmp_path / "colour.png")
    expect_sentence(lambda: read_label_map(path, 4), path, "colours", mode)


@pytest.mark.parametrize(("dtype", "index"), [(np.uint8, 4), (np.uint8, 254), (np.uint16, 256), (np.uint16, 1000)])
def test_index_beyond_the_classes_is_refused_and_named(tmp_path, expect_sentence, dtype, index):
    path = save(Image.fromarray(np.array([[0, index], [3, 255]], dtype)), tmp_path / "labels.png")
    expect_sentence(lambda: read_label_map(path, 4), path, f"index {index},", "4 classes")


def test_index_that_does_not_fit_is_refused_without_a_class_list(tmp_path, expect_sentence):
    path = save(Image.fromarray(np.array([[0, 700]], np.uint16)), tmp_path / "labels.png")
    expect_sentence(lambda: read_label_map(path), path, "700")


def test_index_beyond_uint8_is_never_wrapped_round(tmp_path, expect_sentence):
    path = save(Image.fromarray(np.array([[0, 299]], np.uint16)), tmp_path / "labels.png")
    expect_sentence(lambda: read_label_map(path, 300), path, "299")


def test_ignore_label_is_allowed(tmp_path):
    path = save(Image.fromarray(np.full((2, 2), 255, np.uint8)), tmp_path / "labels.png")
    assert (read_label_map(path, 1) == 255).all()


@pytest.mark.parametrize("size", [(5, 7), (13, 50), (64, 64), (1, 1)])
@pytest.mark.parametrize("window", [None, (3.2, 1.5, 20.7, 11.1)])
def test_resized_labels_hold_no_new_index(size, window):
    labels = np.random.default_rng(0).choice(np.array([0, 7, 100, 255], np.uint8), (17, 31))
    resized = resize_labels(labels, size, window)
    assert resized.shape == size
    assert resized.dtype == np.uint8
    assert set(np.unique(resized)) <= {0, 7, 100, 255}


def test_labels_are_taken_at_pixel_centres():
    labels = np.arange(6, dtype=np.uint8)[None].repeat(6, axis=0)
    np.testing.assert_array_equal(resize_labels(labels, (2, 2)), [[1, 4], [1, 4]])
    np.testing.assert_array_equal(resize_labels(labels[:1, :2], (1, 4)), [[0, 0, 1, 1]])


@pytest.mark.parametrize("size", [(5, 7), (30, 64)])
@pytest.mark.parametrize("window", [None, (2.5, 1.0, 12.5, 9.0)])
def test_resized_constant_picture_is_constant(size, window):
    picture = np.full((17, 31, 3), (12, 130, 251), np.uint8)
    resized = resize_image(picture, size, window)
    assert resized.dtype == np.uint8
    np.testing.assert_array_equal(resized, np.broadcast_to(np.uint8((12, 130, 251)), (*size, 3)))


def test_resizing_to_its_own_size_changes_nothing():
    np.testing.assert_array_equal(resize_image(noise(), (24, 40)), noise())


def test_a_window_is_what_is_cut_out():
    np.testing.assert_array_equal(resize_image(noise(), (10, 20), (5, 3, 25, 13)), noise()[3:13, 5:25])


@pytest.mark.parametrize("shape", [(9, 12), (9, 12, 1), (9, 12, 4)])
@pytest.mark.parametrize("size", [(18, 24), (9, 12), (4, 5)])
def test_resized_scores_keep_their_channels(shape, size):
    scores = np.random.default_rng(0).random(shape, np.float32)
    resized = resize_scores(scores, size)
    assert resized.shape == (*size, *shape[2:])
    assert resized.dtype == np.float32
    assert scores.min() <= resized.min() <= resized.max() <= scores.max()


def test_resized_scores_do_not_mix_channels():
    scores = np.zeros((4, 4, 3), np.float32)
    scores[...] = (0.1, 0.2, 0.7)
    np.testing.assert_allclose(resize_scores(scores, (9, 7)), np.broadcast_to(np.float32((0.1, 0.2, 0.7)), (9, 7, 3)), rtol=1e-6)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, None),
        ("256", (256, 256)),
        (256, (256, 256)),
        (np.int64(256), (256, 256)),
        ("192x256", (192, 256)),
        ("192X256", (192, 256)),
        ((192, 256), (192, 256)),
        ([192, 256], (192, 256)),
        (np.array([192, 256]), (192, 256)),
    ],
)
def test_sizes_that_are_understood(given, expected):
    assert parse_size(given) == expected


@pytest.mark.parametrize(
    "given", ["", "x", "big", "0", "-5", "192x", "x256", "1x2x3", "192*256", 0, -1, (0, 5), (1, 2, 3), (), 2.5]
)
def test_sizes_that_are_refused(expect_sentence, given):
    expect_sentence(lambda: parse_size(given), f"'{given}'", "192x256")
