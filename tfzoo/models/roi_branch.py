"""What a branch of the second stage is: a small network on each region's map, its loss, and its part of the answer."""

import abc

from keras import ops


class RoIBranch(abc.ABC):
    """Base of ``MaskBranch`` and ``KeypointBranch``.

    Attributes:
        name: of its loss; size: of the map that it takes of each region.
        answers: what it adds to the answer.
        head: a functional Keras model, [N, size, size, C] to what the branch predicts.
    """

    name: str
    size: int
    answers: tuple[str, ...]

    def run(self, regions):
        """The head on maps [B, R, size, size, C] of regions: float32 [B, R, ...]."""
        return per_region(self.head, regions)

    @abc.abstractmethod
    def scaled_targets(self, y, given, resized) -> dict:
        """What ``loss`` needs of the targets ``y``, for pictures of the size ``given`` that the network sees ``resized``."""

    @abc.abstractmethod
    def loss(self, regions, rois, truth):
        """A float32 scalar.

        Args:
            regions: maps [B, R, size, size, C].
            rois: of regions: "boxes" float32 [B, R, 4], "matched" int32 [B, R], the object that each stands for, "positive" bool
                [B, R], whether it does, "columns" int32 [B, R], its class's.
            truth: what ``scaled_targets`` gives.
        """

    @abc.abstractmethod
    def answer(self, regions, boxes, columns) -> dict:
        """What it adds to the answer, for detections with boxes [B, D, 4], in pixels of the network's input, of columns [B, D]."""

    @abc.abstractmethod
    def rescale(self, answer, factors) -> dict:
        """The same in pixels of the given picture; ``factors`` [4] take boxes there."""


def per_region(head, regions):
    """Applies a head to maps [B, R, h, w, C]: float32 [B, R, ...], or a dict of such."""
    count = ops.shape(regions)[1]
    found = head(ops.reshape(regions, (-1, *regions.shape[2:])))

    def split(x):
        return ops.cast(ops.reshape(x, (-1, count, *x.shape[1:])), "float32")

    return {name: split(x) for name, x in found.items()} if isinstance(found, dict) else split(found)
