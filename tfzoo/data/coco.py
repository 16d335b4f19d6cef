"""The ``coco:DIR`` reader: COCO annotations, in the layouts that people have.

    annotations/instances_{split}2017.json (person_keypoints_...)    pictures in {split}2017/
    annotations/{split}.json, annotations/{instances,person_keypoints}_{split}.json    pictures in images/ or images/{split}/
    {split}/_annotations.coco.json    pictures beside it

A split "val" may be called "valid" there, and the other way round.
pycocotools reads polygons and RLE.
"""

import contextlib
import io
import json
import pathlib

import numpy as np
from pycocotools import mask as mask_utils

from tfzoo.data.dataset import Dataset, split_names
from tfzoo.data.images import read_image
from tfzoo.data.instance_masks import decode_masks
from tfzoo.data.masks import check_class_names, existing_folder
from tfzoo.errors import InputError, MissingInputError, are_texts

TEXT, NUMBER, EITHER = (str,), (int, float), (str, int, float)
WORDS = {TEXT: "a text", NUMBER: "a number", EITHER: "a number or a text"}
RECORDS = {  # what the entries of each list need
    "images": {"id": EITHER, "file_name": TEXT, "height": NUMBER, "width": NUMBER},
    "categories": {"id": EITHER, "name": EITHER},
    "annotations": {"id": EITHER, "image_id": EITHER, "category_id": EITHER},
}
FORMS = (
    "annotations/{kind}_{split}2017.json",
    "annotations/{kind}_{split}.json",
    "annotations/{split}.json",
    "{split}/_annotations.coco.json",
)
BACKGROUND = "background"
LARGEST = float(np.finfo(np.float32).max)  # samples hold float32: a larger number would become infinite
FARTHEST = 1e6  # pixels: pycocotools takes every step along an outline, wherever that leads


