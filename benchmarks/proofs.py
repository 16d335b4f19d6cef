"""``python -m tfzoo.benchmarks.proofs``: exports every model in every format, and writes down how well the files answer.

A narrow model of each name first learns a few drawn pictures by heart, which shows that it trains, and makes its answers
differ and be decided. Each file's answer to these pictures is then compared with Keras's. What is found goes into
export_proofs.json, which ships with the package and is what ``tfzoo models`` calls proved, and with ``--table`` into a page. Every
model has a process of its own, since TensorFlow can end it. What was measured for the network, the libraries and the way of writing
files as they are now is not done again, so that an interrupted run can be taken up.
"""

import argparse
import concurrent.futures
import contextlib
import dataclasses
import importlib.metadata
import json
import multiprocessing
import os
import pathlib
import sys
import tempfile
import time
from concurrent.futures.process import BrokenProcessPool

import numpy as np

from tfzoo.data import load_dataset
from tfzoo.data.proposals import make_proposals, with_proposals
from tfzoo.errors import InputError
from tfzoo.facts import FORMATS, PROOFS_FILE, REVISION, default_options, describe, learned_in_words
from tfzoo.files import claim_file, replacing
from tfzoo.zoo import find_entry, list_models

IMAGE_SIZE = (96, 128)
DATA = f"shapes:{IMAGE_SIZE[0]}x{IMAGE_SIZE[1]}"
NARROW = {  # for the models that have these options
    "width_multiplier": 0.25,
    "batch_norm": True,
    "dropout": 0.0,
    "min_size": IMAGE_SIZE[0],
    "max_size": IMAGE_SIZE[1],
    "rpn_post_nms_top_n_train": 300,
    "rpn_post_nms_top_n_test": 100,
    "box_batch_size_per_image": 64,
    "num_keypoints": len(load_dataset(DATA, "train", "keypoint").keypoint_names),
}
OWN = {  # options of a name, in place of or beside these
    "enet": {"width_multiplier": 1.0},  # it is narrow already
    "fasterrcnn_vgg16": {"anchor_sizes": [24, 40, 64]},  # the paper's are larger than these pictures
}
PROPOSALS = 100  # of a picture, anywhere, for models that take them
STEPS = 300
LEARNING_RATES = {"semantic": 3e-3, "fasterrcnn_vgg16": 3e-4}  # of a task, or of a model: this one has no norms
LEARNING_RATE = 2e-3  # of detectors
SEED = 0
PICTURES = 4  # that are learned, and that Keras's answer and the file's are compared on
MAX_SHARE = 0.9  # of one label in Keras's answer: a file that answers nothing else would agree as well
LABELS, DETECTIONS = {"int8": 0.9, "dynamic": 0.95, "float16": 0.99}, {"int8": 0.7, "dynamic": 0.8, "float16": 0.95}
FLOAT_LABELS, FLOAT_DETECTIONS = 0.9995, 0.99  # share of the labels, or of the detections, that must equal Keras's
PARTS = dict.fromkeys(("savedmodel", "onnx", "tflite"), 0.98)  # share of masks and keypoints, likewise; others are told alone
PLACES = {"savedmodel": "saved", "onnx": "model.onnx"} | {
    form: f"{form}.tflite" for form in FORMATS if form not in ("savedmodel", "onnx")
}
QUANTIZATIONS = ("float16", "dynamic", "int8")
RUNTIMES = {"savedmodel": (), "onnx": ("tf2onnx", "onnxruntime")}
ROUNDS = 15  # in which the files of a model are timed in turn


