"""``export``: write, prove, then put in place."""

import dataclasses
import importlib.util
import os
import pathlib
import re
import shutil
import tempfile

import keras
import numpy as np
import tensorflow as tf

from tfzoo.data.images import parse_size
from tfzoo.errors import InputError, OutputExistsError, nearest
from tfzoo.export import converter, savedmodel, tflite, verify
from tfzoo.export import sidecar as sidecars
from tfzoo.export.calibration import pictures as draw_pictures
from tfzoo.export.calibration import scattered_boxes
from tfzoo.export.decoding import decode, pack
from tfzoo.export.delegates import not_on_gpu
from tfzoo.export.report import ExportReport
from tfzoo.export.runner import load
from tfzoo.files import folder_of
from tfzoo.layers.target import graph_for
from tfzoo.models.base import check_images

FORMATS = {"savedmodel": "", "tflite": ".tflite", "onnx": ".onnx", "openvino": ".xml"}
DEFAULT_SIZE = (256, 256)
ENDINGS = ", ".join(suffix for suffix in FORMATS.values() if suffix)
ANY_SIZE = "any"
TFLITE_PROPOSALS = 300
CHECKED_PICTURES = 4
LOW_AGREEMENT = 0.95  # below it, a quantized file's report tells people to measure its accuracy


def export(
    model,
    path,
    format=None,
    quantization=None,
    calibration=None,
    image_size=None,
    batch_size=1,
    raw=False,
    proposals=None,
    float_input=False,
    time_limit=None,
    memory_limit=None,
) -> ExportReport:
    """Exports a model and proves the file: it is run in its own runtime and compared with Keras before it is put in place.

    The file takes pictures, 0 to 255, and answers what ``model.predict`` answers, under the same names. An older export at ``path``
    is replaced only once the new one has passed; anything else there is left alone. A folder is replaced in one step; a file after
    what lies beside it, whose digest refuses the mixture that a process killed in between would leave.

    Args:
        model: a model of this zoo.
        path: of the file, or the folder for a SavedModel. Beside a file comes NAME.json, with class names and sizes, and beside
            OpenVINO's .xml a .bin with the weights.
        format: "savedmodel", "tflite", "onnx" or "openvino"; None takes it from the path: .tflite, .onnx, .xml, else SavedModel.
        quantization: TFLite only: None (float32), "float16", "dynamic" (int8 weights), "int8" (the network in integers; what is
            before and after it in float, as it needs more bits) or "full_int8" (integers alone, as microcontrollers and TPU
            compilers want them: pictures uint8, raw outputs int8; needs ``raw``).
        calibration: pictures for int8 ranges and for the comparison: a data set spec (its train split), a ``Dataset``, or
            pictures. None: drawn shapes, which is noted in the report for int8.
        image_size: N or (height, width) of the pictures that the file takes, or "any" (not for TFLite). None: the size
            that the model was trained at; without one, TFLite files take 256x256 and others any size.
        batch_size: pictures that a TFLite file takes at once; others take any number.
        raw: answer ``logits``, or a detector's heads, instead of the answer.
        proposals: of a model that takes them: how many the file takes with each picture, or "any" (not for TFLite). None: any, and
            300 for TFLite.
        float_input: the file takes float32 pictures, not uint8 ones: 0 to 255 all the same.
        time_limit, memory_limit: seconds and bytes for the conversion to other formats than SavedModel, which runs in a process of
            its own; its memory is watched on Linux alone. None: an hour, and 0.8 of the machine's memory.

    Returns:
        an ``ExportReport``.

    Raises:
        InputError: an unknown format or quantization, a size that the model cannot take, or another backend than TensorFlow.
        OutputExistsError: ``path`` is something other than an export of the same kind.
        ExportError: an operator that not every runtime has, or an answer that is too far off, or a conversion that exceeds a
            bound; nothing is written then.
    """
    plan = _plan(model, path, format, quantization, image_size, batch_size, raw, proposals, float_input)
    if plan.format != "savedmodel":
        converter.CONVERTER.start()  # it gets ready while the graph is built
    real, source = draw_pictures(calibration, plan.size or DEFAULT_SIZE)
    with folder_of(plan.path) as place, tempfile.TemporaryDirectory(prefix=f".{plan.path.name}.", dir=place) as folder:
        draft = pathlib.Path(folder) / f"draft{FORMATS[plan.format]}"
        operators = _write(plan, draft, real, {"seconds": time_limit, "memory": memory_limit})
        checked = _as_inputs((real * CHECKED_PICTURES)[: max(CHECKED_PICTURES, batch_size)], plan.proposals)
        runner, parity = _prove(plan, draft, checked)
        report = ExportReport(
            path=str(plan.path),
            format=plan.format,
            quantization=quantization,
            bytes=sum(file.stat().st_size for file in sidecars.files_of(draft)),
            image_size=plan.size,
            batch_size=plan.batch,
            operators=operators,
            parity=parity,
            checked_pictures=len(checked["images"]),
            latency_ms=verify.latency(runner, {name: values[: plan.batch or 1] for name, values in checked.items()}),
            compared_on=source["source"],
            calibration=source if plan.is_calibrated else None,
            not_on_gpu=not_on_gpu(draft) if plan.format == "tflite" else None,
            notes=_notes(plan, calibration, parity),
        )
        del runner
        _put_in_place(draft, plan.path)
    return report


