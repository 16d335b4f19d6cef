"""Rewritten ONNX graphs answer what they did, from fewer operators."""

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from tfzoo.export.onnx_rewrites import rewrite

PICTURE = ("batch", 4, 9, "width")
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


def test_same_padding_of_kernels_that_are_computed_stays():
    made = ("Neg", ["kernel"], "k", {})
    assert rewritten(graph_of(made, ("Conv", ["x", "k"], "y", {"auto_pad": "SAME_UPPER"}), kernel=KERNEL)) == ["Neg", "Conv"]


BORDERS = (0, 0, 1, 2, 0, 0, 0, 1)


def padded_pooling(first="Relu", borders=BORDERS, value=0.0, mode="constant", more=(), outputs=("y",), **attributes):
    """A map, padded by a node of its own and pooled; ``more``: nodes behind these."""
    return graph_of(
        (first, ["x"], "a", {}),
        ("Pad", ["a", "borders", "value"], "b", {"mode": mode}),
        ("MaxPool", ["b"], "y", {"kernel_shape": [3, 3], "strides": [2, 2], **attributes}),
        *more,
        borders=np.array(borders, np.int64),
        value=np.float32(value),
        yes=np.array(True),
        outputs=outputs,
    )


def branch(name, kind):
    """A branch of an If, which reads "b" from the graph around it."""
    node = helper.make_node(kind, ["b"], [name])
    return helper.make_graph([node], name, [], [helper.make_tensor_value_info(name, TensorProto.FLOAT, None)])


BRANCHES = {"then_branch": branch("t", "Relu"), "else_branch": branch("e", "Neg")}


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
        padded_pooling(mode="reflect"),
        padded_pooling(borders=(0, 1, 1, 1, 0, 0, 1, 1)),  # a channel more
        padded_pooling(borders=(0, 0, 3, 1, 0, 0, 1, 1)),  # windows of padding alone, which a pooling refuses
        padded_pooling(borders=(0, 0, -1, 1, 0, 0, 1, 1)),  # a row less
        padded_pooling(outputs=("b", "y")),
        padded_pooling(more=[("Neg", ["b"], "z", {})], outputs=("y", "z")),
        padded_pooling(more=[("If", ["yes"], "z", BRANCHES)], outputs=("y", "z")),
        padded_pooling(auto_pad="SAME_UPPER"),
        padded_pooling(pads=[1, 1, 1, 1]),
    ],
)
def test_other_paddings_stay(model):
    assert rewritten(model)[1:3] == ["Pad", "MaxPool"]


def test_a_pooling_that_tells_places_stays():
    model = padded_pooling()
    model.graph.node[2].output.append("places")
    model.graph.output.append(helper.make_tensor_value_info("places", TensorProto.INT64, None))
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


@pytest.mark.parametrize(
    ("shape", "then"),
    [
        ((-1, 1, 9, 1), ["Relu"]),  # other lengths
        ((-1, 1, 1, 9), []),  # the same ones: the graph's output keeps its name
    ],
)
def test_other_reshapes_stay(shape, then):
    more = [("Relu", ["b"], "y", {})] if then else []
    kept = graph_of(
        ("Slice", ["x", "start", "end", "axes"], "s", {}),
        ("Reshape", ["s", "shape"], "b" if then else "y", {}),
        *more,
        start=np.zeros(3, np.int64),
        end=np.array([1, 1, 9], np.int64),
        axes=np.array([1, 3, 2], np.int64),
        shape=np.array(shape, np.int64),
    )
    assert rewritten(kept) == ["Slice", "Reshape", *then]


def test_a_reshape_that_branches_read_from_outside():
    model = graph_of(
        ("GlobalAveragePool", ["x"], "a", {}),
        ("Reshape", ["a", "shape"], "b", {}),
        ("If", ["yes"], "y", BRANCHES),
        shape=np.array([-1, 4, 1, 1], np.int64),
        yes=np.array(True),
    )
    assert rewritten(model) == ["GlobalAveragePool", "If"]
