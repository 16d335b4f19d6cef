"""The ``voc:DIR`` reader: Pascal VOC's layout.

JPEGImages/NAME.jpg    Annotations/NAME.xml (boxes)    SegmentationClass/NAME.png (class indices, 255 = ignore)
ImageSets/Main/{split}.txt (a NAME a line; the semantic task: ImageSets/Segmentation/{split}.txt)
classes.txt (a class a line; may be left out, see ``Voc``)
"""

import contextlib
import math
import pathlib
import xml.etree.ElementTree

import numpy as np

from tfzoo.data.dataset import Dataset
from tfzoo.data.images import image_size, read_image, read_label_map
from tfzoo.data.masks import existing_folder, find_images, read_class_names, read_lines
from tfzoo.errors import InputError, MissingInputError

CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog", "horse",
    "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
EDGES = ("bndbox/xmin", "bndbox/ymin", "bndbox/xmax", "bndbox/ymax")
BACKGROUND = "background"
HINT = "a Pascal VOC data set has its pictures in JPEGImages/ and its label maps in SegmentationClass/."


class Voc(Dataset):
    """Pascal VOC's layout, for boxes and for label maps.

    The classes are those of classes.txt. Without one, detection takes every name that occurs in Annotations/, sorted (in VOC itself
    that is VOC's own order), and the semantic task "background" and VOC's twenty, whose indices its label maps hold.

    VOC counts pixels from 1 and includes the last one: (xmin, ymin, xmax, ymax) are the edges xmin - 1, ymin - 1, xmax, ymax.
    """

    tasks = ("detection", "semantic")
    box_keys = ("boxes", "labels", "crowd", "difficult")

    def __init__(self, spec: str, folder: str, split: str, task: str | None = None):
        super().__init__(spec, split, task)
        self._root = existing_folder(folder, "It should hold JPEGImages/, Annotations/ and ImageSets/.")
        self._images = find_images(self._root / "JPEGImages", HINT)
        self._names = self._read_split(split)
        self.class_names = self._find_classes()
        self._label_of = {name: label for label, name in enumerate(self.class_names)}
        self._check_files()

    def _read_split(self, split):
        kinds = ("Segmentation",) if self.task == "semantic" else ("Main",)
        listings = [self._root / "ImageSets" / kind / f"{split}.txt" for kind in (*kinds, ".")]
        for listing in listings:
            if listing.is_file():
                return read_lines(listing, "one picture name a line")
        known = sorted({path.stem for place in listings for path in place.parent.glob("*.txt")})
        raise MissingInputError(
            f"Data set {self._root} has no split '{split}' for the task '{self.task}' (no file {listings[0]}): its splits are "
            f"{', '.join(known[:12]) or 'none'}."
        )

    def _find_classes(self):
        listing = self._root / "classes.txt"
        if listing.is_file():
            names = read_class_names(listing)
            return [name for name in names if name != BACKGROUND] if self.task == "detection" else names
        if self.task == "semantic":
            return [BACKGROUND, *CLASSES]
        paths = sorted((self._root / "Annotations").glob("*.xml"))
        return sorted({_text(found, "name", path) for path in paths for found in _parse(path).iter("object")})

    def _check_files(self):
        labels = self._root / ("SegmentationClass" if self.task == "semantic" else "Annotations")
        for name in self._names:
            if name not in self._images:
                raise MissingInputError(
                    f"'{name}', listed for the split '{self.split}', has no picture in {self._root / 'JPEGImages'}: add it or take "
                    "the line out."
                )
            path = labels / f"{name}{'.png' if self.task == 'semantic' else '.xml'}"
            if not path.is_file():
                raise MissingInputError(
                    f"'{name}', listed for the split '{self.split}', has no {path}: add it or take the line out."
                )

    def __len__(self):
        return len(self._names)

    def picture_file(self, index):
        return self._images[self._names[index]]

    def read(self, index):
        name = self._names[index]
        image = read_image(self.picture_file(index))
        sample = {"images": image, "image_id": name}
        if self.task == "semantic":
            path = self._root / "SegmentationClass" / f"{name}.png"
            labels = read_label_map(path, len(self.class_names))
            self._check_size(path, labels.shape, image.shape[:2])
            return sample | {"segmentation_masks": labels[..., None]}
        path = self._annotations(index)
        tree = _parse(path)
        self._check_size(path, _declared_size(tree, path), image.shape[:2])
        return sample | {"bounding_boxes": self._boxes(tree, path)}

    def read_boxes(self, index):
        path = self._annotations(index)
        return self._boxes(_parse(path), path), image_size(self.picture_file(index))

    def _annotations(self, index):
        return self._root / "Annotations" / f"{self._names[index]}.xml"

    @staticmethod
    def _check_size(path, size, true_size):
        if size is not None and tuple(size) != tuple(true_size):
            raise InputError(
                f"{path} is for a picture of {size[1]:g}x{size[0]:g} pixels, its picture has {true_size[1]}x{true_size[0]}: "
                "correct the one that is wrong."
            )

    def _boxes(self, tree, path):
        objects = list(tree.iter("object"))
        names = [_text(found, "name", path) for found in objects]
        for name in names:
            if name not in self._label_of:
                raise InputError(f"{path} has an object of the class '{name}', which classes.txt does not list: add it there.")
        edges = [[_number(_text(found, edge, path), edge, path) for edge in EDGES] for found in objects]
        boxes = np.array(edges, np.float32).reshape(-1, 4)
        boxes[:, :2] -= boxes[:, :2] >= 1  # a 0, which VOC has not, is the picture's border already
        return {
            "boxes": boxes,
            "labels": np.array([self._label_of[name] for name in names], np.int32),
            "crowd": np.zeros(len(objects), bool),
            "difficult": np.array([(found.findtext("difficult") or "0").strip() == "1" for found in objects], bool),
        }


def _parse(path: pathlib.Path):
    try:
        return xml.etree.ElementTree.parse(path).getroot()
    except (xml.etree.ElementTree.ParseError, LookupError, ValueError) as error:  # an encoding that is unknown, or not the file's
        raise InputError(f"{path} is not XML that can be read ({error}): export it again.") from None


def _text(element, name, path):
    text = (element.findtext(name) or "").strip()
    if not text:
        raise InputError(f"{path} has an object without a {name.replace('/', ' ')}: add it or take the object out.")
    return text


def _number(text, name, path):
    number = math.nan
    with contextlib.suppress(ValueError):
        number = float(text)
    if not math.isfinite(number):
        raise InputError(f"{path} gives '{text}' as a {name.replace('/', ' ')}, which is no finite number: correct it.")
    return number


def _declared_size(tree, path):
    """(height, width) as the file says; None where it does not, or says 0 as some tools do."""
    names = ("size/height", "size/width")
    sides = [_number((tree.findtext(name) or "").strip() or "0", name, path) for name in names]
    return sides if all(sides) else None
