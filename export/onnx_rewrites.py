"""Rewrites of ONNX graphs, after which they answer the same.

ONNX Runtime keeps maps in an order of its own (NCHWc) from convolution to convolution. What it does not know in that order makes it
copy whole maps, there and back; and some of that comes only from how another library spells things.
"""

import collections

import numpy as np
import onnx
from onnx import numpy_helper

SPATIAL = (2, 3)  # axes of [B, C, H, W]


def rewrite(model: onnx.ModelProto) -> None:
    """Lets poolings pad, averages whole maps by the operator that is made for it, and leaves out reshapes that change nothing.

    Convolutions of stride 1 are told how much to pad: ONNX Runtime does not find it out where they are dilated.

    Works on the outermost graph, in place.
    """
    graph = _Graph(model)
    _pad_by_numbers(graph)
    _pool_what_is_padded(graph)
    _average_globally(graph)
    _leave_out_idle_reshapes(graph)
    _drop_unread_constants(model.graph)


class _Graph:
    """A graph, and what is to be known of its tensors by name: constants, who makes and who reads them, shapes."""

    def __init__(self, model):
        self.nodes = model.graph.node
        self.outputs = {value.name for value in model.graph.output}
        self.constants = {tensor.name: tensor for tensor in model.graph.initializer}
        self.maker = {name: node for node in self.nodes for name in node.output}
        self.readers = collections.Counter(_read_by(self.nodes))
        inferred = onnx.shape_inference.infer_shapes(model).graph
        known = (*inferred.input, *inferred.value_info, *inferred.output)
        self.shapes = {value.name: _shape(value) for value in known}
        self.floats = {value.name for value in known if value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT}

    def constant(self, name):
        """The array of a constant, else None."""
        return numpy_helper.to_array(self.constants[name]) if name in self.constants else None

    def read_once(self, name):
        """Whether one node reads it, and nobody outside."""
        return self.readers[name] == 1 and name not in self.outputs

    def replace(self, old, new):
        """Lets everybody who reads a tensor read another, and drops the node that made it."""
        for node in _with_inner(self.nodes):
            for place, name in enumerate(node.input):
                if name == old:
                    node.input[place] = new
        self.nodes.remove(self.maker[old])


def _with_inner(nodes):
    """These nodes, and those of the graphs inside loops and branches."""
    for node in nodes:
        yield node
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from _with_inner(attribute.g.node)


def _read_by(nodes):
    return [name for node in _with_inner(nodes) for name in node.input]


def _shape(value):
    """Lengths, None where unknown; None if not even their number is known."""
    kind = value.type.tensor_type
    return [dim.dim_value or None for dim in kind.shape.dim] if kind.HasField("shape") else None


def _attributes(node):
    return {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}


def _pad_by_numbers(graph):
    """What "same" pads at stride 1 does not depend on the size of the map; an odd pixel goes to the end."""
    for node in [node for node in graph.nodes if node.op_type == "Conv"]:
        attributes, kernel = _attributes(node), graph.constants.get(node.input[1])
        if attributes.get("auto_pad") != b"SAME_UPPER" or set(attributes.get("strides", (1,))) != {1} or kernel is None:
            continue
        sides = kernel.dims[2:]
        total = np.subtract(sides, 1) * attributes.get("dilations", 1)
        others = [attribute for attribute in node.attribute if attribute.name != "auto_pad"]
        del node.attribute[:]
        node.attribute.extend([*others, onnx.helper.make_attribute("pads", [*(total // 2), *(total - total // 2)])])


def _pool_what_is_padded(graph):
    """Zeros around a map without negative numbers never are the largest, no more than a pooling's own padding, minus infinity."""
    for pool in [node for node in graph.nodes if node.op_type == "MaxPool"]:
        pad, attributes = graph.maker.get(pool.input[0]), _attributes(pool)
        if len(pool.output) > 1 or {"pads", "auto_pad"} & attributes.keys():  # a second output tells places in the padded map
            continue
        borders = pad is not None and _zeros_around(graph, pad)
        narrow = borders and all(0 <= border < side for border, side in zip(borders, 2 * attributes["kernel_shape"], strict=True))
        if not narrow or not graph.read_once(pad.output[0]):
            continue
        pool.attribute.append(onnx.helper.make_attribute("pads", borders))
        graph.replace(pad.output[0], pad.input[0])


def _zeros_around(graph, pad):
    """[top, left, bottom, right] if this node puts so many zeros around a ReLU's answer, else None."""
    if pad.op_type != "Pad" or len(pad.input) > 3 or _attributes(pad).get("mode", b"constant") != b"constant":
        return None
    source = graph.maker.get(pad.input[0])
    if source is None or source.op_type != "Relu":
        return None
    value = graph.constant(pad.input[2]) if len(pad.input) == 3 and pad.input[2] else np.zeros(1)
    borders = graph.constant(pad.input[1])
    if value is None or value.any() or borders is None or len(borders) != 8 or borders[[0, 1, 4, 5]].any():
        return None
    return borders[[2, 3, 6, 7]].tolist()


def _average_globally(graph):
    for node in [node for node in graph.nodes if node.op_type == "ReduceMean" and len(node.input) == 2]:
        axes, shape = graph.constant(node.input[1]), graph.shapes.get(node.input[0])
        if axes is None or not shape or len(shape) != 4 or not _attributes(node).get("keepdims", 1):
            continue
        if node.input[0] not in graph.floats:  # which alone the other operator takes
            continue
        if tuple(sorted(axes % len(shape))) == SPATIAL:
            node.op_type = "GlobalAveragePool"
            del node.input[1:], node.attribute[:]


def _leave_out_idle_reshapes(graph):
    """Those that name the shape that is there: all lengths are known, but that of the batch."""
    for node in [node for node in graph.nodes if node.op_type == "Reshape" and node.output[0] not in graph.outputs]:
        wanted, shape = graph.constant(node.input[1]), graph.shapes.get(node.input[0])
        if wanted is None or not shape or len(wanted) != len(shape) or None in shape[1:]:
            continue
        if wanted[0] == -1 and wanted[1:].tolist() == shape[1:] and 0 not in shape[1:]:
            graph.replace(node.output[0], node.input[0])


def _drop_unread_constants(graph):
    read = {*_read_by(graph.node), *(value.name for value in graph.output)}
    for tensor in [tensor for tensor in graph.initializer if tensor.name not in read]:
        graph.initializer.remove(tensor)
