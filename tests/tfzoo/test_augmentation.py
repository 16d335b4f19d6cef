"""Geometry and colour: against tensorflow-addons, against small examples worked by hand, and picture and label together."""

import json
import pathlib

import numpy as np
import pytest

from tfzoo.data.augmentation import FILL, NO_AUGMENTATION, Augmentation, batch_layers, change_geometry
from tfzoo.data.images import resize_image, resize_labels
from tfzoo.data.warping import dense_image_warp, elastic_displacements, pixel_centres, rotate, warp, warp_labels

FACTS = pathlib.Path(__file__).parents[3] / "shared" / "facts" / "tensorflow_addons.json"
STILL = {"scale": (1.0, 1.0), "flip": None, "brightness": 0.0, "contrast": 0.0}


@pytest.fixture(scope="module")
def tensorflow_addons():
    """What tensorflow-addons 0.23 answered, with 7 decimals."""
    if not FACTS.is_file():
        pytest.skip("what tensorflow-addons answered is not at ../shared/facts/tensorflow_addons.json")
    return json.loads(FACTS.read_text())


def geometry(image, labels, size=None, seed=0, **options):
    augmentation = Augmentation(**STILL | options)
    return change_geometry(image, labels, size or labels.shape, augmentation, np.random.default_rng(seed))


def noise(height, width, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (height, width, 3), np.uint8), rng.integers(0, 12, (height, width)).astype(np.uint8)


# === Warps ===


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_dense_warp_answers_what_tensorflow_addons_does(tensorflow_addons, dtype):
    facts = tensorflow_addons["dense_image_warp"]
    image, flow = np.array(facts["image"][0], dtype), np.array(facts["flow_yx"][0], dtype)
    warped = dense_image_warp(image, flow)
    assert warped.dtype == dtype
    np.testing.assert_allclose(warped, facts["warped"][0], atol=1e-5)


def test_a_rotation_answers_what_tensorflow_addons_does(tensorflow_addons):
    facts = tensorflow_addons["rotate_bilinear"]
    np.testing.assert_allclose(rotate(np.array(facts["image"][0]), facts["radians"]), facts["rotated"][0], atol=1e-5)


def test_a_quarter_turn_is_counter_clockwise():
    image = noise(9, 9)[0]
    np.testing.assert_array_equal(rotate(image, np.pi / 2), np.rot90(image))


def at(*points):
    """Coordinates of a row of points (y, x)."""
    return np.array(points, np.float32).T[:, None]


def test_between_four_pixels():
    image = np.array([[0, 10], [20, 60]], np.float32)
    # a quarter of each; three quarters of the way down the left side; on a pixel
    np.testing.assert_allclose(warp(image, at((0.5, 0.5), (0.75, 0), (1, 1)))[0], [22.5, 15, 60])


def test_outside_is_the_border_or_the_fill():
    image = np.array([[8, 4]], np.float32)
    points = at((0, -0.25), (0, 1.5), (-0.5, 0), (0, 9), (-9, 0))
    np.testing.assert_allclose(warp(image, points)[0], [8, 4, 8, 4, 8])
    # with a fill of 100, a quarter, half and half of the way to it; then all of it
    np.testing.assert_allclose(warp(image, points, fill=100)[0], [31, 52, 54, 100, 100])


def test_whole_numbers_are_rounded_and_not_cut():
    image = np.array([[[0, 255, 7]], [[1, 254, 7]]], np.uint8)
    warped = warp(image, at((0.75, 0), (0.25, 0)))
    assert warped.dtype == np.uint8
    np.testing.assert_array_equal(warped[0], [[1, 254, 7], [0, 255, 7]])


@pytest.mark.parametrize("size", [(1, 1), (1, 5), (5, 1), (4, 7)])
def test_at_the_centres_of_its_pixels_a_picture_stays_as_it_is(size):
    image, labels = noise(*size)
    np.testing.assert_array_equal(warp(image, pixel_centres(size)), image)
    np.testing.assert_array_equal(warp(image, pixel_centres(size), FILL), image)
    np.testing.assert_array_equal(warp_labels(labels, pixel_centres(size), 255), labels)