def prove(names=None, output=PROOFS_FILE, steps=STEPS, again=False, forms=FORMATS) -> dict:
    """Proves the exports of these models (None: all), and writes each model's results as they come.

    Args:
        output: JSON file; what it holds already is kept.
        steps: of training on the same pictures, before the exports.
        again: prove anew what was measured already.
        forms: which of ``FORMATS`` to prove.

    Returns:
        the file's content: name -> {"options", "image_size", "steps", "network" (its ``Facts``), "learned" (see ``learned``),
        "formats": form -> result}. A result has "proved"; where an export was made "agreement" (see
        ``ExportReport.label_agreement``), "error" (see ``_measures``), "pictures", "bytes", "operators", "latency_ms"; "reason"
        where not proved; the libraries' "versions", and the "revision" of the exporter (left out: an earlier one).
    """
    output = claim_file(output, allow_existing=True)
    names = names or list_models()
    entries = {name: find_entry(name) for name in names}
    proofs = json.loads(output.read_text()) if output.exists() else {}
    for number, name in enumerate(names, start=1):
        proof = proofs[name] = _begin(name, entries[name], {} if again else proofs.get(name, {}), steps)
        todo = [form for form in forms if not _is_done(form, proof["formats"].get(form, {}))]
        place = f"[{number}/{len(names)}] {name}"
        if not todo:
            print(f"{place}: done already", flush=True)
            continue
        found = _in_own_process(examine, name, proof["options"], todo, steps)
        if "learned" in found:
            proof["learned"] = found["learned"]
            print(f"{place} learned {PICTURES} pictures: {learned_in_words(proof)}", flush=True)
        for form in todo:
            result = proof["formats"][form] = _judged(form, found.get(form, found))
            print(f"{place} {form}: {_in_words(result)}", flush=True)
        _write(proofs, output)
    return proofs


def _is_done(form, result):
    """Proved, or found to fall short, by a model that had learned, of a file as it is written now."""
    current = _is_current(result) and result["versions"] == _versions(form)
    return "bytes" in result and current and not _proves_little(result)


def _is_current(result):
    return result.get("revision") == REVISION


def _versions(form):
    libraries = ("tensorflow", "keras", *RUNTIMES.get(form, ("ai-edge-litert",)))
    return {library: importlib.metadata.version(library) for library in libraries}


def _begin(name, entry, earlier, steps):
    """What was proved before, or a new start if that was for another network."""
    stretches = {"min_size", "max_size"} if entry.build_class().fixed_size else set()
    free = default_options(entry).keys() - entry.options.keys() - stretches
    options = {key: value for key, value in NARROW.items() if key in free} | OWN.get(name, {})
    facts = describe(name, IMAGE_SIZE, num_classes=len(load_dataset(DATA, "train", entry.task).class_names), **options)
    network = json.loads(json.dumps(dataclasses.asdict(facts)))
    fresh = {"options": options, "image_size": list(IMAGE_SIZE), "steps": steps, "network": network, "formats": {}}
    return earlier if all(earlier.get(key) == fresh[key] for key in ("options", "image_size", "steps", "network")) else fresh


def _judged(form, result):
    result = result if "reason" in result else result | _shortcoming(form, result)
    return {"proved": "reason" not in result, **result, "versions": _versions(form), "revision": REVISION}


def _in_own_process(function, *arguments) -> dict:
    """The dict that ``function`` returns, or {"reason": ...} where it raises or its process dies."""
    with concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as executor:
        try:
            return executor.submit(function, *arguments).result()
        except BrokenProcessPool:
            return {"reason": "the process died"}
        except Exception as error:
            return _as_reason(error)


def _as_reason(error):
    return {"reason": f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0][:300]}"}


# === In a process of its own ===


