"""The ``shapes`` data set: drawn, seeded, nothing to download; every task.

Circles, rectangles, triangles and stars, turned and overlapping, textured, over a textured background with thin lines and
specks that are no object. A picture is decided by its split and index alone, so any process draws the same one.
"""

import math

import numpy as np
from PIL import Image, ImageDraw

from tfzoo.data.dataset import Dataset
from tfzoo.data.images import parse_size
from tfzoo.errors import InputError, nearest

CLASSES = ("circle", "rectangle", "triangle", "star")
COUNTS = {"train": 3000, "val": 150, "test": 150}
DEFAULT_SIZE = (128, 128)
CORNERS = {"rectangle": 4, "triangle": 3, "star": 5}
MAX_CORNERS = max(CORNERS.values())
MAX_OBJECTS = 4
MAX_COVERED = 0.35  # an object that would hide more than this of another one is left out
MIN_VISIBLE = 0.25  # an object of which less is left uncovered is painted, but not labelled as an instance


class Shapes(Dataset):
    """Drawn shapes. ``spec``: "shapes", or "shapes:HEIGHTxWIDTH" for another size than 128x128.

    Keypoints are the corners, clockwise from the first; a circle has none (visibility 0).
    """

    tasks = ("semantic", "detection", "instance", "keypoint")
    most_boxes = MAX_OBJECTS

    def __init__(self, spec: str, size: str, split: str, task: str | None = None):
        if split not in COUNTS:
            raise InputError(
                f"Data set 'shapes' has no split '{split}': its splits are train, val and test.{nearest(split, COUNTS)}"
            )
        super().__init__(spec, split, task)
        self.class_names = ["background", *CLASSES] if self.task == "semantic" else list(CLASSES)
        self.keypoint_names = [f"corner_{i}" for i in range(MAX_CORNERS)] if self.task == "keypoint" else []
        self.size = parse_size(size or None) or DEFAULT_SIZE

    @property
    def mirrored_points(self):
        """A mirrored shape's corners are listed clockwise too, and a rectangle's first side stays its long one."""
        order = np.tile(np.arange(MAX_CORNERS), (len(CLASSES), 1))
        for name, count in CORNERS.items():
            order[CLASSES.index(name), :count] = [1, 0, *range(count - 1, 1, -1)]
        return order

    def __len__(self):
        return COUNTS[self.split]

    def read(self, index):
        if not 0 <= index < len(self):
            raise IndexError(f"shapes {self.split} has {len(self)} pictures, not one numbered {index}")
        rng = np.random.default_rng([list(COUNTS).index(self.split), index])
        image, objects = draw(rng, self.size)
        sample = {"images": image, "image_id": f"{self.split}_{index:05d}"}
        if self.task == "semantic":
            return sample | {"segmentation_masks": _class_mask(objects, self.size)}
        return sample | _instances(objects, self.size, self.task)


def draw(rng: np.random.Generator, size: tuple[int, int]):
    """Draws one picture.

    Returns:
        image: uint8 [H, W, 3].
        objects: list of (label, mask, corners), bottom to top: label indexes ``CLASSES``, mask is bool [H, W] (covered
            parts included), corners float32 [5, 3] (x, y, visibility).
    """
    background = rng.uniform(0, 255, 3)
    canvas = _texture(rng, size, background, rng.uniform(10, 35))
    _clutter(rng, canvas)
    objects, colours = [], [background]
    for _ in range(rng.integers(1, MAX_OBJECTS + 1)):
        label = int(rng.integers(len(CLASSES)))
        outline, corners = _outline(rng, CLASSES[label], size)
        mask = _fill(outline, size)
        if not mask.any() or any((mask & below).sum() > MAX_COVERED * below.sum() for _, below, _ in objects):
            continue
        colours.append(_contrasting_colour(rng, colours))
        canvas[mask] = _texture(rng, size, colours[-1], rng.uniform(5, 25))[mask]
        objects.append((label, mask, corners))
    noisy = canvas + rng.normal(0, 4, canvas.shape)
    return np.clip(np.rint(noisy), 0, 255).astype(np.uint8), objects


