"""The objects of a picture: boxes, labels, and masks or keypoints where they are known, which move together."""

import dataclasses

import numpy as np

from tfzoo.data.boxes import clip_boxes, is_wanted, scale_boxes
from tfzoo.data.instance_masks import mask_boxes

PADDING = -1  # the label of an object that is none


@dataclasses.dataclass(frozen=True)
class View:
    """A window of a picture, stretched to a size.

    Attributes:
        picture_size: (height, width) of the picture.
        window: (left, top, right, bottom) in its pixels, anywhere.
        size: (height, width) of what is shown.
    """

    picture_size: tuple[int, int]
    window: tuple[float, float, float, float]
    size: tuple[int, int]

    @classmethod
    def whole(cls, picture_size, size):
        """All of a picture, stretched to a size."""
        return cls(tuple(picture_size), (0, 0, picture_size[1], picture_size[0]), tuple(size))

    @property
    def is_whole(self) -> bool:
        """Whether it shows all of the picture, and nothing else."""
        return tuple(self.window) == (0, 0, self.picture_size[1], self.picture_size[0])

    @property
    def scale(self) -> np.ndarray:
        """Pixels shown for one of the picture: float64 (horizontal, vertical)."""
        return np.array(self.size[::-1]) / (np.array(self.window[2:], np.float64) - self.window[:2])

    def place(self):
        """Where the picture is: rows and columns (slices) that are wholly inside it, and the part of it (xyxy) that they show.

        So the part has the scale that boxes have; a rest of less than a pixel at the picture's borders is not shown.
        """
        (left, right), (first_x, last_x) = self._side(0)
        (top, bottom), (first_y, last_y) = self._side(1)
        return (slice(first_y, last_y), slice(first_x, last_x)), (left, top, right, bottom)

    def _side(self, axis):
        side, shown = self.picture_size[1 - axis], self.size[1 - axis]
        start, stop = self.window[axis], self.window[axis + 2]
        step = (stop - start) / shown  # pixels of the picture in one that is shown
        first = max(int(np.ceil(-start / step - 1e-9)), 0)
        last = max(min(int(np.floor((side - start) / step + 1e-9)), shown), first)
        part = np.clip([start + first * step, start + last * step], 0, side)
        return part.tolist(), (first, last)

    def centred(self, boxes) -> np.ndarray:
        """Which boxes [N, 4] of the picture have their centres in the window."""
        return centred_within(boxes, np.asarray(self.window))

    def move_boxes(self, boxes) -> np.ndarray:
        """Boxes [N, 4] of the picture where they are shown, cut off at the borders: float64."""
        return clip_boxes((boxes - np.tile(self.window[:2], 2)) * np.tile(self.scale, 2), self.size)

    def move_points(self, points) -> np.ndarray:
        """Keypoints [N, K, 3] of the picture where they are shown; those that are not (or were none) are all 0."""
        places = (points[..., :2] - np.array(self.window[:2])) * self.scale
        inside = (places >= 0).all(axis=-1) & (places <= self.size[::-1]).all(axis=-1) & (points[..., 2] > 0)
        return (np.concatenate([places, points[..., 2:]], axis=-1) * inside[..., None]).astype(np.float32)

    def move_masks(self, masks, extents) -> np.ndarray:
        """Masks [N, H, W] of the picture as they are shown, nearest (pixel centres), from their ``mask_boxes``."""
        (rows, columns), (left, top, right, bottom) = self.place()
        below = _pixels(top, bottom, rows.stop - rows.start, masks.shape[1])
        across = _pixels(left, right, columns.stop - columns.start, masks.shape[2])
        shown = np.zeros((len(masks), *self.size), np.uint8)
        for mask, target, (x1, y1, x2, y2) in zip(masks, shown, extents, strict=True):  # each is small: not all of the picture
            own_rows, own_columns = slice(*np.searchsorted(below, (y1, y2))), slice(*np.searchsorted(across, (x1, x2)))
            target[rows, columns][own_rows, own_columns] = mask[below[own_rows, None], across[own_columns]]
        return shown

    def boxes_of_cut_masks(self, boxes, masks, extents) -> np.ndarray:
        """Boxes of the picture, those of masks that the window cuts replaced by the boxes of what is left (0 where nothing is)."""
        margin = 0.5 * np.minimum(1 / self.scale, 1)  # of a pixel, here or there, at least half is to be seen
        left, top = np.maximum(np.floor(self.window[:2] + margin).astype(int), 0)
        right, bottom = np.maximum(np.ceil(self.window[2:] - margin).astype(int), 0)
        boxes = boxes.copy()
        for row in np.flatnonzero((extents[:, :2] < self.window[:2]).any(axis=1) | (extents[:, 2:] > self.window[2:]).any(axis=1)):
            (part,) = mask_boxes(masks[row : row + 1, top:bottom, left:right])
            boxes[row] = part + np.array([left, top, left, top]) if part.any() else 0
        return boxes


def centred_within(boxes, window) -> np.ndarray:
    """Which boxes [N, 4] have their centres in a window, xyxy: bool [N]."""
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    return ((centres >= window[:2]) & (centres < window[2:])).all(axis=1)


def _pixels(start, stop, count, limit):
    """The pixels between two places of which each of ``count`` equal parts has the centre."""
    return np.minimum(np.floor(start + (np.arange(count) + 0.5) * ((stop - start) / max(count, 1))).astype(np.intp), limit - 1)


