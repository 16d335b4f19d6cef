"""``tfzoo demo``: everything once, on drawn shapes: train, evaluate, export, prove, time, show."""

import base64
import dataclasses
import html
import json
import pathlib
import shutil

import numpy as np

from tfzoo.benchmarks import accuracy, speed
from tfzoo.benchmarks.comparison import locate
from tfzoo.data import load_dataset
from tfzoo.errors import InputError
from tfzoo.export import export, load, verify
from tfzoo.training import Recipe, train
from tfzoo.training.callbacks import DRAWN_SCORE
from tfzoo.training.settings import SETTINGS
from tfzoo.visualization import comparison, contact_sheet, draw_boxes, draw_found, save_image
from tfzoo.weights import load_model
from tfzoo.zoo import find_entry

EXPORTS = {  # file: format, quantization
    "saved_model": ("savedmodel", None),
    "model.onnx": ("onnx", None),
    "model.tflite": ("tflite", None),
    "model_float16.tflite": ("tflite", "float16"),
    "model_dynamic.tflite": ("tflite", "dynamic"),
    "model_int8.tflite": ("tflite", "int8"),
}
DRAWN = "model_int8.tflite"  # whose answers are shown


@dataclasses.dataclass(frozen=True)
class Plan:
    """What the demonstration of one task trains, and how it is told.

    Attributes:
        model, options: of the zoo. size: (height, width) of the drawn pictures.
        recipe: settings of the training, beside epochs and seed.
        epochs: unless others are given.
        metric, title: where the accuracy is in an evaluation's result (see ``comparison.locate``), and what people call it.
        class_metric: the same of each class; None where that is a number itself.
        said: a phrase for the training. hint: the command for data of one's own.
    """

    model: str
    options: dict
    size: tuple[int, int]
    recipe: dict
    epochs: int
    metric: str
    title: str
    class_metric: str | None
    said: str
    hint: str

    @property
    def data(self):
        return "shapes:{}x{}".format(*self.size)


PLANS = {
    "semantic": Plan(
        model="unet",
        options={"width_multiplier": 0.25, "depth": 4, "dropout": 0.0},
        size=(64, 64),
        recipe={
            "learning_rate": 3e-3,
            "class_weights": "median",  # without, the network takes epochs to find out that there is more than background
            "scale": (1.0, 1.0),
            "picture_epochs": 4,
        },
        epochs=8,
        metric="mean_iou",
        title="mean IoU",
        class_metric=None,
        said="a small U-Net",
        hint="tfzoo train unet --data masks:DIR --output runs/mine --image-size 256 --option width_multiplier=0.25",
    ),
    "detection": Plan(
        model="yolov2_darknet19",
        options={
            "width_multiplier": 0.125,
            "anchor_sizes": ((40, 41), (51, 48), (56, 58), (67, 65), (78, 79)),  # tfzoo data inspect shapes --anchors 5
        },
        size=(128, 128),
        recipe={
            "learning_rate": 2e-3,
            "scale": (1.0, 1.0),
            "flip": "horizontal_and_vertical",
            "brightness": 0.0,  # each shape is drawn in a colour of its own
            "contrast": 0.0,
            "saturation": 0.0,
            "picture_epochs": 0,
        },
        epochs=12,
        metric="AP50",
        title="AP50",
        class_metric="AP50",
        said="a small YOLOv2",
        hint="tfzoo train ssd300_vgg16 --data coco:DIR --output runs/mine --image-size 300 "
        "--option width_multiplier=0.25 --option batch_norm=True",
    ),
    "instance": Plan(
        model="maskrcnn_mobilenetv2_fpn",
        options={
            "width_multiplier": 0.25,
            "box_batch_size_per_image": 32,
            "box_detections_per_img": 20,
            "rpn_pre_nms_top_n_train": 300,
            "rpn_post_nms_top_n_train": 200,
            "rpn_pre_nms_top_n_test": 300,
            "rpn_post_nms_top_n_test": 100,
        },
        size=(128, 128),
        recipe={
            "batch_size": 8,
            "learning_rate": 2e-3,
            "scale": (1.0, 1.0),
            "flip": "horizontal_and_vertical",
            "brightness": 0.0,
            "contrast": 0.0,
            "saturation": 0.0,
            "picture_epochs": 0,
        },
        epochs=5,
        metric="masks AP50",
        title="AP50 of masks",
        class_metric="AP50",
        said="a small Mask R-CNN",
        hint="tfzoo train maskrcnn_mobilenetv2_fpn --data coco:DIR --output runs/mine --image-size 256 --batch-size 2",
    ),
}


def find_plan(task: str) -> Plan:
    """Returns what the demonstration of a task trains; a task without one is an InputError."""
    if task not in PLANS:
        raise InputError(f"There is no demonstration of the task '{task}': it is one of {', '.join(PLANS)}.")
    return PLANS[task]