def test_labels_are_those_of_the_nearest_pixel_or_ignored():
    labels = np.array([[3, 4], [5, 6]], np.uint8)
    points = at((0.4, 0.4), (0.6, 0.4), (-0.4, 1.4), (-0.6, 0), (0, 1.6), (1.6, 0), (0, -0.6))
    np.testing.assert_array_equal(warp_labels(labels, points, 255)[0], [3, 5, 4, 255, 255, 255, 255])


# === Elastic deformation (Ronneberger 2015, section 3.1) ===


def test_displacements_are_the_drawn_ones_at_the_points_of_the_grid():
    """Of 9 x 9 pixels those at 1, 4 and 7 are the centres of the 3 x 3 cells, and bicubic interpolation goes through them."""
    displacements = elastic_displacements((9, 9), 10, 3, np.random.default_rng(5))
    drawn = np.random.default_rng(5).normal(0, 10, (2, 3, 3))
    np.testing.assert_allclose(displacements[:, 1::3, 1::3], drawn, atol=1e-4)


def test_between_two_points_the_interpolation_is_cubic():
    """Of 8 pixels over 4 points, pixel 3 is 1.25, 0.25, 0.75 and 1.75 away from them: Keys's cubic (1981, a = -1/2) there."""
    displacements = elastic_displacements((4, 8), 10, 4, np.random.default_rng(6))
    drawn = np.random.default_rng(6).normal(0, 10, (2, 4, 4))
    expected = drawn @ np.array([-0.0703125, 0.8671875, 0.2265625, -0.0234375])
    np.testing.assert_allclose(displacements[:, :, 3], expected, atol=1e-4)


def test_displacements_have_the_deviation_asked_for():
    rng = np.random.default_rng(7)
    drawn = np.stack([elastic_displacements((9, 9), 10, 3, rng)[:, 1::3, 1::3] for _ in range(500)])
    assert abs(drawn.std() - 10) < 0.3  # 9000 draws: standard error 0.07
    assert abs(drawn.mean()) < 0.5


def test_displacements_are_smooth():
    displacements = elastic_displacements((192, 256), 10, 3, np.random.default_rng(8))
    assert displacements.shape == (2, 192, 256)
    assert np.abs(np.diff(displacements, axis=1)).max() < 1.5  # between points 64 pixels apart that differ by some 14 pixels
    assert np.abs(np.diff(displacements, axis=2)).max() < 1.5


# === Scale, rotation, translation and elastic deformation together ===


@pytest.mark.parametrize("size", [(24, 40), (28, 44)])
def test_warping_by_nothing_is_shrinking(size):
    """Antialiased as without a warp, and the labels to the pixel."""
    image, labels = noise(62, 90)
    picture, label_map = geometry(image, labels, size, rotation=1e-9)
    assert np.abs(picture.astype(int) - resize_image(image, size)).max() <= 1  # rounded
    np.testing.assert_array_equal(label_map, resize_labels(labels, size))


def test_warping_by_nothing_is_enlarging():
    image, labels = noise(20, 30)
    picture, label_map = geometry(image, labels, (60, 90), rotation=1e-9)
    inner = np.s_[3:-3, 3:-3]  # towards the edge the warp blends with what is outside
    assert np.abs(picture.astype(int) - resize_image(image, (60, 90)))[inner].max() <= 1
    np.testing.assert_array_equal(label_map, resize_labels(labels, (60, 90)))


