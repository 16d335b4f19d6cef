"""``tfzoo demo``: everything once, on drawn shapes: train, evaluate, export, prove, time, show."""

import base64
import html
import json
import pathlib
import shutil

import numpy as np

from tfzoo.benchmarks import accuracy, speed
from tfzoo.data import load_dataset
from tfzoo.errors import InputError
from tfzoo.export import export, load
from tfzoo.training import Recipe, train
from tfzoo.training.run import SETTINGS
from tfzoo.visualization import comparison, save_image
from tfzoo.weights import load_model
from tfzoo.zoo import list_models

SIZE = (64, 64)
DATA = "shapes:64x64"
OPTIONS = {"width_multiplier": 0.25, "depth": 4, "dropout": 0.0}
EXPORTS = (
    ("savedmodel", None, "saved_model"),
    ("onnx", None, "model.onnx"),
    ("tflite", None, "model.tflite"),
    ("tflite", "float16", "model_float16.tflite"),
    ("tflite", "dynamic", "model_dynamic.tflite"),
    ("tflite", "int8", "model_int8.tflite"),
)


def demo(output, task="semantic", epochs=8, seed=0) -> dict:
    """Runs the demonstration and leaves report.html, results.json, the model and its exports in a folder.

    Args:
        output: folder that exists.
        task: "semantic".
        epochs, seed: of the training; the same seed gives the same accuracies.

    Returns:
        what results.json holds.

    Raises:
        InputError: the zoo has no models for the task.
    """
    if task != "semantic":
        raise InputError(f"The demonstration is for the task 'semantic'; the zoo has {len(list_models(task))} models for '{task}'.")
    output = pathlib.Path(output)
    _remove_earlier_training(output / "training")
    print(f"1. Training a small U-Net on drawn shapes, {SIZE[0]}x{SIZE[1]}")
    recipe = Recipe(
        epochs=epochs,
        image_size=SIZE,
        learning_rate=3e-3,
        class_weights="median",  # without, the network takes epochs to find out that there is more than background
        scale=(1.0, 1.0),
        picture_epochs=4,
        seed=seed,
    )
    best = train("unet", DATA, output / "training", recipe, options=OPTIONS)

    print("\n2. Exporting, and comparing each file with Keras")
    model = load_model(best)
    rows, paths = [{"file": best, "report": None}], [best]
    for format, quantization, name in EXPORTS:
        report = export(model, output / "exports" / name, format, quantization, calibration=DATA)
        print(f"   {report}\n")
        rows.append({"file": pathlib.Path(report.path), "report": report})
        paths.append(report.path)

    print("3. Evaluating every file on pictures that the training has not seen, and timing them in turn")
    timings = speed.measure(paths)
    for row, timing in zip(rows, timings, strict=True):
        row["timing"] = timing
        row["result"] = accuracy.evaluate(row["file"], DATA, "test", SIZE)
    speed.plot(timings, output / "speed.png")
    _draw_examples(output)
    results = {"seed": seed, "epochs": epochs, "rows": [_summarize(row) for row in rows]}
    (output / "results.json").write_text(json.dumps(results, indent=1))
    (output / "table.md").write_text(format_table(results) + "\n")
    (output / "report.html").write_text(_report(results, output), encoding="utf-8")
    print("\n" + format_table(results))
    print(NEXT.format(report=output / "report.html", best=best))
    return results


def _remove_earlier_training(folder):
    """Makes room for the training, also after a demonstration that was interrupted; anything else in the folder stays."""
    settings = folder / SETTINGS
    if settings.is_file() and json.loads(settings.read_text())["data"] == DATA:
        shutil.rmtree(folder)