@dataclasses.dataclass(frozen=True)
class Objects:
    """The objects of one picture.

    Attributes:
        boxes: float32 [N, 4], xyxy in pixels.
        labels: int32 [N].
        masks: uint8 [N, H, W], 0 or 1, of the picture's size; or None.
        keypoints: float32 [N, K, 3]: x, y, visibility (0: not known, then x and y are 0); or None.
        mirrored_points: int [N, K]: which point takes each place when the object is mirrored; None with keypoints: all stay.
    """

    boxes: np.ndarray
    labels: np.ndarray
    masks: np.ndarray | None = None
    keypoints: np.ndarray | None = None
    mirrored_points: np.ndarray | None = None

    @classmethod
    def of(cls, sample: dict, mirrored_points=None) -> "Objects":
        """Takes a sample's objects, crowds and difficult ones too.

        Args:
            sample: see ``Dataset.read``.
            mirrored_points: int [C, K], for each class, see ``Dataset.mirrored_points``.
        """
        found = sample["bounding_boxes"]
        order = None if mirrored_points is None else mirrored_points[found["labels"]]
        return cls(found["boxes"], found["labels"], sample.get("instance_masks"), sample.get("keypoints"), order)

    @classmethod
    def wanted(cls, sample: dict, mirrored_points=None) -> "Objects":
        """Takes those of a sample's objects that a detector should find."""
        return cls.of(sample, mirrored_points).select(is_wanted(sample["bounding_boxes"]))

    def __len__(self):
        return len(self.labels)

    def select(self, rows) -> "Objects":
        """Those of some rows, given as bool [N] or as indices."""
        if rows.dtype == bool and rows.all():
            return self  # masks may be large
        return Objects(**{name: None if values is None else values[rows] for name, values in self._fields()})

    def _fields(self):
        return ((field.name, getattr(self, field.name)) for field in dataclasses.fields(self))

    def through(self, view: View) -> "Objects":
        """The same objects, in pixels of a view of their picture; none is left out.

        Boxes are cut off at the borders of the picture and of the view. An object whose mask the view cuts has the box of what
        is left of the mask. Points that are not in the view become unknown.
        """
        boxes, masks, keypoints = clip_boxes(self.boxes, view.picture_size), self.masks, self.keypoints
        if masks is not None:
            extents = mask_boxes(masks)
            boxes = view.boxes_of_cut_masks(boxes, masks, extents)
            masks = masks if view.is_whole and view.size == view.picture_size else view.move_masks(masks, extents)
        if keypoints is not None:
            keypoints = view.move_points(keypoints)
        boxes = view.move_boxes(boxes).astype(np.float32)
        return dataclasses.replace(self, boxes=boxes, masks=masks, keypoints=keypoints)

    def mirrored(self, direction: str, size) -> "Objects":
        """The objects of the mirrored picture of ``size`` = (height, width).

        A mirror, whichever way it stands, turns left hands into right ones: points change places as ``mirrored_points`` says.

        Args:
            direction: "horizontal" or "vertical".
        """
        axis = 0 if direction == "horizontal" else 1
        side, changed = size[1 - axis], {"boxes": self.boxes.copy()}
        changed["boxes"][:, [axis, axis + 2]] = side - self.boxes[:, [axis + 2, axis]]
        if self.masks is not None:
            changed["masks"] = np.flip(self.masks, 2 - axis)
        if self.keypoints is not None:
            points = self.keypoints.copy()
            points[..., axis] = np.where(points[..., 2] > 0, side - points[..., axis], 0)
            if self.mirrored_points is not None:
                points = np.take_along_axis(points, self.mirrored_points[..., None], axis=1)
            changed["keypoints"] = points
        return dataclasses.replace(self, **changed)

    def padded(self, count: int) -> dict[str, np.ndarray]:
        """Arrays of ``count`` rows, what is no object 0, its label -1: "boxes", "labels", and "masks" and "keypoints" if known."""
        fill = count - len(self)
        arrays = {"boxes": self.boxes, "masks": self.masks, "keypoints": self.keypoints}
        found = {name: _with_rows(values, count) for name, values in arrays.items() if values is not None}
        return found | {"labels": np.pad(self.labels, (0, fill), constant_values=PADDING)}


def _with_rows(values, count):
    rows = np.zeros((count, *values.shape[1:]), values.dtype)
    rows[: len(values)] = values
    return rows


def sides_swapped(names) -> np.ndarray:
    """For each of K points its counterpart on the other side, int [K]: "left_eye" and "right_eye"; else the point itself."""
    plain = [name.casefold() for name in names]
    others = [name.replace("left", "\0").replace("right", "left").replace("\0", "right") for name in plain]
    return np.array([plain.index(other) if other in plain else place for place, other in enumerate(others)], np.intp)


def scale_found(answer: dict, size, new_size) -> dict:
    """Carries an answer's boxes and keypoints along when its picture is stretched from ``size`` to ``new_size``.

    Args:
        answer: of one picture or of a batch; masks are inside boxes, and stay as they are.
        size, new_size: (height, width).
    """
    scaled = dict(answer)
    if "boxes" in answer:
        scaled["boxes"] = scale_boxes(answer["boxes"], size, new_size)
    if "keypoints" in answer:
        factors = [new_size[1] / size[1], new_size[0] / size[0], 1]
        scaled["keypoints"] = (answer["keypoints"] * np.array(factors)).astype(answer["keypoints"].dtype)
    return scaled
