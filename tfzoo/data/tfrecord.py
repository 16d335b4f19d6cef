"""The ``tfrecord:DIR`` reader, and ``convert``, which writes what it reads: few large files in place of many small ones.

{split}.json (classes, task, and which files are the split's)
{split}-00000-of-00002.DIGEST.tfrecord ... (a tf.train.Example a picture: see ``_FEATURES``)
{split}.DIGEST.index.npy (where each record is: see ``INDEX``)

Other programs can read the shards in order, as any TFRecord files; this reader goes to any picture at once.
"""

import io
import json
import pathlib
import sys
import tempfile
import zlib

import keras
import numpy as np
from PIL import Image

from tfzoo.data.dataset import TASK_KEYS, TASKS, Dataset
from tfzoo.data.images import decode_image
from tfzoo.data.instance_masks import decode_masks, encode_masks
from tfzoo.data.masks import existing_folder
from tfzoo.errors import InputError, MissingInputError, OutputExistsError, are_counts, are_texts
from tfzoo.files import claim_folder, replacing

FORMAT = "tfzoo tfrecord 1"
INDEX = ("shard", "offset", "length", "crc32")  # columns, int64: of the record's data, which 12 bytes stand before
SHARD_BYTES = 128 * 2**20
_HEADER, _FOOTER = 12, 4  # bytes: the length and its checksum; the data's checksum
_BOX_NUMBERS = {"labels": np.int32, "crowd": bool, "difficult": bool, "area": np.float32}
_FEATURES = {  # of a record; those of its task are there
    "image/id": "bytes", "image/encoded": "bytes", "image/height": "int64", "image/width": "int64",
    "segmentation/encoded": "bytes",  # PNG of class indices, 255 = ignore
    "objects/boxes": "float", "objects/labels": "int64",  # xyxy, pixels, four an object
    "objects/crowd": "int64", "objects/difficult": "int64", "objects/area": "float",
    "objects/masks": "bytes",  # COCO's compressed run lengths
    "objects/keypoints": "float",  # x, y, visibility, point after point
}  # fmt: skip


_DESCRIPTION = {  # what a split's JSON holds, and whether a value is one for it
    "format": lambda value: value == FORMAT,
    "task": lambda value: value in TASKS,
    "class_names": are_texts,
    "keypoint_names": are_texts,
    "mirrored_points": lambda value: isinstance(value, list) and all(map(are_counts, value)) and len(set(map(len, value))) <= 1,
    "box_keys": lambda value: are_texts(value) and value[:1] == ["boxes"] and set(value[1:]) <= set(_BOX_NUMBERS),
    "most_boxes": lambda value: value is None or are_counts([value]),
    "shards": are_texts,
    "index": lambda value: are_texts([value]),
    "pictures": lambda value: are_counts([value]),
}


def convert(dataset: Dataset, folder, shard_bytes: int = SHARD_BYTES, overwrite=False, verbose=True) -> pathlib.Path:
    """Writes a split for ``tfrecord:FOLDER``.

    Pictures keep the bytes of their files; drawn ones, which have none, become PNGs. The files appear once all are written, under
    names of their own, and last the split's JSON, which names them: an interrupted conversion leaves no half of a split, and a
    split that is replaced is whole until then.

    Args:
        folder: other splits of the same classes may be there already.
        shard_bytes: a shard is closed once it is so large.
        overwrite: replace the split if it is there.
        verbose: show a progress bar, where a terminal is there to show it.

    Returns:
        the split's JSON.

    Raises:
        OutputExistsError: the folder has the split already.
        InputError: its other splits are of other classes or another task, a sample cannot be read, or TensorFlow is not installed.
    """
    tf = _tensorflow("to be written")
    folder = claim_folder(folder, allow_existing=True)
    description = _describe(dataset)
    place = _check_place(folder, dataset.split, description, overwrite)
    progress = keras.utils.Progbar(len(dataset), unit_name="picture", verbose=int(verbose and sys.stdout.isatty()))
    with tempfile.TemporaryDirectory(prefix=f".{dataset.split}.", dir=folder) as draft:
        shards, index = Shards(pathlib.Path(draft), shard_bytes, tf.io.TFRecordWriter), []
        for number in range(len(dataset)):
            index.append(shards.write(_to_example(tf, dataset, number)))
            progress.update(number + 1)
        shards.close()
        _put_in_place(place, shards.paths, np.array(index, np.int64), description, pathlib.Path(draft))
    return place


