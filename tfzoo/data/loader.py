"""From a data set's ``read`` to ``fit`` without TensorFlow; and what the tf.data pipeline shares with it."""

import concurrent.futures
import dataclasses
import math
import threading

import keras
import numpy as np

from tfzoo.data.augmentation import NO_AUGMENTATION, Augmentation, batch_layers, layer_seeds
from tfzoo.data.dataset import Dataset
from tfzoo.data.images import parse_size
from tfzoo.data.targets import LabelMaps, PaddedBoxes, make_targets
from tfzoo.errors import InputError


@dataclasses.dataclass(frozen=True)
class Visits:
    """Which pictures an epoch visits, in which order, and what each becomes: decided by (seed, epoch, index) alone.

    Attributes:
        dataset: of labelled pictures.
        size: (height, width) that every picture is brought to.
        training: whether the order is shuffled.
        seed: of everything drawn.
        targets: what becomes of the labels, and of the picture with them.
    """

    dataset: Dataset
    size: tuple[int, int]
    training: bool
    seed: int
    targets: LabelMaps | PaddedBoxes

    @classmethod
    def of(cls, dataset: Dataset, image_size, training: bool, seed: int, augmentation: Augmentation | None):
        """Fills in what was left out: the first picture's size, the default augmentation.

        Raises:
            InputError: the size is none, or the labels cannot follow the augmentation.
        """
        size = parse_size(image_size) or dataset.read(0)["images"].shape[:2]
        size, augmentation = ((augmentation or Augmentation()) if training else NO_AUGMENTATION).at_size(size)
        return cls(dataset, size, training, seed, make_targets(dataset, size, augmentation))

    def order(self, epoch: int) -> np.ndarray:
        """The indices of an epoch's pictures: in order, or shuffled anew for each epoch."""
        indices = np.arange(len(self.dataset))
        if self.training:
            np.random.default_rng([self.seed, epoch]).shuffle(indices)
        return indices

    def read(self, index: int, epoch: int) -> dict:
        """The picture uint8 [height, width, 3] as "images", and its targets: all but what goes batch by batch."""
        return self.targets.read(index, np.random.default_rng([self.seed, epoch, index]))

    def batch_layers(self, *stream: int):
        """Keras's layers for what goes batch by batch, and the keys of a batch that they take."""
        return batch_layers(self.targets.batch_augmentation, self.seed, *stream), ("images", *self.targets.layer_keys)


class BatchChange:
    """What goes batch by batch, as one function, which JAX compiles: layer by layer its colours would take eight times as long.

    Args:
        visits: whose batches are changed.
    """

    def __init__(self, visits: Visits):
        self._seed = visits.seed
        self._layers, self._keys = visits.batch_layers()
        self._run = self._apply
        if keras.backend.backend() == "jax":
            import jax

            self._run = jax.jit(self._apply)

    def __call__(self, batch: dict, *stream: int) -> dict:
        """The batch, its pictures and label maps changed as (seed, *stream) says: uint8 as before."""
        if not self._layers:
            return batch
        seeds = layer_seeds(self._seed, *stream)
        states = np.array([[seeds[layer.name], 0] for layer in self._layers], self._layers[0].generator.state.dtype)
        changed = self._run({key: batch[key] for key in self._keys}, states)
        return batch | {key: keras.ops.convert_to_numpy(values) for key, values in changed.items()}

    def _apply(self, changed, states):
        generators = [layer.generator.state for layer in self._layers]
        with keras.StatelessScope(state_mapping=list(zip(generators, states, strict=True))):
            changed = {key: keras.ops.convert_to_tensor(values) for key, values in changed.items()}
            changed["images"] = keras.ops.cast(changed["images"], "float32")
            for layer in self._layers:
                changed = layer(changed, training=True)
        return {key: keras.ops.cast(keras.ops.clip(keras.ops.round(x), 0, 255), "uint8") for key, x in changed.items()}


class Loader(keras.utils.PyDataset):
    """Batches for ``fit`` where TensorFlow is not installed: see ``Dataset.loader``.

    ``loader[i]`` is the i-th batch of the epoch that it is at: images uint8 [B, H, W, 3] and targets, as NumPy arrays. What goes
    batch by batch is drawn for each batch from (seed, epoch, i), so a resumed training sees exactly what it would have seen.
    Batches are made ahead by threads of its own: Keras's would ask for more than ``fit`` has taken, and then nobody could tell
    which epoch a batch is for.

    Attributes:
        epoch: number of the epoch; it goes up when ``fit`` has taken all of the epoch's batches.
    """

    def __init__(self, visits: Visits, batch_size: int, first_epoch: int = 0, workers: int = 2, fill: bool = False):
        super().__init__(workers=1)
        if batch_size < 1 or workers < 1:
            raise InputError(f"batch_size is {batch_size} and workers is {workers}: both must be at least 1.")
        self.visits, self.batch_size, self.epoch, self.fill = visits, batch_size, first_epoch, fill
        self._change = BatchChange(visits)
        self._ahead = workers
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
        next_in_turn = following[0]
        if not self.visits.training:  # validation's next epoch is a whole epoch of training away
            following = [key for key in following if key[0] == self.epoch]
        begin = [wanted, *following] if wanted == self._next else [wanted]
        self._pending |= {key: self._pool.submit(self.load, *key) for key in begin if key not in self._pending}
        future = self._pending.pop(wanted)
        for key in self._pending.keys() - set(following):
            self._pending.pop(key).cancel()
        self._next = next_in_turn
        self._taken.add(batch)
        return future

    def load(self, epoch: int, batch: int):
        """Makes one batch of any epoch."""
        indices = self.visits.order(epoch)
        if self.fill:
            indices = np.resize(indices, len(self) * self.batch_size)  # which goes on with the first ones
        indices = indices[batch * self.batch_size : (batch + 1) * self.batch_size]
        samples = [self.visits.read(int(index), epoch) for index in indices]
        whole = {key: np.stack([sample[key] for sample in samples]) for key in samples[0]}
        whole = self._change(whole, epoch, batch)
        return self.visits.targets.inputs(whole), self.visits.targets.finish(whole)

    def close(self):
        """Begins no more batches: a training has ended."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def on_epoch_end(self):
        # Keras says this before the first epoch too, when it has only looked at a batch.
        if len(self._taken) == len(self):
            self.epoch += 1
        self._taken.clear()
