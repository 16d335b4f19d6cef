"""``python -m tfzoo.benchmarks.proofs``: exports every model in every format, and writes down how well the files answer.

A narrow model of each name first learns drawn shapes for some steps, so that its labels differ and are decided. Each file's
answer is then compared with Keras's, on drawn pictures that it was not trained on. What is found goes into export_proofs.json,
which ships with the package and is what ``tfzoo models`` calls proved. Every export runs in a process of its own: TensorFlow's
converter keeps memory, and can end its process. What was proved for the network as it is now is not done again, so that an
interrupted run can be taken up.
"""

import argparse
import concurrent.futures
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
from tfzoo.facts import FORMATS, PROOFS_FILE, default_options, describe
from tfzoo.files import claim_file, replacing
from tfzoo.zoo import find_entry, list_models

IMAGE_SIZE = (96, 128)
DATA = f"shapes:{IMAGE_SIZE[0]}x{IMAGE_SIZE[1]}"
NARROW = {"width_multiplier": 0.125, "batch_norm": True, "dropout": 0.0}  # for the models that have these options
STEPS = 100
BATCH_SIZE = 8
SEED = 0
PICTURES = 8  # that Keras's answer and the file's are compared on
MAX_SHARE = 0.9  # of one label in Keras's answer: a file that answers nothing else would agree as well
MIN_AGREEMENT = dict.fromkeys(FORMATS, 0.999) | {"int8": 0.95}  # share of the labels that must equal Keras's
PLACES = {"savedmodel": "saved", "tflite": "model.tflite", "int8": "model_int8.tflite", "onnx": "model.onnx"}
RUNTIMES = {"savedmodel": (), "tflite": ("ai-edge-litert",), "int8": ("ai-edge-litert",), "onnx": ("tf2onnx", "onnxruntime")}


def prove(names=None, output=PROOFS_FILE, steps=STEPS, again=False, forms=FORMATS) -> dict:
    """Proves the exports of these models (None: all), and writes each result as it comes.

    Args:
        output: JSON file; what it holds already is kept.
        steps: of training, before the exports.
        again: prove anew what was proved already.
        forms: which of ``FORMATS`` to prove.

    Returns:
        the file's content: name -> {"options", "image_size", "network" (its ``Facts``), "formats": form -> result}. A result
        has "proved"; where an export was made "label_agreement", "logits_relative_error", "commonest_label_share",
        "pictures", "bytes"; "error" where not proved; and the versions of the libraries.
    """
    output = claim_file(output, allow_existing=True)
    names = names or list_models()
    entries = {name: find_entry(name) for name in names}
    proofs = json.loads(output.read_text()) if output.exists() else {}
    for number, name in enumerate(names, start=1):
        proof = _begin(name, entries[name], {} if again else proofs.get(name, {}))
        proofs[name] = proof
        todo = [form for form in forms if not proof["formats"].get(form, {}).get("proved")]
        for form, result in _results(name, proof["options"], todo, steps):
            proof["formats"][form] = result
            _write(proofs, output)
            print(f"[{number}/{len(names)}] {name} {form}: {_in_words(result)}", flush=True)
        if not todo:
            print(f"[{number}/{len(names)}] {name}: proved already", flush=True)
    return proofs


def _begin(name, entry, earlier):
    """What was proved before, or a new start if that was for another network."""
    options = {key: value for key, value in NARROW.items() if key in default_options(entry)}
    facts = describe(name, IMAGE_SIZE, num_classes=len(load_dataset(DATA, "train").class_names), **options)
    network = json.loads(json.dumps(dataclasses.asdict(facts)))
    fresh = {"options": options, "image_size": list(IMAGE_SIZE), "network": network, "formats": {}}
    return earlier if all(earlier.get(key) == fresh[key] for key in ("options", "image_size", "network")) else fresh


def _results(name, options, forms, steps):
    if not forms:
        return
    with tempfile.TemporaryDirectory(prefix="tfzoo-proofs-") as folder:
        trained = _in_own_process(train, name, options, folder, steps)
        for form in forms:
            start = time.perf_counter()
            result = trained if "error" in trained else _in_own_process(compare, form, folder)
            seconds = round(time.perf_counter() - start)
            libraries = ("tensorflow", "keras", *RUNTIMES[form])
            versions = {library: importlib.metadata.version(library) for library in libraries}
            yield form, {"proved": "error" not in result, **result, "seconds": seconds, "versions": versions}


def _in_own_process(function, *arguments) -> dict:
    """The dict that ``function`` returns, or {"error": ...} where it raises or its process dies."""
    with concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as executor:
        try:
            return executor.submit(function, *arguments).result()
        except BrokenProcessPool:
            return {"error": "the process died"}
        except Exception as error:
            return {"error": f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0][:300]}"}


