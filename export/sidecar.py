"""The small JSON beside every exported file: what one must know to feed it and to read its answer."""

import contextlib
import dataclasses
import hashlib
import importlib.metadata
import json
import pathlib

from tfzoo.errors import InputError, MissingInputError, are_counts

PACKAGES = ("tfzoo", "keras", "tensorflow")
OBJECTS = {
    "boxes": "float32 [batch, places, 4]: left, top, right, bottom in pixels of the picture; 0 in free places",
    "scores": "float32 [batch, places]: falling; 0 in free places",
    "labels": "int32 [batch, places]: index into class_names; -1 in free places",
    "num_detections": "int32 [batch]: places that are not free",
    "masks": "float32 [batch, places, 28, 28]: probability of each part of the box; with a frame of one part of 0 around it, it is "
    "stretched over the box widened by 30/28",
    "keypoints": "float32 [batch, places, points, 3]: x, y in pixels of the picture, visible",
    "keypoint_scores": "float32 [batch, places, points]: the heat map's value at the point, before the softmax",
}
MEANINGS = {  # of the outputs of each task; raw files answer logits, or a detector's heads
    "semantic": {
        "labels": "uint8 [batch, height, width]: index into class_names",
        "scores": "float32 [batch, height, width]: probability of that label",
        "logits": "float32 [batch, height, width, classes]: before the softmax",
    },
    **dict.fromkeys(("detection", "instance", "keypoint"), OBJECTS),
}
PICTURES = {"name": "images", "dtype": "uint8", "meaning": "[batch, height, width, 3], RGB, 0 to 255"}
PROPOSALS = {
    "name": "proposals",
    "dtype": "float32",
    "meaning": "[batch, places, 4]: left, top, right, bottom in pixels of the picture; 0 in free places",
}
RESIZE = (
    "first upright, as EXIF says; then bilinear, antialiased where it shrinks; both sides on their own, without keeping their ratio"
)
RAW_HEAD = "float32 [batch, anchors, numbers]: what the network's head gives"
INTEGERS = "int8, whose integers stand for (integer - zero point) * scale, see integers: "


def _versions():
    installed = {}
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            installed[name] = importlib.metadata.version(name)
    return installed


@dataclasses.dataclass
class Sidecar:
    """What ``tfzoo.export.load`` reads.

    Attributes:
        model: name in the zoo.
        task: "semantic", ...
        class_names: label i is class_names[i].
        image_size: (height, width) that the file takes, or None for any; a picture of another size is resized to it,
            bilinear and antialiased, and the answer is mapped back.
        batch_size: pictures at once, or None for any.
        raw: whether it answers logits.
        quantization: as in ``ExportReport``.
        outputs: name -> meaning.
        integers: of a full_int8 file, output -> [scale, zero point]: its integers stand for (integer - zero point) * scale.
        decoding: of a detector's raw file of one picture size, what completes it, see ``decoding.decode``.
        proposals: of a file that takes them: how many of a picture, or "any"; None: it takes none.
        input: name, dtype and meaning of the input; a list of them where there are several.
        resize: how pictures of another size are to be brought to the file's.
        versions: what it was made with.
        parity: as in ``ExportReport``; None: it was not compared.
        digest: of the artifact, see ``digest``; None: it is not checked.
    """

    model: str
    task: str
    class_names: list[str]
    image_size: tuple[int, int] | None
    batch_size: int | None
    raw: bool = False
    quantization: str | None = None
    outputs: dict[str, str] = dataclasses.field(default_factory=dict)
    integers: dict[str, list[float]] = dataclasses.field(default_factory=dict)
    decoding: dict | None = None
    proposals: int | str | None = None
    input: dict[str, str] | list[dict[str, str]] = dataclasses.field(default_factory=lambda: dict(PICTURES))
    resize: str = RESIZE
    versions: dict[str, str] = dataclasses.field(default_factory=_versions)
    parity: dict | None = None
    digest: str | None = None