def examine(name, options, forms, steps) -> dict:
    """Trains a model, and exports it in these forms.

    Returns:
        {"learned": what ``learned`` returns, form: what ``compare`` returns and "latency_ms", or {"reason": ...} where that raises}
    """
    os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", "TF_ENABLE_ONEDNN_OPTS": "1"}
    import keras

    keras.utils.set_random_seed(SEED)
    with tempfile.TemporaryDirectory(prefix="tfzoo-proofs-") as folder:
        data = _open(name, pathlib.Path(folder))
        inputs, targets = _pictures(data)
        model = train(name, options, data.class_names, inputs, targets, steps)
        found = {"learned": learned(model, data, inputs)}
        for form in forms:
            try:
                found[form] = compare(model, form, inputs, pathlib.Path(folder))
            except Exception as error:
                found[form] = _as_reason(error)
        with contextlib.suppress(Exception):  # what was proved is worth more than how long it took
            for form, milliseconds in _latencies([form for form in forms if "bytes" in found[form]], pathlib.Path(folder)).items():
                found[form]["latency_ms"] = milliseconds
    return found


def _latencies(forms, folder) -> dict:
    """Median milliseconds that the files of these forms take for one picture, in turn and in one thread (SavedModel: its own)."""
    from tfzoo.benchmarks.speed import measure

    timings = measure([folder / PLACES[form] for form in forms], IMAGE_SIZE, threads=1, rounds=ROUNDS)
    return {form: round(timing.median, 3) for form, timing in zip(forms, timings, strict=True)}


def _open(name, folder):
    from tfzoo.export.calibration import scattered_boxes

    entry = find_entry(name)
    data = load_dataset(DATA, "train", entry.task)
    if not entry.build_class().takes_proposals:
        return data
    make_proposals(data, folder, lambda image: scattered_boxes(1, PROPOSALS, image.shape[:2])[0], verbose=False)
    return with_proposals(data, folder)


def _pictures(data):
    """The first pictures of a data set (with their proposals, if it has such), and their targets: arrays."""
    import keras

    batch = next(iter(data.batches(PICTURES, IMAGE_SIZE)))
    return keras.tree.map_structure(np.asarray, batch[:2])


def train(name, options, class_names, inputs, targets, steps):
    """Returns a model that learned these pictures in so many steps of all of them."""
    import keras

    import tfzoo

    model = tfzoo.create_model(name, class_names=class_names, image_size=IMAGE_SIZE, **options)
    for layer in model.named_layers():
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = min(layer.momentum, 0.9)  # the steps are few: the moving averages must keep up
    rate = LEARNING_RATES.get(name, LEARNING_RATES.get(model.task, LEARNING_RATE))
    model.compile(keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(rate, steps), clipnorm=5.0))
    model.fit(inputs, targets, batch_size=PICTURES, epochs=steps, verbose=0)
    return model


def learned(model, data, inputs) -> dict:
    """How well a model answers these pictures, the first ones of ``data``: "pixel_accuracy", or "AP50" of "boxes" and what else."""
    from tfzoo.metrics.coco import AnswerEvaluator

    answer = model.predict(inputs, verbose=0)
    samples = [data.read(index) for index in range(PICTURES)]
    if model.task == "semantic":
        truth = np.stack([sample["segmentation_masks"][..., 0] for sample in samples])
        return {"pixel_accuracy": float((answer["labels"] == truth)[truth != 255].mean())}
    evaluator = AnswerEvaluator(model.task, data.class_names)
    for index, sample in enumerate(samples):
        evaluator.add(evaluator.truth(sample), {key: values[index] for key, values in answer.items()})
    result = evaluator.result()
    return {"boxes": result["AP50"]} | {kind: result[kind]["AP50"] for kind in ("masks", "keypoints") if kind in result}


def compare(model, form, inputs, folder) -> dict:
    """Exports a model, and compares what the file answers with what Keras does."""
    from tfzoo.export import export, load, verify

    start = time.perf_counter()
    arguments = {
        "quantization": form if form in QUANTIZATIONS else None,
        "calibration": DATA,
        "image_size": IMAGE_SIZE if PLACES[form].endswith(".tflite") else "any",
        "proposals": PROPOSALS if model.takes_proposals and PLACES[form].endswith(".tflite") else None,
    }
    errors, path = {}, folder / PLACES[form]
    for raw in (True, False) if model.task == "semantic" else (False,):
        report = export(model, path, raw=raw, **arguments)
        expected = model.deployed(raw=raw).predict(inputs, verbose=0)
        errors |= verify.compare(verify.run_in_batches(load(path), **_named(inputs)), expected)
    return {
        **_measures(errors, expected, report.quantization),
        "pictures": PICTURES,
        "bytes": report.bytes,
        "operators": report.operators,
        "seconds": round(time.perf_counter() - start),
    }


