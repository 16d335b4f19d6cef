"""Timing programs against each other: each lives in a process of its own, and they run in turn, round after round.

So a peer may live in another Python, with packages that do not get on with ours, and whatever else the machine does hits all of
them alike. The ratio of two medians of one contest is the number to read.
"""

import contextlib
import dataclasses
import json
import os
import pathlib
import statistics
import subprocess

import numpy as np

from tfzoo.data import load_dataset
from tfzoo.data.images import read_image, resize_image
from tfzoo.errors import InputError

HERE = pathlib.Path(__file__).parent / "contestants"


class Contestant:
    """A process that waits to be told what to run; a context manager that ends it.

    Args:
        name: what tables call it.
        python: the interpreter that has what the program needs.
        program: file name in ``contestants``; see ``contestants/loop.py`` for what it must do.
        arguments: of the program, JSON can hold them.
        threads: that it may compute with.
        path: folders that its Python looks for modules in, first.

    Raises:
        InputError: the program does not start.
    """

    def __init__(self, name, python, program, arguments, threads, path=()):
        self.name = name
        limits = {f"{prefix}_NUM_THREADS": str(threads) for prefix in ("OMP", "MKL", "TF_INTRAOP")}
        environment = {**os.environ, **limits, "TF_NUM_INTRAOP_THREADS": str(threads), "TF_CPP_MIN_LOG_LEVEL": "3"}
        if path:
            environment["PYTHONPATH"] = os.pathsep.join(map(str, path))
        command = [python, str(HERE / program), json.dumps(arguments)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        try:
            self._process = subprocess.Popen(command, **pipes, text=True, env=environment)
        except OSError as error:
            raise InputError(f"Contestant '{name}' cannot be started with {python} ({error.strerror}): check the path.") from error
        self.facts = self._read()

    def run(self, case) -> float:
        """Seconds that one run of a case took."""
        with contextlib.suppress(BrokenPipeError):  # it has ended: reading its answer says so
            self._process.stdin.write(f"{case}\n")
            self._process.stdin.flush()
        return self._read()["seconds"]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait()

    def _read(self):
        line = self._process.stdout.readline()
        if not line:
            raise InputError(f"Contestant '{self.name}' has ended with status {self._process.wait()}: see its message above.")
        return json.loads(line)


@dataclasses.dataclass(frozen=True)
class Time:
    """Seconds that one case of one contestant took.

    Attributes:
        contestant, case: what was run.
        runs: timed ones.
        median, low, high: seconds; low and high are the quartiles.
    """

    contestant: str
    case: str
    runs: int
    median: float
    low: float
    high: float


def measure(contestants, cases, rounds=7, warm_up=2) -> list[Time]:
    """Runs each case of each contestant that has it, in turn; each starts with runs that are not counted.

    Raises:
        InputError: there are no rounds, or a contestant ends.
    """
    if rounds < 1:
        raise InputError(f"rounds is {rounds}: it must be at least 1.")
    pairs = [(contestant, case) for case in cases for contestant in contestants if case in contestant.facts["cases"]]
    seconds = {(contestant.name, case): [] for contestant, case in pairs}
    for round_ in range(warm_up + rounds):
        for contestant, case in pairs:
            took = contestant.run(case)
            if round_ >= warm_up:
                seconds[contestant.name, case].append(took)
        print(f"round {round_ + 1} of {warm_up + rounds}", flush=True)
    return [_summary(name, case, taken) for (name, case), taken in seconds.items()]


def _summary(name, case, taken):
    low, median, high = statistics.quantiles(taken, n=4, method="inclusive") if len(taken) > 1 else taken * 3
    return Time(name, case, len(taken), median, low, high)


def format_table(times: list[Time], ours: str) -> str:
    """A table for people (Markdown): "ours / this" is our median over the contestant's, of the same case."""
    medians = {(t.contestant, t.case): t.median for t in times}
    lines = ["| case | contestant | median s | quartiles s | ours / this |", "|---|---|---|---|---|"]
    for t in times:
        ratio = medians[ours, t.case] / t.median if (ours, t.case) in medians else float("nan")
        lines.append(f"| {t.case} | {t.contestant} | {t.median:.3f} | {t.low:.3f} to {t.high:.3f} | {ratio:.2f} |")
    return "\n".join(lines)


# === Contests with torchvision ===


def add_arguments(parser, rounds, needed=False) -> None:
    """Adds what every contest with torchvision takes; ``needed`` where there is none without it."""
    parser.add_argument("--picture", help="default: one of the shapes")
    parser.add_argument("--size", type=int, default=512, help="the picture's sides (default: 512)")
    parser.add_argument("--threads", type=int, default=2, help="of every contestant (default: 2)")
    parser.add_argument("--rounds", type=int, default=rounds, help=f"timed runs of each (default: {rounds})")
    parser.add_argument("--torchvision-python", required=needed, help="interpreter that has torch and torchvision")
    parser.add_argument("--torchvision-setup", help="a Python file that is run before torchvision is imported")


def given_to_all(args, folder) -> dict:
    """What every contestant is told: the model's name, its checkpoint, the picture (stored in ``folder``), threads, setup."""
    picture = read_image(args.picture) if args.picture else load_dataset("shapes", "test").read(0)["images"]
    path = pathlib.Path(folder) / "picture.npy"
    np.save(path, resize_image(picture, (args.size, args.size)))
    return {
        "name": args.name,
        "checkpoint": str(pathlib.Path(args.checkpoint).resolve()),
        "picture": str(path),
        "threads": args.threads,
        "setup": pathlib.Path(args.torchvision_setup).stem if args.torchvision_setup else None,
    }


def setup_folder(args) -> list[pathlib.Path]:
    """Where torchvision's Python finds the file to run first."""
    return [pathlib.Path(args.torchvision_setup).resolve().parent] if args.torchvision_setup else []
