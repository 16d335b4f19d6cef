"""Rewritten ONNX graphs answer what they did, from fewer operators."""

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from tfzoo.export.onnx_rewrites import rewrite

PICTURE = ("batch", 4, "height", "width")
KERNEL = np.random.default_rng(0).normal(size=(4, 4, 1, 1)).astype(np.float32)


def graph_of(*nodes, outputs=("y",), **constants):
    """A model of these nodes, each (operator, inputs, output, attributes), that takes "x"; its opset is the one that we write."""
    made = [helper.make_node(kind, inputs, [output], **attributes) for kind, inputs, output, attributes in nodes]
    taken = [helper.make_tensor_value_info("x", TensorProto.FLOAT, PICTURE)]
    given = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
    tensors = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    graph = helper.make_graph(made, "graph", taken, given, tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def run(model, batch=2):
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": np.random.default_rng(batch).normal(size=(batch, 4, 9, 7)).astype(np.float32)})


def rewritten(model):
    """The operators that are left, after the answers were compared."""
    before = [run(model, batch) for batch in (1, 2)]
    rewrite(model)
    for batch, expected in zip((1, 2), before, strict=True):
        for got, want in zip(run(model, batch), expected, strict=True):
            np.testing.assert_allclose(got, want, atol=1e-6)
    return [node.op_type for node in model.graph.node]


@pytest.mark.parametrize(
    ("size", "attributes", "pads"),
    [((3, 3), {}, [1, 1, 1, 1]), ((5, 1), {"strides": [1, 1]}, [2, 0, 2, 0]), ((2, 4), {}, [0, 1, 1, 2])],
)
def test_same_padding_is_told_in_numbers(size, attributes, pads):
    kernel = np.random.default_rng(0).normal(size=(4, 4, *size)).astype(np.float32)
    model = graph_of(("Conv", ["x", "kernel"], "y", {"auto_pad": "SAME_UPPER", **attributes}), kernel=kernel)
    assert rewritten(model) == ["Conv"]
    told = {attribute.name: helper.get_attribute_value(attribute) for attribute in model.graph.node[0].attribute}
    assert told["pads"] == pads and "auto_pad" not in told


def test_same_padding_of_dilated_kernels():
    """Which ONNX Runtime refuses, so the numbers are compared with those of the kernel with zeros in between."""
    kernel = np.random.default_rng(0).normal(size=(4, 4, 3, 2)).astype(np.float32)
    spread = np.zeros((4, 4, 5, 4), np.float32)
    spread[:, :, ::2, ::3] = kernel
    dilated, plain = (
        graph_of(("Conv", ["x", "kernel"], "y", {"auto_pad": "SAME_UPPER", "dilations": dilations}), kernel=values)
        for dilations, values in (([2, 3], kernel), ([1, 1], spread))
    )
    rewrite(dilated)
    np.testing.assert_allclose(run(dilated)[0], run(plain)[0], atol=1e-5)


def test_same_padding_of_strided_kernels_stays():
    model = graph_of(("Conv", ["x", "kernel"], "y", {"auto_pad": "SAME_UPPER", "strides": [2, 2]}), kernel=KERNEL)
    rewritten(model)
    assert [attribute.name for attribute in model.graph.node[0].attribute] == ["auto_pad", "strides"]


def padded_pooling(first="Relu", borders=(0, 0, 1, 2, 0, 0, 0, 1), value=0.0, outputs=("y",), **attributes):
    return graph_of(
        (first, ["x"], "a", {}),
        ("Pad", ["a", "borders", "value"], "b", {"mode": "constant"}),
        ("MaxPool", ["b"], "y", {"kernel_shape": [3, 3], "strides": [2, 2], **attributes}),
        borders=np.array(borders, np.int64),
        value=np.float32(value),
        outputs=outputs,
    )


def test_a_pooling_pads_what_zeros_cannot_win():
    model = padded_pooling()
    assert rewritten(model) == ["Relu", "MaxPool"]
    assert helper.get_attribute_value(model.graph.node[1].attribute[-1]) == [1, 2, 0, 1]
    assert not model.graph.initializer


@pytest.mark.parametrize(
    "model",
    [
        padded_pooling(first="Tanh"),  # zeros win over what is below
        padded_pooling(value=1.0),
        padded_pooling(borders=(0, 1, 1, 1, 0, 0, 1, 1)),  # a channel more
        padded_pooling(outputs=("b", "y")),
        padded_pooling(auto_pad="SAME_UPPER"),
        padded_pooling(pads=[1, 1, 1, 1]),
    ],
)
def test_other_paddings_stay(model):
    assert rewritten(model)[1:] == ["Pad", "MaxPool"]


def averaging(axes, keepdims, shape):
    return graph_of(
        ("ReduceMean", ["x", "axes"], "a", {"keepdims": keepdims}),
        ("Reshape", ["a", "shape"], "b", {}),
        ("Conv", ["b", "kernel"], "y", {}),
        axes=np.array(axes, np.int64),
        shape=np.array(shape, np.int64),
        kernel=KERNEL,
    )


@pytest.mark.parametrize("axes", [(2, 3), (-1, -2)])
def test_the_mean_of_a_map_keeps_its_layout(axes):
    model = averaging(axes, 1, (-1, 4, 1, 1))
    assert rewritten(model) == ["GlobalAveragePool", "Conv"]
    assert [tensor.name for tensor in model.graph.initializer] == ["kernel"]


def test_other_means_and_reshapes_stay():
    assert rewritten(averaging((2, 3), 0, (-1, 4, 1, 1))) == ["ReduceMean", "Reshape", "Conv"]
    kept = graph_of(
        ("ReduceMean", ["x", "axes"], "a", {}),
        ("Reshape", ["a", "shape"], "y", {}),
        axes=np.array([1, 3], np.int64),
        shape=np.array([-1, 1, 1, 9], np.int64),
    )
    assert rewritten(kept) == ["ReduceMean", "Reshape"]


def test_a_reshape_that_a_loop_reads_from_outside():
    """The branches of an If read what surrounds them by name."""

    def branch(name, kind):
        node = helper.make_node(kind, ["b"], [name])
        return helper.make_graph([node], name, [], [helper.make_tensor_value_info(name, TensorProto.FLOAT, None)])

    model = graph_of(
        ("GlobalAveragePool", ["x"], "a", {}),
        ("Reshape", ["a", "shape"], "b", {}),
        ("If", ["yes"], "y", {"then_branch": branch("t", "Relu"), "else_branch": branch("e", "Neg")}),
        shape=np.array([-1, 4, 1, 1], np.int64),
        yes=np.array(True),
    )
    assert rewritten(model) == ["GlobalAveragePool", "If"]
