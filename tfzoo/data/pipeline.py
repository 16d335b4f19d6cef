"""From a data set's ``read`` to tf.data: names are shuffled, not pictures; reading and resizing run in parallel.

Order and geometry are decided by (seed, epoch, index), so the order in which parallel reads finish changes nothing. Colour, and
flips of label maps, are drawn by Keras's layers, batch after batch, from one stream for each layer that starts anew when a training
is resumed.
"""

import itertools

import numpy as np
import tensorflow as tf

from tfzoo.data.augmentation import Augmentation
from tfzoo.data.dataset import Dataset
from tfzoo.data.loader import Visits

_FIELDS = {  # key of a flattened sample: dtype, shape
    "images": (tf.uint8, (None, None, 3)),
    "image_id": (tf.string, ()),
    "segmentation_masks": (tf.uint8, (None, None, 1)),
    "bounding_boxes/boxes": (tf.float32, (None, 4)),
    "bounding_boxes/labels": (tf.int32, (None,)),
    "bounding_boxes/crowd": (tf.bool, (None,)),
    "bounding_boxes/difficult": (tf.bool, (None,)),
    "bounding_boxes/area": (tf.float32, (None,)),
    "instance_masks": (tf.uint8, (None, None, None)),
    "keypoints": (tf.float32, (None, None, 3)),
    "proposals": (tf.float32, (None, 4)),
}


def samples(dataset: Dataset) -> tf.data.Dataset:
    """See ``Dataset.samples``."""
    keys = [key for key in _FIELDS if _has(dataset, key)]

    def read(index):
        sample = dataset.read(int(index))
        flat = {**sample, **{f"bounding_boxes/{k}": v for k, v in sample.get("bounding_boxes", {}).items()}}
        return [flat[key] for key in keys]

    def to_dict(index):
        values = tf.numpy_function(read, [index], [_FIELDS[key][0] for key in keys])
        return _nest({key: tf.ensure_shape(value, _FIELDS[key][1]) for key, value in zip(keys, values, strict=True)})

    return tf.data.Dataset.range(len(dataset)).map(to_dict, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)


def _has(dataset, key):
    from tfzoo.data.dataset import TASK_KEYS

    outer, _, inner = key.partition("/")
    if key == "proposals":
        return dataset.proposal_count is not None
    return key == "image_id" or (outer in TASK_KEYS[dataset.task] and (not inner or inner in dataset.box_keys))


def _nest(flat):
    nested = {}
    for key, value in flat.items():
        outer, _, inner = key.partition("/")
        if inner:
            nested.setdefault(outer, {})[inner] = value
        else:
            nested[outer] = value
    return nested


def batches(
    dataset: Dataset,
    batch_size: int,
    image_size,
    training: bool,
    seed: int = 0,
    first_epoch: int = 0,
    augmentation: Augmentation | None = None,
) -> tf.data.Dataset:
    """See ``Dataset.batches``."""
    visits = Visits.of(dataset, image_size, training, seed, augmentation)

    fields = {"images": (np.uint8, (*visits.size, 3)), **visits.targets.fields}

    def read(index, epoch):
        sample = visits.read(int(index), int(epoch))
        return [sample[key] for key in fields]

    def load(index, epoch):
        values = tf.numpy_function(read, [index, epoch], [tf.as_dtype(dtype) for dtype, _ in fields.values()])
        return {key: tf.ensure_shape(value, shape) for value, (key, (_, shape)) in zip(values, fields.items(), strict=True)}

    data = _in_order(visits, first_epoch).map(load, num_parallel_calls=tf.data.AUTOTUNE)
    data = data.batch(batch_size)
    layers, keys = visits.batch_layers(first_epoch)
    if layers:
        # Not in parallel: the layers draw from one stream each, so the order of the batches decides what they draw.
        data = data.map(lambda batch: _flip_and_colour(layers, keys, batch))
    return data.map(lambda batch: (visits.targets.inputs(batch), visits.targets.finish(batch))).prefetch(tf.data.AUTOTUNE)


def _in_order(visits, first_epoch):
    """A tf.data.Dataset of (index, epoch); each pass is the next epoch."""
    epochs = itertools.count(first_epoch)

    def visit():
        epoch = next(epochs)
        return ((index, epoch) for index in visits.order(epoch))

    spec = (tf.TensorSpec((), tf.int64), tf.TensorSpec((), tf.int64))
    count = tf.data.experimental.assert_cardinality(len(visits.dataset))
    return tf.data.Dataset.from_generator(visit, output_signature=spec).apply(count)


def _flip_and_colour(layers, keys, batch):
    changed = {key: batch[key] for key in keys} | {"images": tf.cast(batch["images"], tf.float32)}
    for layer in layers:
        changed = layer(changed, training=True)
    return batch | {key: tf.saturate_cast(tf.round(changed[key]), tf.uint8) for key in keys}
