"""Which arguments each command has, with their help."""

import argparse

from tfzoo import __version__
from tfzoo.cli import commands, values

SERVE_RUN, SERVE_EXPORT = "run", "export"
SPECS = "shapes, masks:DIR, coco:DIR, voc:DIR, yolo:DIR or tfrecord:DIR"
AUGMENTATIONS = (  # fields of the recipe: type, default, explanation
    ("rotation", float, "0", "degrees: turn by up to so much, either way; segmenters only"),
    ("translation", float, "0", "share of the side: shift by up to so much, either way; segmenters only"),
    ("elastic", float, "0", "pixels: standard deviation of U-Net's elastic deformation (there 10); segmenters only"),
    ("elastic_grid", int, "3", "points along each side at which the deformation is drawn (there 3)"),
    ("crop", float, "1", "part of the picture: share of the sides of --image-size that training pictures are"),
    ("brightness", float, "0.15", "0 to 1"),
    ("contrast", float, "0.2", "0 to 1"),
    ("saturation", float, "0; detectors: 0.2", "0 to 1"),
    ("hue", float, "0", "0 to 1"),
    ("zoom_out", float, "1", "factor from 1: SSD's larger canvas around every other picture (there 4); detectors only"),
    ("mosaic", float, "0", "share of pictures that are put together from four; detectors only"),
    ("max_objects", int, "all", "choice of so many objects where a training picture has more; detectors only"),
)


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tfzoo",
        description="Keras models for dense vision that train with fit, and exports that are proved.",
        **_example("tfzoo demo --output demo"),
    )
    parser.add_argument("--version", action="version", version=f"tfzoo {__version__}")
    parser.set_defaults(group=parser)
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND")
    _add_demo(subparsers)
    _add_models(subparsers)
    _add_train(subparsers)
    _add_evaluate(subparsers)
    _add_predict(subparsers)
    _add_export(subparsers)
    _add_serve(subparsers)
    _add_data_commands(subparsers)
    _add_benchmark(subparsers)
    return parser


def _command(subparsers, name, run, help, example, **defaults):
    parser = subparsers.add_parser(name, help=help, description=help, **_example(example))
    parser.set_defaults(run=run, **defaults)
    return parser


def _example(command):
    return {"epilog": f"example:\n  {command}", "formatter_class": argparse.RawDescriptionHelpFormatter}


def _group(subparsers, name, help, example, **options):
    parser = subparsers.add_parser(name, help=help, description=help, **_example(example), **options)
    parser.set_defaults(group=parser)
    return parser.add_subparsers(title="commands", metavar="COMMAND", prog=parser.prog)


def _add_demo(subparsers):
    parser = _command(
        subparsers,
        "demo",
        commands.run_demo,
        "Train, evaluate, export, verify, time and draw, on drawn shapes.",
        "tfzoo demo --output demo",
    )
    parser.add_argument("--task", default="semantic", help="semantic (default), detection or instance")
    parser.add_argument("--output", default="tfzoo-demo", help="folder for the report (default: tfzoo-demo)")
    parser.add_argument("--epochs", type=values.count, help="default: 8; detection: 12, instance: 5")
    parser.add_argument("--seed", type=values.seed, default=0, help="the same seed gives the same accuracies")
    _add_overwrite(parser)


def _add_models(subparsers):
    parser = _command(
        subparsers,
        "models",
        commands.run_models,
        "List the models, or tell all of one.",
        "tfzoo models --task semantic",
        tensorflow=False,
    )
    parser.add_argument("name", nargs="?", metavar="MODEL", help="tell all that is known of this one, its options too")
    parser.add_argument("--task", help="semantic, detection, instance or keypoint")
    parser.add_argument("--json", action="store_true", help="print JSON")