class Shards:
    """TFRecord files in a folder, one after the other, each of which is closed once it holds so many bytes.

    Args:
        open_file: makes what writes records to a path.
    """

    def __init__(self, folder: pathlib.Path, most_bytes: int, open_file):
        self.folder, self.most_bytes, self.paths = folder, most_bytes, []
        self._open, self._writer, self._offset = open_file, None, 0

    def write(self, record: bytes) -> tuple[int, ...]:
        """Returns the record's line of the index."""
        if self._writer is None or self._offset >= self.most_bytes:
            self.close()
            self.paths.append(self.folder / str(len(self.paths)))
            self._writer, self._offset = self._open(str(self.paths[-1])), 0
        self._writer.write(record)
        start = self._offset
        self._offset += _HEADER + len(record) + _FOOTER
        return len(self.paths) - 1, start, len(record), zlib.crc32(record)

    def close(self):
        if self._writer is not None:
            self._writer.close()


def _describe(dataset):
    return {
        "format": FORMAT,
        "task": dataset.task,
        "class_names": dataset.class_names,
        "keypoint_names": list(dataset.keypoint_names),
        "mirrored_points": dataset.mirrored_points.tolist(),
        "box_keys": list(dataset.box_keys),
        "most_boxes": dataset.most_boxes,
    }


def _check_place(folder, split, description, overwrite):
    place = folder / f"{split}.json"
    if place.exists() and not overwrite:
        raise OutputExistsError(f"{folder} has a split '{split}' already: choose another output, or replace it with --overwrite.")
    for other in sorted(folder.glob("*.json")):
        known = _read_description(other)
        if other == place:
            continue  # it is to be replaced
        for key in ("task", "class_names", "keypoint_names"):
            if known[key] != description[key]:
                raise InputError(
                    f"{other} is of another {key.replace('_', ' ').removesuffix('s')} than this split ({known[key]}, not "
                    f"{description[key]}): write it into another folder."
                )
    return place


def _put_in_place(place, shards, index, description, draft):
    folder, split = place.parent, place.stem
    earlier = _files_of(_read_description(place)) if place.exists() else []
    np.save(draft / "index.npy", index)
    digest = f"{zlib.crc32(index.tobytes()):08x}"
    names = [f"{split}-{number:05d}-of-{len(shards):05d}.{digest}.tfrecord" for number in range(len(shards))]
    files = {"shards": names, "index": f"{split}.{digest}.index.npy"}
    for written, name in zip([*shards, draft / "index.npy"], _files_of(files), strict=True):
        written.replace(folder / name)
    with replacing(place) as text:
        text.write_text(json.dumps(description | files | {"pictures": len(index)}, indent=1) + "\n")
    for name in set(earlier) - set(_files_of(files)):
        (folder / name).unlink(missing_ok=True)


def _files_of(description):
    return [*description["shards"], description["index"]]


def _to_example(tf, dataset, number) -> bytes:
    features = {key: _feature(tf, _FEATURES[key], values) for key, values in _values(dataset, number).items()}
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()


def _values(dataset, number) -> dict:
    """A sample as lists, by the names of ``_FEATURES``."""
    sample, file = dataset.read(number), dataset.picture_file(number)
    height, width = sample["images"].shape[:2]
    values = {
        "image/id": [sample["image_id"].encode()],
        "image/encoded": [_png(sample["images"]) if file is None else file.read_bytes()],
        "image/height": [height],
        "image/width": [width],
    }
    if "segmentation_masks" in sample:
        values["segmentation/encoded"] = [_png(sample["segmentation_masks"][..., 0])]
    for key, numbers in sample.get("bounding_boxes", {}).items():
        values[f"objects/{key}"] = numbers.ravel().tolist()
    if "instance_masks" in sample:
        values["objects/masks"] = [runs["counts"] for runs in encode_masks(sample["instance_masks"])]
    if "keypoints" in sample:
        values["objects/keypoints"] = sample["keypoints"].ravel().tolist()
    return values


def _feature(tf, kind, values):
    if kind == "bytes":
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=values))
    if kind == "float":
        return tf.train.Feature(float_list=tf.train.FloatList(value=values))
    return tf.train.Feature(int64_list=tf.train.Int64List(value=map(int, values)))


