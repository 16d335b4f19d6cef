"""The ``tfzoo`` command: the one front door. Each command imports what it needs when it runs."""

import argparse
import ast
import contextlib
import json
import os
import signal
import sys
import threading
import traceback

from tfzoo.errors import ExportError, InputError, find_sentence

BAD_INPUT, FAILED, INTERRUPTED = 2, 1, 130


def main(arguments=None) -> int:
    """Runs a command and returns its exit status: 2 for bad input, with one sentence on standard error."""
    parser = build_parser()
    args = parser.parse_args(arguments)
    if not hasattr(args, "run"):
        args.group.print_help()
        return BAD_INPUT
    try:
        with _terminating_interrupts(), _quiet_tensorflow(args):
            args.run(args)
        return 0
    except KeyboardInterrupt:
        print(f"\nInterrupted. {getattr(args, 'when_interrupted', '').format(**vars(args))}".rstrip(), file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        sys.stderr.close()
        return FAILED
    except Exception as error:
        return _explain(error)


@contextlib.contextmanager
def _terminating_interrupts():
    """SIGTERM ends a command as Ctrl-C does, so that it saves what it has and clears away its drafts."""
    if threading.current_thread() is not threading.main_thread():  # others may not set handlers
        yield
        return
    earlier = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, earlier)


def _explain(error) -> int:
    sentence = find_sentence(error)
    if not sentence and isinstance(error, OSError) and error.filename:
        sentence = f"{error.filename} cannot be used ({error.strerror}): check the path and its permissions."
    if os.environ.get("TFZOO_TRACEBACK"):
        traceback.print_exception(error)
    elif sentence or isinstance(error, ExportError):
        print(f"tfzoo: {sentence or error}", file=sys.stderr)
    else:
        line = str(error).strip().partition("\n")[0]
        print(
            f"tfzoo: this should not have happened ({type(error).__name__}: {line}); with TFZOO_TRACEBACK=1 in the environment the "
            "command shows where.",
            file=sys.stderr,
        )
    return BAD_INPUT if sentence else FAILED


@contextlib.contextmanager
def _quiet_tensorflow(args):
    """Keeps TensorFlow's start-up chatter off the screen; it is written past Python, straight to the file descriptor."""
    if not getattr(args, "tensorflow", True) or os.environ.get("TFZOO_TRACEBACK"):
        yield
        return
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    sys.stderr, visible = os.fdopen(os.dup(kept), "w", buffering=1), sys.stderr
    try:
        yield
    finally:
        sys.stderr.flush()
        sys.stderr = visible
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


# === The commands ===


def run_demo(args):
    from tfzoo.benchmarks.demo import demo
    from tfzoo.files import claim_folder

    demo(claim_folder(args.output, args.overwrite), task=args.task, epochs=args.epochs, seed=args.seed)


def run_models(args):
    from tfzoo import facts
    from tfzoo.zoo import list_models

    names = [args.name] if args.name else list_models(args.task)
    if args.json:
        print(json.dumps([facts.to_dict(name) for name in names], indent=1))
    else:
        print(facts.format_details(args.name) if args.name else facts.format_table(names))


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
RECIPE = (  # arguments of its names that a recipe takes, where they are given
    "epochs", "batch_size", "image_size", "several_sizes", "learning_rate", "loss", "class_weights", "precision", "scale", "flip",
    *(name for name, *_ in AUGMENTATIONS), "iou_crop", "picture_epochs", "seed",
)  # fmt: skip


def _sizes(texts):
    from tfzoo.data.images import parse_size

    return tuple(parse_size(text) for text in texts)


READ = {  # what the command line's values become in the recipe
    "image_size": lambda text: _sizes([text])[0],
    "several_sizes": _sizes,
    "scale": tuple,
    "flip": lambda flip: None if flip == "none" else flip,
}


def run_train(args):
    from tfzoo.training import Recipe, evaluation_command, train
    from tfzoo.zoo import find_entry

    given = {name: getattr(args, name) for name in RECIPE if hasattr(args, name)}
    for name, read in READ.items():
        if name in given:
            given[name] = read(given[name])
    recipe = Recipe.for_task(find_entry(args.model).task, **given)
    splits = (args.train_split, None if args.val_split == "none" else args.val_split)
    if args.resume and "epochs" not in given:
        recipe = None
    best = train(
        args.model, args.data, args.output, recipe, args.weights, dict(args.option), splits, args.resume, proposals=args.proposals
    )
    print(f"\nThe best checkpoint is {best}. Next:\n  {evaluation_command(best)}")


