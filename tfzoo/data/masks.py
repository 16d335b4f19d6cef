"""The ``masks:DIR`` reader: pictures with label maps.

DIR/images/NAME.jpg|png|...    DIR/labels/NAME.png (class indices, 255 = ignore)
DIR/classes.txt (a class a line)    DIR/train.txt, val.txt, ... (a NAME a line)
"""

import pathlib

from tfzoo.data.dataset import Dataset
from tfzoo.data.images import IMAGE_SUFFIXES, read_image, read_label_map
from tfzoo.errors import InputError, MissingInputError

HINT = "a data set of masks has its pictures in images/ and labels/."


class Masks(Dataset):
    """Semantic segmentation from a folder of pictures and index label maps."""

    tasks = ("semantic",)

    def __init__(self, spec: str, folder: str, split: str, task: str | None = None):
        root = existing_folder(folder, "It should hold images/, labels/, classes.txt and a list such as train.txt.")
        super().__init__(spec, split, task, read_class_names(root / "classes.txt"))
        self._images = find_images(root / "images", HINT)
        self._labels = find_images(root / "labels", HINT)
        self._names = self._read_split(root, split)

    def _read_split(self, root, split):
        listing = root / f"{split}.txt"
        if not listing.is_file():
            known = sorted(path.stem for path in root.glob("*.txt") if path.stem != "classes")
            raise MissingInputError(
                f"Data set {root} has no split '{split}' (no file {split}.txt): its splits are {', '.join(known) or 'none'}."
            )
        names = [_without_suffix(line) for line in read_lines(listing, "one picture name a line")]
        for name in names:
            for kind, files in (("images", self._images), ("labels", self._labels)):
                if name not in files:
                    what = "picture" if kind == "images" else "label map"
                    raise MissingInputError(
                        f"'{name}', listed in {listing}, has no {what} in {root / kind}: add {name}.png there or take the line out."
                    )
        return names

    def __len__(self):
        return len(self._names)

    def picture_file(self, index):
        return self._images[self._names[index]]

    def read(self, index):
        name = self._names[index]
        image = read_image(self.picture_file(index))
        labels = read_label_map(self._labels[name], len(self.class_names))
        if labels.shape != image.shape[:2]:
            raise InputError(
                f"Label map {self._labels[name]} is {labels.shape[1]}x{labels.shape[0]} pixels, its picture "
                f"{image.shape[1]}x{image.shape[0]}: make them the same size."
            )
        return {"images": image, "segmentation_masks": labels[..., None], "image_id": name}


def _without_suffix(name):
    path = pathlib.PurePath(name)
    return path.stem if path.suffix.lower() in IMAGE_SUFFIXES else path.name


def existing_folder(folder, hint: str) -> pathlib.Path:
    """Returns the folder as a path, or raises a MissingInputError that says what it should hold."""
    root = pathlib.Path(folder).expanduser()
    if not root.is_dir():
        raise MissingInputError(f"There is no folder {root}: check the path. {hint}")
    return root


def find_images(folder: pathlib.Path, hint: str) -> dict[str, pathlib.Path]:
    """Returns the pictures of a folder, by name without suffix; ``hint`` says where they should be, if there is no folder."""
    if not folder.is_dir():
        raise MissingInputError(f"There is no folder {folder}: {hint}")
    files = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in IMAGE_SUFFIXES:
            if path.stem in files:
                raise InputError(f"{folder} holds both {files[path.stem].name} and {path.name}: keep one of them.")
            files[path.stem] = path
    return files


def read_class_names(path: pathlib.Path) -> list[str]:
    """Returns the lines of classes.txt; a class twice, or an empty line between classes, would shift labels: an InputError."""
    names = read_lines(path, "one class name a line")
    check_class_names(names, path)
    if "" in (line.strip() for line in path.read_text(encoding="utf-8-sig").strip().splitlines()):
        raise InputError(f"File {path} has an empty line between classes, which would shift the labels: take it out.")
    return names


def check_class_names(names: list[str], path: pathlib.Path):
    """Refuses class names, read from a file, of which two are the same: results are told by name, so one would hide the other."""
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f"File {path} names the class '{twice}' twice: give each class a name of its own.")


def read_lines(path: pathlib.Path, what: str) -> list[str]:
    """Returns the lines of a text file that are not empty; a file without any is an error."""
    if not path.is_file():
        raise MissingInputError(f"There is no file {path}: it should hold {what}.")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"File {path} is not UTF-8 text: save it as UTF-8.") from None
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        raise InputError(f"File {path} is empty: it should hold {what}.")
    return lines
