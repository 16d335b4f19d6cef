"""Large pictures by tiles: the overlap-tile way of U-Net (Ronneberger et al. 2015, section 2 and figure 2)."""

import numpy as np
from keras.utils import Progbar

from tfzoo.data.images import parse_size
from tfzoo.errors import InputError
from tfzoo.export.runner import Runner
from tfzoo.models.base import MIN_SIZE

BATCH = 8  # tiles that are run at once


def with_tiles(runner, tile=None, overlap=None, image_size=None, verbose=False):
    """Returns a ``TiledRunner``, or the runner itself where no tile is asked for.

    Raises:
        InputError: an overlap without a tile, or as ``TiledRunner`` does.
    """
    if tile is not None:
        return TiledRunner(runner, tile, overlap, image_size, verbose)
    if overlap is not None:
        raise InputError(f"An overlap of {overlap} pixels needs tiles that overlap: give --tile too.")
    return runner


class TiledRunner(Runner):
    """A segmenter's artifact that is run on tiles of a picture; its answer looks like that of a ``Runner``.

    Neighbouring tiles overlap. Of each tile's answer the inner part is kept, ``tile - overlap`` pixels a side; the margin
    around it, half of the overlap, is only context. Where a tile reaches outside the picture, the picture is continued by
    reflection (the border pixel is not repeated), as often as it takes. Answers are kept and not blended: a mean of labels,
    or of scores that belong to different labels, has no meaning.

    A network whose answer for a pixel depends on nothing farther than r pixels away gives the answer that it gives for the
    whole picture, up to r pixels from the picture's border, if ``overlap >= 2 r`` and if ``tile - overlap`` and
    ``overlap // 2`` are multiples of the strides inside the network (32 is one of all). One that pools over its whole input
    sees a tile instead of the picture.

    Args:
        runner: of a segmenter. It is set to run at the size of a tile.
        tile: N or (height, width), at least 32x32; a file of a fixed size takes tiles of this size only.
        overlap: pixels that neighbouring tiles share, from 0 to below the tile's shorter side; None: a quarter of that side.
        image_size: N or (height, width) that pictures are resized to before they are cut; None: their own size.
        verbose: show a progress bar for each picture.

    Raises:
        InputError: the tile or the overlap is none, the file takes another size, or it is no segmenter.
    """

    def __init__(self, runner, tile, overlap=None, image_size=None, verbose=False):
        self.tile = _parse_tile(tile)
        self.overlap = min(self.tile) // 4 if overlap is None else overlap
        self._check(runner)
        runner.set_image_size(self.tile)
        self.runner, self.verbose = runner, verbose
        self.path, self.format, self.name, self.threads = runner.path, runner.format, runner.name, runner.threads
        self.task, self.class_names, self.sidecar = runner.task, runner.class_names, runner.sidecar
        self.image_size, self.batch_size = parse_size(image_size), 1  # pictures may be large: one at a time

    def _check(self, runner):
        size = "x".join(map(str, self.tile))
        if runner.task != "semantic":
            raise InputError(f"{runner.path} is no segmenter (its task is '{runner.task}'): run it without --tile.")
        if min(self.tile) < MIN_SIZE:
            raise InputError(f"Tiles of {size} pixels are too small: give --tile {MIN_SIZE} or more.")
        if not 0 <= self.overlap < min(self.tile):
            raise InputError(
                f"An overlap of {self.overlap} pixels does not fit tiles of {size}: give one from 0 to {min(self.tile) - 1}."
            )
        if not runner.takes_any_size and tuple(runner.image_size) != self.tile:
            fixed = "x".join(map(str, runner.image_size))
            raise InputError(f"{runner.path} takes pictures of {fixed} only, not tiles of {size}: give --tile {fixed}.")

    def _open(self):
        """The runner inside is open already."""

    @property
    def takes_any_size(self):
        return True

    def run(self, images):
        """Runs uint8 [B, H, W, 3] tile by tile."""
        answers = [self._run_picture(picture) for picture in images]
        return {name: np.stack([answer[name] for answer in answers]) for name in answers[0]}

    def _run_picture(self, picture):
        height, width = picture.shape[:2]
        step = self.tile[0] - self.overlap, self.tile[1] - self.overlap
        places = [(top, left) for top in range(0, height, step[0]) for left in range(0, width, step[1])]
        progress = Progbar(len(places), unit_name="tile", verbose=int(self.verbose))
        answer = {}
        for first in range(0, len(places), BATCH):
            group = places[first : first + BATCH]
            found = self.runner.predict([self._cut(picture, place) for place in group])
            for name, values in found.items():
                whole = answer.setdefault(name, np.empty((height, width, *values[0].shape[2:]), values[0].dtype))
                for place, value in zip(group, values, strict=True):
                    self._keep(whole, place, value, step)
            progress.update(first + len(group))
        return answer

    def _cut(self, picture, place):
        """The tile whose kept part begins at ``place`` = (top, left)."""
        rows, columns = (
            reflect(np.arange(start, start + side) - self.overlap // 2, length)
            for start, side, length in zip(place, self.tile, picture.shape[:2], strict=True)
        )
        return picture[rows[:, None], columns]

    def _keep(self, whole, place, value, step):
        margin = self.overlap // 2
        kept = value[margin : margin + step[0], margin : margin + step[1]]
        target = whole[place[0] : place[0] + step[0], place[1] : place[1] + step[1]]
        target[...] = kept[: target.shape[0], : target.shape[1]]  # the last tiles reach outside


def reflect(positions, length) -> np.ndarray:
    """Turns positions, negative ones and those beyond the end too, into indices of a sequence continued by reflection.

    The outermost element is not repeated (2 1 | 0 1 2 | 1 0 1 2 ...); a sequence of one is repeated.
    """
    period = max(2 * (length - 1), 1)
    positions = np.asarray(positions) % period
    return np.where(positions < length, positions, period - positions)


def _parse_tile(tile):
    try:
        return parse_size(tile)
    except InputError:
        raise InputError(f"Tile '{tile}' is not a size: give N or HEIGHTxWIDTH, such as 256 or 192x256.") from None
