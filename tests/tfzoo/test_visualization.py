"""Pictures for people."""

import numpy as np
import pytest
from PIL import Image

from tfzoo.visualization import (
    comparison,
    contact_sheet,
    draw_boxes,
    draw_found,
    explained,
    legend,
    overlay,
    palette,
    plot_confusion,
    plot_precision_recall,
    tint,
)

NAMES = ["background", "cell", "nucleus"]


def picture(height=40, width=60, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def label_map(height=40, width=60):
    labels = np.zeros((height, width), np.uint8)
    labels[5:15, 5:25], labels[20:30, 30:50], labels[35:, :10] = 1, 2, 255
    return labels


def test_overlay_leaves_the_background_as_it_was():
    painted = overlay(picture(), label_map(), NAMES)
    assert painted.dtype == np.uint8
    unpainted = label_map() == 0
    np.testing.assert_array_equal(painted[unpainted], picture()[unpainted])


def test_overlay_mixes_the_colour_of_the_class_and_outlines_it():
    labels = np.ones((9, 9), np.uint8)
    labels[:, 5:] = 2
    image = picture(9, 9)
    painted = overlay(image, labels, NAMES, opacity=0.5)
    for index, inside in ((1, np.s_[:, :5]), (2, np.s_[:, 6:])):
        np.testing.assert_allclose(painted[inside], (image[inside].astype(float) + palette(NAMES)[index]) / 2, atol=0.5)
    assert (painted[:, 5] == palette(NAMES)[2]).all()


def test_overlay_paints_ignored_pixels_grey():
    painted = overlay(picture(), label_map(), NAMES, opacity=1.0)
    assert (painted[label_map() == 255] == 128).all()


@pytest.mark.parametrize("names", [["sky", "road"], ["sky", "background", "road"]])
def test_only_a_background_is_left_unpainted(names):
    labels = np.arange(len(names), dtype=np.uint8)[None].repeat(4, axis=0)
    image = picture(4, len(names))
    painted = overlay(image, labels, names, opacity=1.0)
    for index, name in enumerate(names):
        expected = image[:, index] if name == "background" else np.broadcast_to(palette(names)[index], (4, 3))
        np.testing.assert_array_equal(painted[:, index], expected)


@pytest.mark.parametrize("first", ["background", "class_0"])
def test_palette_tells_32_classes_apart(first):
    names = [first, *(f"class_{index}" for index in range(1, 32))]
    colours = palette(names).astype(int)
    assert colours.shape == (32, 3)
    distances = np.abs(colours[:, None] - colours[None]).sum(axis=-1)
    assert distances[~np.eye(32, dtype=bool)].min() >= 20


def test_palette_paints_the_background_black():
    assert palette(NAMES)[0].tolist() == [0, 0, 0]


@pytest.mark.parametrize("minimum_width", [1, 60, 61, 320])
def test_explained_is_at_least_as_wide_as_asked(minimum_width):
    shown = explained(picture(), label_map(), NAMES, minimum_width)
    assert shown.dtype == np.uint8
    assert shown.shape[1] >= max(minimum_width, 60)
    assert shown.shape[2] == 3
    factor = shown.shape[1] // 60
    assert shown.shape[0] > 40 * factor  # the legend lies underneath
    np.testing.assert_array_equal(shown[: 40 * factor : factor, ::factor], overlay(picture(), label_map(), NAMES))


def test_legend_shows_the_colours_of_the_classes_that_are_there():
    drawn = legend(label_map() * (label_map() != 2), NAMES, 400).reshape(-1, 3)
    assert (drawn == palette(NAMES)[1]).all(axis=1).any()
    assert not (drawn == palette(NAMES)[2]).all(axis=1).any()


def test_legend_has_no_shares_where_they_would_be_of_several_pictures():
    """Without the numbers there is less ink."""
    ink = [(legend(label_map(), NAMES, 400, shares) < 128).sum() for shares in (True, False)]
    assert ink[0] > ink[1] > 0


@pytest.mark.parametrize("count", [1, 3])
def test_comparison_is_an_rgb_picture_with_a_row_for_each(count):
    images = np.stack([picture(seed=seed) for seed in range(count)])
    truth = np.stack([label_map()] * count)
    shown = comparison(images, truth, np.zeros_like(truth), NAMES)
    assert shown.dtype == np.uint8
    assert shown.shape[0] > 40 * count
    assert shown.shape[1] >= 3 * 200
    assert shown.shape[2] == 3


def test_overlay_of_a_tall_picture_is_painted_in_bands_without_seams():
    """More rows than one band has."""
    rng = np.random.default_rng(0)
    image, labels = rng.integers(0, 256, (600, 8, 3), dtype=np.uint8), np.ones((600, 8), np.uint8)
    expected = image + (palette(NAMES)[1].astype(np.float32) - image) * np.float32(0.55)
    np.testing.assert_array_equal(overlay(image, labels, NAMES), np.rint(expected).astype(np.uint8))


@pytest.fixture
def drawn(tmp_path):
    def draw(matrix, names):
        plot_confusion(matrix, names, tmp_path / "confusion.png")
        return np.asarray(Image.open(tmp_path / "confusion.png").convert("RGB")).astype(int)

    return draw


def test_rows_of_a_confusion_matrix_are_drawn_as_shares(drawn):
    matrix = np.array([[8, 2, 0], [1, 1, 2], [0, 0, 5]])
    shown = drawn(matrix, NAMES)
    np.testing.assert_array_equal(shown, drawn(matrix * [[1], [100], [7]], NAMES))
    assert (shown != drawn(matrix[[1, 0, 2]], NAMES)).any()


def test_classes_without_a_count_are_not_drawn(drawn):
    matrix = np.array([[8, 0, 2], [0, 0, 0], [1, 0, 3]])
    np.testing.assert_array_equal(drawn(matrix, NAMES), drawn(matrix[::2, ::2], NAMES[::2]))
    assert drawn(np.zeros((3, 3), int), NAMES).shape == drawn(np.eye(3), NAMES).shape


def test_shares_are_shades_and_a_row_without_truth_is_grey(drawn):
    """Blues(1) is (8, 48, 107), Blues(0) (247, 251, 255); a cell is thousands of pixels, antialiased letters are tens."""

    def count(matrix, colour):
        return (np.abs(drawn(matrix, ["a", "b"]) - colour).max(axis=-1) <= 1).sum()

    grey = (224, 224, 224)
    assert count([[4, 0], [0, 5]], (8, 48, 107)) > 1000 and count([[4, 0], [0, 5]], (247, 251, 255)) > 1000
    assert count([[4, 1], [0, 0]], grey) > 1000 > count([[4, 1], [1, 0]], grey)


def test_more_predictions_than_classes_are_another_column(drawn):
    names = ["a", "b", "(another class)"]
    wide, square = drawn([[4, 1, 3], [0, 5, 2]], names), drawn([[4, 1], [0, 5]], names[:2])
    assert wide.shape[1] > square.shape[1]


# === Boxes ===


def test_boxes_are_drawn_in_the_colours_of_their_classes_with_names():
    image = np.zeros((300, 400, 3), np.uint8)
    drawn = draw_boxes(image, [[50, 60, 150, 160], [200, 100, 390, 290]], [0, 2], ["cat", "dog", "emu"], [0.5, 0.875])
    assert drawn.shape == image.shape and not image.any()
    colours = palette(["cat", "dog", "emu"])
    for (left, top, right, bottom), label in (((50, 60, 150, 160), 0), ((200, 100, 390, 290), 2)):
        for row, column in (
            (top, left),
            (top, right - 1),
            (bottom - 1, left),
            (bottom - 1, right - 1),
            ((top + bottom) // 2, left),
        ):
            assert (drawn[row, column] == colours[label]).all()
        inside = drawn[top + 3 : bottom - 3, left + 3 : right - 3]
        assert not inside.any()  # names stand above their boxes where there is room
        assert (drawn[top - 10 : top, left + 2 : left + 30] == colours[label]).all(axis=-1).any()


def test_without_boxes_a_picture_stays_as_it_is():
    image = picture(330, 340)
    np.testing.assert_array_equal(draw_boxes(image, np.zeros((0, 4)), [], ["cat"]), image)


@pytest.mark.parametrize("box", [[-30, -40, 900, 700], [5, 0, 12, 6], [395, 290, 400, 300], [20, 20, 20, 20], [30, 40, 10, 20]])
def test_boxes_at_and_beyond_the_border_are_drawn(box):
    drawn = draw_boxes(np.zeros((300, 400, 3), np.uint8), [box], [0], ["a rather long name of a class"], [0.5])
    assert drawn.any()


def test_small_pictures_are_enlarged_before_boxes_are_drawn():
    drawn = draw_boxes(np.zeros((40, 60, 3), np.uint8), [[10, 20, 30, 39]], [0], ["cat"])
    assert drawn.shape == (240, 360, 3)
    assert (drawn[120, 60] == palette(["cat"])[0]).all() and (drawn[39 * 6 - 1, 179] == palette(["cat"])[0]).all()


def test_a_contact_sheet_has_a_place_for_every_picture():
    colours = np.eye(3, dtype=np.uint8) * 200
    sizes = ((30, 60), (60, 30), (500, 900))
    pictures = [np.broadcast_to(colour, (*size, 3)) for colour, size in zip(colours, sizes, strict=True)]
    sheet = contact_sheet(pictures, ["first", "second " * 30, "third"], columns=2, side=100)
    assert sheet.shape[1] == 2 * 100 + 3 * 8
    assert sheet.shape[0] == 8 + (100 + 24 + 8) + (56 + 24 + 8)  # the second row is as high as its picture
    for colour, area in zip(colours, (100 * 50, 50 * 100, 100 * 56), strict=True):
        assert (sheet == colour).all(axis=-1).sum() == area


# === Masks and points ===


def test_masks_are_tinted_with_a_contour():
    image, mask = picture(), np.zeros((2, 40, 60), bool)
    mask[0, 10:20, 10:30], mask[1, 30:, 50:] = True, True
    colours = np.array([(0, 114, 178), (230, 159, 0)], np.uint8)
    painted = tint(image, mask, colours, opacity=0.5)
    np.testing.assert_array_equal(painted[~mask.any(axis=0)], image[~mask.any(axis=0)])
    for area, inside, colour in ((mask[0], np.s_[11:19, 11:29], colours[0]), (mask[1], np.s_[31:39, 51:59], colours[1])):
        np.testing.assert_allclose(painted[inside], (image[inside].astype(float) + colour) / 2, atol=0.5)
        contour = area.copy()
        contour[inside] = False
        assert (painted[contour] == colour).all()


def test_without_pixels_nothing_is_tinted():
    np.testing.assert_array_equal(tint(picture(), np.zeros((1, 40, 60), bool), np.zeros((1, 3), np.uint8)), picture())


def test_objects_with_masks_have_colours_of_their_own():
    masks = np.zeros((2, 340, 400), bool)
    masks[0, 100:150, 50:90], masks[1, 100:150, 200:240] = True, True
    boxes = [[50, 100, 90, 150], [200, 100, 240, 150]]
    drawn = draw_boxes(np.zeros((340, 400, 3), np.uint8), boxes, [0, 0], ["cell"], masks=masks)
    assert (drawn[100, 60] == palette(["", ""])[0]).all() and (drawn[100, 210] == palette(["", ""])[1]).all()


def test_names_of_many_objects_would_hide_their_masks():
    image, count = np.zeros((340, 400, 3), np.uint8), 60
    masks = np.zeros((count, 340, 400), bool)
    masks[:, 100:150, 50:90] = True
    boxes = np.tile([50, 100, 90, 150], (count, 1))
    drawn = draw_boxes(image, boxes, [0] * count, ["cell"], masks=masks)
    assert not drawn[:100].any() and drawn[100:150, 50:90].any()
    assert draw_boxes(image, boxes, [0] * count, ["cell"])[:100].any()


def test_a_skeleton_joins_the_points_that_are_known():
    """Shoulders (5, 6) and the left elbow (7): two lines, where all are known; the points of another thing are not joined."""
    points = np.zeros((1, 17, 3))
    points[0, 5], points[0, 6], points[0, 7] = (100, 200, 2), (300, 200, 1), (100, 280, 2)
    image, box = np.zeros((300, 400, 3), np.uint8), [[90, 190, 310, 290]]
    drawn, unknown, other = (
        draw_boxes(image, box, [0], ["person"], keypoints=p)
        for p in (points, points * (np.arange(17) != 6)[:, None], points[:, 5:8])
    )
    colour = palette([""])[0]
    assert (drawn[200, 200] == colour).all() and (drawn[240, 100] == colour).all()
    assert not unknown[200, 200].any() and (unknown[240, 100] == colour).all()
    assert not other[200, 200].any() and (other[200, 300] == colour).all()


def test_an_answer_is_drawn_from_a_score_with_its_masks():
    answer = {
        "boxes": np.array([[50, 50, 150, 150], [200, 50, 300, 150], [0, 0, 0, 0]], np.float32),
        "scores": np.array([0.9, 0.2, 0], np.float32),
        "labels": np.array([0, 0, -1]),
        "num_detections": np.int32(2),
        "masks": np.ones((3, 28, 28), np.float32),
    }
    drawn = draw_found(np.full((300, 400, 3), 7, np.uint8), answer, ["cell"], 0.3)
    assert (drawn[60:140, 60:140] != 7).any(axis=-1).all() and (drawn[:, 180:] == 7).all()


@pytest.mark.parametrize("count", [0, 1, 3, 30])
def test_precision_over_recall_is_drawn(tmp_path, count):
    curves = {f"class {index}": np.linspace(1, index / 30, 101) for index in range(count)}
    plot_precision_recall(curves, tmp_path / "pr.png")
    assert Image.open(tmp_path / "pr.png").size[0] > 500
