"""``python -m tfzoo.benchmarks.unpooling``: pooling that remembers and unpooling, against TensorFlow's argmax kernel and scatter.

Both are timed in one run, in turn, round after round, so that whatever else the machine does hits both alike; the ratio is the
number to read. Prints a table (Markdown).
"""

import argparse
import dataclasses
import os
import time

import numpy as np
import tensorflow as tf

from tfzoo.layers.max_unpooling import MaxPoolingWithMask, MaxUnpooling

SHAPES = ((1, 128, 128, 64), (8, 96, 128, 64), (8, 24, 32, 512), (4, 45, 61, 128))


@dataclasses.dataclass(frozen=True)
class Pair:
    """Milliseconds that pooling and unpooling one map took, medians.

    Attributes:
        shape: [B, H, W, C] of the map, float32.
        forward, gradient: of the layers; "gradient" is a step of training, the forward pass and the gradient with respect to
            the map and the values between pooling and unpooling.
        peer_forward, peer_gradient: of TensorFlow's kernels.
    """

    shape: tuple[int, int, int, int]
    forward: float
    gradient: float
    peer_forward: float
    peer_gradient: float


def layers_pair(x, scale):
    """The layers: pools, multiplies by ``scale`` (as the network between would change the values), unpools."""
    pooled, mask = MaxPoolingWithMask()(x)
    return MaxUnpooling()([pooled * scale, mask])


def kernels_pair(x, scale):
    """TensorFlow's kernels, doing the same."""
    pooled, indices = tf.nn.max_pool_with_argmax(x, 2, 2, "SAME", include_batch_in_index=True)
    total = tf.size(x, tf.int64)
    flat = tf.scatter_nd(tf.reshape(indices, [-1, 1]), tf.reshape(pooled * scale, [-1]), total[None])
    return tf.reshape(flat, tf.shape(x))


def measure(shapes=SHAPES, rounds=30, warm_up=5) -> list[Pair]:
    """Times both for maps of each shape."""
    return [_measure(shape, rounds, warm_up) for shape in shapes]


def _measure(shape, rounds, warm_up):
    rng = np.random.default_rng(0)
    x, weight = (tf.constant(rng.normal(size=shape), tf.float32) for _ in range(2))
    scale = tf.constant(rng.normal(size=(shape[0], (shape[1] + 1) // 2, (shape[2] + 1) // 2, shape[3])), tf.float32)
    calls = []
    for pair in (layers_pair, kernels_pair):
        calls.append(tf.function(pair))
        calls.append(tf.function(_gradient(pair, weight)))
    for call in calls * warm_up:
        call(x, scale)
    times = np.empty((rounds, len(calls)))
    for round_ in range(rounds):
        for position, call in enumerate(calls):
            start = time.perf_counter()
            tf.nest.flatten(call(x, scale))[0].numpy()  # nothing is over before it can be read
            times[round_, position] = (time.perf_counter() - start) * 1000
    return Pair(shape, *(float(t) for t in np.median(times, axis=0)))


def _gradient(pair, weight):
    """What comes out, and the gradient of its weighted sum: both, since a training step needs both."""

    def gradient(x, scale):
        with tf.GradientTape() as tape:
            tape.watch((x, scale))
            result = pair(x, scale)
            total = tf.reduce_sum(result * weight)
        return result, tape.gradient(total, (x, scale))

    return gradient


def format_table(pairs: list[Pair], rounds) -> str:
    """A table for people: milliseconds, and the layers' share of the kernels' time."""
    lines = [
        f"Pooling and unpooling, milliseconds (medians of {rounds} runs each, in turn, on {os.cpu_count()} cores).",
        "",
        "| map | layers forward | kernels forward | ratio | layers gradient | kernels gradient | ratio |",
        "|---|---|---|---|---|---|---|",
    ]
    for p in pairs:
        forward = f"{p.forward:.1f} | {p.peer_forward:.1f} | {p.forward / p.peer_forward:.2f}"
        gradient = f"{p.gradient:.1f} | {p.peer_gradient:.1f} | {p.gradient / p.peer_gradient:.2f}"
        lines.append(f"| {' x '.join(map(str, p.shape))} | {forward} | {gradient} |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(prog="python -m tfzoo.benchmarks.unpooling", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=30, help="timed runs of each (default: 30)")
    rounds = parser.parse_args().rounds
    print(format_table(measure(rounds=rounds), rounds))


if __name__ == "__main__":
    main()