def _named(inputs):
    return inputs if isinstance(inputs, dict) else {"images": inputs}


def _variety(answer) -> dict:
    """What would tell that an answer is the same everywhere: "commonest_label_share" of a segmenter's, "count" of detections."""
    if "num_detections" in answer:
        return {"count": int(answer["num_detections"].sum())}
    labels = answer["labels"]
    return {"commonest_label_share": float(np.bincount(labels.ravel()).max() / labels.size)}


def _measures(errors, expected, quantization):
    """What is told of a file.

    "agreement" and "error": of segmenters the labels', and the logits' relative one; of detectors the detections', and pixels of
    their boxes. "commonest_label_share", or "count" of the detections, would tell of an answer that proves little.
    """
    if "detections" not in errors:
        agreement, error = errors["labels"]["agreement"], errors["logits"]["relative_error"]
        return {"agreement": agreement, "error": error, **_variety(expected)}
    found = errors["detections"]
    more = {f"{kind}_agreement": errors[kind]["agreement"] for kind in ("masks", "keypoints") if kind in errors}
    agreement = found["found_again" if quantization else "agreement"]
    error = None if quantization else found["max_box_error"]  # of quantized files few agree
    return {"agreement": agreement, "error": error, "count": found["count"], **more}


def _proves_little(result) -> str:
    if result.get("commonest_label_share", 0) > MAX_SHARE:
        share = f"{result['commonest_label_share']:.1%}"
        return f"the model gives {share} of the pixels one label, which proves little: let it learn for more steps"
    if result.get("count", PICTURES) < PICTURES:
        return f"the model finds {result['count']} objects in {PICTURES} pictures, which proves little: let it learn for more steps"
    return ""


def _shortcoming(form, result) -> dict:
    if reason := _proves_little(result):
        return {"reason": reason}
    found, wanted = "detections", DETECTIONS.get(form, FLOAT_DETECTIONS)
    if "count" not in result:
        found, wanted = "labels", LABELS.get(form, FLOAT_LABELS)
    if not result["agreement"] >= wanted:
        return {"reason": f"only {result['agreement']:.2%} of the {found} equal Keras's"}
    low = [kind for kind in ("masks", "keypoints") if result.get(f"{kind}_agreement", 1) < PARTS.get(form, 0)]
    return {"reason": f"only {result[f'{low[0]}_agreement']:.2%} of the {low[0]} equal Keras's"} if low else {}


# === What is left behind ===


def _write(proofs, output):
    with replacing(output) as draft:
        draft.write_text(json.dumps({name: proofs[name] for name in sorted(proofs)}, indent=1) + "\n")


def _in_words(result):
    if not result["proved"]:
        return f"NOT proved: {result['reason']}"
    what = "detections" if "count" in result else "labels"
    return f"proved in {result['seconds']} s; {result['agreement']:.3%} of the {what} are equal, error {_error(result)}"


def _error(result):
    return "-" if result["error"] is None else f"{result['error']:.1e}"


