"""Training at several picture sizes (Redmon & Farhadi 2017, YOLO9000, section 2, "Multi-Scale Training")."""

import tensorflow as tf

from tfzoo.errors import InputError

SIZES = tuple(range(320, 609, 32))


def at_several_sizes(batches: tf.data.Dataset, sizes=SIZES, every=10, seed=0) -> tf.data.Dataset:
    """Stretches batches with boxes to a size that changes now and then, for a detector that takes pictures of any size.

    Args:
        batches: of (images uint8 [B, H, W, 3], {"boxes": float32 [B, N, 4], "labels": int32 [B, N]}), as ``Dataset.batches`` gives
            them, with proposals too; best at the largest size.
        sizes: N or (height, width) each, in pixels; one is drawn at random for ``every`` batches.
        every: number of batches of one size.
        seed: of the draws; each pass over the data has others.

    Returns:
        a tf.data.Dataset of the same, height and width unknown to TensorFlow.

    Raises:
        InputError: there are no sizes, or a number is not above 0.
    """
    sizes = [(size, size) if isinstance(size, int) else tuple(size) for size in sizes]
    if not sizes or min(min(size) for size in sizes) < 1 or every < 1:
        raise InputError(f"Several sizes were to be {sizes}, each for {every} batches: give sizes in pixels and 1 batch or more.")
    table = tf.constant(sizes, tf.int32)

    def draw(number):
        size = table[tf.cast(number % len(sizes), tf.int32)]
        return tf.data.Dataset.from_tensors(size).repeat(every)

    drawn = tf.data.Dataset.random(seed=seed, rerandomize_each_iteration=True).flat_map(draw)
    stretched = tf.data.Dataset.zip(batches, drawn).map(_stretch, num_parallel_calls=tf.data.AUTOTUNE)
    return stretched.apply(tf.data.experimental.assert_cardinality(batches.cardinality())).prefetch(tf.data.AUTOTUNE)


def _stretch(batch, size):
    inputs, targets = batch
    images = inputs["images"] if isinstance(inputs, dict) else inputs
    given = tf.shape(images)[1:3]
    resized = tf.saturate_cast(tf.round(tf.image.resize(images, size)), images.dtype)
    y, x = tf.unstack(tf.cast(size, tf.float32) / tf.cast(given, tf.float32))
    factors = tf.stack([x, y, x, y])
    if isinstance(inputs, dict):
        resized = {"images": resized, "proposals": inputs["proposals"] * factors}
    return resized, {**targets, "boxes": targets["boxes"] * factors}