def _add_train(subparsers):
    parser = _command(
        subparsers,
        "train",
        commands.run_train,
        "Train a model: checkpoints, logs and pictures go into a folder.",
        "tfzoo train unet --data masks:DIR --output runs/unet --epochs 90 --image-size 192x256 --option width_multiplier=0.25",
        when_interrupted="Go on with the same command and --resume, if {output} holds a last.keras.",
    )
    parser.add_argument("model", metavar="MODEL", help="a name that 'tfzoo models' lists")
    _add_data(parser)
    parser.add_argument("--output", required=True, help="folder; it must be empty or new")
    left_out = argparse.SUPPRESS  # the recipe has defaults of its own
    parser.add_argument(
        "--epochs", type=values.count, default=left_out, help="default: 50, or what the resumed training began with"
    )
    parser.add_argument(
        "--minutes", type=float, default=left_out, help="end after so long, if --epochs do not; the learning rate falls until then"
    )
    parser.add_argument("--batch-size", type=values.count, default=left_out, help="default: 8")
    _add_image_size(parser)
    parser.add_argument(
        "--weights",
        help="imagenet, voc, coco, what ships with the package ('tfzoo models MODEL' lists them), a file, or backbone:FILE.keras "
        "for the backbone of another model",
    )
    parser.add_argument(
        "--option", type=values.option, action="append", default=[], metavar="KEY=VALUE", help="an option of the model; repeatable"
    )
    parser.add_argument("--learning-rate", type=float, default=left_out, help="default: 0.002; detectors: 0.001")
    parser.add_argument(
        "--loss",
        default=left_out,
        help="cross_entropy (default), focal, dice, lovasz, or a sum such as cross_entropy+dice; segmenters only",
    )
    parser.add_argument(
        "--class-weights",
        choices=("none", "median", "inverse"),
        default=left_out,
        help="median or inverse frequency balancing; segmenters only",
    )
    parser.add_argument(
        "--scale",
        type=float,
        nargs=2,
        default=left_out,
        metavar=("LOW", "HIGH"),
        help="random scale; 1 1 turns it off (default: 0.75 1.75; detectors: 0.6 1.6)",
    )
    parser.add_argument(
        "--flip",
        choices=("horizontal", "vertical", "horizontal_and_vertical", "none"),
        default=left_out,
        help="default: horizontal",
    )
    for name, kind, default, explanation in AUGMENTATIONS:
        flag = f"--{name.replace('_', '-')}"
        parser.add_argument(flag, type=kind, default=left_out, help=f"random {explanation} (default: {default})")
    parser.add_argument("--iou-crop", action="store_true", default=left_out, help="SSD's random crop; detectors only")
    parser.add_argument("--precision", choices=("float32", "mixed_bfloat16", "mixed_float16"), default=left_out)
    parser.add_argument(
        "--several-sizes",
        nargs="+",
        default=left_out,
        metavar="N|HxW",
        help="every ten batches have another one of these sizes; detectors of boxes only",
    )
    _add_proposals_folder(parser)
    parser.add_argument("--train-split", help="default: train, or what the resumed training began with")
    parser.add_argument("--val-split", help="default: val, likewise; 'none' trains without one")
    parser.add_argument(
        "--picture-epochs", type=int, default=left_out, help="write a picture every so many epochs; 0: never (default: 10)"
    )
    parser.add_argument("--seed", type=values.seed, default=left_out, help="default: 0")
    parser.add_argument(
        "--resume",
        action="store_true",
        help="go on with the training in the output folder, as it began; only --epochs and --minutes may be others",
    )


def _add_evaluate(subparsers):
    parser = _command(
        subparsers,
        "evaluate",
        commands.run_evaluate,
        "Measure the accuracy of an artifact.",
        "tfzoo evaluate model_int8.tflite --data masks:DIR --split test --image-size 192x256",
    )
    _add_artifact(parser)
    _add_data(parser)
    parser.add_argument("--split", default="val")
    _add_image_size(parser)
    _add_tile(parser)
    parser.add_argument("--threads", type=values.count)
    parser.add_argument("--json", metavar="FILE", help="write the result as JSON")
    parser.add_argument(
        "--output",
        metavar="DIR",
        help="folder for result.json, table.md, and confusion.png and the worst pictures or precision_recall.png",
    )
    parser.add_argument(
        "--worst", type=values.count, default=0, metavar="N", help="segmenters: draw the N pictures of the lowest mean IoU"
    )
    parser.add_argument(
        "--segments",
        metavar="CLASS",
        help="segmenters: also the Rand error of this class's connected regions, such as cells between membranes",
    )
    _add_max_detections(parser)
    _add_proposals_folder(parser)
    _add_overwrite(parser)


def _add_predict(subparsers):
    parser = _command(
        subparsers,
        "predict",
        commands.run_predict,
        "Write pictures with what was found, and a JSON.",
        "tfzoo predict model.tflite street.jpg --output found",
    )
    _add_artifact(parser)
    parser.add_argument("image", nargs="+", metavar="IMAGE")
    parser.add_argument("--output", required=True, help="folder; it must be empty or new")
    parser.add_argument(
        "--min-score",
        type=values.share,
        default=0.3,
        metavar="S",
        help="draw boxes from this score up (default: 0.3)",
    )
    parser.add_argument(
        "--proposals",
        metavar="SOURCE",
        help="Fast R-CNN: selective_search, a two-stage model's .keras file, or an .npz file: file's name without ending -> boxes",
    )
    _add_image_size(parser)
    _add_tile(parser)
    parser.add_argument("--threads", type=values.count)
    _add_overwrite(parser)