def run_evaluate(args):
    from tfzoo.benchmarks.accuracy import evaluate, format_table
    from tfzoo.files import claim_file, claim_folder

    if args.json:
        claim_file(args.json, args.overwrite)
    result = evaluate(
        args.artifact,
        args.data,
        args.split,
        args.image_size,
        args.threads,
        tile=args.tile,
        overlap=args.overlap,
        output=claim_folder(args.output, args.overwrite) if args.output else None,
        worst=args.worst,
        segments=args.segments,
        max_detections=args.max_detections,
        weights=args.weights,
        proposals=args.proposals,
    )
    print(format_table(result))
    if args.json:
        with open(args.json, "w") as file:
            json.dump(result, file, indent=1)
    if args.output:
        held = "the confusion matrix as a picture" if result["task"] == "semantic" else "precision over recall as a picture"
        print(f"\n{args.output} holds {held}{' and the worst pictures' if args.worst else ''}.")


def run_predict(args):
    from tfzoo.data.proposal_sources import for_files
    from tfzoo.export import load
    from tfzoo.export.predict import describe, predict_files
    from tfzoo.export.tiling import with_tiles
    from tfzoo.files import claim_folder

    runner = load(args.artifact, args.threads, None if args.tile else args.image_size, args.weights)
    runner = with_tiles(runner, args.tile, args.overlap, args.image_size, verbose=sys.stdout.isatty())
    runner.check_proposals(args.proposals is not None)
    proposals = args.proposals and for_files(args.proposals)
    folder = claim_folder(args.output, args.overwrite)
    results = predict_files(runner, args.image, folder, min_score=args.min_score, proposals=proposals)
    for result in results:
        print(f"{args.output}/{result['overlay']}: {describe(result)}")


def run_export(args):
    from tfzoo.export import export
    from tfzoo.files import claim_file
    from tfzoo.weights import open_model

    if args.debug_quantization and (args.quantize != "int8" or args.batch_size != 1 or args.proposals):
        raise InputError("--debug-quantization looks into int8 files of one picture: give --quantize int8, and no --batch-size.")
    for place in (args.output, f"{args.output}.json", args.json, args.debug_quantization):  # the second one is the file's sidecar
        if place:
            claim_file(place, args.overwrite)
    model = open_model(args.artifact, args.weights)
    print(f"Exporting; then {args.output} is run in its own runtime and compared with Keras.")
    report = export(
        model,
        args.output,
        args.format,
        args.quantize,
        args.calibration,
        args.image_size,
        args.batch_size,
        args.raw,
        args.proposals,
        args.float_input,
        args.time_limit,
        args.memory_limit and args.memory_limit * 1e9,
    )
    print(report)
    if args.json:
        report.save(args.json)
    if args.debug_quantization:
        _debug_quantization(model, args)


def _debug_quantization(model, args):
    from tfzoo.export import quantization

    losses = quantization.debug(model, args.output, args.calibration)
    quantization.write(losses, args.debug_quantization)
    print(f"\nWhere it loses the most; all tensors, in their order, are in {args.debug_quantization}:\n")
    print(quantization.format_table(losses))


def run_serve_export(args):
    from tfzoo.serving import export_served

    path = export_served(args.artifact, args.repository, args.name, args.image_size)
    print(f"{path} is in place. Serve it with TensorFlow Serving:\n  cd {args.repository} && docker compose up")


def run_data_inspect(args):
    from tfzoo.data import load_dataset
    from tfzoo.data.box_clusters import anchor_sizes
    from tfzoo.data.inspection import format_table, inspect
    from tfzoo.files import claim_folder

    folder = claim_folder(args.output, args.overwrite) if args.output else None
    dataset = load_dataset(args.data, args.split, args.task)
    print(format_table(inspect(dataset, folder)))
    if args.anchors:
        sizes = ", ".join(f"({width:.0f}, {height:.0f})" for width, height in anchor_sizes(dataset, args.anchors, args.image_size))
        print(f"\nAnchors that fit the boxes, for yolov2_darknet19: --option 'anchor_sizes=[{sizes}]'")
    if folder:
        print(f"\n{args.output}/contact.png shows pictures with their labels.")