class Coco(Dataset):
    """COCO annotations for any task that they have labels for.

    Labels are the categories in the order of their ids, counted from 0; ``category_ids`` gives the ids. For the semantic
    task "background" comes first, and where objects overlap the smaller one is on top.
    """

    tasks = ("detection", "instance", "keypoint", "semantic")
    box_keys = ("boxes", "labels", "crowd", "area")

    def __init__(self, spec: str, folder: str, split: str, task: str | None = None):
        super().__init__(spec, split, task)
        root = existing_folder(folder, "It should hold annotations and pictures in one of COCO's layouts.")
        path, split_there = _find_annotations(root, split, self.task)
        self.coco = _load(path)
        self._path = path
        categories = self._categories()
        self.category_ids = [category["id"] for category in categories]
        self.class_names = _class_names(categories, self.task, path)
        if self.task == "keypoint":
            self.keypoint_names = _keypoint_names(categories, path)
        self._label_of = {id_: label for label, id_ in enumerate(self.category_ids)}
        self._image_ids = sorted(self.coco.imgs)
        self._folder = self._find_pictures(root, path, split_there)

    def _categories(self):
        """By id. Of several with one name those that nothing is of are left out, but the last: some tools list a parent so."""
        categories = sorted(self.coco.cats.values(), key=lambda category: category["id"])
        used = {annotation["category_id"] for annotation in self.coco.anns.values()}
        last = {category["name"]: category["id"] for category in categories}
        return [c for c in categories if c["id"] == last[c["name"]] or c["id"] in used]

    def _find_pictures(self, root, annotations, split):
        name = self.coco.imgs[self._image_ids[0]]["file_name"]
        places = (root / f"{split}2017", root / "images" / split, root / "images", root / split, root)
        for place in places:
            if (place / name).is_file():
                return place
        raise MissingInputError(
            f"Picture {name}, named in {annotations}, is in none of {', '.join(str(p.relative_to(root)) for p in places[:-1])} "
            f"under {root}: put the pictures into one of them."
        )

    def __len__(self):
        return len(self._image_ids)

    def picture_file(self, index):
        return self._folder / self.coco.imgs[self._image_ids[index]]["file_name"]

    def read(self, index):
        image_id = self._image_ids[index]
        record = self.coco.imgs[image_id]
        image = read_image(self.picture_file(index))
        if image.shape[:2] != (record["height"], record["width"]):
            raise InputError(
                f"Picture {self.picture_file(index)} is {image.shape[1]}x{image.shape[0]} pixels, its annotation says "
                f"{record['width']}x{record['height']}: correct the one that is wrong."
            )
        annotations = self.coco.imgToAnns[image_id]
        self._check(annotations)
        sample = {"images": image, "image_id": str(image_id)}
        if self.task == "semantic":
            return sample | {"segmentation_masks": self._class_mask(annotations, image.shape[:2])}
        return sample | self._instances(annotations, image.shape[:2])

    def read_boxes(self, index):
        image_id = self._image_ids[index]
        annotations, record = self.coco.imgToAnns[image_id], self.coco.imgs[image_id]
        self._check(annotations)
        return self._boxes(annotations), (record["height"], record["width"])

    def _check(self, annotations):
        for annotation in annotations:
            if annotation["category_id"] not in self._label_of:
                raise InputError(
                    f"{self._path}: annotation {annotation['id']} is of category {annotation['category_id']}, which is not "
                    "listed: add the category or take the annotation out."
                )
            if not _are_numbers(annotation.get("bbox"), 4):
                raise InputError(
                    f"{self._path}: annotation {annotation['id']} has no box of four finite numbers ('bbox'): add or correct it."
                )
            if self.task in ("semantic", "instance") and not annotation.get("segmentation"):
                raise InputError(
                    f"{self._path}: annotation {annotation['id']} has no mask ('segmentation'), which the task '{self.task}' "
                    "needs: add it, or read the data for the task 'detection'."
                )

    def _run_lengths(self, annotation, size):
        """A mask as pycocotools' run lengths, whatever form it has in the file."""
        if not _is_mask(annotation["segmentation"]):
            raise self._bad_mask(annotation, "it must be polygons, x and y in turn, or run lengths with their size")
        try:
            runs = self.coco.annToRLE(annotation)
        except Exception as error:  # pycocotools raises plain Exceptions
            raise self._bad_mask(annotation, error) from None
        if tuple(runs["size"]) != tuple(size):
            raise self._bad_mask(annotation, f"it is {runs['size'][1]}x{runs['size'][0]}, its picture {size[1]}x{size[0]}")
        if isinstance(annotation["segmentation"], dict) and not _fill(runs["counts"], size):  # what comes of polygons does
            raise self._bad_mask(annotation, f"its run lengths do not add up to {size[1]}x{size[0]} pixels")
        return runs

    def _bad_mask(self, annotation, reason):
        return InputError(f"{self._path}: the mask of annotation {annotation['id']} cannot be read ({reason}): correct it.")

    def _class_mask(self, annotations, size):
        classes = np.zeros((*size, 1), np.uint8)
        objects = [(self._label_of[a["category_id"]] + 1, self._run_lengths(a, size)) for a in annotations]
        for label, runs in sorted(objects, key=lambda pair: -int(mask_utils.area(pair[1]))):
            classes[mask_utils.decode(runs) > 0] = label
        return classes

    def _boxes(self, annotations):
        boxes = np.array([a["bbox"] for a in annotations], np.float32).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        return {
            "boxes": boxes,
            "labels": np.array([self._label_of[a["category_id"]] for a in annotations], np.int32),
            "crowd": np.array([bool(a.get("iscrowd", 0)) for a in annotations], bool),
            "area": np.array([self._area(a) for a in annotations], np.float32),
        }

    def _area(self, annotation):
        """An object's own area; that of its box where the file tells none."""
        if "area" not in annotation:
            return annotation["bbox"][2] * annotation["bbox"][3]
        if not _are_numbers([annotation["area"]], 1):
            raise InputError(
                f"{self._path}: annotation {annotation['id']} has an 'area' that is not a finite number: correct it, or take it "
                "out and that of the box counts."
            )
        return annotation["area"]

    def _instances(self, annotations, size):
        sample = {"bounding_boxes": self._boxes(annotations)}
        if self.task == "instance":
            sample["instance_masks"] = decode_masks([self._run_lengths(a, size) for a in annotations], size)
        if self.task == "keypoint":
            points = [self._points(a) for a in annotations]
            sample["keypoints"] = np.array(points, np.float32).reshape(-1, len(self.keypoint_names), 3)
        return sample

    def _points(self, annotation):
        """An object's keypoints as the file lists them, x, y and visibility in turn; zeros where it has none."""
        count = 3 * len(self.keypoint_names)
        points = annotation.get("keypoints") or [0] * count
        if not _are_numbers(points, count):
            raise InputError(
                f"{self._path}: annotation {annotation['id']} has 'keypoints' that are not {count} finite numbers (x, y and "
                f"visibility of {len(self.keypoint_names)} points): correct them or take them out."
            )
        return points


def _class_names(categories, task, path):
    """The names of the categories, in their order; for the semantic task after "background"."""
    names = [str(category["name"]) for category in categories]
    check_class_names(names, path)
    if task != "semantic":
        return names
    if BACKGROUND in names:
        raise InputError(f"{path} has a category '{BACKGROUND}', which the task '{task}' adds itself: give it another name.")
    return [BACKGROUND, *names]


def _keypoint_names(categories, path):
    """The names of the keypoints: those of the first category that has any."""
    names = next((category["keypoints"] for category in categories if category.get("keypoints")), None)
    if names is None:
        raise InputError(f"{path} has no keypoints: none of its categories lists any; read it for another task.")
    if not are_texts(names):
        raise InputError(f"{path} has a category whose 'keypoints' are {_shown(names)}, not a list of names: correct it.")
    return names