# === What is asked for ===


@dataclasses.dataclass(frozen=True)
class Plan:
    """What an export is to be, once all that was asked for is known to fit: see ``export``.

    Attributes:
        size: (height, width) of the pictures, or None for any.
        batch: pictures at once, or None for any.
        proposals: how many, "any", or None where the model takes none.
    """

    model: keras.Model
    path: pathlib.Path
    format: str
    quantization: str | None
    size: tuple[int, int] | None
    batch: int | None
    raw: bool
    proposals: int | str | None
    float_input: bool

    @property
    def is_calibrated(self) -> bool:
        """Whether pictures set its ranges."""
        return self.quantization in tflite.CALIBRATED

    @property
    def picture_type(self):
        """What the SavedModel takes that the file is converted from."""
        return tf.float32 if self.float_input or self.quantization == "full_int8" else tf.uint8

    def predict(self, inputs, raw=False):
        """What Keras answers."""
        inputs = inputs if self.proposals else inputs["images"]
        return self.model.deployed(raw=raw).predict(inputs, verbose=0)


def _plan(model, path, format, quantization, image_size, batch_size, raw, proposals, float_input):
    path = pathlib.Path(path)
    check_exportable(model)
    format = _choose_format(path, format)
    _check_place(path, format)
    _check_quantization(model, format, quantization, raw)
    size, proposals = _choose_size(model, format, image_size), _choose_proposals(model, format, proposals)
    if batch_size < 1:
        raise InputError(f"batch_size is {batch_size}: it must be at least 1.")
    if float_input and quantization == "full_int8":
        raise InputError("full_int8 files are integers alone: leave out float_input (--float-input), or take int8.")
    return Plan(model, path, format, quantization, size, batch_size if format == "tflite" else None, raw, proposals, float_input)


def check_exportable(model) -> None:
    """Raises an InputError unless it is a model of this zoo, on the backend that exports are made on."""
    if not hasattr(model, "deployed"):
        raise InputError(
            f"The model to export is a {type(model).__name__}: give one made by tfzoo.create_model or tfzoo.load_model."
        )
    if keras.backend.backend() != "tensorflow":
        raise InputError(
            f"Exports are made on TensorFlow, and Keras runs on {keras.backend.backend()}: save the model as .keras, and export "
            "that file with KERAS_BACKEND=tensorflow."
        )


def _check_place(path, format):
    """Only an older export of the same kind may be replaced."""
    saved = path.is_dir() and (path / "saved_model.pb").is_file()
    if path.is_dir() and any(path.iterdir()) and not (format == "savedmodel" and saved):
        raise OutputExistsError(f"{path} is a folder that holds something else than an older export: choose another output.")
    if path.is_file() and format == "savedmodel":
        raise OutputExistsError(f"{path} is a file, and a SavedModel is a folder: choose another output.")
    if path.is_dir() and format != "savedmodel":
        raise OutputExistsError(f"{path} is a folder, and the format '{format}' is a file: choose another output.")
    if path.is_file() and not sidecars.is_one(sidecars.place(path)):
        raise OutputExistsError(
            f"{path} is there, and no older export (it has no {sidecars.place(path).name}): choose another output."
        )
    if sidecars.place(path).is_file() and not sidecars.is_one(sidecars.place(path)):
        raise OutputExistsError(f"{sidecars.place(path)} is there, and tells of no older export: choose another output.")