def run_data_proposals(args):
    from tfzoo.data import load_dataset
    from tfzoo.data.proposal_sources import open_source
    from tfzoo.data.proposals import format_table, make_proposals, place
    from tfzoo.files import claim_file

    path = claim_file(place(args.output, args.split), args.overwrite)
    dataset = load_dataset(args.data, args.split, "detection")
    made = make_proposals(dataset, path.parent, open_source(args.method, args.image_size), args.count)
    print(format_table(made))
    print(f"\nThey are for --proposals {args.output}.")


def run_benchmark_speed(args):
    from tfzoo.benchmarks import speed
    from tfzoo.files import claim_folder

    folder = claim_folder(args.output, args.overwrite) if args.output else None
    timings = speed.measure(args.artifact, args.image_size, args.batch_size, args.threads, args.rounds)
    print(speed.format_table(timings))
    if folder:
        speed.save(timings, folder)


# === Their arguments ===

SPECS = "shapes, masks:DIR, coco:DIR, voc:DIR or yolo:DIR"


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tfzoo", description="Keras models for dense vision that train with fit, and exports that are proved."
    )
    parser.set_defaults(group=parser)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    _add_demo(commands)
    _add_models(commands)
    _add_train(commands)
    _add_evaluate(commands)
    _add_predict(commands)
    _add_export(commands)
    _add_serve(commands)
    _add_data_commands(commands)
    _add_benchmark(commands)
    return parser


