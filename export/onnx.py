"""ONNX files of the default domain alone."""

import logging

import tensorflow as tf

from tfzoo.errors import ExportError
from tfzoo.export import onnx_rewrites
from tfzoo.export.savedmodel import SIGNATURE

OPSET = 18


def write(saved_model, path) -> dict[str, int]:
    """Converts a SavedModel to a file; returns its operators: name -> how often. Raises what ``convert`` and ``operators`` do."""
    data = convert(saved_model)
    counts = operators(data)
    path.write_bytes(data)
    return counts


def convert(saved_model) -> bytes:
    """Converts a SavedModel; inputs and outputs keep the names of its signature.

    Raises:
        ExportError: an operator does not convert.
    """
    import tf2onnx

    logging.getLogger("tf2onnx").setLevel(logging.ERROR)
    loaded = tf.saved_model.load(str(saved_model))
    signature = loaded.signatures[SIGNATURE]
    specs = signature.structured_input_signature[1]
    try:
        proto, _ = tf2onnx.convert.from_function(
            tf.function(lambda *given: signature(**dict(zip(specs, given, strict=True)))),
            input_signature=list(specs.values()),
            opset=OPSET,
        )
    except Exception as error:
        raise ExportError(f"The model does not convert to ONNX: {str(error).strip()[:300]}") from error
    names = dict(zip([output.name for output in proto.graph.output], sorted(signature.structured_outputs), strict=True))
    inputs = dict(zip([value.name for value in proto.graph.input], specs, strict=True))
    _rename(proto.graph, names | inputs)
    onnx_rewrites.rewrite(proto)
    used = {node.domain for node in proto.graph.node}
    for opset in [opset for opset in proto.opset_import if opset.domain not in used]:
        proto.opset_import.remove(opset)  # tf2onnx always imports ai.onnx.ml
    return proto.SerializeToString()


def _rename(graph, names):
    for value in (*graph.input, *graph.output, *graph.value_info):
        value.name = names.get(value.name, value.name)
    for node in graph.node:
        for ends in (node.input, node.output):
            for position, name in enumerate(ends):
                ends[position] = names.get(name, name)


def operators(data: bytes) -> dict[str, int]:
    """Counts the operators of an ONNX file, subgraphs included.

    Raises:
        ExportError: one of them is of another domain than the default one; it is named.
    """
    import onnx

    counts = {}

    def count(graph):
        for node in graph.node:
            if node.domain not in ("", "ai.onnx"):
                raise ExportError(
                    f"The ONNX file holds the operator {node.domain}.{node.op_type}, outside the default "
                    "domain: it cannot run everywhere."
                )
            counts[node.op_type] = counts.get(node.op_type, 0) + 1
            for attribute in node.attribute:
                if attribute.type == onnx.AttributeProto.GRAPH:
                    count(attribute.g)

    count(onnx.load_from_string(data).graph)
    return counts