TABLE = """\
# Every model in every format

Written by `python -m tfzoo.benchmarks.proofs --table {place}` (with `--as-it-is`, from what was measured already). A narrow model
of each name (so that all of them take hours, not days) learned {pictures} drawn pictures of {size} by heart, in {steps} steps of
`fit`; how well it answers them is under its name. Each file made from it was then compared with Keras on these pictures.

- Agreement: the share of a segmenter's labels that equal Keras's, or of a detector's detections that do (label, box within 0.1 px,
  score within 1e-3); of quantized files of detectors, the share of Keras's objects that are found again (same label, IoU 0.5).
  Narrow models lose more by quantization than wide ones.
- Error: a segmenter's logits, norm of the difference over norm; a detector's boxes, pixels, the largest of those that agree.
- ms: of one picture of {size} in one thread (SavedModel: in those that TensorFlow has), the median of {rounds} runs, in turn with
  the model's other files of the same run; on the machine that made the table, with whatever else it did. -: not timed so.
- int8: the network in integers; decisions, decoding and NMS in float.
- A star: measured on files of an earlier revision of the exporter, whose graphs are not in all details those of today.

| model | format | operators (kinds) | MB | agreement | error | ms | if not proved, why |
|---|---|---|---|---|---|---|---|
"""


def format_table(proofs, place) -> str:
    """All results, for people (Markdown)."""
    lines = []
    for name in list_models():
        proof = proofs.get(name, {})
        formats = proof.get("formats", {})
        for form in FORMATS:
            result = formats.get(form, {"reason": "not run yet"})
            star = "*" if "bytes" in result and not _is_current(result) else ""
            lines.append(f"| `{name}` | {form}{star} | {_cells(result)} |")
        lines.append(f"| learned: {learned_in_words(proof) or '-'} | | | | | | | |")
    size = "x".join(map(str, IMAGE_SIZE))
    return TABLE.format(place=place, steps=STEPS, size=size, pictures=PICTURES, rounds=ROUNDS) + "\n".join(lines) + "\n"


def _cells(result):
    if "bytes" not in result:
        return f"- | - | - | - | - | {result['reason']}"
    operators = f"{sum(result['operators'].values())} ({len(result['operators'])})"
    milliseconds = f"{result['latency_ms']:.1f}" if "latency_ms" in result else "-"
    numbers = f"{result['bytes'] / 1e6:.2f} | {result['agreement']:.2%} | {_error(result)} | {milliseconds}"
    return f"{operators} | {numbers} | {result.get('reason', '')}"


def main(arguments=None) -> int:
    """Returns 1 if something was not proved; exits with 2 if a name is wrong."""
    parser = argparse.ArgumentParser(prog="python -m tfzoo.benchmarks.proofs", description="Prove every model's exports.")
    parser.add_argument("name", nargs="*", help="default: all models")
    parser.add_argument("--output", default=PROOFS_FILE, help=f"default: {PROOFS_FILE.name} in the package")
    parser.add_argument("--steps", type=int, default=STEPS, help=f"of training before the exports (default: {STEPS})")
    parser.add_argument("--formats", nargs="+", choices=FORMATS, default=FORMATS, help="default: all of them")
    parser.add_argument("--again", action="store_true", help="prove anew what was measured already")
    parser.add_argument("--table", metavar="FILE", help="write all that is known by then as a page (Markdown)")
    parser.add_argument("--as-it-is", action="store_true", help="prove nothing: with --table, the page of what is known already")
    args = parser.parse_args(arguments)
    if args.as_it_is:
        return _write_known(args, parser)
    try:
        proofs = prove(args.name, args.output, args.steps, args.again, args.formats)
    except InputError as error:
        parser.error(str(error))
    if args.table:
        pathlib.Path(args.table).write_text(format_table(proofs, args.table))
    names = args.name or list_models()
    failed = [f"{name} {form}" for name in names for form, r in proofs[name]["formats"].items() if not r["proved"]]
    if failed:
        print(f"Not proved: {', '.join(failed)}.", file=sys.stderr)
    return 1 if failed else 0


def _write_known(args, parser):
    if not args.table or args.name or not pathlib.Path(args.output).is_file():
        parser.error("--as-it-is writes a page of all models: give --table FILE, no names, and an --output that is there.")
    pathlib.Path(args.table).write_text(format_table(json.loads(pathlib.Path(args.output).read_text()), args.table))
    return 0


if __name__ == "__main__":
    sys.exit(main())
