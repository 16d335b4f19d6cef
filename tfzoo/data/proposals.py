"""Proposals: boxes where something may be, found beforehand; what Fast R-CNN looks at (Girshick 2015).

They are kept one file a split, DIR/{split}.npz: for each picture's ``image_id`` a float32 array [n, 4], xyxy in pixels of the
picture as the data set has it, best first. ``proposal_sources`` finds them.
"""

import pathlib
import sys
import time
import zipfile

import numpy as np

from tfzoo.data.boxes import box_areas, box_ious, clip_boxes, is_wanted, scale_boxes
from tfzoo.data.dataset import Dataset
from tfzoo.errors import InputError, MissingInputError
from tfzoo.files import replacing

COUNT = 1000
THRESHOLDS = (0.5, 0.7, 0.9)
COUNTS_SHOWN = (100, 300, 1000)


def with_proposals(dataset: Dataset, folder, count: int | None = COUNT) -> "WithProposals":
    """The same pictures, with their proposals.

    Args:
        dataset: for the task "detection".
        folder: with {split}.npz.
        count: so many proposals of a picture, the best ones, are taken; batches are padded to them. None: as many as the fullest
            picture has.

    Returns:
        a data set whose samples have "proposals", float32 [n, 4], n <= ``count``, and whose ``batches`` and ``loader`` give
        ({"images", "proposals": float32 [B, count, 4], 0 in free places}, targets). The proposals go through the same geometry as
        the boxes.

    Raises:
        MissingInputError: there is no such file.
        InputError: another task, a count below 1, or a file that is damaged or holds anything but boxes. Reading a sample raises
            it too, where its picture has no proposals.
    """
    if dataset.task != "detection":
        raise InputError(
            f"Proposals are for the task 'detection', and {dataset.spec} was read for '{dataset.task}': leave them out."
        )
    if count is not None and count < 1:
        raise InputError(f"The number of proposals is {count}: it must be at least 1.")
    path = place(folder, dataset.split)
    if not path.is_file():
        raise MissingInputError(
            f"There are no proposals {path}: make them with 'tfzoo data proposals --data {dataset.spec} --split {dataset.split} "
            f"--output {folder}'."
        )
    proposals = ProposalFile(path, count)
    return WithProposals(dataset, proposals, count or max(proposals.most, 1))


def check_taken(name: str, takes_proposals: bool, folder) -> None:
    """Raises an InputError unless proposals are given to a model that takes them, and only to such a one."""
    if takes_proposals and folder is None:
        raise InputError(
            f"Model '{name}' looks at proposals: give their folder with --proposals ('tfzoo data proposals' makes them)."
        )
    if folder is not None and not takes_proposals:
        raise InputError(f"Model '{name}' takes pictures alone, no proposals: leave out --proposals.")


def place(folder, split) -> pathlib.Path:
    """Where the proposals of a split are."""
    return pathlib.Path(folder) / f"{split}.npz"


class WithProposals(Dataset):
    """See ``with_proposals``."""

    def __init__(self, dataset: Dataset, proposals: "ProposalFile", count: int):
        self.tasks, self.box_keys, self.most_boxes = (dataset.task,), dataset.box_keys, dataset.most_boxes
        super().__init__(dataset.spec, dataset.split, dataset.task, dataset.class_names)
        self.dataset, self.proposals, self.proposal_count = dataset, proposals, count

    def __len__(self):
        return len(self.dataset)

    def read(self, index):
        sample = self.dataset.read(index)
        boxes = self.proposals.read(sample["image_id"])
        return sample | {"proposals": clip_boxes(boxes, sample["images"].shape[:2])}

    def read_boxes(self, index):
        return self.dataset.read_boxes(index)


class ProposalFile:
    """Proposals of many pictures, all in memory: a thousand of one take 16 kB.

    Args:
        path: an .npz file: picture's key -> boxes [n, 4].
        count: so many of each picture are kept, the first ones; None: all.

    Raises:
        InputError: it is no such file.
    """

    def __init__(self, path, count=None):
        self.path = pathlib.Path(path)
        try:
            with np.load(self.path, allow_pickle=False) as arrays:
                # All at once, in one thread: Python 3.11's parser, which reads the headers, does not bear several of them.
                self._boxes = {key: self._check(key, arrays[key])[:count].astype(np.float32) for key in arrays.files}
        except InputError:
            raise
        except (OSError, ValueError, AttributeError, zipfile.BadZipFile) as error:
            reason = str(error).partition("\n")[0][:100]
            raise InputError(f"{path} cannot be read as proposals ({reason}): give an .npz file, or make it anew.") from None

    def _check(self, key, boxes):
        if boxes.ndim != 2 or boxes.shape[1] != 4 or not np.issubdtype(boxes.dtype, np.number) or not np.isfinite(boxes).all():
            raise InputError(
                f"{self.path} has {boxes.dtype} {list(boxes.shape)} for the picture '{key}': proposals must be finite numbers "
                "[n, 4], left, top, right, bottom in pixels."
            )
        return boxes

    @property
    def most(self) -> int:
        """How many the fullest picture has."""
        return max(map(len, self._boxes.values()), default=0)

    def read(self, key: str) -> np.ndarray:
        """The boxes of a picture, float32 [n, 4]; an InputError where there are none."""
        if key not in self._boxes:
            raise InputError(f"{self.path} has no proposals for the picture '{key}': make the file anew from the same data.")
        return self._boxes[key]


