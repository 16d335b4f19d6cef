"""``tfzoo evaluate``: the accuracy of any artifact, measured on the artifact itself."""

import json
import pathlib
import sys
import time

import keras

from tfzoo.benchmarks import detection_accuracy, semantic_accuracy
from tfzoo.benchmarks.detection_accuracy import DetectionAccuracy
from tfzoo.benchmarks.semantic_accuracy import SemanticAccuracy
from tfzoo.data import load_dataset
from tfzoo.data.images import parse_size
from tfzoo.data.proposals import check_taken, with_proposals
from tfzoo.errors import InputError
from tfzoo.export import load
from tfzoo.export.tiling import with_tiles

GROUP = 8  # pictures read before they are run


def evaluate(
    artifact,
    data: str,
    split: str = "val",
    image_size=None,
    threads=None,
    verbose=True,
    tile=None,
    overlap=None,
    output=None,
    worst=0,
    segments=None,
    max_detections=None,
    weights=None,
    proposals=None,
) -> dict:
    """Measures an artifact on a data set, as its task asks for.

    Args:
        artifact: what ``export.load`` takes, or a ``Runner``. Its classes are matched
            with the data set's by name (see ``matching``).
        data: data set spec; split: which part of it.
        image_size: N or (height, width): pictures are resized to it. A segmenter is then compared with label maps resized to it
            (nearest); without, at each picture's original size, whatever size the artifact runs at. Boxes are always compared in
            the original picture's pixels.
        threads: of the runtime.
        verbose: show a progress bar, where a terminal is there to show it.
        tile, overlap: run a segmenter by tiles (see ``export.tiling.TiledRunner``); pictures are resized first, if at all.
        output: folder that exists; result.json, table.md and pictures are written into it: confusion.png and the worst pictures, or
            precision_recall.png (and of masks or keypoints precision_recall_masks.png or precision_recall_keypoints.png).
        worst: segmenters: how many pictures of the lowest mean IoU are drawn, beside their truth, as worst/NN_IMAGEID.png.
        segments: segmenters: name of a class whose connected regions count as segments (the cells between membranes): the
            foreground-restricted Rand error of each picture and the share of its pixels that are wrongly inside or outside (see
            ``metrics.segments``).
        max_detections: detectors: so many of each class in a picture count to COCO's numbers; None: as COCO has it, 100, and 20
            where keypoints are compared.
        weights: of an artifact that is a model's name.
        proposals: of an artifact that takes them: the folder that holds those of the split, see ``data.proposals``.

    Returns:
        a dict: what was measured (artifact, format, task, data, split, pictures, measured_at, tile, overlap, seconds), unmatched
        and equated (see ``matching.ClassMatch``), left_out (classes that never occur), per_class, and

        of a segmenter mean_iou, pixel_accuracy, mean_pixel_accuracy, frequency_weighted_iou (see ``metrics.confusion.summarize``),
        confusion (rows truth, columns prediction, with one more column where the artifact answers classes that count as wrong),
        worst (image_id and mean_iou, the lowest first); with ``segments``: segments, with the means over the pictures;

        of a detector COCO's twelve numbers for boxes (``metrics.coco.NAMES``), voc2007 and voc2012 (``metrics.voc``),
        max_detections. For the task "instance" ``masks`` holds what ``CocoEvaluator`` gives for masks: the same names, per_class,
        left_out and max_detections; for "keypoint" ``keypoints`` what it gives for these (``metrics.coco.KEYPOINT_NAMES``), with
        the sigmas of OKS.

    Raises:
        InputError: the artifact has no class of the data set, either cannot be read, the tiles do not fit the artifact, there
            is no folder for the worst pictures, or something was asked for that is not for the artifact's task.
    """
    if worst and output is None:
        raise InputError(f"The {worst} worst pictures need a folder to be drawn into: give --output DIR too.")
    runner = artifact if hasattr(artifact, "predict") else load(artifact, threads, None if tile else image_size, weights)
    runner = with_tiles(runner, tile, overlap)
    runner.require_answer()
    dataset = load_dataset(data, split, runner.task)
    check_taken(str(runner.path), runner.takes_proposals, proposals)
    if proposals is not None:
        dataset = with_proposals(dataset, proposals, count=None)
    measure = _measure(runner, dataset, parse_size(image_size), worst, segments, max_detections)
    start = time.perf_counter()
    for sample, answer in _run(runner, dataset, measure, 1 if tile else GROUP, verbose):
        measure.add(sample, answer)
    result = {
        "artifact": str(runner.path),
        "format": runner.name,
        "task": runner.task,
        "data": data,
        "split": split,
        "pictures": len(dataset),
        "measured_at": measure.measured_at,
        "tile": "x".join(map(str, runner.tile)) if tile else None,
        "overlap": runner.overlap if tile else None,
        "seconds": time.perf_counter() - start,
        **measure.result(),
    }
    if output is not None:
        folder = pathlib.Path(output)
        (folder / "result.json").write_text(json.dumps(result, indent=1))
        (folder / "table.md").write_text(format_table(result) + "\n")
        measure.draw(result, folder)
    return result


def _measure(runner, dataset, size, worst, segments, max_detections):
    """What compares answers with the truth, for the artifact's task."""
    if runner.task == "semantic":
        _refuse(runner, {"--max-detections": max_detections})
        return SemanticAccuracy(runner, dataset, size, worst, segments)
    _refuse(runner, {"--worst": worst, "--segments": segments})
    if size:
        runner.set_image_size(size)
    return DetectionAccuracy(runner, dataset, max_detections)


def _refuse(runner, options):
    for flag, value in options.items():
        if value:
            raise InputError(f"{flag} is not for the task '{runner.task}', which {runner.path} is for: leave it out.")


def _run(runner, dataset, measure, group, verbose):
    """Yields samples as they are measured, with what the artifact answers for each."""
    progress = keras.utils.Progbar(len(dataset), unit_name="picture", verbose=int(verbose and sys.stdout.isatty()))
    for first in range(0, len(dataset), group):
        read = [dataset.read(index) for index in range(first, min(first + group, len(dataset)))]
        samples = [measure.prepare(sample) for sample in read]
        more = {} if dataset.proposal_count is None else {"proposals": [sample["proposals"] for sample in read]}
        answers = runner.predict([sample["images"] for sample in samples], **more)
        for row, sample in enumerate(samples):
            yield sample, {name: values[row] for name, values in answers.items()}
        progress.update(first + len(samples))


def format_table(result: dict) -> str:
    """A result as a table for people (Markdown)."""
    tiles = f", in tiles of {result['tile']} that overlap by {result['overlap']}" if result["tile"] else ""
    measured = (
        f"{result['artifact']} ({result['format']}) on {result['data']} {result['split']}: "
        f"{result['pictures']} pictures, at {result['measured_at']}{tiles}"
    )
    kind = semantic_accuracy if result["task"] == "semantic" else detection_accuracy
    return "\n".join([measured, "", *kind.table_lines(result)])
