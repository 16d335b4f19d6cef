"""``python -m tfzoo.benchmarks.onnx_speed NAME FILE``: our ONNX file against torch.onnx's of the same weights, and torchvision.

The same architecture, checkpoint, picture and threads; heads alone, without decoding and NMS. Both files take pictures of one size
(ours any number of them, theirs one) and normalise them; both run in ONNX Runtime, each in a process of its own, and torchvision
runs eagerly. Prints a table (Markdown).
"""

import argparse
import contextlib
import pathlib
import sys
import tempfile

import tfzoo
from tfzoo.benchmarks.contest import Contestant, add_arguments, format_table, given_to_all, measure, setup_folder
from tfzoo.errors import InputError
from tfzoo.export import export
from tfzoo.zoo import find_entry


def main(arguments=None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], epilog="torch.onnx needs onnx and onnxscript, too.")
    parser.add_argument("name", help="a torchvision segmenter or one-shot detector of the zoo, such as deeplabv3_resnet50")
    parser.add_argument("checkpoint", help="a .pth file of it, published or seeded")
    add_arguments(parser, rounds=15, needed=True)
    args = parser.parse_args(arguments)
    try:
        run(args)
    except InputError as error:
        parser.error(str(error))


def run(args) -> None:
    """Writes both files, lets the contestants run in turn, and prints the table."""
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        contestants = [stack.enter_context(contestant) for contestant in _contestants(args, pathlib.Path(folder))]
        contestants.reverse()
        for contestant in contestants:
            print(f"{contestant.name}: {contestant.facts['numbers']} numbers in its heads")
        times = measure(contestants, ("heads",), args.rounds)
    print(f"\n{args.name}, {args.size} px, {args.threads} threads\n")
    print(format_table(times, ours="tfzoo's file"))


def _contestants(args, folder):
    """Starts them one by one; torchvision first, since it writes the file that the second one runs."""
    model = _create(args)
    own, theirs = folder / "own.onnx", folder / "theirs.onnx"
    export(model, own, image_size=args.size, raw=True)
    given = given_to_all(args, folder)
    network = given | {"classes": model.num_classes, "file": str(theirs)}
    path = setup_folder(args)
    yield Contestant("torchvision, eager", args.torchvision_python, "torchvision_network.py", network, args.threads, path)
    for name, file, as_float in (("torch.onnx's file", theirs, True), ("tfzoo's file", own, False)):
        session = given | {"file": str(file), "as_float": as_float}
        yield Contestant(name, sys.executable, "onnx_session.py", session, args.threads)


def _create(args):
    kind = find_entry(args.name).build_class()
    resizes = kind.task == "detection" and kind.fixed_size is None  # inside the network: to the size that it is given here
    sizes = {"min_size": args.size, "max_size": args.size} if resizes else {}
    return tfzoo.create_model(args.name, weights=args.checkpoint, **sizes)


if __name__ == "__main__":
    main()
