"""``export``: write, prove, then put in place."""

import importlib.metadata
import os
import pathlib
import shutil
import tempfile

import numpy as np

from tfzoo.data.images import parse_size
from tfzoo.errors import InputError, nearest
from tfzoo.export import onnx, savedmodel, tflite, verify
from tfzoo.export import sidecar as sidecars
from tfzoo.export.calibration import pictures as draw_pictures
from tfzoo.export.report import ExportReport
from tfzoo.export.runner import load
from tfzoo.models.segmenter import check_images

FORMATS = {"savedmodel": "", "tflite": ".tflite", "onnx": ".onnx"}
DEFAULT_SIZE = (256, 256)
CHECKED_PICTURES = 4


def export(model, path, format=None, quantization=None, calibration=None, image_size=None, batch_size=1, raw=False) -> ExportReport:
    """Exports a model and proves the file: it is run in its own runtime and compared with Keras before it is put in place.

    The file takes uint8 pictures and answers what ``model.predict`` answers, under the same names. What lies at ``path`` is
    replaced in one step, and only once the new file has passed.

    Args:
        model: a model of this zoo.
        path: of the file, or the folder for a SavedModel. Beside a file comes NAME.json, with class names and sizes.
        format: "savedmodel", "tflite" or "onnx"; None takes it from the path: .tflite, .onnx, else SavedModel.
        quantization: TFLite only: None (float32), "float16", "dynamic" or "int8".
        calibration: pictures for int8 ranges and for the comparison: a data set spec (its train split), a ``Dataset``, or
            pictures. None: drawn shapes, which is noted in the report for int8.
        image_size: N or (height, width) of the pictures that the file takes. None: the size that the model was trained at;
            without one, SavedModel and ONNX take any size and TFLite 256x256.
        batch_size: pictures that a TFLite file takes at once; SavedModel and ONNX take any number.
        raw: answer ``logits`` instead of ``labels`` and ``scores``.

    Returns:
        an ``ExportReport``.

    Raises:
        InputError: an unknown format or quantization, or a size that the model cannot take.
        ExportError: an operator that not every runtime has, or an answer that is too far off; nothing is written then.
    """
    path = pathlib.Path(path)
    if not hasattr(model, "deployed"):
        raise InputError(
            f"The model to export is a {type(model).__name__}: give one made by tfzoo.create_model or tfzoo.load_model."
        )
    format = _choose_format(path, format)
    _check_quantization(format, quantization)
    size = _choose_size(model, format, image_size)
    if batch_size < 1:
        raise InputError(f"batch_size is {batch_size}: it must be at least 1.")
    batch = batch_size if format == "tflite" else None
    real, source = draw_pictures(calibration, size or DEFAULT_SIZE)
    deployed = model.deployed(raw=raw)

    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as folder:
        draft = pathlib.Path(folder) / f"draft{FORMATS[format]}"
        operators = _write(deployed, draft, format, quantization, size, batch, real)
        sidecars.write(_sidecar(model, deployed, size, batch, raw, quantization), draft)
        runner = load(draft)
        checked = np.stack((real * CHECKED_PICTURES)[: max(CHECKED_PICTURES, batch_size)])
        parity = verify.compare(verify.run_in_batches(runner, checked), deployed.predict(checked, verbose=0))
        verify.check(parity, quantization)
        report = ExportReport(
            path=str(path),
            format=format,
            quantization=quantization,
            bytes=_bytes(draft),
            image_size=size,
            batch_size=batch,
            operators=operators,
            parity=parity,
            checked_pictures=len(checked),
            latency_ms=verify.latency(runner, checked[: batch or 1]),
            calibration=source if quantization == "int8" else None,
            notes=_notes(quantization, calibration),
        )
        del runner
        _put_in_place(draft, path)
    return report


def _choose_format(path, format):
    if format is None:
        format = {suffix: name for name, suffix in FORMATS.items() if suffix}.get(path.suffix, "savedmodel")
    if format not in FORMATS:
        raise InputError(f"Format '{format}' is not known: it is one of {', '.join(FORMATS)}.{nearest(format, FORMATS)}")
    if path.suffix != FORMATS[format] and (FORMATS[format] or path.suffix in FORMATS.values()):
        raise InputError(
            f"{path} is no name for the format '{format}': give one that ends in {FORMATS[format] or 'neither .tflite nor .onnx'}."
        )
    return format


def _check_quantization(format, quantization):
    if quantization not in tflite.QUANTIZATIONS:
        known = [q for q in tflite.QUANTIZATIONS if q]
        raise InputError(
            f"Quantization '{quantization}' is not known: it is one of {', '.join(known)}.{nearest(quantization, known)}"
        )
    if quantization and format != "tflite":
        raise InputError(f"Quantization '{quantization}' is for TFLite files, not for {format}: give a path that ends in .tflite.")


def _choose_size(model, format, image_size):
    size = parse_size(image_size) or model.image_size or (DEFAULT_SIZE if format == "tflite" else None)
    if size:
        check_images((1, *size, 3))
    return size


def _write(deployed, draft, format, quantization, size, batch, real) -> dict[str, int]:
    if format == "savedmodel":
        savedmodel.write(deployed, draft, size, batch)
        return savedmodel.operators(draft)
    with tempfile.TemporaryDirectory() as intermediate:
        savedmodel.write(deployed, intermediate, size, batch)
        if format == "onnx":
            data, count = onnx.convert(intermediate), onnx.operators
        else:
            batches = (np.stack((real * batch)[start : start + batch]) for start in range(len(real)))
            data, count = tflite.convert(intermediate, quantization, batches), tflite.operators
    operators = count(data)
    draft.write_bytes(data)
    return operators


def _sidecar(model, deployed, size, batch, raw, quantization):
    outputs = ("logits",) if raw else ("labels", "scores")
    return sidecars.Sidecar(
        model=model.name,
        task=model.task,
        class_names=model.class_names,
        image_size=size,
        batch_size=batch,
        raw=raw,
        quantization=quantization,
        outputs={name: sidecars.MEANINGS[name] for name in outputs},
        versions={name: importlib.metadata.version(name) for name in ("tfzoo", "keras", "tensorflow")},
    )


def _notes(quantization, calibration):
    if quantization == "int8" and calibration is None:
        return ["int8 ranges were set on drawn shapes: give calibration= (--calibration) pictures of your own kind."]
    return []


def _bytes(path):
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file()) if path.is_dir() else path.stat().st_size


def _put_in_place(draft, path):
    if draft.is_dir():
        old = draft.with_name("old")
        if path.exists():
            os.replace(path, old)
        os.replace(draft, path)
        shutil.rmtree(old, ignore_errors=True)
        return
    os.replace(sidecars.place(draft), sidecars.place(path))
    os.replace(draft, path)