def _choose_format(path, format):
    if format is None:
        if path.suffix not in FORMATS.values() and re.fullmatch(r"\.[A-Za-z]\w*", path.suffix):
            raise InputError(f"{path} tells no format: give a name that ends in {ENDINGS}, or a folder for a SavedModel.")
        format = {suffix: name for name, suffix in FORMATS.items() if suffix}.get(path.suffix, "savedmodel")
    if format not in FORMATS:
        raise InputError(f"Format '{format}' is not known: it is one of {', '.join(FORMATS)}.{nearest(format, FORMATS)}")
    if path.suffix != FORMATS[format] and (FORMATS[format] or path.suffix in FORMATS.values()):
        raise InputError(
            f"{path} is no name for the format '{format}': give one that ends in {FORMATS[format] or f'none of {ENDINGS}'}."
        )
    if format == "openvino" and importlib.util.find_spec("openvino") is None:
        raise InputError(f"{path} needs the package openvino, which is not installed: pip install openvino.")
    return format


def _check_quantization(model, format, quantization, raw):
    if quantization not in tflite.QUANTIZATIONS:
        known = [q for q in tflite.QUANTIZATIONS if q]
        raise InputError(
            f"Quantization '{quantization}' is not known: it is one of {', '.join(known)}.{nearest(quantization, known)}"
        )
    if quantization and format != "tflite":
        raise InputError(f"Quantization '{quantization}' is for TFLite files, not for {format}: give a path that ends in .tflite.")
    if quantization == "full_int8" and not raw:
        raise InputError("full_int8 files answer integers, which only raw outputs can be: export with raw (--raw), or take int8.")
    if quantization == "full_int8" and not model.raw_in_integers:
        raise InputError(f"Model '{model.name}' chooses regions, which 8 bits are too few for: take int8 in place of full_int8.")


def _choose_size(model, format, image_size):
    if image_size == ANY_SIZE:
        if format == "tflite":
            raise InputError("A TFLite file takes pictures of one size: give image_size (--image-size), such as 256 or 192x256.")
        return None
    size = parse_size(image_size) or model.image_size or model.fixed_size or (DEFAULT_SIZE if format == "tflite" else None)
    if size:
        check_images((1, *size, 3))
    return size


def _choose_proposals(model, format, proposals):
    if not model.takes_proposals:
        if proposals is not None:
            raise InputError(f"Model '{model.name}' takes pictures alone, no proposals: leave out their number (--proposals).")
        return None
    if proposals is None:
        return TFLITE_PROPOSALS if format == "tflite" else savedmodel.ANY
    if proposals == savedmodel.ANY and format == "tflite":
        raise InputError("A TFLite file takes one number of proposals: give it (--proposals), such as 300.")
    if proposals != savedmodel.ANY and (not isinstance(proposals, int) or proposals < 1):
        raise InputError(f"proposals is {proposals!r}: it must be a whole number from 1, or 'any'.")
    return proposals


# === Writing and proving ===


def _write(plan, draft, real, bounds) -> dict[str, int]:
    with graph_for(portable=True, integers=plan.is_calibrated, converted=plan.format != "savedmodel"):
        if plan.format == "savedmodel":
            _write_saved_model(plan, draft)
            return savedmodel.operators(draft)
        with tempfile.TemporaryDirectory() as intermediate:
            _write_saved_model(plan, intermediate)
            batches = _batches(plan, real) if plan.is_calibrated else None
            return converter.convert(intermediate, draft, plan.quantization, batches, plan.model.integer_parts(), **bounds)


def _write_saved_model(plan, folder):
    savedmodel.write(plan.model.deployed(plan.raw), folder, plan.size, plan.batch, plan.proposals, plan.picture_type)


