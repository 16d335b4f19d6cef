"""Dilated convolutions: Keras's numbers, in one operator where a converter reads them."""

import keras
import numpy as np
import pytest
from small_graphs import run_onnx, run_saved_model, run_tflite, saved

from tfzoo.export import onnx
from tfzoo.layers import atrous


class Dilated(keras.Model):
    """An even kernel with unequal dilations, and a depthwise one."""

    def __init__(self, padding):
        super().__init__()
        self.convolution = atrous.Conv2D(4, (3, 2), dilation_rate=(2, 3), padding=padding, bias_initializer="normal")
        self.depthwise = atrous.DepthwiseConv2D(3, dilation_rate=(3, 2), padding=padding, depth_multiplier=2)

    def call(self, images):
        return {"maps": self.depthwise(self.convolution(keras.ops.cast(images, "float32")))}


@pytest.mark.parametrize("padding", ["same", "valid"])
def test_files_of_any_size_give_keras_numbers(padding, tmp_path):
    keras.utils.set_random_seed(0)
    model, rng = Dilated(padding), np.random.default_rng(0)
    batches = [rng.integers(0, 256, (count, *size, 3), np.uint8) for count, size in ((1, (17, 20)), (2, (13, 31)))]
    expected = [np.asarray(model(batch)["maps"]) for batch in batches]
    answers = {run.__name__: run(model, batches, tmp_path / run.__name__) for run in (run_onnx, run_saved_model)}
    answers["run_tflite"] = [run_tflite(model, batches[0], tmp_path / "tflite")]
    for name, answer in answers.items():
        for got, want in zip(answer, expected, strict=False):
            np.testing.assert_allclose(got["maps"], want, rtol=1e-4, atol=1e-4 * np.abs(want).max(), err_msg=name)


def test_a_file_holds_one_operator_for_each(tmp_path):
    model = Dilated("same")
    model(np.zeros((1, 17, 20, 3), np.uint8))
    kinds = onnx.operators(onnx.convert(saved(model, tmp_path / "saved", None, None)))
    assert kinds["Conv"] == 2 and not kinds.keys() & {"SpaceToDepth", "DepthToSpace", "Pad", "Split"}


def test_a_depthwise_convolution_with_a_bias_is_refused():
    with pytest.raises(ValueError, match="no bias and no activation"):
        atrous.DepthwiseConv2D(3, use_bias=True)