def _texture(rng, size, colour, strength):
    """A colour with soft blotches, or with stripes: float32 [H, W, 3]."""
    height, width = size
    if rng.random() < 0.5:
        grid = rng.normal(0, 1, rng.integers(3, 12, 2)).astype(np.float32)
        pattern = np.asarray(Image.fromarray(grid).resize((width, height), Image.Resampling.BICUBIC))
    else:
        angle, period = rng.uniform(0, math.pi), rng.uniform(0.05, 0.4) * min(size)
        y, x = np.mgrid[:height, :width].astype(np.float32)
        pattern = np.sin((x * math.cos(angle) + y * math.sin(angle)) * (2 * math.pi / period))
    return (colour + strength * pattern[..., None]).astype(np.float32)


def _contrasting_colour(rng, others):
    while True:
        colour = rng.uniform(0, 255, 3)
        if all(np.abs(colour - other).sum() > 120 for other in others):
            return colour


def _clutter(rng, canvas):
    """Thin lines and specks: things to look at that are no object."""
    height, width = canvas.shape[:2]
    layer = Image.new("L", (width, height))
    pen = ImageDraw.Draw(layer)
    for _ in range(rng.integers(2, 7)):
        x0, x1 = rng.uniform(0, width, 2)
        y0, y1 = rng.uniform(0, height, 2)
        pen.line((x0, y0, x1, y1), fill=255, width=int(rng.integers(1, 3)))
    for _ in range(rng.integers(0, 12)):
        x, y, r = rng.uniform(0, width), rng.uniform(0, height), rng.uniform(0.5, 2)
        pen.ellipse((x - r, y - r, x + r, y + r), fill=255)
    canvas[np.asarray(layer) > 0] = rng.uniform(0, 255, 3)


def _outline(rng, name, size):
    """A polygon [P, 2] of x, y and its corners [5, 3]."""
    height, width = size
    radius = rng.uniform(0.16, 0.32) * min(size)
    centre = np.array([rng.uniform(0.2, 0.8) * width, rng.uniform(0.2, 0.8) * height])
    if name == "rectangle":
        half = np.array([1.0, rng.uniform(0.4, 1.0)])
        points = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * half
    else:
        count, radii = {"circle": (48, (1,)), "triangle": (3, (1,)), "star": (10, (1, 0.42))}[name]
        angles = np.arange(count) * 2 * math.pi / count
        points = np.stack([np.cos(angles), np.sin(angles)], axis=1) * np.resize(radii, count)[:, None]
    turn = rng.uniform(0, 2 * math.pi)
    rotation = np.array([[math.cos(turn), math.sin(turn)], [-math.sin(turn), math.cos(turn)]])
    points = points @ rotation * radius + centre
    tips = {"circle": points[:0], "star": points[::2]}.get(name, points)
    corners = np.zeros((MAX_CORNERS, 3), np.float32)
    inside = (tips >= 0).all(axis=1) & (tips < (width, height)).all(axis=1)
    corners[: len(tips)][inside] = np.concatenate([tips, np.full((len(tips), 1), 2.0)], axis=1)[inside]
    return points, corners


def _fill(outline, size):
    layer = Image.new("1", size[::-1])
    ImageDraw.Draw(layer).polygon([tuple(point) for point in outline], fill=1)
    return np.asarray(layer)


def _class_mask(objects, size):
    classes = np.zeros((*size, 1), np.uint8)
    for label, mask, _ in objects:
        classes[mask] = label + 1
    return classes


def _instances(objects, size, task):
    """Boxes and masks of what can be seen of each object, and corners that nothing covers."""
    masks, labels, corners, boxes = [], [], [], []
    covered = np.zeros(size, bool)
    for label, mask, points in reversed(objects):
        visible = mask & ~covered
        if visible.sum() >= MIN_VISIBLE * mask.sum():
            masks.append(visible)
            labels.append(label)
            corners.append(_mark_hidden(points, covered))
            boxes.append(_box(visible))
        covered |= mask
    sample = {
        "bounding_boxes": {
            "boxes": np.array(boxes, np.float32).reshape(-1, 4),
            "labels": np.array(labels, np.int32),
            "crowd": np.zeros(len(labels), bool),
        }
    }
    if task == "instance":
        sample["instance_masks"] = np.array(masks, np.uint8).reshape(-1, *size)
    if task == "keypoint":
        sample["keypoints"] = np.array(corners, np.float32).reshape(-1, MAX_CORNERS, 3)
    return sample


def _mark_hidden(points, covered):
    """Corners under another object are labelled but not visible: 1 instead of 2, as in COCO."""
    points = points.copy()
    for point in points:
        if point[2] and covered[int(point[1]), int(point[0])]:
            point[2] = 1
    return points


def _box(mask):
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
