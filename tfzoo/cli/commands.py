"""What each command does with its arguments. Each imports what it needs when it runs."""

import contextlib
import dataclasses
import json
import pathlib
import sys

from tfzoo.errors import InputError

SERVED = """\
{server.runner.path} answers at {server.url} as TensorFlow Serving does. From Python:

    from tfzoo.serving import Client
    Client("{server.address}", "{server.model}", protocol="rest").predict(["street.jpg"])

Ctrl-C ends it."""


def run_demo(args):
    from tfzoo.benchmarks.demo import demo, find_plan
    from tfzoo.files import claim_folder

    find_plan(args.task)  # an unknown task leaves no empty folder behind
    demo(claim_folder(args.output, args.overwrite), task=args.task, epochs=args.epochs, seed=args.seed)


def run_models(args):
    from tfzoo import facts
    from tfzoo.zoo import list_models

    if args.name and args.task:
        raise InputError("A model's name and --task do not go together: leave out one of them.")
    names = [args.name] if args.name else list_models(args.task)
    if args.json:
        print(json.dumps([facts.to_dict(name) for name in names], indent=1))
    else:
        print(facts.format_details(args.name) if args.name else facts.format_table(names))


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
    from tfzoo.training import Recipe, evaluation_command, resumed_recipe, splits_of, train
    from tfzoo.zoo import find_entry

    values = {field.name: getattr(args, field.name, None) for field in dataclasses.fields(Recipe)}
    given = {name: value for name, value in values.items() if value is not None}
    for name, read in READ.items():
        if name in given:
            given[name] = read(given[name])
    task = find_entry(args.model).task
    recipe = resumed_recipe(args.output, given) if args.resume else Recipe.for_task(task, **given)
    training_split, validation_split = splits_of(args.output) if args.resume else ("train", "val")
    if args.val_split is not None:
        validation_split = None if args.val_split == "none" else args.val_split
    splits = (args.train_split or training_split, validation_split)
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
    from tfzoo.files import claim_folder, folder_of

    runner = load(args.artifact, args.threads, None if args.tile else args.image_size, args.weights)
    runner = with_tiles(runner, args.tile, args.overlap, args.image_size, verbose=sys.stdout.isatty())
    runner.check_proposals(args.proposals is not None)
    proposals = args.proposals and for_files(args.proposals)
    with folder_of(pathlib.Path(args.output) / "predictions.json"):
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
    output = pathlib.Path(args.output)  # which has no slash at its end
    places = [pathlib.Path(place) for place in (output, f"{output}.json", args.json, args.debug_quantization) if place]
    if len({place.resolve() for place in places}) < len(places):
        raise InputError(f"{output}, its sidecar {output}.json, --json and --debug-quantization need a name each: give others.")
    for place in places:
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


def run_serve(args):
    from tfzoo.serving import LocalServer

    with LocalServer(args.artifact, args.name, args.host, args.port, args.image_size, args.weights, args.threads) as server:
        print(SERVED.format(server=server), flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            server.serve_forever()
    print("The server has stopped.")


def run_serve_export(args):
    from tfzoo.serving import export_served

    path = export_served(args.artifact, args.repository, args.name, args.image_size, weights=args.weights)
    print(f"{path} is in place. Serve it with TensorFlow Serving:\n  cd {args.repository} && docker compose up")


def run_data_inspect(args):
    from tfzoo.data import load_dataset
    from tfzoo.data.box_clusters import anchor_sizes, require_boxes
    from tfzoo.data.inspection import format_table, inspect
    from tfzoo.files import claim_folder

    dataset = load_dataset(args.data, args.split, args.task)
    if args.anchors:
        require_boxes(dataset)
    folder = claim_folder(args.output, args.overwrite) if args.output else None
    print(format_table(inspect(dataset, folder)))
    if args.anchors:
        sizes = ", ".join(f"({width:.0f}, {height:.0f})" for width, height in anchor_sizes(dataset, args.anchors, args.image_size))
        print(f"\nAnchors that fit the boxes, for yolov2_darknet19: --option 'anchor_sizes=[{sizes}]'")
    if folder:
        print(f"\n{args.output}/contact.png shows pictures with their labels.")


def run_data_convert(args):
    from tfzoo.data import load_dataset
    from tfzoo.data.tfrecord import convert

    dataset = load_dataset(args.data, args.split, args.task)
    place = convert(dataset, args.output, args.shard_megabytes * 2**20, args.overwrite)
    print(f"{place} and the files beside it hold {len(dataset)} pictures: read them as tfrecord:{args.output}.")


def run_data_proposals(args):
    from tfzoo.data import load_dataset
    from tfzoo.data.proposal_sources import open_source
    from tfzoo.data.proposals import format_table, make_proposals, place
    from tfzoo.files import claim_file, folder_of

    if args.json:
        claim_file(args.json, args.overwrite)
    with folder_of(place(args.output, args.split)):
        path = claim_file(place(args.output, args.split), args.overwrite)
        dataset = load_dataset(args.data, args.split, "detection")
        made = make_proposals(dataset, path.parent, open_source(args.method, args.image_size), args.count)
    print(format_table(made))
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps(made, indent=1))
    print(f"\nThey are for --proposals {args.output}.")


def run_benchmark_accuracy(args):
    from tfzoo.benchmarks import comparison
    from tfzoo.files import claim_folder

    folder = claim_folder(args.output, args.overwrite) if args.output else None
    limits = args.max_detections, args.proposals
    results = comparison.compare(args.artifact, args.data, args.split, args.image_size, args.threads, *limits, folder=folder)
    print(comparison.format_table(results))


def run_benchmark_speed(args):
    from tfzoo.benchmarks import speed
    from tfzoo.files import claim_folder

    folder = claim_folder(args.output, args.overwrite) if args.output else None
    timings = speed.measure(args.artifact, args.image_size, args.batch_size, args.threads, args.rounds, verbose=True)
    print(speed.format_table(timings))
    if folder:
        speed.save(timings, folder)
