"""``tfzoo benchmark accuracy``: several artifacts on one data set, side by side."""

import json
import pathlib

from tfzoo.benchmarks.accuracy import evaluate
from tfzoo.benchmarks.matching import describe
from tfzoo.data.proposals import check_taken
from tfzoo.errors import InputError
from tfzoo.export import load
from tfzoo.export.sidecar import files_of
from tfzoo.files import replacing

PART = "accuracy.part.json"

METRICS = {  # of each task, the leading one first: what people call it, and where it is in a result, see ``locate``
    "semantic": {"mean IoU": "mean_iou", "pixel accuracy": "pixel_accuracy"},
    "detection": {"AP": "AP", "AP50": "AP50"},
    "instance": {"mask AP": "masks AP", "mask AP50": "masks AP50", "box AP": "AP", "box AP50": "AP50"},
    "keypoint": {"OKS AP": "keypoints AP", "OKS AP50": "keypoints AP50", "box AP": "AP", "box AP50": "AP50"},
}


def compare(
    artifacts, data, split="val", image_size=None, threads=None, max_detections=None, proposals=None, verbose=True, folder=None
) -> list[dict]:
    """Measures artifacts of one task on the same pictures.

    Args:
        artifacts: paths.
        data, split, image_size, threads, max_detections, proposals: as in ``accuracy.evaluate``, the same for all.
        verbose: say which artifact is measured, and how far that is.
        folder: where the results are saved, see ``save``; those of the first artifacts lie in accuracy.part.json until the last is
            measured.

    Returns:
        what ``evaluate`` gives for each, in the order given, and "bytes", its size on disk.

    Raises:
        InputError: the artifacts are for different tasks; and what ``evaluate`` raises. All are opened before any is measured, so
            that most of what may be wrong shows at once.
    """
    runners = [load(path, threads, image_size) for path in artifacts]
    if len({runner.task for runner in runners}) > 1:
        told = ", ".join(f"{runner.path} ({runner.task})" for runner in runners)
        raise InputError(f"Artifacts of different tasks cannot be compared: {told}.")
    for runner in runners:
        runner.require_answer()
        check_taken(str(runner.path), runner.takes_proposals, proposals)
    results = []
    for number, runner in enumerate(runners, start=1):
        if verbose:
            print(f"[{number}/{len(runners)}] {runner.path}", flush=True)
        limits = {"max_detections": max_detections, "proposals": proposals}
        result = evaluate(runner, data, split, image_size, verbose=verbose, **limits)
        results.append(result | {"bytes": sum(file.stat().st_size for file in files_of(runner.path))})
        if folder is not None:
            _keep(results, pathlib.Path(folder))
    if folder is not None:
        save(results, folder)
        (pathlib.Path(folder) / PART).unlink()
    return results


def _keep(results, folder):
    with replacing(folder / PART) as draft:
        draft.write_text(json.dumps(results, indent=1))


def locate(result: dict, keys: str) -> tuple[dict, str]:
    """The part of a result of ``evaluate`` that a number is in, and its key there, from "masks AP50", say."""
    *outer, key = keys.split()
    for name in outer:
        result = result[name]
    return result, key


def _pick(result, keys):
    part, key = locate(result, keys)
    return part[key]


def format_table(results: list[dict]) -> str:
    """A table for people (Markdown).

    The change is that of the first number, from the first artifact's; there is none where other classes count.
    """
    first, metrics = results[0], METRICS[results[0]["task"]]
    leading = next(iter(metrics))
    alike = len({result["measured_at"] for result in results}) == 1
    size = f", at {first['measured_at']}" if alike else ""
    lines = [
        f"{first['data']} {first['split']}, {first['pictures']} pictures{size}.",
        "",
        f"| artifact | format | MB | {' | '.join(metrics)} | change of {leading} |",
        "|---|---|---|" + "---|" * (len(metrics) + 1),
    ]
    for result in results:
        cells = [result["artifact"], result["format"], f"{result['bytes'] / 1e6:.2f}"]
        cells += [_number(_pick(result, keys), ".4f") for keys in metrics.values()]
        values = _pick(result, metrics[leading]), _pick(first, metrics[leading])
        comparable = None not in values and result["unmatched"]["data"] == first["unmatched"]["data"]
        lines.append(f"| {' | '.join([*cells, _number(values[0] - values[1] if comparable else None, '+.4f')])} |")
    for result in results:
        said = [] if alike else [f"Measured at {result['measured_at']}."]
        for sentence in [*said, *describe(result["unmatched"], result["equated"])]:
            lines += ["", f"{result['artifact']}: {sentence}"]
    return "\n".join(lines)


def _number(value, form):
    return "-" if value is None else format(value, form)


def save(results: list[dict], folder) -> None:
    """Writes accuracy.md, accuracy.json and accuracy.png into a folder that is there."""
    folder = pathlib.Path(folder)
    (folder / "accuracy.md").write_text(format_table(results) + "\n")
    (folder / "accuracy.json").write_text(json.dumps(results, indent=1))
    plot(results, folder / "accuracy.png")


def plot(results: list[dict], path) -> None:
    """Draws the leading number of each artifact as a bar, and those of its classes as dots on it."""
    from matplotlib.figure import Figure

    title, keys = next(iter(METRICS[results[0]["task"]].items()))
    figure = Figure(figsize=(7, 0.8 + 0.45 * len(results)), layout="constrained")
    axes = figure.add_subplot()
    axes.barh(range(len(results)), [_pick(result, keys) or 0.0 for result in results], color="#0072b2")
    for row, result in enumerate(results):
        classes = _of_classes(result, keys)
        axes.plot(classes, [row] * len(classes), "o", color="#222222", markersize=3, alpha=0.6)
        axes.text(1.02, row, _number(_pick(result, keys), ".3f"), verticalalignment="center")  # beside the dots, not on them
    axes.set_yticks(range(len(results)), [f"{result['format']}  ({pathlib.Path(result['artifact']).name})" for result in results])
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.set_xlabel(f"{title}; dots: its classes")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120)


def _of_classes(result, keys):
    """The leading number of each class that has one."""
    part, key = locate(result, keys)
    numbers = (value[key] if isinstance(value, dict) else value for value in part["per_class"].values())
    return [number for number in numbers if number is not None]