def _command(commands, name, run, help, example, **defaults):
    parser = commands.add_parser(
        name, help=help, description=help, epilog=f"example:\n  {example}", formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.set_defaults(run=run, **defaults)
    return parser


def _group(commands, name, help):
    parser = commands.add_parser(name, help=help, description=help)
    parser.set_defaults(group=parser)
    return parser.add_subparsers(title="commands", metavar="COMMAND")


def _add_demo(commands):
    parser = _command(
        commands, "demo", run_demo, "Train, evaluate, export, verify, time and draw, on drawn shapes.", "tfzoo demo --output demo"
    )
    parser.add_argument("--task", default="semantic", help="semantic (default), detection or instance")
    parser.add_argument("--output", default="tfzoo-demo", help="folder for the report (default: tfzoo-demo)")
    parser.add_argument("--epochs", type=_count, help="default: 8; detection: 12, instance: 5")
    parser.add_argument("--seed", type=_seed, default=0, help="the same seed gives the same accuracies")
    _add_overwrite(parser)


def _add_models(commands):
    parser = _command(
        commands, "models", run_models, "List the models, or tell all of one.", "tfzoo models --task semantic", tensorflow=False
    )
    parser.add_argument("name", nargs="?", metavar="MODEL", help="tell all that is known of this one, its options too")
    parser.add_argument("--task", help="semantic, detection, instance or keypoint")
    parser.add_argument("--json", action="store_true", help="print JSON")


def _add_train(commands):
    parser = _command(
        commands,
        "train",
        run_train,
        "Train a model: checkpoints, logs and pictures go into a folder.",
        "tfzoo train unet --data masks:DIR --output runs/unet --epochs 90 --image-size 192x256 --option width_multiplier=0.25",
        when_interrupted="Go on with the same command and --resume, if {output} holds a last.keras.",
    )
    parser.add_argument("model", metavar="MODEL", help="a name that 'tfzoo models' lists")
    _add_data(parser)
    parser.add_argument("--output", required=True, help="folder; it must be empty or new")
    left_out = argparse.SUPPRESS  # the recipe has defaults of its own
    parser.add_argument("--epochs", type=_count, default=left_out, help="default: 50, or what the resumed training began with")
    parser.add_argument("--batch-size", type=_count, default=left_out, help="default: 8")
    _add_image_size(parser)
    parser.add_argument(
        "--weights",
        help="imagenet, voc, coco, what ships with the package ('tfzoo models MODEL' lists them), a file, or backbone:FILE.keras "
        "for the backbone of another model",
    )
    parser.add_argument(
        "--option", type=_option, action="append", default=[], metavar="KEY=VALUE", help="an option of the model; repeatable"
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
    parser.add_argument("--proposals", metavar="DIR", help="Fast R-CNN: the folder that 'tfzoo data proposals' wrote")
    parser.add_argument("--train-split", default="train")
    parser.add_argument("--val-split", default="val", help="'none' trains without one")
    parser.add_argument(
        "--picture-epochs", type=int, default=left_out, help="write a picture every so many epochs; 0: never (default: 10)"
    )
    parser.add_argument("--seed", type=_seed, default=0)
    parser.add_argument("--resume", action="store_true", help="go on with the training in the output folder")


def _add_evaluate(commands):
    parser = _command(
        commands,
        "evaluate",
        run_evaluate,
        "Measure the accuracy of an artifact.",
        "tfzoo evaluate model_int8.tflite --data masks:DIR --split test --image-size 192x256",
    )
    _add_artifact(parser)
    _add_data(parser)
    parser.add_argument("--split", default="val")
    _add_image_size(parser)
    _add_tile(parser)
    parser.add_argument("--threads", type=_count)
    parser.add_argument("--json", metavar="FILE", help="write the result as JSON")
    parser.add_argument(
        "--output",
        metavar="DIR",
        help="folder for result.json, table.md, and confusion.png and the worst pictures or precision_recall.png",
    )
    parser.add_argument(
        "--worst", type=_count, default=0, metavar="N", help="segmenters: draw the N pictures of the lowest mean IoU"
    )
    parser.add_argument(
        "--segments",
        metavar="CLASS",
        help="segmenters: also the Rand error of this class's connected regions, such as cells between membranes",
    )
    parser.add_argument(
        "--max-detections",
        type=_count,
        metavar="N",
        help="detectors: so many of each class in a picture count (default: 100; keypoints: 20)",
    )
    parser.add_argument("--proposals", metavar="DIR", help="Fast R-CNN: the folder that 'tfzoo data proposals' wrote")
    _add_overwrite(parser)


def _add_predict(commands):
    parser = _command(
        commands,
        "predict",
        run_predict,
        "Write pictures with what was found, and a JSON.",
        "tfzoo predict model.tflite street.jpg --output found",
    )
    _add_artifact(parser)
    parser.add_argument("image", nargs="+", metavar="IMAGE")
    parser.add_argument("--output", required=True, help="folder; it must be empty or new")
    parser.add_argument(
        "--min-score",
        type=float,
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
    parser.add_argument("--threads", type=_count)
    _add_overwrite(parser)


def _add_export(commands):
    parser = _command(
        commands,
        "export",
        run_export,
        "Export a model, and prove that the file answers what the model answers.",
        "tfzoo export runs/unet/best.keras --output unet.tflite --quantize int8 --calibration masks:DIR",
    )
    parser.add_argument("artifact", metavar="ARTIFACT", help=".keras file, or a model name with --weights")
    parser.add_argument("--output", required=True, metavar="FILE-OR-DIR", help="x.tflite, x.onnx, or a folder for a SavedModel")
    parser.add_argument("--format", choices=("savedmodel", "tflite", "onnx"), help="if the name of the output does not tell")
    parser.add_argument("--quantize", metavar="HOW", help="int8, float16, dynamic or full_int8 (TFLite)")
    parser.add_argument("--calibration", metavar="SPEC", help="data set whose pictures set int8 ranges")
    _add_image_size(parser, "; 'any' for SavedModel and ONNX files of any size")
    parser.add_argument("--batch-size", type=_count, default=1, help="of a TFLite file; the others take any")
    parser.add_argument("--raw", action="store_true", help="answer logits, or a detector's heads")
    parser.add_argument("--float-input", action="store_true", help="take pictures as float32, 0 to 255, not as bytes")
    parser.add_argument(
        "--proposals",
        type=_count_or_any,
        metavar="N",
        help="Fast R-CNN: so many a picture, or 'any' for SavedModel and ONNX (default: any; TFLite: 300)",
    )
    parser.add_argument(
        "--debug-quantization", metavar="FILE", help="with int8: write what every tensor loses (CSV), and show the worst ones"
    )
    _add_bound(parser, "--time-limit", "SECONDS", "takes longer (default: an hour)")
    _add_bound(parser, "--memory-limit", "GB", "holds more (Linux; default: 0.8 of the machine's memory)")
    parser.add_argument("--json", metavar="FILE", help="write the report as JSON")
    parser.add_argument("--weights", help="with a model name: which weights")
    _add_overwrite(parser)


def _add_serve(commands):
    group = _group(commands, "serve", "Deploy behind TensorFlow Serving.")
    parser = _command(
        group,
        "export",
        run_serve_export,
        "Write a new version of a model into a repository that TensorFlow Serving watches.",
        "tfzoo serve export runs/unet/best.keras --repository served --name unet",
    )
    parser.add_argument("artifact", metavar="ARTIFACT", help=".keras file")
    parser.add_argument("--repository", required=True, metavar="DIR")
    parser.add_argument("--name", required=True, help="the model's name in requests")
    _add_image_size(parser)


def _add_data_commands(commands):
    group = _group(commands, "data", "Look at labelled pictures.")
    parser = _command(
        group,
        "inspect",
        run_data_inspect,
        "Count pictures, classes and boxes, find odd boxes, and draw a contact sheet.",
        "tfzoo data inspect coco:DIR --split train --output inspected",
    )
    parser.add_argument("data", metavar="SPEC", help=SPECS)
    parser.add_argument("--split", default="train")
    parser.add_argument("--task", help="semantic, detection, instance or keypoint (default: the first that the data set has)")
    parser.add_argument("--output", metavar="DIR", help="folder for inspection.json, table.md and contact.png")
    parser.add_argument("--anchors", type=_count, metavar="N", help="also find N sizes of anchors that fit the boxes")
    _add_image_size(parser, ", for --anchors")
    _add_overwrite(parser)

    parser = _command(
        group,
        "proposals",
        run_data_proposals,
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
    parser.add_argument("--count", type=_count, default=1000, metavar="N", help="keep so many a picture (default: 1000)")
    _add_image_size(parser, ", while they are searched")
    _add_overwrite(parser)


def _add_benchmark(commands):
    group = _group(commands, "benchmark", "Measure speed.")
    parser = _command(
        group,
        "speed",
        run_benchmark_speed,
        "Time artifacts in turn: median and quartiles.",
        "tfzoo benchmark speed model.tflite model_int8.tflite model.onnx --output speed",
    )
    parser.add_argument("artifact", nargs="+", metavar="ARTIFACT")
    _add_image_size(parser)
    parser.add_argument("--batch-size", type=_count, default=1)
    parser.add_argument("--threads", type=_count, help="default: as many as there are cores")
    parser.add_argument("--rounds", type=_count, default=30, help="timed runs of each (default: 30)")
    parser.add_argument("--output", help="folder for speed.md, speed.json, speed.png")
    _add_overwrite(parser)


def _add_artifact(parser):
    kinds = ".keras, .tflite or .onnx file, the folder of a SavedModel, or a model name with --weights"
    parser.add_argument("artifact", metavar="ARTIFACT", help=kinds)
    parser.add_argument("--weights", help="with a model name: which weights")


def _add_data(parser):
    parser.add_argument("--data", required=True, metavar="SPEC", help=SPECS)


def _add_image_size(parser, more=""):
    parser.add_argument("--image-size", metavar="N|HxW", help=f"size of the pictures, such as 256 or 192x256{more}")


def _add_bound(parser, flag, unit, text):
    parser.add_argument(flag, type=_above_zero, metavar=unit, help=f"stop the conversion to TFLite or ONNX where it {text}")


def _add_tile(parser):
    parser.add_argument("--tile", metavar="N|HxW", help="run large pictures by overlapping tiles of this size, such as 256")
    parser.add_argument("--overlap", type=int, metavar="M", help="pixels that tiles overlap by (default: a quarter of a tile)")


def _add_overwrite(parser):
    parser.add_argument("--overwrite", action="store_true", help="replace what is there")


def _count(text):
    """A whole number from 1."""
    if not (text.isascii() and text.isdigit() and int(text)):
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number from 1")
    return int(text)


def _above_zero(text):
    """A number above 0."""
    with contextlib.suppress(ValueError):
        if 0 < float(text) < float("inf"):
            return float(text)
    raise argparse.ArgumentTypeError(f"'{text}' is not a number above 0")


def _count_or_any(text):
    return text if text == "any" else _count(text)


def _seed(text):
    """A whole number from 0 to 2^32 - 1, which NumPy, Keras and TensorFlow all take."""
    if not (text.isascii() and text.isdigit() and int(text) < 2**32):
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number from 0 to {2**32 - 1}")
    return int(text)


def _option(text):
    """KEY=VALUE, the value read as Python where it is: 0.5, True, "valid"."""
    key, equals, value = text.partition("=")
    if not (key and equals):
        raise argparse.ArgumentTypeError(f"'{text}' is not of the form KEY=VALUE, such as width_multiplier=0.25")
    try:
        return key, ast.literal_eval({"true": "True", "false": "False", "none": "None"}.get(value, value))
    except (ValueError, SyntaxError):
        return key, value


if __name__ == "__main__":
    sys.exit(main())