def pad_proposals(proposals, count: int) -> np.ndarray:
    """Of lists of boxes [n, 4], best first, the first ``count`` each: float32 [B, count, 4], 0 in free places."""
    padded = np.zeros((len(proposals), count, 4), np.float32)
    for row, boxes in zip(padded, proposals, strict=True):
        row[: len(boxes)] = boxes[:count]
    return padded


def as_input(images, samples, dataset):
    """What a model takes: the pictures [B, H, W, 3], and with them the proposals, where the data set of the samples has any.

    The pictures may be resized; the proposals, in pixels of the samples' own, are carried along.
    """
    if dataset.proposal_count is None:
        return images
    boxes = [scale_boxes(sample["proposals"], sample["images"].shape[:2], images.shape[1:3]) for sample in samples]
    return {"images": images, "proposals": pad_proposals(boxes, dataset.proposal_count)}


# === How good they are ===


class RecallCounter:
    """Counts which true boxes are covered, picture after picture.

    Args:
        counts: of each picture so many proposals are looked at, the best ones; None: all.
        thresholds: IoU with a proposal from which a box counts as covered.
    """

    def __init__(self, counts, thresholds=THRESHOLDS):
        self.counts, self.thresholds = tuple(counts), tuple(thresholds)
        self._covered, self._boxes = np.zeros((len(self.counts), len(self.thresholds)), int), 0

    def add(self, bounding_boxes: dict, proposals: np.ndarray) -> None:
        """Adds a sample's ``bounding_boxes``, crowds and difficult ones left out, and the proposals [n, 4] of its picture."""
        boxes = bounding_boxes["boxes"][is_wanted(bounding_boxes)]
        overlaps = box_ious(boxes.astype(np.float64), proposals.astype(np.float64))
        for row, count in zip(self._covered, self.counts, strict=True):
            best = overlaps[:, :count].max(axis=1, initial=0)
            row += (best[:, None] >= np.array(self.thresholds)).sum(axis=0)
        self._boxes += len(boxes)

    def result(self) -> dict:
        """count -> threshold -> share of the boxes; 0 where there are no boxes."""
        shares = self._covered / max(self._boxes, 1)
        return {
            count: dict(zip(self.thresholds, row.tolist(), strict=True)) for count, row in zip(self.counts, shares, strict=True)
        }


def proposal_recall(dataset: WithProposals, count: int | None = None, thresholds=THRESHOLDS) -> dict:
    """Share of a data set's boxes that a proposal covers: threshold of IoU -> share.

    Args:
        dataset: see ``with_proposals``.
        count: so many of each picture are looked at, the best ones; None: all that the data set gives.
        thresholds: IoU with a proposal from which a box counts as covered.
    """
    counter = RecallCounter([count], thresholds)
    for index in range(len(dataset)):
        sample = dataset.read(index)
        counter.add(sample["bounding_boxes"], sample["proposals"])
    return counter.result()[count]


# === Making them ===


def make_proposals(dataset: Dataset, folder, find, count: int = COUNT, verbose=True) -> dict:
    """Finds the proposals of a split, and writes its file.

    Args:
        dataset: for the task "detection".
        folder: that exists; an older file of the split is replaced once all proposals are there.
        find: picture uint8 [H, W, 3] -> boxes [n, 4], best first; see ``proposal_sources``.
        count: so many of a picture are kept, the best ones.
        verbose: show a progress bar, where a terminal is there to show it.

    Returns:
        {"file", "pictures", "proposals" (of all pictures), "seconds" (a picture, finding alone), "recall" (see ``RecallCounter``)}.
    """
    import keras

    path, seconds, total = place(folder, dataset.split), 0.0, 0
    counter = RecallCounter(sorted({count, *(shown for shown in COUNTS_SHOWN if shown < count)}))
    progress = keras.utils.Progbar(len(dataset), unit_name="picture", verbose=int(verbose and sys.stdout.isatty()))
    with replacing(path) as draft, zipfile.ZipFile(draft, "w", zipfile.ZIP_DEFLATED) as archive:
        for index in range(len(dataset)):
            sample = dataset.read(index)
            start = time.perf_counter()
            boxes = find(sample["images"])
            seconds += time.perf_counter() - start
            boxes = clip_boxes(np.asarray(boxes, np.float32).reshape(-1, 4), sample["images"].shape[:2])
            boxes = boxes[box_areas(boxes) > 0][:count]
            with archive.open(f"{sample['image_id']}.npy", "w") as file:
                np.lib.format.write_array(file, boxes, allow_pickle=False)
            counter.add(sample["bounding_boxes"], boxes)
            total += len(boxes)
            progress.update(index + 1)
    pictures = len(dataset)
    return {
        "file": str(path),
        "pictures": pictures,
        "proposals": total,
        "seconds": seconds / pictures,
        "recall": counter.result(),
    }


def format_table(made: dict) -> str:
    """What ``make_proposals`` returns, for people (Markdown)."""
    thresholds = list(next(iter(made["recall"].values())))
    rows = [
        f"| {count} | {' | '.join(f'{row[threshold]:.4f}' for threshold in thresholds)} |" for count, row in made["recall"].items()
    ]
    mean = made["proposals"] / made["pictures"]
    return "\n".join(
        [
            f"{made['file']}: {made['proposals']} proposals of {made['pictures']} pictures ({mean:.0f} a picture), "
            f"{made['seconds']:.3f} s a picture",
            "",
            f"| proposals a picture | {' | '.join(f'recall at IoU {threshold}' for threshold in thresholds)} |",
            "|---|" + "---|" * len(thresholds),
            *rows,
        ]
    )