def picture_type(sidecar: Sidecar) -> str:
    """The type that the artifact takes pictures as: "uint8" or "float32"."""
    inputs = sidecar.input if isinstance(sidecar.input, list) else [sidecar.input]
    return inputs[0]["dtype"]


def meanings(task, outputs, integers=()) -> dict[str, str]:
    """Returns output -> what it means, for the outputs of a file; ``integers`` are those that it gives as such."""
    found = {name: MEANINGS[task].get(name, RAW_HEAD) for name in sorted(outputs)}
    return {name: INTEGERS + meaning.removeprefix("float32 ") if name in integers else meaning for name, meaning in found.items()}


def files_of(artifact) -> list[pathlib.Path]:
    """All files of an artifact in the order of their names, but for the sidecar: a SavedModel's, OpenVINO's two, or one."""
    artifact = pathlib.Path(artifact)
    if artifact.is_dir():
        own = place(artifact)
        return sorted(path for path in artifact.rglob("*") if path.is_file() and path != own)
    return [artifact.with_suffix(".bin"), artifact] if artifact.suffix == ".xml" else [artifact]


def digest(artifact) -> str:
    """SHA-256 of a file, in hexadecimals; of an artifact of several files that of theirs, one after the other.

    Raises:
        InputError: one of them is missing.
    """
    digests = [_digest(path, artifact) for path in files_of(artifact)]
    return digests[0].hex() if len(digests) == 1 else hashlib.sha256(b"".join(digests)).hexdigest()


def _digest(path, artifact):
    if not path.is_file():
        raise InputError(f"{artifact} needs {path.name} beside it: copy that too, or export again.")
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def place(path) -> pathlib.Path:
    """Where the sidecar of an artifact is: inside a SavedModel, beside a file."""
    path = pathlib.Path(path)
    return path / "assets.extra" / "tfzoo.json" if path.is_dir() else path.with_name(path.name + ".json")


def is_one(path) -> bool:
    """Whether a file is a sidecar."""
    try:
        content = json.loads(pathlib.Path(path).read_text())
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and {"model", "task", "class_names"} <= content.keys()


def write(sidecar: Sidecar, artifact) -> pathlib.Path:
    """Writes it to its place and returns that."""
    path = place(artifact)
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(dataclasses.asdict(sidecar), indent=1))
    return path


def _is_input(value) -> bool:
    inputs = value if isinstance(value, list) else [value]
    return bool(inputs) and all(isinstance(each, dict) for each in inputs) and inputs[0].get("dtype") in ("uint8", "float32")


FIELDS = {  # what running an artifact rests on, and whether a value is one for it
    "task": lambda value: value in list(MEANINGS),
    "class_names": lambda value: isinstance(value, list),
    "image_size": lambda value: value is None or (are_counts(value, least=1) and len(value) == 2),
    "batch_size": lambda value: value is None or are_counts([value], least=1),
    "proposals": lambda value: value in (None, "any") or are_counts([value], least=1),
    "input": _is_input,
}


def read(artifact) -> Sidecar:
    """Reads an artifact's sidecar.

    Raises:
        MissingInputError: it is not there.
        InputError: it is damaged, holds something else than it should, or belongs to another artifact.
    """
    path = place(artifact)
    if not path.is_file():
        raise MissingInputError(
            f"{artifact} lacks the JSON with its class names and input size, {path}: put the one exported with it there, "
            "or export again."
        )
    try:
        sidecar = Sidecar(**json.loads(path.read_text()))
    except (TypeError, ValueError) as error:
        raise InputError(f"{path} is damaged ({error}): export again.") from None
    for key, is_right in FIELDS.items():
        value = getattr(sidecar, key)
        if not is_right(value):
            raise InputError(f"{path} is damaged ({json.dumps(value)[:40]} is no '{key}'): export again.")
    if sidecar.digest not in (None, digest(artifact)):
        raise InputError(f"{artifact} is damaged or not the one that {path} was written for: copy both again, or export again.")
    sidecar.image_size = sidecar.image_size and tuple(sidecar.image_size)
    return sidecar