def edges(mask):
    """The first and last row, the first and last column of what is True."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return rows[0], rows[-1], columns[0], columns[-1]


@pytest.mark.parametrize("side", ["height", "width"])
def test_a_translation_shifts_by_at_most_its_share_and_ignores_what_it_lays_bare(side):
    position = np.arange(80, dtype=np.uint8)
    labels = np.tile(position[:, None], (1, 60)) if side == "height" else np.tile(position, (60, 1))
    image = np.tile(labels[..., None], 3)
    shifts = set()
    for seed in range(30):
        picture, label_map = geometry(image, labels, seed=seed, translation=0.2)
        inside = label_map != 255
        shift = set((label_map.astype(int) - labels)[inside])
        assert len(shift) == 1
        shifts |= shift
        other_side = inside.any(axis=1 if side == "width" else 0).sum()
        assert inside.sum() == (80 - abs(*shift)) * other_side
        top, bottom, left, right = edges(inside)
        well_inside = np.s_[top + 1 : bottom, left + 1 : right]
        assert np.abs(picture[..., 0].astype(int) - label_map)[well_inside].max() <= 1
        outside = ~inside
        outside[max(top - 1, 0) : bottom + 2, max(left - 1, 0) : right + 2] = False  # nor on the seam, where both are blended
        assert (picture[outside] == FILL).all()
    assert min(shifts) >= -16
    assert max(shifts) <= 16
    assert min(shifts) < -8
    assert max(shifts) > 8


def test_rotations_keep_the_centre_and_reach_the_angle_and_no_further():
    """A ray from the centre tells by which angle the picture was turned."""
    y, x = np.mgrid[:101, :101] - 50
    degrees = np.degrees(np.arctan2(-y, x))  # counter-clockwise, as a person sees it
    labels = np.where((np.abs(degrees) < 4) & (x > 20) & (x < 45), 1, 0).astype(np.uint8)
    angles = []
    for seed in range(40):
        _, label_map = geometry(np.tile(labels[..., None], 3), labels, seed=seed, rotation=30)
        ray = label_map == 1
        assert abs(ray.sum() - labels.sum()) <= 0.15 * labels.sum()
        angles.append(degrees[ray].mean())
        assert abs(np.hypot(y, x)[ray].mean() - np.hypot(y, x)[labels == 1].mean()) < 0.5
    assert 24 < max(angles) < 30.5
    assert -30.5 < min(angles) < -24


EVERYTHING = {"scale": (0.6, 1.8), "rotation": 40, "translation": 0.2, "elastic": 6}


@pytest.mark.parametrize("size", [(24, 30), (90, 120)])
def test_labels_are_only_those_of_the_picture_and_the_ignored_one(size):
    for seed in range(20):
        image, labels = noise(48, 60, seed)
        labels[labels == 7] = 3
        picture, label_map = geometry(image, labels, size, seed, **EVERYTHING)
        assert (picture.shape, picture.dtype, label_map.shape, label_map.dtype) == ((*size, 3), np.uint8, size, np.uint8)
        assert set(np.unique(label_map)) <= set(np.unique(labels)) | {255}


def test_what_is_ignored_lies_outside_and_what_is_not_inside():
    """Of a white picture without ignored pixels: how much of white and how much of the fill is in a pixel tells where it lies."""
    image, labels = np.full((48, 60, 3), 255, np.uint8), np.zeros((48, 60), np.uint8)
    outside = 0
    for seed in range(20):
        picture, label_map = geometry(image, labels, (40, 70), seed, **EVERYTHING)
        ignored = label_map == 255
        white = (picture[..., 0] - float(FILL[0])) / (255 - FILL[0])
        assert white[~ignored].min() >= 0.25 - 0.01  # at a corner, half of it from each side
        assert white[ignored].max() <= 0.5 + 0.01
        assert (picture[ignored] == FILL).all(axis=-1).mean() > 0.6
        outside += ignored.mean() / 20
    assert 0.05 < outside < 0.6


@pytest.mark.parametrize("option", [{"rotation": 20}, {"translation": 0.1}, {"elastic": 5}, {"elastic": 5, "elastic_grid": 6}])
def test_each_option_changes_pictures_by_its_seed(option):
    image, labels = noise(40, 50)
    first, again, other = (geometry(image, labels, seed=seed, **option) for seed in (1, 1, 2))
    for one, same, another in zip(first, again, other, strict=True):
        np.testing.assert_array_equal(one, same)
        assert (one != another).any()
    assert (first[1] != labels).mean() > 0.2


def test_a_turn_brings_in_what_the_cut_left_out():
    """Of a picture that is enlarged, a small turn about the centre has no outside."""
    image, labels = noise(60, 60)
    seen = [(geometry(image, labels, seed=seed, scale=(2.0, 2.0), rotation=20)[1] == 255).mean() for seed in range(20)]
    assert np.median(seen) == 0


# === Colour ===


def coloured(images, seed=0, **options):
    batch = {"images": images.astype(np.float32), "segmentation_masks": np.ones((*images.shape[:3], 1), np.uint8)}
    for layer in batch_layers(Augmentation(**STILL | options), seed):
        batch = layer(batch, training=True)
    assert (np.asarray(batch["segmentation_masks"]) == 1).all()
    return np.asarray(batch["images"])


@pytest.mark.parametrize("option", ["brightness", "contrast", "saturation", "hue"])
@pytest.mark.parametrize("strength", [0.3, 1.0])
def test_colours_stay_in_their_range_and_depend_on_the_seed(option, strength):
    images = np.tile(noise(20, 30)[0], (8, 1, 1, 1))
    first, again, other = (coloured(images, seed, **{option: strength}) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 5
    assert first.min() >= -1e-3
    assert first.max() <= 255.001
    assert len({picture.tobytes() for picture in first}) >= 6  # each picture has its own draw; some are saturated alike


def test_saturation_is_multiplied_between_its_bounds():
    """(200, 100, 150) has value 200 and saturation 1/2; with s = 0.5 the factor is between 1/3 and 3, and 1 is the most."""
    images = np.tile(np.array([200, 100, 150], np.uint8), (300, 1, 1, 1))
    red, green, blue = coloured(images, saturation=0.5).reshape(-1, 3).T
    np.testing.assert_allclose(red, 200, atol=0.01)
    np.testing.assert_allclose(blue - green, red - blue, atol=0.05)  # the hue is kept
    saturation = 1 - green / red
    assert 0.5 / 3 - 1e-3 <= saturation.min() < 0.18
    assert saturation.max() == pytest.approx(1, abs=1e-3)
    assert 0.3 < (saturation < 0.5).mean() < 0.7


def test_hue_turns_by_at_most_its_share_of_half_a_circle():
    """Red turned by up to 1/3 of half a circle lies between magenta and yellow, 60 degrees either way."""
    images = np.tile(np.array([200, 0, 0], np.uint8), (300, 1, 1, 1))
    red, green, blue = coloured(images, hue=1 / 3).reshape(-1, 3).T
    np.testing.assert_allclose(red, 200, atol=0.01)
    assert (np.minimum(green, blue) < 0.01).all()
    assert 180 < green.max() <= 200.01
    assert 180 < blue.max() <= 200.01


@pytest.mark.parametrize("option", ["saturation", "hue"])
def test_grey_stays_grey(option):
    grey = np.tile(np.arange(0, 256, 5, dtype=np.uint8)[:, None], (4, 2, 1, 3))
    np.testing.assert_allclose(coloured(grey, **{option: 1.0}), grey, atol=0.01)


def test_nothing_is_on_but_what_always_was():
    """What a seed means to the default augmentation stays as it is: the layers, their order and their seeds."""
    layers = batch_layers(Augmentation(), 3, 0)
    assert [type(layer).__name__ for layer in layers] == ["RandomFlip", "RandomBrightness", "RandomContrast"]
    assert [layer.seed for layer in layers] == [int(s) for s in np.random.SeedSequence([3, 0]).generate_state(3) >> 1]
    assert not Augmentation().warps
    assert batch_layers(NO_AUGMENTATION, 3, 0) == []


# === Wrong values ===


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("scale", (2.0, 1.0)), ("scale", (0.0, 1.0)), ("flip", "sideways"), ("rotation", -1), ("rotation", 181),
        ("translation", 1.5), ("elastic", -1), ("elastic", float("nan")), ("elastic_grid", 1), ("elastic_grid", 2.5),
        ("brightness", 2), ("contrast", -0.1), ("saturation", 1.01), ("hue", float("nan")),
        ("zoom_out", 0.9), ("zoom_out", float("inf")), ("mosaic", 1.1),
    ],
)  # fmt: skip
def test_wrong_values_are_told_in_a_sentence(expect_sentence, name, value):
    from tfzoo.training import Recipe

    expect_sentence(lambda: Augmentation(**{name: value}), f"{name} is")
    expect_sentence(lambda: Recipe(**{name: value}), f"{name} is")


def test_a_recipe_says_it_all():
    from tfzoo.training import Recipe

    changed = {
        "scale": [0.5, 2.0], "flip": None, "brightness": 0.1, "contrast": 0.1, "rotation": 10.0, "translation": 0.1,
        "elastic": 10.0, "elastic_grid": 4, "saturation": 0.1, "hue": 0.1, "zoom_out": 2.0, "iou_crop": True, "mosaic": 0.5,
    }  # fmt: skip
    assert Recipe(**changed).augmentation() == Augmentation(**changed | {"scale": (0.5, 2.0)})
    assert Recipe().augmentation() == Augmentation()
