"""``python -m tfzoo.benchmarks.onnx_speed NAME FILE``: our ONNX file against torch.onnx's of the same weights, and torchvision.

The same architecture, checkpoint, picture and threads; heads alone, without decoding and NMS. Both files take pictures of one size
(ours any number of them, theirs one) and normalise them; both run in ONNX Runtime, each in a process of its own, and torchvision
runs eagerly. Prints a table (Markdown).
"""

import argparse
import pathlib
import sys
import tempfile

import numpy as np

import tfzoo
from tfzoo.benchmarks.contest import Contestant, format_table, measure
from tfzoo.data import load_dataset
from tfzoo.data.images import read_image, resize_image
from tfzoo.errors import InputError
from tfzoo.export import export
from tfzoo.zoo import find_entry


def main(arguments=None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", help="a torchvision segmenter or one-shot detector of the zoo, such as deeplabv3_resnet50")
    parser.add_argument("checkpoint", help="a .pth file of it, published or seeded")
    parser.add_argument("--picture", help="default: one of the shapes")
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--torchvision-python", required=True, help="interpreter with torch, torchvision, onnx and onnxscript")
    parser.add_argument("--torchvision-setup", help="a Python file that is run before torchvision is imported")
    args = parser.parse_args(arguments)
    try:
        run(args)
    except InputError as error:
        parser.error(str(error))


def run(args) -> None:
    """Writes both files, lets the contestants run in turn, and prints the table."""
    with tempfile.TemporaryDirectory() as folder:
        contestants = _start(args, pathlib.Path(folder))
        for contestant in contestants:
            print(f"{contestant.name}: {contestant.facts['numbers']} numbers in its heads")
        times = measure(contestants, ("heads",), args.rounds)
        for contestant in contestants:
            contestant.close()
    print(f"\n{args.name}, {args.size} px, {args.threads} threads\n")
    print(format_table(times, ours="tfzoo's file"))


def _start(args, folder):
    picture = read_image(args.picture) if args.picture else load_dataset("shapes", "test").read(0)["images"]
    np.save(folder / "picture.npy", resize_image(picture, (args.size, args.size)))
    model = _create(args)
    own, theirs = folder / "own.onnx", folder / "theirs.onnx"
    export(model, own, image_size=args.size, raw=True)
    setup = args.torchvision_setup and pathlib.Path(args.torchvision_setup).resolve()
    common = {"picture": str(folder / "picture.npy"), "threads": args.threads}
    network = common | {
        "name": args.name,
        "checkpoint": str(pathlib.Path(args.checkpoint).resolve()),
        "classes": model.num_classes,
        "file": str(theirs),
        "setup": setup and setup.stem,
    }
    path = [setup.parent] if setup else []
    # The last one first: it writes the file of the one before.
    eager = Contestant("torchvision, eager", args.torchvision_python, "torchvision_network.py", network, args.threads, path)
    files = {"tfzoo's file": (own, False), "torch.onnx's file": (theirs, True)}
    sessions = [
        Contestant(name, sys.executable, "onnx_session.py", common | {"file": str(file), "as_float": as_float}, args.threads)
        for name, (file, as_float) in files.items()
    ]
    return [*sessions, eager]


def _create(args):
    kind = find_entry(args.name).build_class()
    resizes = kind.task == "detection" and kind.fixed_size is None  # inside the network: to the size that it is given here
    sizes = {"min_size": args.size, "max_size": args.size} if resizes else {}
    return tfzoo.create_model(args.name, weights=args.checkpoint, **sizes)


if __name__ == "__main__":
    main()
