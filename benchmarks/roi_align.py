"""``python -m tfzoo.benchmarks.roi_align``: the forms of RoIAlign beside each other, forward and with the gradient.

1000 boxes of a picture of 512 x 512 are read from four levels of 256 channels: 7 x 7 bins, four samples each. All forms are timed
in one run, in turn, round after round, so that whatever else the machine does hits all alike; the ratio is the number to read.
Prints a table (Markdown).
"""

import argparse
import dataclasses
import os
import time

import numpy as np
import tensorflow as tf

from tfzoo.layers import roi_align as layer
from tfzoo.layers.target import graph_for

SCALES = (1 / 4, 1 / 8, 1 / 16, 1 / 32)
SIZE = 7


@dataclasses.dataclass(frozen=True)
class Form:
    """Milliseconds that one form took, medians.

    Attributes:
        name: one of ``FORMS``.
        forward: reading the boxes.
        gradient: reading them and the gradient with respect to the maps, as in a step of training.
    """

    name: str
    forward: float
    gradient: float


def by_kernel(features, boxes, levels):
    """What TensorFlow runs: its kernel, each level once for its own boxes."""
    return layer.roi_align(features, boxes, SIZE, SCALES, levels=levels)


def by_gather(features, boxes, levels):
    """What exported files run."""
    with graph_for(portable=True):
        return layer.roi_align(features, boxes, SIZE, SCALES, levels=levels)


def every_level(features, boxes, levels):
    """What comes to mind first: every box is read from every level, and all but its own are masked."""
    result = 0.0
    for level, (feature, scale) in enumerate(zip(features, SCALES, strict=True)):
        own = tf.cast(levels == level, "float32")[..., None, None, None]
        result += own * layer.roi_align([feature], boxes, SIZE, [scale])
    return result


FORMS = {
    "crop_and_resize": (by_kernel, False),
    "crop_and_resize, every level": (every_level, False),
    "gather": (by_gather, False),
    "gather by point, XLA": (by_kernel, True),
}


def measure(regions=1000, channels=256, side=512, rounds=10, warm_up=2) -> list[Form]:
    """Times all forms on the same boxes of one picture; their answers agree within 1e-3 (the features are noise)."""
    rng = np.random.default_rng(0)
    features = [tf.constant(rng.normal(size=(1, int(side * s), int(side * s), channels)), tf.float32) for s in SCALES]
    boxes = _boxes(rng, regions, side)
    levels = layer.assign_levels(boxes, 2, 5)
    weight = tf.constant(rng.normal(size=(1, regions, SIZE, SIZE, channels)), tf.float32)
    calls, answers = [], []
    for form, compiled in FORMS.values():
        calls.append(tf.function(form, jit_compile=compiled))
        calls.append(tf.function(_gradient(form, weight), jit_compile=compiled))
        answers.append(calls[-2](features, boxes, levels).numpy())
        np.testing.assert_allclose(answers[-1], answers[0], rtol=0, atol=1e-3)
    for call in calls * warm_up:
        call(features, boxes, levels)
    times = np.empty((rounds, len(calls)))
    for round_ in range(rounds):
        for position, call in enumerate(calls):
            start = time.perf_counter()
            tf.convert_to_tensor(tf.nest.flatten(call(features, boxes, levels))[0]).numpy()  # nothing is over before it can be read
            times[round_, position] = (time.perf_counter() - start) * 1000
    medians = np.median(times, axis=0).reshape(-1, 2)
    return [Form(name, float(forward), float(gradient)) for name, (forward, gradient) in zip(FORMS, medians, strict=True)]


def _boxes(rng, count, side):
    """Boxes of all sizes from 8 pixels to most of the picture, cut off at its borders."""
    centre = rng.uniform(0, side, (1, count, 2))
    sides = np.exp(rng.uniform(np.log(8), np.log(0.8 * side), (1, count, 2)))
    boxes = np.concatenate([centre - sides / 2, centre + sides / 2], axis=-1)
    return tf.constant(np.clip(boxes, 0, side), tf.float32)


def _gradient(form, weight):
    """The gradients of the answer's weighted sum with respect to the maps, as tensors."""

    def gradient(features, boxes, levels):
        with tf.GradientTape() as tape:
            tape.watch(features)
            total = tf.reduce_sum(form(features, boxes, levels) * weight)
        return [tf.convert_to_tensor(part) for part in tape.gradient(total, features)]

    return gradient


def format_table(forms: list[Form], rounds) -> str:
    """A table for people: milliseconds, and how many times the first form's."""
    lines = [
        f"RoIAlign, milliseconds (medians of {rounds} runs each, in turn, on {os.cpu_count()} cores).",
        "",
        "| form | forward | ratio | with gradient | ratio |",
        "|---|---|---|---|---|",
    ]
    first = forms[0]
    for f in forms:
        forward = f"{f.forward:.1f} | {f.forward / first.forward:.2f}"
        lines.append(f"| {f.name} | {forward} | {f.gradient:.1f} | {f.gradient / first.gradient:.2f} |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(prog="python -m tfzoo.benchmarks.roi_align", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=10, help="timed runs of each (default: 10)")
    rounds = parser.parse_args().rounds
    print(format_table(measure(rounds=rounds), rounds))


if __name__ == "__main__":
    main()
