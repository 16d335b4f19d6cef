"""``python -m tfzoo.benchmarks.curves``: what several trainings reached, epoch by epoch, as one picture.

Reads the log.csv that ``tfzoo train`` leaves in each folder.
"""

import argparse
import csv
import pathlib

from tfzoo.errors import InputError, MissingInputError


def read_curve(folder, metric: str) -> list[tuple[int, float]]:
    """(epoch, value) of one training, epochs counted from 1; epochs without a value are left out.

    Raises:
        MissingInputError: the folder has no log.csv.
        InputError: the log has no such column.
    """
    path = pathlib.Path(folder) / "log.csv"
    if not path.is_file():
        raise MissingInputError(f"There is no {path}: give folders that 'tfzoo train' wrote.")
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    if rows and metric not in rows[0]:
        raise InputError(f"{path} has no column '{metric}': it has {', '.join(rows[0])}.")
    return [(int(row["epoch"]) + 1, float(row[metric])) for row in rows if row[metric]]


def draw(folders, names, metric: str, path) -> None:
    """Writes a picture with one line for each training."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4), layout="constrained")
    axes = figure.add_subplot()
    for folder, name in zip(folders, names, strict=True):
        epochs, values = zip(*read_curve(folder, metric), strict=True)
        axes.plot(epochs, values, marker=".", label=f"{name} ({max(values):.3f})")
    axes.set_xlabel("epoch")
    axes.set_ylabel(metric)
    axes.grid(alpha=0.3)
    axes.legend(title="highest value in brackets")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120)


def main(arguments=None) -> None:
    parser = argparse.ArgumentParser(description="Draw what several trainings reached, epoch by epoch.")
    parser.add_argument("run", nargs="+", metavar="NAME=FOLDER", help="what to call it, and the folder of the training")
    parser.add_argument("--metric", default="val_AP50", help="a column of log.csv (default: val_AP50)")
    parser.add_argument("--output", required=True, metavar="FILE.png")
    args = parser.parse_args(arguments)
    names, _, folders = zip(*(run.rpartition("=") for run in args.run), strict=True)
    draw(folders, names, args.metric, args.output)


if __name__ == "__main__":
    main()
