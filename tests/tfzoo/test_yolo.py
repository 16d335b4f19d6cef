"""YOLO, versions 1 and 2: their papers' numbers, losses against loops in NumPy, and small cases worked by hand."""

import itertools
import math

import keras
import numpy as np
import pytest

from tfzoo.analysis import without_weights
from tfzoo.backbones.darknet import darknet19_features
from tfzoo.errors import InputError
from tfzoo.models.yolov1 import YOLOv1, cell_of_centre, first_of_slot, responsible_predictor
from tfzoo.models.yolov2 import VOC_ANCHOR_SIZES, SpaceToDepth, YOLOv2

ANCHORS = [(32.0, 32.0), (64.0, 64.0), (100.0, 40.0)]


def small(version, classes=3, **options):
    if version == 1:
        return YOLOv1(classes, **{"grid": 3, "width_multiplier": 0.125, **options})
    return YOLOv2(classes, **{"anchor_sizes": ANCHORS, "width_multiplier": 0.125, **options})


def count(build, trainable=False):
    shapes = without_weights(lambda: [v.shape for v in getattr(build(), "trainable_weights" if trainable else "weights")])
    return sum(math.prod(shape) for shape in shapes)


# === Networks ===


@pytest.mark.parametrize(("classes", "size", "header"), [(80, 203_934_260, 16), (20, 202_704_264, 20)])
def test_yolov2_has_as_many_numbers_as_the_authors_files(classes, size, header):
    """yolov2.weights (COCO) and yolov2-voc.weights hold a header and float32s: the norms' statistics are among them."""
    assert header + 4 * count(lambda: YOLOv2(classes)) == size


def test_yolov1_has_the_parameters_of_the_authors_network():
    """tiny-yolo 1.1 for VOC: eight 3x3 convolutions with scales and shifts, and one layer of 7 * 7 * 256 to 7 * 7 * 30."""
    channels = (3, 16, 32, 64, 128, 256, 512, 1024, 256)
    convolutions = sum(9 * a * b + 2 * b for a, b in itertools.pairwise(channels))
    assert count(lambda: YOLOv1(20), trainable=True) == convolutions + (7 * 7 * 256 + 1) * 7 * 7 * 30


