"""Which tensors an int8 file loses the most in: its tensors against those of the float file of the same model.

Where one layer spoils the rest, it can be kept in float: a model's ``float_layers``.
"""

import csv
import dataclasses
import pathlib
import tempfile

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from tfzoo.errors import InputError
from tfzoo.export import sidecar as sidecars
from tfzoo.export.calibration import pictures as draw_pictures
from tfzoo.export.exporter import export

WORST = 20  # rows that people are shown
PICTURES = 8


@dataclasses.dataclass(frozen=True)
class Loss:
    """What one integer tensor of an int8 file is off by.

    Attributes:
        place: of the operator that makes it, in the order of running.
        operator: kind, such as "CONV_2D"; tensor: name.
        error: norm of the difference to the float file's over the norm of that, over all pictures.
        inherited: the largest error of the tensors that the operator takes; ``error`` above it was added here.
        scale: of the integers. low, high: extremes of the float file's numbers.
        clipped: share of the float file's numbers that lie outside what the integers reach.
    """

    place: int
    operator: str
    tensor: str
    error: float
    inherited: float
    scale: float
    low: float
    high: float
    clipped: float

    @property
    def added(self) -> float:
        return self.error - self.inherited


def debug(model, artifact, calibration=None, count=PICTURES) -> list[Loss]:
    """Exports a model once more in float32, and compares the tensors of its int8 file with those.

    Args:
        model: that the file was made from.
        artifact: path of an int8 file of batch 1.
        calibration: where ``count`` pictures come from, as for ``export``.

    Raises:
        InputError: it is no such file; and what ``export`` raises.
    """
    facts = sidecars.read(artifact)
    if facts.quantization != "int8" or facts.batch_size != 1 or facts.proposals is not None:
        raise InputError(f"{artifact} is no int8 file that takes one picture and nothing else: these alone can be looked into.")
    pictures, _ = draw_pictures(calibration, facts.image_size, count)
    with tempfile.TemporaryDirectory() as folder:
        twin = pathlib.Path(folder) / "float.tflite"
        as_float = sidecars.picture_type(facts) == "float32"
        export(model, twin, image_size=facts.image_size, raw=facts.raw, calibration=pictures, float_input=as_float)
        return compare_tensors(twin, artifact, pictures)


def compare_tensors(float_file, int8_file, pictures) -> list[Loss]:
    """Runs both files, of one model and of batch 1, and compares the tensors that bear one name; in the order of running.

    Args:
        float_file, int8_file: paths of TFLite files.
        pictures: uint8 [H, W, 3] each, of the files' size.
    """
    true, rounded = _open(float_file), _open(int8_file)
    known = {detail["name"]: detail for detail in true.get_tensor_details()}
    made = [
        (place, operator["op_name"], output, operator["inputs"])
        for place, operator in enumerate(rounded._get_ops_details())
        for output in operator["outputs"]
    ]
    details = {detail["index"]: detail for detail in rounded.get_tensor_details()}
    chosen = [
        (place, kind, details[output], inputs)
        for place, kind, output, inputs in made
        if details[output]["dtype"] == np.int8 and details[output]["name"] in known and kind != "QUANTIZE"
    ]
    sums = {detail["index"]: _Sums() for _, _, detail, _ in chosen}
    for picture in pictures:
        for interpreter in (true, rounded):
            taken = interpreter.get_input_details()[0]
            interpreter.set_tensor(taken["index"], np.asarray(picture, taken["dtype"])[None])
            interpreter.invoke()
        for _, _, detail, _ in chosen:
            wanted = true.get_tensor(known[detail["name"]]["index"])
            sums[detail["index"]].add(wanted, rounded.get_tensor(detail["index"]), detail["quantization"])
    return [_loss(place, kind, detail, inputs, sums) for place, kind, detail, inputs in chosen]


def _open(path):
    interpreter = Interpreter(
        str(path),
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        experimental_preserve_all_tensors=True,  # else their memory is used again
    )
    interpreter.allocate_tensors()
    return interpreter


class _Sums:
    """What is gathered of one tensor, picture after picture."""

    def __init__(self):
        self.difference, self.norm, self.clipped, self.count = 0.0, 0.0, 0, 0
        self.low, self.high = np.inf, -np.inf

    def add(self, wanted, integers, quantization):
        scale, zero = quantization
        wanted = wanted.astype(np.float64)
        self.difference += np.square((integers.astype(np.float64) - zero) * scale - wanted).sum()
        self.norm += np.square(wanted).sum()
        low, high = (np.array([-128, 127]) - zero) * scale
        self.clipped += ((wanted < low - scale / 2) | (wanted > high + scale / 2)).sum()
        self.count += wanted.size
        self.low, self.high = min(self.low, wanted.min()), max(self.high, wanted.max())

    @property
    def error(self):
        return float(np.sqrt(self.difference / max(self.norm, 1e-30)))


def _loss(place, kind, detail, inputs, sums):
    own = sums[detail["index"]]
    return Loss(
        place=place,
        operator=kind,
        tensor=detail["name"],
        error=own.error,
        inherited=max((sums[index].error for index in inputs if index in sums), default=0.0),
        scale=float(detail["quantization"][0]),
        low=float(own.low),
        high=float(own.high),
        clipped=float(own.clipped / own.count),
    )


def write(losses: list[Loss], path) -> None:
    """Writes all of them as CSV, in the order of running."""
    with pathlib.Path(path).open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow([*(field.name for field in dataclasses.fields(Loss)), "added"])
        table.writerows([*dataclasses.astuple(loss), loss.added] for loss in losses)


def format_table(losses: list[Loss], count: int = WORST) -> str:
    """Those in which the most is added, for people (Markdown)."""
    lines = ["| operator | tensor | error | added here | clipped | range |", "|---|---|---|---|---|---|"]
    for loss in sorted(losses, key=lambda loss: -loss.added)[:count]:
        numbers = f"{loss.error:.4f} | {loss.added:.4f} | {loss.clipped:.2%} | {loss.low:.3g} to {loss.high:.3g}"
        lines.append(f"| {loss.operator} | {_short(loss.tensor)} | {numbers} |")
    return "\n".join(lines)


def _short(name, length=60):
    """The last of the operators that were fused into one, and of its name the end."""
    name = name.rstrip(";").rpartition(";")[2]
    return name if len(name) <= length else f"...{name[-length:]}"