def _add_export(subparsers):
    parser = _command(
        subparsers,
        "export",
        commands.run_export,
        "Export a model, and prove that the file answers what the model answers.",
        "tfzoo export runs/unet/best.keras --output unet.tflite --quantize int8 --calibration masks:DIR",
    )
    parser.add_argument("artifact", metavar="ARTIFACT", help=".keras file, or a model name with --weights")
    parser.add_argument(
        "--output", required=True, metavar="FILE-OR-DIR", help="x.tflite, x.onnx, x.xml (OpenVINO), or a folder for a SavedModel"
    )
    parser.add_argument(
        "--format", choices=("savedmodel", "tflite", "onnx", "openvino"), help="if the name of the output does not tell"
    )
    parser.add_argument("--quantize", metavar="HOW", help="int8, float16, dynamic or full_int8 (TFLite)")
    parser.add_argument(
        "--calibration", metavar="SPEC", help="data set whose pictures set int8 ranges, and are compared (default: shapes)"
    )
    _add_image_size(parser, "; 'any' for files of any size (not TFLite)")
    parser.add_argument("--batch-size", type=values.count, default=1, help="of a TFLite file; the others take any")
    parser.add_argument("--raw", action="store_true", help="answer logits, or a detector's heads")
    parser.add_argument("--float-input", action="store_true", help="take pictures as float32, 0 to 255, not as bytes")
    parser.add_argument(
        "--proposals",
        type=values.count_or_any,
        metavar="N",
        help="Fast R-CNN: so many a picture, or 'any', but for TFLite (default: any; TFLite: 300)",
    )
    parser.add_argument(
        "--debug-quantization", metavar="FILE", help="with int8: write what every tensor loses (CSV), and show the worst ones"
    )
    _add_bound(parser, "--time-limit", "SECONDS", "takes longer (default: an hour)")
    _add_bound(parser, "--memory-limit", "GB", "holds more (Linux; default: 0.8 of the machine's memory)")
    parser.add_argument("--json", metavar="FILE", help="write the report as JSON")
    parser.add_argument("--weights", help="with a model name: which weights")
    _add_overwrite(parser)


def _add_serve(subparsers):
    group = _group(
        subparsers,
        "serve",
        "Answer requests from an artifact, or deploy a model behind TensorFlow Serving.",
        "tfzoo serve model.tflite --name shapes --port 8501",
        usage="tfzoo serve ARTIFACT [OPTION ...], whose options 'tfzoo serve run --help' tells; or tfzoo serve COMMAND ...",
    )
    parser = _command(
        group,
        SERVE_RUN,
        commands.run_serve,
        "Answer TensorFlow Serving's REST requests from any artifact, on this machine; 'run' may be left out.",
        "tfzoo serve model.tflite --name shapes --port 8501",
    )
    _add_artifact(parser)
    parser.add_argument("--name", help="the model's name in requests (default: its name in the zoo)")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at (default: 127.0.0.1, this machine alone)")
    parser.add_argument("--port", type=values.port, default=8501, help="default: 8501; 0: any that is free")
    parser.add_argument("--threads", type=values.count, help="of the file's runtime (default: as many as there are cores)")
    _add_image_size(parser)

    parser = _command(
        group,
        SERVE_EXPORT,
        commands.run_serve_export,
        "Write a new version of a model into a repository that TensorFlow Serving watches.",
        "tfzoo serve export runs/unet/best.keras --repository served --name unet",
    )
    parser.add_argument("artifact", metavar="ARTIFACT", help=".keras file, or a model name with --weights")
    parser.add_argument("--repository", required=True, metavar="DIR")
    parser.add_argument("--name", required=True, help="the model's name in requests")
    parser.add_argument("--weights", help="with a model name: which weights")
    _add_image_size(parser)


def spell_out(words) -> list[str]:
    """``serve ARTIFACT`` is short for ``serve run ARTIFACT``."""
    short = words[:1] == ["serve"] and words[1:] and words[1] not in (SERVE_RUN, SERVE_EXPORT, "-h", "--help")
    return ["serve", SERVE_RUN, *words[1:]] if short else words