# === In a process of its own ===


def train(name, options, folder, steps) -> dict:
    """Trains a model on drawn shapes, and saves it as model.keras."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import keras

    import tfzoo
    from tfzoo.losses import PixelCrossEntropy, inverse_frequency_weights

    keras.utils.set_random_seed(SEED)
    data = load_dataset(DATA, "train")
    model = tfzoo.create_model(name, class_names=data.class_names, image_size=IMAGE_SIZE, **options)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.8  # the steps are few: the moving averages must keep up
    labels = np.concatenate([data.read(index)["segmentation_masks"].ravel() for index in range(64)])
    weights = inverse_frequency_weights(np.bincount(labels, minlength=256)[: len(data.class_names)])
    model.compile(keras.optimizers.Adam(3e-3), loss=PixelCrossEntropy(weights))
    batches = data.batches(BATCH_SIZE, IMAGE_SIZE, training=True, seed=SEED).repeat().take(steps)
    model.fit(batches, shuffle=False, verbose=0)
    model.save(pathlib.Path(folder) / "model.keras")
    return {}


def compare(form, folder) -> dict:
    """Exports the saved model twice, to a file that answers labels and to one of logits, and compares both with Keras."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import tfzoo
    from tfzoo.export import export, load, verify

    folder = pathlib.Path(folder)
    model = tfzoo.load_model(folder / "model.keras")
    test = load_dataset(DATA, "test")
    images = np.stack([test.read(index)["images"] for index in range(PICTURES)])
    quantization = "int8" if form == "int8" else None
    size = IMAGE_SIZE if PLACES[form].endswith(".tflite") else "any"
    errors = {}
    for raw in (True, False):
        path = folder / PLACES[form]
        report = export(model, path, quantization=quantization, calibration=DATA, image_size=size, raw=raw)
        expected = model.deployed(raw=raw).predict(images, verbose=0)
        errors |= verify.compare(verify.run_in_batches(load(path), images), expected)
    result = {
        "label_agreement": errors["labels"]["agreement"],
        "logits_relative_error": errors["logits"]["relative_error"],
        "commonest_label_share": float(np.bincount(expected["labels"].ravel()).max() / expected["labels"].size),
        "pictures": PICTURES,
        "bytes": report.bytes,
    }
    _, limit = verify.limits(None, model.remembers_maxima)["logits"]
    return {**result, **_shortcoming(form, result, limit)}


def _shortcoming(form, result, logits_limit) -> dict:
    if result["commonest_label_share"] > MAX_SHARE:
        share = f"{result['commonest_label_share']:.1%}"
        return {"error": f"the model gives {share} of the pixels one label, which proves little: train it for more steps"}
    if result["label_agreement"] < MIN_AGREEMENT[form]:
        return {"error": f"only {result['label_agreement']:.2%} of the labels equal Keras's"}
    if form != "int8" and not result["logits_relative_error"] <= logits_limit:
        return {"error": f"the logits differ by {result['logits_relative_error']:.1e}"}
    return {}


# === What is left behind ===


def _write(proofs, output):
    with replacing(output) as draft:
        draft.write_text(json.dumps({name: proofs[name] for name in sorted(proofs)}, indent=1) + "\n")


def _in_words(result):
    if not result["proved"]:
        return f"NOT proved: {result['error']}"
    agreement, error = result["label_agreement"], result["logits_relative_error"]
    return f"proved in {result['seconds']} s; {agreement:.3%} of the labels are equal, logits differ by {error:.1e}"


def main(arguments=None) -> int:
    """Returns 1 if something was not proved."""
    parser = argparse.ArgumentParser(prog="python -m tfzoo.benchmarks.proofs", description="Prove every model's exports.")
    parser.add_argument("name", nargs="*", help="default: all models")
    parser.add_argument("--output", default=PROOFS_FILE, help=f"default: {PROOFS_FILE.name} in the package")
    parser.add_argument("--steps", type=int, default=STEPS, help=f"of training before the exports (default: {STEPS})")
    parser.add_argument("--formats", nargs="+", choices=FORMATS, default=FORMATS, help="default: all of them")
    parser.add_argument("--again", action="store_true", help="prove anew what was proved already")
    args = parser.parse_args(arguments)
    proofs = prove(args.name, args.output, args.steps, args.again, args.formats)
    failed = [f"{name} {form}" for name in args.name or proofs for form, r in proofs[name]["formats"].items() if not r["proved"]]
    if failed:
        print(f"Not proved: {', '.join(failed)}.", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