def _batches(plan, pictures):
    """What int8 ranges are set on: each picture once, as near as whole batches allow."""
    if plan.picture_type == tf.float32:
        pictures = [picture.astype(np.float32) for picture in pictures]
    if plan.quantization == "full_int8":
        pictures = _of_full_range(pictures)
    size, count = plan.batch, -(-len(pictures) // plan.batch)
    filled = pictures * -(-count * size // len(pictures))  # the last batch goes on with the first ones
    return (_as_inputs(filled[start : start + size], plan.proposals) for start in range(0, count * size, size))


def _of_full_range(pictures):
    """The pictures with a black and a white pixel in a corner: so the file's integers are the pixel values themselves."""
    changed = [picture.copy() for picture in pictures]
    for picture in changed:
        picture[0, 0], picture[0, 1] = 0, 255
    return changed


def _as_inputs(images, proposals) -> dict:
    """What a file takes, by name, for pictures of one size; where it takes proposals, with boxes anywhere."""
    inputs = {"images": np.stack(images)}
    if proposals is None:
        return inputs
    count = TFLITE_PROPOSALS if proposals == savedmodel.ANY else proposals
    return inputs | {"proposals": scattered_boxes(len(images), count, images[0].shape[:2])}


def _prove(plan, draft, checked):
    """Runs the draft, compares it with Keras, and writes its sidecar; returns its runner, and ``ExportReport.parity``."""
    reference, sidecar = plan.predict(checked, plan.raw), _sidecar(plan)
    sidecars.write(sidecar, draft)
    runner = load(draft)
    answer = verify.run_in_batches(runner, **checked)
    parity = verify.compare(answer, reference)
    verify.check(parity, plan.quantization, plan.model.remembers_maxima)
    if sidecar.decoding:  # told, not limited: the heads are proved already
        parity |= verify.compare_decoded(decode(answer, sidecar.decoding), plan.predict(checked))
    sidecar.outputs = sidecars.meanings(plan.model.task, reference, runner.integers)
    sidecar.parity, sidecar.integers, sidecar.digest = parity, runner.integers, sidecars.digest(draft)
    sidecars.write(sidecar, draft)
    return runner, parity


def _sidecar(plan):
    model = plan.model
    decoding = model.decoding(plan.size) if plan.raw and plan.size else None
    if decoding and decoding["anchors"] is not None:
        decoding["anchors"] = pack(decoding["anchors"])
    pictures = sidecars.PICTURES | ({"dtype": "float32"} if plan.float_input else {})
    return sidecars.Sidecar(
        model=model.name,
        task=model.task,
        class_names=model.class_names,
        image_size=plan.size,
        batch_size=plan.batch,
        raw=plan.raw,
        quantization=plan.quantization,
        decoding=decoding,
        proposals=plan.proposals,
        input=pictures if plan.proposals is None else [pictures, sidecars.PROPOSALS],
    )


def _notes(plan, calibration, parity):
    notes = []
    if plan.is_calibrated and calibration is None:
        notes.append("int8 ranges were set on drawn shapes: give pictures of your own kind (--calibration).")
    if parity.get("detections", {}).get("count") == 0:
        notes.append(
            "the model found nothing in the pictures that it was compared on, so little is proved: choose others (--calibration)."
        )
    if larger := _enlarged(plan):
        notes.append(f"the network enlarges pictures to {larger}: a file that takes such ones (--image-size {larger}) sees more.")
    if plan.raw and plan.size is None and plan.model.decoding(DEFAULT_SIZE):
        notes.append("it takes any size, so nothing completes its heads: give image_size (--image-size) for decode.")
    labels, objects = parity.get("labels", {}).get("agreement", 1.0), parity.get("detections", {}).get("found_again", 1.0)
    for share, said in ((labels, "labels equal Keras's"), (objects, "detections of Keras are found again")):
        if plan.quantization and share < LOW_AGREEMENT:
            notes.append(f"only {share:.1%} of the {said}: measure the file with 'tfzoo evaluate' before you use it.")
    return notes


def _enlarged(plan):
    """What the network makes of smaller pictures that the file takes, such as "800x800"; "" where it does no such thing."""
    if plan.size is None or plan.model.task == "semantic":
        return ""
    inside = [int(side) for side in plan.model.input_sizes(plan.size)[0]]
    return "x".join(map(str, inside)) if inside[0] > plan.size[0] and inside[1] > plan.size[1] else ""


def _put_in_place(draft, path):
    if draft.is_dir():
        old = draft.with_name("old")
        if path.exists():
            os.replace(path, old)
        try:
            os.replace(draft, path)
        except BaseException:  # an interruption too: what is left in the folder of the draft is lost
            if old.exists():
                os.replace(old, path)
            raise
        shutil.rmtree(old, ignore_errors=True)
        return
    for old, new in zip(
        [sidecars.place(draft), *sidecars.files_of(draft)], [sidecars.place(path), *sidecars.files_of(path)], strict=True
    ):
        os.replace(old, new)