def _png(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


# === Reading ===


class TFRecord(Dataset):
    """What ``convert`` wrote; instances and keypoints can be read for the task "detection" too."""

    def __init__(self, spec: str, folder: str, split: str, task: str | None = None):
        root = existing_folder(folder, "It should be what 'tfzoo data convert' wrote.")
        self._path = root / f"{split}.json"
        if not self._path.is_file():
            known = sorted(path.stem for path in root.glob("*.json"))
            raise MissingInputError(
                f"Data set {root} has no split '{split}' (no file {split}.json): its splits are {', '.join(known) or 'none'}; "
                "'tfzoo data convert' writes them."
            )
        description = _read_description(self._path)
        own = description["task"]
        self.tasks = (own, *(other for other in ("detection",) if other != own and set(TASK_KEYS[other]) <= set(TASK_KEYS[own])))
        super().__init__(spec, split, task, description["class_names"])
        self.box_keys, self.most_boxes = tuple(description["box_keys"]), description["most_boxes"]
        self.keypoint_names = description["keypoint_names"] if self.task == "keypoint" else []
        self._mirrored_points = np.array(description["mirrored_points"], np.intp)
        self._shards = [root / name for name in description["shards"]]
        self._index = self._read_index(root / description["index"], description["pictures"])
        self._parse = _tensorflow("to be read").train.Example.FromString

    def _read_index(self, path, pictures):
        try:
            index = np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise InputError(f"{path} cannot be read ({error}): convert the data set again.") from None
        if (
            index.shape != (pictures, len(INDEX))
            or index.dtype != np.int64
            or index.min(initial=0) < 0
            or index[:, 0].max(initial=0) >= len(self._shards)
        ):
            raise InputError(f"{path} is not the index of {self._path}'s {pictures} pictures: convert the data set again.")
        return index

    @property
    def mirrored_points(self):
        return self._mirrored_points if self.task == "keypoint" else super().mirrored_points

    def __len__(self):
        return len(self._index)

    def read(self, index):
        features, name = self._record(index)
        image = decode_image(features["image/encoded"].bytes_list.value[0], name)
        sample = {"images": image, "image_id": features["image/id"].bytes_list.value[0].decode()}
        if self.task == "semantic":
            return sample | {"segmentation_masks": _label_map(features)}
        sample["bounding_boxes"] = self._boxes(features)
        if self.task == "instance":
            size = image.shape[:2]
            runs = [{"size": size, "counts": counts} for counts in features["objects/masks"].bytes_list.value]
            sample["instance_masks"] = decode_masks(runs, size)
        if self.task == "keypoint":
            points = np.array(features["objects/keypoints"].float_list.value, np.float32)
            sample["keypoints"] = points.reshape(-1, len(self.keypoint_names), 3)
        return sample

    def read_boxes(self, index):
        features, _ = self._record(index)
        height, width = (features[f"image/{side}"].int64_list.value[0] for side in ("height", "width"))
        return self._boxes(features), (height, width)

    def _record(self, index):
        """A record's features, and what an error calls it."""
        shard, offset, length, checksum = map(int, self._index[index])
        path = self._shards[shard]
        try:
            with open(path, "rb") as file:
                file.seek(offset + _HEADER)
                data = file.read(length)
        except FileNotFoundError:
            raise MissingInputError(f"There is no shard {path}, which {self._path} lists: convert the data set again.") from None
        if zlib.crc32(data) != checksum:
            raise InputError(f"{path} is damaged (record {index} of {self._path}): convert the data set again.")
        return self._parse(data).features.feature, f"record {index} of {self._path}"

    def _boxes(self, features):
        boxes = np.array(features["objects/boxes"].float_list.value, np.float32).reshape(-1, 4)
        numbers = {"boxes": boxes}
        for key in self.box_keys[1:]:
            feature = features[f"objects/{key}"]
            numbers[key] = np.array(feature.float_list.value or feature.int64_list.value, _BOX_NUMBERS[key])
        return numbers


def _read_description(path):
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # encoding errors are ValueErrors
        description = None
    if not isinstance(description, dict):
        description = {}
    for key, is_right in _DESCRIPTION.items():
        if key not in description or not is_right(description[key]):
            raise InputError(
                f"{path} is not what 'tfzoo data convert' wrote ('{key}' is missing or wrong): convert the data set again, into a "
                "folder of its own."
            )
    return description


def _tensorflow(to_be):
    try:
        import tensorflow as tf
    except ImportError:
        raise InputError(f"TFRecord files need TensorFlow {to_be}, which is not installed: install it.") from None
    return tf


def _label_map(features):
    labels = Image.open(io.BytesIO(features["segmentation/encoded"].bytes_list.value[0]))
    return np.asarray(labels)[..., None]
