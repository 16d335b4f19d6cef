"""``tfzoo benchmark speed``: how long an artifact takes for a batch.

Artifacts are timed in turn, round after round, so that whatever else the machine does hits all of them alike.
"""

import dataclasses
import json
import os
import pathlib
import sys
import time

import numpy as np
from keras.utils import Progbar

from tfzoo.data import load_dataset
from tfzoo.data.images import resize_image
from tfzoo.export import load
from tfzoo.export.calibration import scattered_boxes
from tfzoo.export.exporter import DEFAULT_SIZE, TFLITE_PROPOSALS
from tfzoo.export.sidecar import files_of


@dataclasses.dataclass(frozen=True)
class Timing:
    """Milliseconds that one run of an artifact took.

    Attributes:
        artifact, format: what was run.
        image_size, batch_size, threads: how; threads is None for what runs in TensorFlow, whose threads are the process's.
        runs: number of timed runs.
        median, low, high: milliseconds; low and high are the quartiles.
        bytes: size on disk.
    """

    artifact: str
    format: str
    image_size: tuple[int, int]
    batch_size: int
    threads: int | None
    runs: int
    median: float
    low: float
    high: float
    bytes: int


def measure(artifacts, image_size=None, batch_size=1, threads=None, rounds=30, warm_up=3, verbose=False) -> list[Timing]:
    """Times artifacts against each other.

    Args:
        artifacts: paths.
        image_size: for those that take any size; None: the size that they were trained or exported at, else 256x256.
        batch_size: pictures in a run, for those that take any number.
        threads: of the runtimes (TensorFlow's own are the process's); None: as many as there are cores.
        rounds: timed runs of each; warm_up: runs before that are not counted.
        verbose: show a progress bar, where a terminal is there to show it.

    Returns:
        a ``Timing`` for each, in the order given.
    """
    runners = [load(path, threads, image_size) for path in artifacts]
    batches = [_batch(runner, batch_size) for runner in runners]
    for runner, batch in zip(runners, batches, strict=True):
        for _ in range(warm_up):
            runner.run(**batch)
    times = np.empty((len(runners), rounds))
    progress = Progbar(rounds, unit_name="round", verbose=int(verbose and sys.stdout.isatty()))
    for round_ in range(rounds):
        for position, (runner, batch) in enumerate(zip(runners, batches, strict=True)):
            start = time.perf_counter()
            runner.run(**batch)
            times[position, round_] = (time.perf_counter() - start) * 1000
        progress.update(round_ + 1)
    return [_timing(*row) for row in zip(runners, batches, times, strict=True)]


def _batch(runner, batch_size):
    size = runner.image_size or DEFAULT_SIZE
    pictures = load_dataset("shapes", "test")
    count = runner.batch_size or batch_size
    batch = {"images": np.stack([resize_image(pictures.read(i % len(pictures))["images"], size) for i in range(count)])}
    if runner.takes_proposals:
        places = TFLITE_PROPOSALS if runner.sidecar.proposals == "any" else runner.sidecar.proposals
        batch["proposals"] = scattered_boxes(count, places, size)
    return batch


def _timing(runner, batch, times):
    low, median, high = np.percentile(times, (25, 50, 75))
    path = runner.path
    return Timing(
        artifact=str(path),
        format=runner.name,
        image_size=batch["images"].shape[1:3],
        batch_size=len(batch["images"]),
        threads=runner.threads,
        runs=len(times),
        median=float(median),
        low=float(low),
        high=float(high),
        bytes=sum(file.stat().st_size for file in files_of(path)),
    )


def format_table(timings: list[Timing]) -> str:
    """A table for people (Markdown): the ratio is of the time for one picture, to the first artifact's."""
    lines = [
        f"{timings[0].runs} runs each, in turn, on {os.cpu_count()} cores.",
        "",
        "| artifact | format | MB | pictures | threads | median ms | quartiles ms | ratio |",
        "|---|---|---|---|---|---|---|---|",
    ]
    first = timings[0].median / timings[0].batch_size
    for t, name in zip(timings, _short_names(timings), strict=True):
        pictures = f"{t.batch_size} of {'x'.join(map(str, t.image_size))}"
        spread = f"{t.median:.2f} | {t.low:.2f} to {t.high:.2f} | {t.median / t.batch_size / first:.2f}"
        lines.append(f"| {name} | {t.format} | {t.bytes / 1e6:.2f} | {pictures} | {t.threads or 'TensorFlow'} | {spread} |")
    return "\n".join(lines)


def _short_names(timings):
    """File names, or whole paths where two files bear one name."""
    names = [pathlib.Path(t.artifact).name for t in timings]
    return names if len(set(names)) == len(names) else [t.artifact for t in timings]


def save(timings: list[Timing], folder) -> None:
    """Writes speed.md, speed.json and speed.png."""
    folder = pathlib.Path(folder)
    (folder / "speed.md").write_text(format_table(timings) + "\n")
    (folder / "speed.json").write_text(json.dumps([dataclasses.asdict(t) for t in timings], indent=1))
    plot(timings, folder / "speed.png")


def plot(timings: list[Timing], path) -> None:
    """Draws the medians as bars, with the quartiles."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 0.8 + 0.45 * len(timings)), layout="constrained")
    axes = figure.add_subplot()
    names = _short_names(timings)
    medians = [t.median for t in timings]
    spread = [[t.median - t.low for t in timings], [t.high - t.median for t in timings]]
    bars = axes.barh(range(len(names)), medians, xerr=spread, color="#0072b2", ecolor="#444444", capsize=3)
    axes.bar_label(bars, [f" {m:.1f} ms" for m in medians], padding=4)
    axes.set_yticks(range(len(names)), [f"{t.format}  ({name})" for t, name in zip(timings, names, strict=True)])
    axes.invert_yaxis()
    axes.set_xlim(0, max(t.high for t in timings) * 1.2)
    axes.set_xlabel(f"milliseconds a run, median and quartiles of {timings[0].runs}")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120)
