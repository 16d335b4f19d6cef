"""``tfzoo data inspect``: what a data set holds, and what is odd about it."""

import collections
import json
import pathlib
import sys

import numpy as np

from tfzoo.data.boxes import box_areas, clip_boxes, shortest_sides
from tfzoo.data.images import IGNORE_LABEL, resize_image
from tfzoo.data.objects import Objects, View

SMALL, LARGE = 32**2, 96**2  # pixels: COCO's small, medium and large boxes
TINY = 4  # pixels of the shorter side: smaller than the stride of most networks' finest level
MOST_LISTED = 20  # odd boxes of a kind that are named
SHEET, DRAWN_SIDE = 16, 400  # pictures on the contact sheet, and pixels of their longer side
ODDITIES = {
    "empty": "no area inside the picture",
    "outside": "reaches outside the picture",
    "tiny": f"shorter side below {TINY} pixels",
    "twice": "the same box and class twice",
}


def inspect(dataset, output=None, verbose=True) -> dict:
    """Reads a whole data set once.

    Args:
        dataset: see ``tfzoo.load_dataset``.
        output: folder that exists; inspection.json, table.md and contact.png are written into it.
        verbose: show a progress bar, where a terminal is there to show it.

    Returns:
        a dict: spec, split, task, pictures; sizes (smallest, median and largest height and width); per_class. Tasks with boxes:
        boxes, pictures_without_boxes, most_boxes, crowd, difficult, small, medium, large; per_class name -> {"boxes", "pictures",
        "median_side": square root of the median area}; odd (kind -> {"count", "listed": ["IMAGEID: [x1, y1, x2, y2] NAME"]}).
        Semantic task: per_class name -> {"share" of the pixels that are not ignored, "pictures"}, ignored (share of all pixels).

    Raises:
        InputError: a picture or its labels are damaged.
    """
    from keras.utils import Progbar

    count = SemanticCounts(dataset) if dataset.task == "semantic" else BoxCounts(dataset)
    progress = Progbar(len(dataset), unit_name="picture", verbose=int(verbose and sys.stdout.isatty()))
    sizes = []
    for index in range(len(dataset)):
        sample = dataset.read(index)
        sizes.append(sample["images"].shape[:2])
        count.add(sample)
        progress.update(index + 1)
    result = {
        "spec": dataset.spec,
        "split": dataset.split,
        "task": dataset.task,
        "pictures": len(dataset),
        "sizes": {name: pick(sizes, axis=0).astype(int).tolist() for name, pick in SIZES.items()},
        **count.result(),
    }
    if output is not None:
        _write(result, dataset, pathlib.Path(output))
    return result


SIZES = {"smallest": np.min, "median": np.median, "largest": np.max}


class BoxCounts:
    """Counts boxes, and finds odd ones."""

    def __init__(self, dataset):
        self._names = dataset.class_names
        self._areas, self._labels, self._per_picture, self._pictures = [], [], [], np.zeros(len(self._names), np.int64)
        self._flags = collections.Counter({"crowd": 0, "difficult": 0})
        self._odd = {kind: {"count": 0, "listed": []} for kind in ODDITIES}

    def add(self, sample):
        found = sample["bounding_boxes"]
        boxes, labels = found["boxes"], found["labels"]
        self._areas.append(box_areas(boxes))
        self._labels.append(labels)
        self._per_picture.append(len(boxes))
        self._pictures[np.unique(labels)] += 1
        for flag in self._flags:
            self._flags[flag] += int(np.sum(found.get(flag, 0)))
        for kind, which in odd_boxes(boxes, labels, sample["images"].shape[:2]).items():
            self._odd[kind]["count"] += len(which)
            for row in which[: MOST_LISTED - len(self._odd[kind]["listed"])]:
                edges = ", ".join(f"{edge:g}" for edge in boxes[row])
                self._odd[kind]["listed"].append(f"{sample['image_id']}: [{edges}] {self._names[labels[row]]}")

    def result(self):
        areas, labels = np.concatenate(self._areas), np.concatenate(self._labels)
        small, large = areas < SMALL, areas > LARGE
        per_class = {}
        for label, name in enumerate(self._names):
            own = areas[labels == label]
            side = float(np.sqrt(np.median(own))) if len(own) else None
            per_class[name] = {"boxes": len(own), "pictures": int(self._pictures[label]), "median_side": side}
        return {
            "boxes": len(areas),
            "pictures_without_boxes": self._per_picture.count(0),
            "most_boxes": max(self._per_picture),
            **self._flags,
            "small": int(small.sum()),
            "medium": int((~small & ~large).sum()),
            "large": int(large.sum()),
            "per_class": per_class,
            "odd": self._odd,
        }


