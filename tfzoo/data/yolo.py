"""The ``yolo:DIR`` reader: the text files that YOLO's tools train from.

data.yaml (names: a list, or a dictionary from index to name; nc, their number, may be left out)
images/{split}/NAME.jpg    labels/{split}/NAME.txt    (or {split}/images/ and {split}/labels/)
A line an object: CLASS CENTRE_X CENTRE_Y WIDTH HEIGHT, or CLASS X Y X Y X Y ... (an outline), in shares of the picture's sides.
With kpt_shape: [K, 2 or 3] in data.yaml, each box is followed by the numbers of K keypoints, and no line is an outline.
"""

import pathlib

import numpy as np

from tfzoo.data.dataset import Dataset, split_names
from tfzoo.data.images import image_size, read_image
from tfzoo.data.masks import check_class_names, existing_folder, find_images
from tfzoo.errors import InputError, MissingInputError

SLACK = 0.01  # by so much of a side a rounded number may lie outside the picture


class Yolo(Dataset):
    """Boxes from YOLO's text files.

    A picture without a text file has no objects; of an outline the box around it is taken; keypoints are passed over.
    """

    tasks = ("detection",)

    def __init__(self, spec: str, folder: str, split: str, task: str | None = None):
        root = existing_folder(folder, "It should hold data.yaml, images/ and labels/.")
        description = _read_description(root / "data.yaml")
        super().__init__(spec, split, task, _class_names(description, root / "data.yaml"))
        self._keypoint_numbers = _count_keypoint_numbers(description, root / "data.yaml")
        images, self._labels = _find_split(root, split)
        self._images = find_images(images, "a YOLO data set has its pictures in images/SPLIT/.")
        self._names = sorted(self._images)

    def __len__(self):
        return len(self._names)

    def picture_file(self, index):
        return self._images[self._names[index]]

    def read(self, index):
        name = self._names[index]
        image = read_image(self.picture_file(index))
        return {"images": image, "image_id": name, "bounding_boxes": self._boxes(name, image.shape[:2])}

    def read_boxes(self, index):
        name = self._names[index]
        size = image_size(self.picture_file(index))
        return self._boxes(name, size), size

    def _boxes(self, name, size):
        path = self._labels / f"{name}.txt"
        objects = [self._parse(line, path, number) for number, line in enumerate(_lines(path), start=1) if line.strip()]
        height, width = size
        boxes = np.array([edges for _, edges in objects], np.float64).reshape(-1, 4) * (width, height, width, height)
        return {
            "boxes": boxes.astype(np.float32),
            "labels": np.array([label for label, _ in objects], np.int32),
            "crowd": np.zeros(len(objects), bool),
        }

    def _parse(self, line, path, number):
        """A line's label and edges, in shares."""
        try:
            label, *numbers = (float(word) for word in line.split())
        except ValueError:
            raise InputError(f"{path}, line {number}, is not numbers alone ('{line.strip()[:60]}'): correct it.") from None
        if not label.is_integer() or not 0 <= label < len(self.class_names):  # NaN and infinity are no integers
            raise InputError(
                f"{path}, line {number}, is of class {label:g}, but data.yaml names {len(self.class_names)} classes (0 to "
                f"{len(self.class_names) - 1}): correct the one that is wrong."
            )
        places = self._without_keypoints(numbers, path, number)
        if len(places) != 4 and (len(places) < 6 or len(places) % 2):
            raise InputError(
                f"{path}, line {number}, has {len(places)} numbers after its class: give centre x, centre y, width, height, or the "
                "points of an outline."
            )
        if not all(-SLACK <= place <= 1 + SLACK for place in places):  # NaN too
            raise InputError(f"{path}, line {number}, has numbers beyond 0 to 1: give shares of the picture's sides, not pixels.")
        return int(label), _edges(places)

    def _without_keypoints(self, numbers, path, number):
        """The numbers of a line that tell its box: all of them, or the first four where data.yaml says that keypoints follow."""
        if self._keypoint_numbers is None:
            return numbers
        if len(numbers) != 4 + self._keypoint_numbers:
            raise InputError(
                f"{path}, line {number}, has {len(numbers)} numbers after its class, but by the kpt_shape of data.yaml it takes "
                f"{4 + self._keypoint_numbers} (4 of the box, the others of keypoints): correct the one that is wrong."
            )
        return numbers[:4]


def _edges(places):
    """The edges of a box that is given by centre and sides, or of the box around an outline."""
    if len(places) == 4:
        x, y, width, height = places
        return x - width / 2, y - height / 2, x + width / 2, y + height / 2
    x, y = places[::2], places[1::2]
    return min(x), min(y), max(x), max(y)


def _lines(path: pathlib.Path):
    if not path.is_file():
        return []
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise InputError(f"{path} is not UTF-8 text: save it as UTF-8.") from None


def _find_split(root, split):
    """The folders of a split's pictures and labels."""
    for name in split_names(split):
        for images, labels in ((f"images/{name}", f"labels/{name}"), (f"{name}/images", f"{name}/labels")):
            if (root / images).is_dir():
                if not (root / labels).is_dir():
                    raise MissingInputError(
                        f"There is no folder {root / labels} beside {root / images}: put the label files there."
                    )
                return root / images, root / labels
    known = {path.name for path in root.glob("images/*") if path.is_dir()} | {path.parent.name for path in root.glob("*/images")}
    raise MissingInputError(
        f"Data set {root} has no split '{split}' (no folder images/{split} or {split}/images): its splits are "
        f"{', '.join(sorted(known)) or 'none'}."
    )


def _read_description(path):
    """What data.yaml holds, as a dictionary."""
    import yaml

    if not path.is_file():
        raise MissingInputError(f"There is no file {path}: it should name the classes ('names: [cat, dog]').")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path} is not YAML that can be read ({reason}): correct it.") from None
    return content if isinstance(content, dict) else {}


def _class_names(description, path):
    names = _listed_names(description, path)
    for name in names:
        if type(name) not in (str, int, float):  # as unquoted yes, no, on, off and ~ are
            raise InputError(f"{path} names a class that YAML reads as {name!r:.40}, no text: write the name in quotes.")
    names = [str(name) for name in names]
    check_class_names(names, path)
    count = description.get("nc")
    if count not in (None, len(names)):
        raise InputError(f"{path} tells of {count!r:.40} classes (nc), but names {len(names)}: correct the one that is wrong.")
    return names


def _listed_names(description, path):
    """What data.yaml lists as names, in the order of their indices."""
    names = description.get("names")
    if isinstance(names, dict):
        if names.keys() != set(range(len(names))):
            raise InputError(f"{path} names classes by indices that do not run from 0 without a gap: number them anew.")
        names = [names[index] for index in range(len(names))]
    if not isinstance(names, list) or not names:
        raise InputError(f"{path} names no classes: add a line such as 'names: [cat, dog]'.")
    return names


def _count_keypoint_numbers(description, path):
    """How many numbers of keypoints follow each box; None where data.yaml has no kpt_shape."""
    shape = description.get("kpt_shape")
    if shape is None:
        return None
    if not isinstance(shape, list) or [type(side) for side in shape] != [int, int] or shape[0] < 1 or shape[1] not in (2, 3):
        raise InputError(
            f"{path} has a kpt_shape that is not the number of keypoints and 2 or 3: write 'kpt_shape: [17, 3]' for 17 points with "
            "visibility, or take the line out."
        )
    return shape[0] * shape[1]