def test_darknet19_keeps_its_feature_contract():
    pixels = keras.Input((None, None, 3))
    maps = keras.Model(pixels, darknet19_features(pixels, 0.125))(np.zeros((1, 65, 98, 3), np.float32))
    for stage, channels in enumerate((64, 128, 256, 512, 1024), start=1):
        assert maps[f"stage{stage}"].shape == (1, -(-65 // 2**stage), -(-98 // 2**stage), channels // 8)


def test_darknet19_has_the_published_number_of_parameters():
    """20,842,376 (timm and others tell 20.84 million), of which the last convolution, 1x1 to 1000 classes, is left out."""
    pixels = keras.Input((None, None, 3))
    found = count(lambda: keras.Model(pixels, darknet19_features(pixels)), trainable=True)
    assert found == 20_842_376 - (1024 + 1) * 1000


def test_space_to_depth_by_hand():
    x = np.arange(16, dtype=np.float32).reshape(1, 4, 4, 1)
    np.testing.assert_array_equal(SpaceToDepth()(x)[0, 0], [[0, 1, 4, 5], [2, 3, 6, 7]])


def test_heads_have_a_place_for_each_box():
    heads = small(1, boxes_per_cell=3)(np.zeros((2, 40, 50, 3), np.uint8))
    assert {k: v.shape for k, v in heads.items()} == {
        "cls_logits": (2, 9, 3),
        "bbox_regression": (2, 27, 4),
        "objectness": (2, 27, 1),
    }
    heads = small(2)(np.zeros((2, 65, 96, 3), np.uint8))  # padded to 96x96: nine cells
    assert heads["cls_logits"].shape == (2, 27, 3) and heads["objectness"].shape == (2, 27, 1)


# === Pieces ===


def test_cells_of_centres_by_hand():
    """Centres (33, 10), (64, 95.9), (-5, 200) in cells of 32 pixels, three columns and three rows; outside is moved inside."""
    boxes = np.array([[[30, 5, 36, 15], [60, 91.9, 68, 99.9], [-10, 190, 0, 210]]], np.float32)
    np.testing.assert_array_equal(cell_of_centre(boxes, 32, 3, 3), [[1, 2 * 3 + 2, 2 * 3 + 0]])


def test_first_real_box_gets_the_slot():
    slots = np.array([[2, 0, 2, 2]], np.int32)
    np.testing.assert_array_equal(first_of_slot(slots, np.array([[False, True, True, True]]), 4), [[1, -1, 2, -1]])


def test_responsible_is_the_best_overlap_or_else_the_nearest():
    iou = np.array([[[0.2, 0.5], [0.0, 0.0]]], np.float32)
    distance = np.array([[[1.0, 9.0], [1.0, 9.0]]], np.float32)
    np.testing.assert_array_equal(responsible_predictor(iou, distance), [[[0, 1], [1, 0]]])


def test_yolov1_decodes_by_hand():
    """Cell (1, 2) of 3x3 begins at (128, 64): the centre half a cell on, sides .25 and 1 of 192 pixels; and back."""
    model = small(1)
    cell = model.anchors((192, 192))[2 * (1 * 3 + 2)]
    np.testing.assert_array_equal(cell, [128, 64, 192, 128])
    told = np.array([0.5, 0.5, 0.5, 1.0], np.float32)
    np.testing.assert_allclose(model.decode(told, cell), [160 - 24, 96 - 96, 160 + 24, 96 + 96], atol=1e-4)
    np.testing.assert_allclose(model.encode(np.array([136.0, 0, 184, 192], np.float32), cell), told, atol=1e-6)


def test_yolov2_decodes_by_hand():
    """t = 0 is the anchor at the middle of its cell; sigmoid(log 3) is .75, exp(log 2) doubles."""
    model = small(2)
    anchors = model.anchors((64, 96))
    assert anchors.shape == (2 * 3 * 3, 4)
    np.testing.assert_allclose(anchors[4], [48 - 32, 16 - 32, 48 + 32, 16 + 32])  # second cell, second anchor
    decoded = model.decode(np.array([[0, 0, 0, 0], [math.log(3), 0, math.log(2), 0]], np.float32), anchors[[4, 4]])
    np.testing.assert_allclose(decoded, [anchors[4], [56 - 64, -16, 56 + 64, 48]], atol=1e-4)
    np.testing.assert_allclose(model.anchors((keras.ops.convert_to_tensor(64), keras.ops.convert_to_tensor(96))), anchors)


# === Losses against loops ===


def random_case(model, size, seed=0):
    """Heads, targets with padding, an empty box and two boxes in one cell, and the anchors."""
    rng = np.random.default_rng(seed)
    anchors = np.asarray(model.anchors(size))
    shapes = {name: (2, *head.shape[1:]) for name, head in model(np.zeros((1, *size, 3), np.uint8)).items()}
    heads = {name: rng.normal(0, 0.7, shape).astype(np.float32) for name, shape in shapes.items()}
    low = rng.uniform(0, 0.7, (2, 7, 2)) * size[::-1]
    boxes = np.concatenate([low, low + rng.uniform(10, 90, (2, 7, 2))], axis=-1).astype(np.float32)
    boxes[0, 1] = boxes[0, 0] + 1  # most likely in the same cell
    boxes[0, 2, 2] = boxes[0, 2, 0]  # without an area
    labels = rng.integers(0, 3, (2, 7)).astype(np.int32)
    labels[1, 4:] = -1
    real = (labels >= 0) & ((boxes[..., 2:] - boxes[..., :2]).min(-1) > 0)
    return heads, boxes, labels, real, anchors


def iou(a, b):
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    shared = max(width, 0) * max(height, 0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return shared / (sum(areas) - shared)


def clipped(box, size):
    return np.clip(box, 0, [size[1], size[0]] * 2)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def yolov1_losses(heads, boxes, labels, real, size, grid):
    """Equation 3 of the paper, cell by cell."""
    side, found = size[0], {"classification": 0.0, "box": 0.0, "objectness": 0.0, "foreground": 0.0}
    step = side / grid
    for picture in range(len(boxes)):
        for cell in range(grid * grid):
            row, column = divmod(cell, grid)
            told = heads["bbox_regression"][picture].reshape(grid * grid, 2, 4)[cell]
            confidence = heads["objectness"][picture].reshape(grid * grid, 2)[cell]
            owner = None
            for n in np.flatnonzero(real[picture]):
                x0, y0, x1, y1 = clipped(boxes[picture, n], size)
                if (int((x0 + x1) / 2 // step), int((y0 + y1) / 2 // step)) == (column, row):
                    owner = n
                    break
            if owner is None:
                found["objectness"] += 0.5 * (confidence**2).sum()
                continue
            x0, y0, x1, y1 = truth = clipped(boxes[picture, owner], size)
            decoded = []
            for x, y, w, h in told:
                cx, cy, w, h = (column + x) * step, (row + y) * step, w * w * side, h * h * side
                decoded.append((cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2))
            overlaps = [iou(box, truth) for box in decoded]
            distances = [((np.array(box) - truth) ** 2).sum() for box in decoded]
            best = int(np.argmax(overlaps) if max(overlaps) > 0 else np.argmin(distances))
            target = (
                (x0 + x1) / 2 / step - column,
                (y0 + y1) / 2 / step - row,
                ((x1 - x0) / side) ** 0.5,
                ((y1 - y0) / side) ** 0.5,
            )
            found["box"] += 5 * ((told[best] - target) ** 2).sum()
            found["objectness"] += (confidence[best] - overlaps[best]) ** 2 + 0.5 * confidence[1 - best] ** 2
            found["classification"] += ((heads["cls_logits"][picture, cell] - np.eye(3)[labels[picture, owner]]) ** 2).sum()
            found["foreground"] += 1
    return {name: value / len(boxes) for name, value in found.items()}


def yolov2_losses(heads, boxes, labels, real, anchors, size, anchor_sizes):
    """Darknet's region loss, place by place."""
    found = {"classification": 0.0, "box": 0.0, "objectness": 0.0, "foreground": 0.0}
    per_cell, columns = len(anchor_sizes), size[1] // 32
    for picture in range(len(boxes)):
        owners = {}
        truths = {n: clipped(boxes[picture, n], size) for n in np.flatnonzero(real[picture])}
        for n, (x0, y0, x1, y1) in truths.items():
            shapes = [iou((0, 0, w, h), (0, 0, x1 - x0, y1 - y0)) for w, h in anchor_sizes]
            cell = int((y0 + y1) / 2 // 32) * columns + int((x0 + x1) / 2 // 32)
            owners.setdefault(cell * per_cell + int(np.argmax(shapes)), n)
        for place, (x0, y0, x1, y1) in enumerate(anchors):
            tx, ty, tw, th = heads["bbox_regression"][picture, place].astype(float)
            cx, cy = (x0 + x1) / 2 + (sigmoid(tx) - 0.5) * 32, (y0 + y1) / 2 + (sigmoid(ty) - 0.5) * 32
            w, h = (x1 - x0) * math.exp(tw), (y1 - y0) * math.exp(th)
            decoded = (cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2)
            confidence = sigmoid(heads["objectness"][picture, place, 0])
            if place not in owners:
                if max((iou(decoded, truth) for truth in truths.values()), default=0) <= 0.6:
                    found["objectness"] += 0.5 * confidence**2
                continue
            n = owners[place]
            gx0, gy0, gx1, gy1 = truths[n]
            target = (((gx0 + gx1) - (x0 + x1)) / 64 + 0.5, ((gy0 + gy1) - (y0 + y1)) / 64 + 0.5)
            scales = math.log((gx1 - gx0) / (x1 - x0)), math.log((gy1 - gy0) / (y1 - y0))
            errors = (sigmoid(tx) - target[0]) ** 2 + (sigmoid(ty) - target[1]) ** 2 + (tw - scales[0]) ** 2 + (th - scales[1]) ** 2
            found["box"] += 0.5 * (2 - (gx1 - gx0) * (gy1 - gy0) / (size[0] * size[1])) * errors
            found["objectness"] += 0.5 * 5 * (confidence - iou(decoded, truths[n])) ** 2
            logits = heads["cls_logits"][picture, place].astype(float)
            found["classification"] += np.log(np.exp(logits).sum()) - logits[labels[picture, n]]
            found["foreground"] += 1
    return {name: value / len(boxes) for name, value in found.items()}


@pytest.mark.parametrize("seed", range(3))
def test_yolov1_loss_is_equation_3(seed):
    model = small(1)
    heads, boxes, labels, real, anchors = random_case(model, (192, 192), seed)
    found = model.head_losses(heads, boxes, labels, real, anchors)
    expected = yolov1_losses(heads, boxes, labels, real, (192, 192), 3)
    assert expected["foreground"] > 1
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-4, err_msg=name)


@pytest.mark.parametrize(
    ("sizes", "picture", "seed"),
    [(ANCHORS, (96, 160), 0), (ANCHORS, (96, 160), 1), (VOC_ANCHOR_SIZES, (128, 160), 2), (VOC_ANCHOR_SIZES, (224, 192), 3)],
)
def test_yolov2_loss_is_darknets(sizes, picture, seed):
    """The authors' anchors are no whole numbers: of these float32 does not give the picture's size back exactly."""
    model = small(2, anchor_sizes=sizes)
    heads, boxes, labels, real, anchors = random_case(model, picture, seed)
    boxes[1, 0] = np.array([-30, -30, -1, -1]) + np.tile(picture[::-1], 2)  # in the last cell
    found = model.head_losses(heads, boxes, labels, real, anchors)
    expected = yolov2_losses(heads, boxes, labels, real, anchors, picture, sizes)
    assert expected["foreground"] > 1
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-4, err_msg=name)


# === Answer ===


def test_yolov1_scores_by_hand():
    """Objectness .8 and class probabilities .5, 1.5 (cut off at 1) and -.1 (at 0): .4 and .8; the rest has no score."""
    model = small(1)
    heads = {"cls_logits": np.zeros((1, 9, 3)), "bbox_regression": np.zeros((1, 18, 4)), "objectness": np.zeros((1, 18, 1))}
    heads["objectness"][0, 9] = 0.8  # the second box of the fifth cell, which begins at (64, 64)
    heads["cls_logits"][0, 4] = 0.5, 1.5, -0.1
    heads["bbox_regression"][0, 9] = 0.5, 0.5, 0.5, 0.5
    heads = {name: value.astype(np.float32) for name, value in heads.items()}
    boxes, scores, labels = (np.asarray(x)[0] for x in model.candidates(heads, model.anchors(None), (192, 192)))
    np.testing.assert_allclose(scores[:3], [0.8, 0.4, -1], rtol=1e-6)
    np.testing.assert_array_equal(labels[:2], [1, 0])
    np.testing.assert_allclose(boxes[:2], [[72, 72, 120, 120]] * 2, atol=1e-4)


def test_yolov2_scores_by_hand():
    """sigmoid(log 4) is .8; a softmax of log 3, 0, 0 gives .6, .2, .2."""
    model = small(2)
    heads = {"cls_logits": np.zeros((1, 12, 3)), "bbox_regression": np.zeros((1, 12, 4)), "objectness": np.full((1, 12, 1), -50.0)}
    heads["objectness"][0, 4], heads["cls_logits"][0, 4, 0] = math.log(4), math.log(3)
    heads = {name: value.astype(np.float32) for name, value in heads.items()}
    boxes, scores, labels = (np.asarray(x)[0] for x in model.candidates(heads, model.anchors((64, 64)), (64, 50)))
    np.testing.assert_allclose(scores[:4], [0.48, 0.16, 0.16, -1], rtol=1e-5)
    assert labels[0] == 0 and set(labels[1:3]) == {1, 2}
    np.testing.assert_allclose(boxes[0], [16, 0, 50, 48], atol=1e-4)  # the anchor of 64x64 about (48, 16), cut off


@pytest.mark.parametrize(
    ("version", "options", "message"),
    [
        (1, {"grid": 0}, "grid is 0: it must be a whole number from 1"),
        (1, {"boxes_per_cell": 1.5}, "boxes_per_cell is 1.5"),
        (1, {"min_size": 300}, "min_size and max_size are for networks that take any size"),
        (2, {"anchor_sizes": [(10, 0)]}, "must be .width, height. pairs"),
        (2, {"anchor_sizes": [10, 20]}, "must be .width, height. pairs"),
        (2, {"anchor_sizes": []}, "must be .width, height. pairs"),
        (2, {"width_multiplier": 0}, "width_multiplier is 0"),
    ],
)
def test_wrong_options_are_told(version, options, message):
    with pytest.raises(InputError, match=message):
        small(version, **options)
