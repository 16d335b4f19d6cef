"""Which operators TensorFlow Lite's GPU delegate leaves to the processor."""

import numpy as np
import pytest
import tensorflow as tf

from tfzoo.export.delegates import not_on_gpu


def converted(function, path, shape=(1, 8, 8, 4), dtype=tf.float32):
    graph = tf.function(function, input_signature=[tf.TensorSpec(shape, dtype)]).get_concrete_function()
    path.write_bytes(tf.lite.TFLiteConverter.from_concrete_functions([graph]).convert())
    return path


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda x: tf.nn.relu(tf.nn.avg_pool2d(x, 2, 2, "VALID")) + 1.0, {}),
        (lambda x: tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]]), {}),
        (lambda x: tf.argmax(x, -1, output_type=tf.int32), {"ARG_MAX": 1}),
        (lambda x: tf.math.top_k(tf.reshape(x, (1, -1)), 5).values, {"TOPK_V2": 1}),
        (lambda x: tf.pad(tf.reshape(x, (8, 32)), [[1, 1], [0, 0]]) * 2.0, {"PAD": 1}),
        (lambda x: tf.cast(tf.cast(x, tf.int32), tf.float32) + 1.0, {}),
        (lambda x: tf.gather(tf.reshape(x, (32, 8)), [3, 1]), {}),
    ],
)
def test_operators(function, expected, tmp_path):
    assert not_on_gpu(converted(function, tmp_path / "m.tflite")) == expected


def test_pictures_of_bytes_are_cast_on_the_processor(tmp_path):
    path = converted(lambda x: tf.cast(x, tf.float32) * 2.0, tmp_path / "m.tflite", dtype=tf.uint8)
    assert not_on_gpu(path) == {"CAST": 1}


def test_reports_tell_it(exported):
    report = exported["float32"][1]
    assert report.not_on_gpu == {"ARG_MAX": 1, "CAST": 2} and exported["onnx"][1].not_on_gpu is None
    assert "a GPU delegate takes all of these but ARG_MAX 1, CAST 2" in str(report)
    assert np.sum(list(report.not_on_gpu.values())) < sum(report.operators.values())