def odd_boxes(boxes, labels, size) -> dict[str, np.ndarray]:
    """Finds the odd boxes of a picture of ``size`` = (height, width): kind (see ``ODDITIES``) -> their indices."""
    inside = clip_boxes(boxes, size)
    empty = shortest_sides(inside) <= 0
    outside = (np.abs(inside - boxes) > 0.5).any(axis=1)  # half a pixel is rounding
    rows = np.concatenate([boxes, labels[:, None]], axis=1)
    first = np.unique(rows, axis=0, return_index=True)[1]
    kinds = {
        "empty": empty,
        "outside": outside & ~empty,
        "tiny": (shortest_sides(boxes) < TINY) & ~empty,
        "twice": ~np.isin(np.arange(len(rows)), first),
    }
    return {kind: np.flatnonzero(which) for kind, which in kinds.items()}


class SemanticCounts:
    """Counts pixels of label maps."""

    def __init__(self, dataset):
        self._names = dataset.class_names
        self._pixels, self._pictures = np.zeros(256, np.int64), np.zeros(256, np.int64)

    def add(self, sample):
        counts = np.bincount(sample["segmentation_masks"].ravel(), minlength=256)
        self._pixels += counts
        self._pictures += counts > 0

    def result(self):
        total = max(int(self._pixels[:IGNORE_LABEL].sum()), 1)
        return {
            "ignored": float(self._pixels[IGNORE_LABEL] / self._pixels.sum()),
            "per_class": {
                name: {"share": float(self._pixels[label] / total), "pictures": int(self._pictures[label])}
                for label, name in enumerate(self._names)
            },
        }


def _write(result, dataset, folder):
    from tfzoo.visualization import contact_sheet, save_image

    (folder / "inspection.json").write_text(json.dumps(result, indent=1))
    (folder / "table.md").write_text(format_table(result) + "\n")
    indices = np.unique(np.linspace(0, len(dataset) - 1, SHEET).astype(int)).tolist()
    samples = [dataset.read(index) for index in indices]
    save_image(
        contact_sheet([_draw(sample, dataset.class_names) for sample in samples], [sample["image_id"] for sample in samples]),
        folder / "contact.png",
    )


def _draw(sample, class_names):
    from tfzoo.visualization import draw_boxes, explained

    if "segmentation_masks" in sample:
        return explained(sample["images"], sample["segmentation_masks"][..., 0], class_names)
    image = sample["images"]
    scale = min(DRAWN_SIDE / max(image.shape[:2]), 1)  # shrunk first: names are to be read on the sheet
    size = tuple(max(round(side * scale), 1) for side in image.shape[:2])
    objects = Objects.of(sample).through(View.whole(image.shape[:2], size))
    marks = {"masks": objects.masks, "keypoints": objects.keypoints}
    return draw_boxes(resize_image(image, size), objects.boxes, objects.labels, class_names, **marks)


def format_table(result: dict) -> str:
    """A result as a table for people (Markdown)."""
    sizes = "; ".join(f"{name} {height}x{width}" for name, (height, width) in result["sizes"].items())
    lines = [
        f"{result['spec']} {result['split']} ({result['task']}): {result['pictures']} pictures, {len(result['per_class'])} classes",
        f"Height x width, each by itself: {sizes}.",
    ]
    return "\n".join([*lines, *(_format_pixels(result) if result["task"] == "semantic" else _format_boxes(result))])


def _format_pixels(result):
    rows = [f"| {name} | {facts['share']:.2%} | {facts['pictures']} |" for name, facts in result["per_class"].items()]
    return [f"Ignored: {result['ignored']:.2%} of the pixels.", "", "| class | share | pictures |", "|---|---|---|", *rows]


def _format_boxes(result):
    odd = {kind: entry for kind, entry in result["odd"].items() if entry["count"]}
    lines = [
        f"Boxes: {result['boxes']}, at most {result['most_boxes']} in a picture; pictures without: "
        f"{result['pictures_without_boxes']}.",
        f"Small (below 32x32 pixels): {result['small']}; medium: {result['medium']}; large (above 96x96): {result['large']}.",
        f"Crowds: {result['crowd']}; difficult: {result['difficult']}.",
        "",
        "| class | boxes | pictures | typical side |",
        "|---|---|---|---|",
    ]
    for name, facts in result["per_class"].items():
        side = "" if facts["median_side"] is None else f"{facts['median_side']:.0f} px"
        lines.append(f"| {name} | {facts['boxes']} | {facts['pictures']} | {side} |")
    lines += ["", "No box is odd." if not odd else "Odd boxes:"]
    for kind, entry in odd.items():
        lines.append(f"- {ODDITIES[kind]}: {entry['count']}")
        lines += [f"    {line}" for line in entry["listed"][:5]]
        if entry["count"] > 5:
            lines.append(f"    ... and {entry['count'] - 5} more")
    return lines