def _add_data_commands(subparsers):
    group = _group(
        subparsers,
        "data",
        "Look at labelled pictures, and prepare them.",
        "tfzoo data inspect coco:DIR --split train --output inspected",
    )
    parser = _command(
        group,
        "inspect",
        commands.run_data_inspect,
        "Count pictures, classes and boxes, find odd boxes, and draw a contact sheet.",
        "tfzoo data inspect coco:DIR --split train --output inspected",
    )
    _add_spec(parser)
    parser.add_argument("--task", help="semantic, detection, instance or keypoint (default: the first that the data set has)")
    parser.add_argument("--output", metavar="DIR", help="folder for inspection.json, table.md and contact.png")
    parser.add_argument("--anchors", type=values.count, metavar="N", help="also find N sizes of anchors that fit the boxes")
    _add_image_size(parser, ", for --anchors")
    _add_overwrite(parser)

    parser = _command(
        group,
        "convert",
        commands.run_data_convert,
        "Write a split as TFRecord files: few large ones in place of many small ones, read as tfrecord:DIR.",
        "tfzoo data convert coco:DIR --split train --task instance --output converted",
    )
    _add_spec(parser)
    parser.add_argument("--task", help="whose labels are written (default: the first that the data set has)")
    parser.add_argument("--output", required=True, metavar="DIR", help="folder; other splits of the same data set may be in it")
    parser.add_argument(
        "--shard-megabytes", type=values.count, default=128, metavar="N", help="begin another file from this size (default: 128)"
    )
    _add_overwrite(parser)

    parser = _command(
        group,
        "proposals",
        commands.run_data_proposals,
        "Find what Fast R-CNN looks at, and how many of the boxes it covers.",
        "tfzoo data proposals --data coco:DIR --split train --output proposals",
    )
    _add_data(parser)
    parser.add_argument("--split", default="train")
    parser.add_argument("--output", required=True, metavar="DIR", help="folder for SPLIT.npz, one file for each split")
    parser.add_argument(
        "--method",
        default="selective_search",
        metavar="HOW",
        help="selective_search (default; needs OpenCV: the package's extra 'proposals'), or a two-stage model's .keras file",
    )
    parser.add_argument("--count", type=values.count, default=1000, metavar="N", help="keep so many a picture (default: 1000)")
    _add_image_size(parser, ", while they are searched")
    parser.add_argument("--json", metavar="FILE", help="write what is printed as JSON")
    _add_overwrite(parser)


def _add_benchmark(subparsers):
    group = _group(
        subparsers,
        "benchmark",
        "Compare artifacts: speed, or accuracy.",
        "tfzoo benchmark speed model.tflite model.onnx --output speed",
    )
    parser = _command(
        group,
        "speed",
        commands.run_benchmark_speed,
        "Time artifacts in turn: median and quartiles.",
        "tfzoo benchmark speed model.tflite model_int8.tflite model.onnx --output speed",
    )
    parser.add_argument("artifact", nargs="+", metavar="ARTIFACT")
    _add_image_size(parser)
    parser.add_argument("--batch-size", type=values.count, default=1)
    parser.add_argument("--threads", type=values.count, help="default: as many as there are cores")
    parser.add_argument("--rounds", type=values.count, default=30, help="timed runs of each (default: 30)")
    parser.add_argument("--output", metavar="DIR", help="folder for speed.md, speed.json, speed.png")
    _add_overwrite(parser)

    parser = _command(
        group,
        "accuracy",
        commands.run_benchmark_accuracy,
        "Measure artifacts on the same pictures, and show them side by side.",
        "tfzoo benchmark accuracy best.keras model.onnx model_int8.tflite --data masks:DIR --split test --output accuracy",
    )
    parser.add_argument("artifact", nargs="+", metavar="ARTIFACT", help="of one task")
    _add_data(parser)
    parser.add_argument("--split", default="val")
    _add_image_size(parser)
    parser.add_argument("--threads", type=values.count, help="default: as many as there are cores")
    _add_max_detections(parser)
    _add_proposals_folder(parser)
    parser.add_argument("--output", metavar="DIR", help="folder for accuracy.md, accuracy.json, accuracy.png")
    _add_overwrite(parser)


def _add_artifact(parser):
    kinds = ".keras, .tflite, .onnx or .xml file, the folder of a SavedModel, or a model name with --weights"
    parser.add_argument("artifact", metavar="ARTIFACT", help=kinds)
    parser.add_argument("--weights", help="with a model name: which weights")


def _add_data(parser):
    parser.add_argument("--data", required=True, metavar="SPEC", help=SPECS)


def _add_spec(parser):
    parser.add_argument("data", metavar="SPEC", help=SPECS)
    parser.add_argument("--split", default="train")


def _add_image_size(parser, more=""):
    parser.add_argument("--image-size", metavar="N|HxW", help=f"size of the pictures, such as 256 or 192x256{more}")


def _add_bound(parser, flag, unit, text):
    parser.add_argument(flag, type=values.above_zero, metavar=unit, help=f"stop the conversion to TFLite or ONNX where it {text}")


def _add_max_detections(parser):
    text = "detectors: so many of each class in a picture count (default: 100; keypoints: 20)"
    parser.add_argument("--max-detections", type=values.count, metavar="N", help=text)


def _add_proposals_folder(parser):
    parser.add_argument("--proposals", metavar="DIR", help="Fast R-CNN: the folder that 'tfzoo data proposals' wrote")


def _add_tile(parser):
    parser.add_argument("--tile", metavar="N|HxW", help="run large pictures by overlapping tiles of this size, such as 256")
    parser.add_argument("--overlap", type=int, metavar="M", help="pixels that tiles overlap by (default: a quarter of a tile)")


def _add_overwrite(parser):
    parser.add_argument("--overwrite", action="store_true", help="replace what is there")