def _is_mask(segmentation) -> bool:
    """Whether a mask has a form that pycocotools takes: other ones it may read as noise, or never come back from."""
    if isinstance(segmentation, dict):
        return isinstance(segmentation.get("counts"), (str, list)) and _are_numbers(segmentation.get("size"), 2)
    return isinstance(segmentation, list) and all(map(_is_polygon, segmentation))


def _is_polygon(points) -> bool:
    return isinstance(points, list) and len(points) % 2 == 0 and _are_numbers(points, len(points), FARTHEST)


def _fill(counts: bytes | str, size) -> bool:
    """Whether COCO's compressed run lengths, none of them negative, add up to a picture; pycocotools decodes any others into noise.

    A number is stored in units of five bits, the lowest first, each in a character from "0" (48) on whose bit 32 says that more
    follow; from the fourth on it is the difference to the one two places before, negative where bit 16 of its last unit is set.
    """
    runs, value, shift = [], 0, 0
    for character in counts.encode() if isinstance(counts, str) else counts:
        unit = character - 48
        value |= (unit & 31) << shift
        shift += 5
        if not unit & 32:
            value -= (unit & 16) << (shift - 4)
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    return sum(runs) == size[0] * size[1] and min(runs, default=0) >= 0


def _are_numbers(values, count, largest=LARGEST) -> bool:
    """Whether values read from JSON are a list of so many finite numbers."""
    return (
        isinstance(values, list)
        and len(values) == count
        and all(type(value) in (int, float) and abs(value) <= largest for value in values)  # NaN is not <= anything
    )


def _find_annotations(root: pathlib.Path, split: str, task: str) -> tuple[pathlib.Path, str]:
    """The file of a split's annotations, and what the split is called there."""
    kind = "person_keypoints" if task == "keypoint" else "instances"
    for name in split_names(split):
        for form in FORMS:
            path = root / form.format(kind=kind, split=name)
            if path.is_file():
                return path, name
    names = [form.format(kind=kind, split=split) for form in FORMS]
    found = sorted(
        p.relative_to(root).as_posix() for p in (*root.glob("annotations/*.json"), *root.glob("*/_annotations.coco.json"))
    )
    raise MissingInputError(
        f"Data set {root} has no split '{split}' for the task '{task}': none of {', '.join(names)} is there; "
        f"found: {', '.join(found) or 'none'}."
    )


def _load(path):
    """What the file holds, as pycocotools looks it up, once all that the reader goes by is known to be there."""
    from pycocotools.coco import COCO

    try:
        content = json.loads(path.read_bytes())
    except ValueError as error:  # JSON and encoding errors are ValueErrors
        raise InputError(f"{path} is not a COCO annotation file ({type(error).__name__}: {error}): export it again.") from None
    _check_records(content, path)
    _check_ids(content, path)
    coco = COCO()
    coco.dataset = content
    with contextlib.redirect_stdout(io.StringIO()):  # it prints what it does
        coco.createIndex()
    return coco


def _check_records(content, path):
    """Refuses a file without pictures or categories, or with an entry that lacks something."""
    for kind, needs in RECORDS.items():
        records = content.get(kind) if isinstance(content, dict) else None
        if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
            raise InputError(f"{path} is not a COCO annotation file (it has no list of '{kind}'): export it again.")
        if not records and kind != "annotations":
            what = "pictures" if kind == "images" else kind
            raise InputError(f"{path} lists no {what}: give a file whose '{kind}' is not empty.")
        for key, types in needs.items():
            wrong = next((number for number, record in enumerate(records) if type(record.get(key)) not in types), None)
            if wrong is not None:
                found = _shown(records[wrong][key]) if key in records[wrong] else "none"
                raise InputError(
                    f"{path}: number {wrong + 1} of '{kind}' needs {WORDS[types]} as its '{key}', but has {found}: correct it."
                )


def _check_ids(content, path):
    """Refuses ids of both numbers and texts: 7 and "7" would never find each other."""
    for kind, key in (("images", "image_id"), ("categories", "category_id")):
        ids = [record["id"] for record in content[kind]] + [record[key] for record in content["annotations"]]
        of_another_kind = next((id_ for id_ in ids if isinstance(id_, str) != isinstance(ids[0], str)), None)
        if of_another_kind is not None:
            raise InputError(
                f"{path} has numbers and texts as ids of '{kind}' ({_shown(ids[0])} and {_shown(of_another_kind)}, 'id' there or "
                f"'{key}' of 'annotations'): write all as numbers, or all as texts."
            )


def _shown(value):
    """A value as the file has it, cut off where it is long."""
    return json.dumps(value)[:40]
