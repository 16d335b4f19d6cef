"""``python -m tfzoo.benchmarks.detector_speed NAME FILE``: our detectors against torchvision's and KerasHub's, on this processor.

The same checkpoint and picture for torchvision, so equal numbers of candidates; KerasHub, for the RetinaNet alone, reads no such
file and has random weights of the same shapes. "predict" is what a user calls, "heads" the network without the last decoding and
NMS; the training step has a batch, every stage learning, and a learning rate of 0. Its norms are frozen, as torchvision has them
where it starts from trained weights; torchvision runs a second time with plain batch normalisation, which in ``predict`` is faster.
KerasHub runs as it comes, with norms that learn, and once more with frozen ones. Prints a table (Markdown).
"""

import argparse
import contextlib
import pathlib
import sys
import tempfile
from collections.abc import Iterator

from tfzoo.benchmarks.contest import Contestant, add_arguments, format_table, given_to_all, measure, setup_folder
from tfzoo.errors import InputError

NAMES = ("retinanet_resnet50_fpn", "fasterrcnn_resnet50_fpn", "maskrcnn_resnet50_fpn", "keypointrcnn_resnet50_fpn")
CASES = ("predict", "heads", "training step")


def main(arguments=None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=NAMES)
    parser.add_argument("checkpoint", help="a .pth file of it, published or seeded")
    add_arguments(parser, rounds=7)
    parser.add_argument("--batch-size", type=int, default=2, help="of a training step (default: 2)")
    parser.add_argument("--precision", default="float32", help="of a training step, such as mixed_bfloat16")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"), help="of torchvision; ours is Keras's")
    parser.add_argument("--cases", nargs="+", default=CASES, choices=CASES)
    parser.add_argument("--keras-hub", help="folder with the keras_hub package, beside what this Python has")
    args = parser.parse_args(arguments)
    try:
        run(args)
    except InputError as error:
        parser.error(str(error))


def run(args) -> None:
    """Starts the contestants, lets them run in turn, and prints the table."""
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        contestants = [stack.enter_context(contestant) for contestant in _contestants(args, folder)]
        for contestant in contestants:
            if contestant.facts["detections"] is not None:
                print(f"{contestant.name}: {contestant.facts['detections']} detections")
        times = measure(contestants, args.cases, args.rounds)
    print(f"\n{args.size} px, {args.threads} threads, training in {args.precision} at batch {args.batch_size}\n")
    print(format_table(times, ours="tfzoo"))


def _contestants(args, folder) -> Iterator[Contestant]:
    """Starts those whose place is told, one by one."""
    given = given_to_all(args, folder) | {
        "size": args.size,
        "batch_size": args.batch_size,
        "precision": args.precision,
        "device": args.device,
        "cases": args.cases,
    }
    yield Contestant("tfzoo", sys.executable, "tfzoo_detector.py", given, args.threads)
    if args.torchvision_python:
        path = setup_folder(args)
        for name, frozen in (("torchvision", True), ("torchvision, batch norm", False)):
            chosen = given | {"frozen_norms": frozen}
            yield Contestant(name, args.torchvision_python, "torchvision_detector.py", chosen, args.threads, path)
    if args.keras_hub and args.name == NAMES[0]:
        path = [pathlib.Path(args.keras_hub).resolve()]
        for name, frozen in (("KerasHub", False), ("KerasHub, frozen norms", True)):
            chosen = given | {"frozen_norms": frozen}
            yield Contestant(name, sys.executable, "keras_hub_retinanet.py", chosen, args.threads, path)


if __name__ == "__main__":
    main()
