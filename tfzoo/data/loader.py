"""From a data set's ``read`` to ``fit`` without TensorFlow; and what the tf.data pipeline shares with it."""

import concurrent.futures
import dataclasses
import math
import threading

import keras
import numpy as np

from tfzoo.data.augmentation import NO_AUGMENTATION, Augmentation, batch_layers, change_geometry
from tfzoo.data.dataset import Dataset
from tfzoo.data.images import parse_size
from tfzoo.errors import InputError


@dataclasses.dataclass(frozen=True)
class Visits:
    """Which pictures an epoch visits, in which order, and what each becomes: decided by (seed, epoch, index) alone.

    Attributes:
        dataset: for the task "semantic".
        size: (height, width) that every picture is brought to.
        training: whether the order is shuffled, and the augmentation looked at.
        seed: of everything drawn.
        augmentation: what may happen to the pictures.
    """

    dataset: Dataset
    size: tuple[int, int]
    training: bool
    seed: int
    augmentation: Augmentation

    @classmethod
    def of(cls, dataset: Dataset, image_size, training: bool, seed: int, augmentation: Augmentation | None):
        """Fills in what was left out: the first picture's size, the default augmentation.

        Raises:
            InputError: batches of the data set's task are not to be had, or the size is none.
        """
        if dataset.task != "semantic":
            raise InputError(
                f"Batches are made for the task 'semantic', not '{dataset.task}': use samples(), or load with task='semantic'."
            )
        size = parse_size(image_size) or dataset.read(0)["images"].shape[:2]
        augmentation = (augmentation or Augmentation()) if training else NO_AUGMENTATION
        return cls(dataset, size, training, seed, augmentation)

    def order(self, epoch: int) -> np.ndarray:
        """The indices of an epoch's pictures: in order, or shuffled anew for each epoch."""
        indices = np.arange(len(self.dataset))
        if self.training:
            np.random.default_rng([self.seed, epoch]).shuffle(indices)
        return indices

    def read(self, index: int, epoch: int):
        """A picture uint8 [height, width, 3] and its label map uint8 [height, width], but for flips and colour."""
        sample = self.dataset.read(index)
        rng = np.random.default_rng([self.seed, epoch, index])
        labels = sample["segmentation_masks"][..., 0]
        return change_geometry(sample["images"], labels, self.size, self.augmentation, rng)


class Loader(keras.utils.PyDataset):
    """Batches for ``fit`` where TensorFlow is not installed: see ``Dataset.loader``.

    ``loader[i]`` is the i-th batch of the epoch that it is at: images uint8 [B, H, W, 3], targets uint8 [B, H, W], as NumPy
    arrays. Flips and colour are drawn for each batch from (seed, epoch, i), so a resumed training sees exactly what it would have
    seen. Batches are made ahead by threads of its own: Keras's would ask for more than ``fit`` has taken, and then nobody could
    tell which epoch a batch is for.

    Attributes:
        epoch: number of the epoch; it goes up when ``fit`` has taken all of the epoch's batches.
    """

    def __init__(self, visits: Visits, batch_size: int, first_epoch: int = 0, workers: int = 2):
        super().__init__(workers=1)
        if batch_size < 1 or workers < 1:
            raise InputError(f"batch_size is {batch_size} and workers is {workers}: both must be at least 1.")
        self.visits, self.batch_size, self.epoch = visits, batch_size, first_epoch
        self._ahead = 2 * workers
        self._pool = concurrent.futures.ThreadPoolExecutor(workers)
        self._lock = threading.Lock()
        self._pending = {}  # (epoch, batch): future
        self._next = (first_epoch, 0)
        self._taken = set()

    def __len__(self):
        return math.ceil(len(self.visits.dataset) / self.batch_size)

    def __getitem__(self, batch: int):
        if not 0 <= batch < len(self):
            raise IndexError(f"the loader has {len(self)} batches, not one numbered {batch}")
        with self._lock:
            future = self._request(batch)
        return future.result()

    def _request(self, batch):
        """The future of a batch; those after it are begun too, as long as batches are taken in turn."""
        place = self.epoch * len(self) + batch
        wanted, *following = (divmod(place + step, len(self)) for step in range(self._ahead + 1))
        begin = [wanted, *following] if wanted == self._next else [wanted]
        self._pending |= {key: self._pool.submit(self.load, *key) for key in begin if key not in self._pending}
        future = self._pending.pop(wanted)
        for key in self._pending.keys() - set(following):
            self._pending.pop(key).cancel()
        self._next = following[0]
        self._taken.add(batch)
        return future

    def load(self, epoch: int, batch: int):
        """Makes one batch of any epoch."""
        indices = self.visits.order(epoch)[batch * self.batch_size : (batch + 1) * self.batch_size]
        images, labels = zip(*(self.visits.read(int(index), epoch) for index in indices), strict=True)
        return self._flip_and_colour(np.stack(images), np.stack(labels), epoch, batch)

    def _flip_and_colour(self, images, labels, *stream):
        with keras.device("cpu"):  # an accelerator has better things to do
            layers = batch_layers(self.visits.augmentation, self.visits.seed, *stream)
            if not layers:
                return images, labels
            batch = {"images": images.astype(np.float32), "segmentation_masks": labels[..., None]}
            for layer in layers:
                batch = layer(batch, training=True)
            images, labels = (keras.ops.convert_to_numpy(batch[key]) for key in ("images", "segmentation_masks"))
        return np.clip(np.rint(images), 0, 255).astype(np.uint8), labels[..., 0].astype(np.uint8)

    def on_epoch_end(self):
        # Keras says this before the first epoch too, when it has only looked at a batch.
        if len(self._taken) == len(self):
            self.epoch += 1
        self._taken.clear()