NEXT = """
Open {report}.

Next, with pictures of your own (images/, labels/, classes.txt, train.txt, val.txt in DIR):
  tfzoo train unet --data masks:DIR --output runs/mine --image-size 256 --option width_multiplier=0.25
  tfzoo evaluate runs/mine/best.keras --data masks:DIR --split val
  tfzoo export runs/mine/best.keras --output mine.tflite --quantize int8 --calibration masks:DIR
  tfzoo predict mine.tflite PICTURE.jpg --output found
And with the model just trained:
  tfzoo serve export {best} --repository served --name shapes"""


def _summarize(row):
    report, result, timing = row["report"], row["result"], row["timing"]
    parity = report.parity if report else {}
    return {
        "file": row["file"].name,
        "format": timing.format,
        "megabytes": timing.bytes / 1e6,
        "median_ms": timing.median,
        "mean_iou": result["mean_iou"],
        "pixel_accuracy": result["pixel_accuracy"],
        "per_class": result["per_class"],
        "label_agreement": report.label_agreement if report else None,
        "score_error": parity.get("scores", {}).get("max_abs_error"),
    }


def format_table(results) -> str:
    """The demonstration's table (Markdown)."""
    lines = [
        "| file | format | MB | ms a picture | mean IoU | labels equal to Keras | largest score error |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in results["rows"]:
        agreement = "" if row["label_agreement"] is None else f"{row['label_agreement']:.4%}"
        error = "" if row["score_error"] is None else f"{row['score_error']:.1e}"
        measured = f"{row['megabytes']:.2f} | {row['median_ms']:.1f} | {row['mean_iou']:.4f}"
        lines.append(f"| {row['file']} | {row['format']} | {measured} | {agreement} | {error} |")
    return "\n".join(lines)


def _draw_examples(output):
    """Test pictures beside truth and what the int8 file, the smallest one, answers."""
    dataset = load_dataset(DATA, "test")
    samples = [dataset.read(index) for index in range(4)]
    images = np.stack([sample["images"] for sample in samples])
    labels = load(output / "exports" / "model_int8.tflite").predict(images)["labels"]
    truth = [sample["segmentation_masks"][..., 0] for sample in samples]
    titles = ("picture", "truth", "int8 TFLite file")
    save_image(comparison(images, truth, labels, dataset.class_names, titles), output / "examples.png")


def _report(results, output):
    head, _, *rows = (line.strip("|").split("|") for line in format_table(results).splitlines())
    classes = list(results["rows"][0]["per_class"])
    return _PAGE.format(
        table=_html_table(head, rows),
        classes=_html_table(
            ["file", *classes], [[row["file"], *(f"{row['per_class'][name]:.4f}" for name in classes)] for row in results["rows"]]
        ),
        examples=_embed(output / "examples.png"),
        speed=_embed(output / "speed.png"),
        epochs=results["epochs"],
        seed=results["seed"],
    )


def _html_table(head, rows):
    def line(cells, tag):
        return "<tr>" + "".join(f"<{tag}>{html.escape(cell.strip())}</{tag}>" for cell in cells) + "</tr>"

    return "<table>" + line(head, "th") + "".join(line(row, "td") for row in rows) + "</table>"


def _embed(path):
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()


_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>tfzoo demo</title>
<style>body{{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}}
table{{border-collapse:collapse;margin:1rem 0}}td,th{{padding:.3rem .8rem;border-bottom:1px solid #ddd;text-align:right}}
td:first-child,th:first-child{{text-align:left}}img{{max-width:100%}}</style>
<h1>From labelled pictures to a phone file</h1>
<p>A small U-Net, trained for {epochs} epochs on drawn shapes (seed {seed}), exported to every format. Each file was run in its
own runtime: TensorFlow, LiteRT, ONNX Runtime. Accuracy is measured on the file itself, on 150 pictures that the training has not
seen.</p>
{table}
<h2>What the int8 file sees</h2><img src="{examples}" alt="pictures, truth and the answer of the int8 file">
<h2>Time for one picture</h2><img src="{speed}" alt="bars: milliseconds for each file">
<h2>IoU of each class</h2>
{classes}
</html>
"""