def demo(output, task="semantic", epochs=None, seed=0) -> dict:
    """Runs the demonstration and leaves report.html, results.json, the model and its exports in a folder.

    Args:
        output: folder that exists.
        task: "semantic", "detection" or "instance".
        epochs, seed: of the training; the same seed gives the same accuracies. None: the task's own number of epochs.

    Returns:
        what results.json holds.

    Raises:
        InputError: there is no demonstration of the task.
    """
    plan, output = find_plan(task), pathlib.Path(output)
    _remove_earlier_training(output / "training", *(known.data for known in PLANS.values()))
    print(f"1. Training {plan.said} on drawn shapes, {plan.size[0]}x{plan.size[1]}")
    recipe = Recipe.for_task(task, epochs=epochs or plan.epochs, image_size=plan.size, seed=seed, **plan.recipe)
    best = train(plan.model, plan.data, output / "training", recipe, options=plan.options)

    print("\n2. Exporting, and comparing each file with Keras")
    model = load_model(best)
    rows, paths = [{"file": best, "report": None}], [best]
    for name, (format, quantization) in EXPORTS.items():
        report = export(model, output / "exports" / name, format, quantization, calibration=plan.data)
        print(f"   {report}\n")
        rows.append({"file": pathlib.Path(report.path), "report": report})
        paths.append(report.path)

    print("3. Evaluating every file on pictures that the training has not seen, and timing them in turn")
    timings = speed.measure(paths)
    for row, timing in zip(rows, timings, strict=True):
        row["timing"] = timing
        row["result"] = accuracy.evaluate(row["file"], plan.data, "test", plan.size)
    speed.plot(timings, output / "speed.png")
    DRAW[task](plan, output)
    results = {"seed": seed, "epochs": recipe.epochs, "task": task, "rows": [_summarize(plan, row) for row in rows]}
    (output / "results.json").write_text(json.dumps(results, indent=1))
    (output / "table.md").write_text(format_table(results) + "\n")
    (output / "report.html").write_text(_report(plan, results, output), encoding="utf-8")
    print("\n" + format_table(results))
    print(NEXT.format(report=output / "report.html", best=best, hint=plan.hint))
    return results


def _remove_earlier_training(folder, *specs):
    """Makes room for the training after an earlier one, even interrupted, on one of these data sets; any other folder stays."""
    settings = folder / SETTINGS
    if settings.is_file() and json.loads(settings.read_text())["data"] in specs:
        shutil.rmtree(folder)


NEXT = """
Open {report}.

Next, with pictures of your own:
  {hint}
  tfzoo evaluate runs/mine/best.keras --data DATA --split val
  tfzoo export runs/mine/best.keras --output mine.tflite
  tfzoo predict mine.tflite PICTURE.jpg --output found
  ('tfzoo train --help' tells how DATA is laid out)"""


def _summarize(plan, row):
    report, result, timing = row["report"], row["result"], row["timing"]
    parity = report.parity if report else {}
    result, metric = locate(result, plan.metric)
    return {
        "file": row["file"].name,
        "format": timing.format,
        "megabytes": timing.bytes / 1e6,
        "median_ms": timing.median,
        plan.metric: result[metric],
        "per_class": {
            name: value[plan.class_metric] if plan.class_metric else value for name, value in result["per_class"].items()
        },
        "label_agreement": report.label_agreement if report else None,
        "score_error": parity.get("scores", {}).get("max_abs_error", parity.get("detections", {}).get("max_score_error")),
    }


def format_table(results) -> str:
    """The demonstration's table (Markdown)."""
    plan = PLANS[results["task"]]
    same = "labels equal to Keras"
    if results["task"] != "semantic":
        same = f"detections equal to Keras ({verify.SAME_BOX} px, score {verify.SAME_SCORE})"
    lines = [
        f"| file | format | MB | ms a picture | {plan.title} | {same} | largest score error |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in results["rows"]:
        agreement = "" if row["label_agreement"] is None else f"{row['label_agreement']:.4%}"
        error = "" if row["score_error"] is None else f"{row['score_error']:.1e}"
        measured = f"{row['megabytes']:.2f} | {row['median_ms']:.1f} | {row[plan.metric]:.4f}"
        lines.append(f"| {row['file']} | {row['format']} | {measured} | {agreement} | {error} |")
    return "\n".join(lines)


def _draw_label_maps(plan, output):
    """Test pictures beside truth and what the last file answers."""
    dataset = load_dataset(plan.data, "test")
    samples = [dataset.read(index) for index in range(4)]
    images = np.stack([sample["images"] for sample in samples])
    labels = load(output / "exports" / DRAWN).predict(images)["labels"]
    truth = [sample["segmentation_masks"][..., 0] for sample in samples]
    titles = ("picture", "truth", DRAWN)
    save_image(comparison(images, truth, labels, dataset.class_names, titles), output / "examples.png")


def _draw_boxes(plan, output):
    """Test pictures with the boxes (and masks) of the truth, and beside each what the last file finds and is sure of."""
    dataset = load_dataset(plan.data, "test", find_entry(plan.model).task)
    samples = [dataset.read(index) for index in range(6)]
    answers = load(output / "exports" / DRAWN).predict(np.stack([sample["images"] for sample in samples]))
    pictures = []
    for index, sample in enumerate(samples):
        truth, answer = sample["bounding_boxes"], {name: values[index] for name, values in answers.items()}
        masks = sample.get("instance_masks")
        pictures.append(draw_boxes(sample["images"], truth["boxes"], truth["labels"], dataset.class_names, masks=masks))
        pictures.append(draw_found(sample["images"], answer, dataset.class_names, DRAWN_SCORE))
    titles = ["truth", f"{DRAWN}, from a score of {DRAWN_SCORE}"]
    save_image(contact_sheet(pictures, titles * len(samples)), output / "examples.png")


DRAW = {"semantic": _draw_label_maps, "detection": _draw_boxes, "instance": _draw_boxes}


def _report(plan, results, output):
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
        said=plan.said,
        title=plan.title,
        drawn=DRAWN,
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
<p>{said}, trained for {epochs} epochs on drawn shapes (seed {seed}), exported to every format. Each file was run in its
own runtime: TensorFlow, LiteRT, ONNX Runtime. Accuracy is measured on the file itself, on 150 pictures that the training has not
seen.</p>
{table}
<h2>What {drawn} sees</h2><img src="{examples}" alt="pictures, truth and the answer of the file">
<h2>Time for one picture</h2><img src="{speed}" alt="bars: milliseconds for each file">
<h2>{title} of each class</h2>
{classes}
</html>
"""
