"""``python -m tfzoo.benchmarks.ladder``: R-CNN, Fast R-CNN and Faster R-CNN, one network, on this processor.

All three score the same number of regions of one picture with the same random weights. R-CNN (Girshick et al. 2014) warps each
region to a picture of its own, on which all of the network runs; it is the Fast R-CNN here, given warped regions as pictures and
all of each as its one proposal, without the paper's margin of context. Fast R-CNN (Girshick 2015) runs the backbone once. Both need
proposals: selective search, where OpenCV is there, is timed for them. Faster R-CNN (Ren et al. 2015) finds its own; their time is
that of ``predict`` beyond what Fast R-CNN takes for as many regions.
"""

import argparse
import json
import statistics
import sys
import time

import keras
import numpy as np

import tfzoo
from tfzoo.data import load_dataset
from tfzoo.data.images import read_image, resize_image
from tfzoo.data.proposal_sources import selective_search
from tfzoo.errors import InputError
from tfzoo.export.calibration import scattered_boxes
from tfzoo.layers.nms import select

CLASSES = 20  # Pascal VOC's
WARPED = 224  # pixels a side; the paper's network took 227
TOGETHER = 16  # warped regions in a batch


class WarpedRegions:
    """R-CNN, made of a Fast R-CNN model: the backbone runs on each region.

    Args:
        model: a Fast R-CNN.
        side: of the warped regions, pixels.
    """

    def __init__(self, model, side=WARPED):
        self.model, self.side = model, side
        self._raw = model.deployed(raw=True)

    def predict(self, picture: np.ndarray, proposals: np.ndarray) -> dict:
        """The answer for a picture uint8 [H, W, 3] and boxes [P, 4], each with an area, as a batch of one."""
        parts = [self._score(picture, proposals[first : first + TOGETHER]) for first in range(0, len(proposals), TOGETHER)]
        logits, numbers = (np.concatenate([part[name] for part in parts])[:, 0] for name in ("class_logits", "box_regression"))
        found = self.model.decoded(proposals[None], logits[None], numbers[None], picture.shape[:2])
        answer = select(*found, self.model.box_nms_thresh, self.model.box_detections_per_img, pictures=1)
        columns = answer["labels"]
        answer |= {"labels": keras.ops.where(columns >= 0, columns - self.model.first_column, columns)}
        return keras.tree.map_structure(keras.ops.convert_to_numpy, answer)

    def _score(self, picture, boxes):
        size = self.side, self.side
        warped = np.stack([resize_image(picture, size, tuple(box)) for box in boxes.tolist()])
        all_of_it = np.broadcast_to(np.array([0, 0, self.side, self.side], np.float32), (len(boxes), 1, 4))
        fill = TOGETHER - len(boxes)  # one size of batch, so that the graph is traced once
        inputs = {"images": warped, "proposals": all_of_it}
        inputs = {name: np.concatenate([values, values[-1:].repeat(fill, axis=0)]) for name, values in inputs.items()}
        found = self._raw.predict_on_batch(inputs)
        return {name: np.asarray(values)[: len(boxes)] for name, values in found.items()}


def build(count: int, width_multiplier: float = 1.0):
    """Fast R-CNN and Faster R-CNN with the same random weights, for so many proposals."""
    keras.utils.set_random_seed(0)
    options = {"num_classes": CLASSES, "width_multiplier": width_multiplier}
    fast = tfzoo.create_model("fastrcnn_resnet50_fpn", **options)
    faster = tfzoo.create_model("fasterrcnn_resnet50_fpn", rpn_post_nms_top_n_test=count, **options)
    weights = {layer.name: layer.get_weights() for layer in fast.named_layers()}
    for layer in faster.named_layers():
        if layer.weights and layer.name in weights:
            layer.set_weights(weights[layer.name])
    return fast, faster


def climb(picture: np.ndarray, count: int, rounds: int, width_multiplier: float = 1.0) -> dict:
    """Times the three on a picture uint8 [H, W, 3], in turn, after one run each to warm up.

    Returns:
        {"size", "proposals", "rounds", "width_multiplier", "searched" (what selective search found; None without OpenCV), "rows"};
        a row is {"model", "network", "finding", "together"}, medians in seconds: with the proposals given, for finding them, and
        both; None where that is not known.
    """
    fast, faster = build(count, width_multiplier)
    warped = WarpedRegions(fast)
    found = _search(picture)
    anywhere = scattered_boxes(1, count, picture.shape[:2])[0]  # in place of those that are missing
    proposals = (anywhere if found is None else np.concatenate([found, anywhere]))[:count]
    inputs = {"images": picture[None], "proposals": proposals[None]}
    cases = {
        "R-CNN": lambda: warped.predict(picture, proposals),
        "Fast R-CNN": lambda: fast.predict(inputs, verbose=0),
        "Faster R-CNN": lambda: faster.predict(picture[None], verbose=0),
    }
    if found is not None:
        cases["search"] = lambda: selective_search(picture)
    seconds = _in_turn(cases, rounds)
    search = seconds.get("search")
    own = max(seconds["Faster R-CNN"] - seconds["Fast R-CNN"], 0.0)
    rows = [_row(name, seconds[name], search) for name in ("R-CNN", "Fast R-CNN")]
    rows.append(_row("Faster R-CNN", seconds["Faster R-CNN"] - own, own))
    return {
        "size": list(picture.shape[:2]),
        "proposals": count,
        "rounds": rounds,
        "width_multiplier": width_multiplier,
        "searched": None if found is None else len(found),
        "rows": rows,
    }


def _search(picture):
    try:
        return selective_search(picture)
    except InputError as error:
        print(f"Proposals at random places: {error}", file=sys.stderr)
        return None


def _in_turn(cases, rounds):
    times = {name: [] for name in cases}
    for round_ in range(rounds + 1):
        for name, run in cases.items():
            start = time.perf_counter()
            run()
            if round_:
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def _row(name, network, finding):
    return {"model": name, "network": network, "finding": finding, "together": None if finding is None else network + finding}


def format_table(result: dict) -> str:
    """For people (Markdown)."""
    size = "x".join(map(str, result["size"]))
    lines = [
        f"{result['proposals']} proposals, a picture of {size}, ResNet-50 with a pyramid, width {result['width_multiplier']:g}; "
        f"medians of {result['rounds']} runs in turn, seconds",
        "",
        "| | proposals given | finding them | together |",
        "|---|---|---|---|",
    ]
    for row in result["rows"]:
        lines.append(f"| {row['model']} | {' | '.join(_seconds(row[key]) for key in ('network', 'finding', 'together'))} |")
    return "\n".join(lines)


def _seconds(value):
    return "-" if value is None else f"{value:.3f}"


def main(arguments=None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tfzoo.benchmarks.ladder", description=__doc__.splitlines()[0])
    parser.add_argument("--picture", help="default: one of the shapes")
    parser.add_argument("--size", type=int, default=512, help="the picture's sides (default: 512)")
    parser.add_argument("--proposals", type=int, nargs="+", default=[300], metavar="N", help="default: 300")
    parser.add_argument("--width-multiplier", type=float, default=1.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="print JSON")
    args = parser.parse_args(arguments)
    picture = read_image(args.picture) if args.picture else load_dataset("shapes", "test", "detection").read(0)["images"]
    picture = resize_image(picture, (args.size, args.size))
    results = [climb(picture, count, args.rounds, args.width_multiplier) for count in args.proposals]
    print(json.dumps(results, indent=1) if args.json else "\n\n".join(map(format_table, results)))


if __name__ == "__main__":
    main()
