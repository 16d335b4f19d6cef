"""SavedModel: what the other formats are converted from, too."""

import pathlib

import keras
import tensorflow as tf

SIGNATURE = "serving_default"
ANY = "any"


def image_signature(image_size, batch_size, dtype=tf.uint8):
    """The input: [batch, height, width, 3], None where anything goes."""
    return tf.TensorSpec((batch_size, *(image_size or (None, None)), 3), dtype, name="images")


def write(deployed: keras.Model, path, image_size=None, batch_size=None, proposals=None, dtype=tf.uint8) -> None:
    """Writes a deployed graph as a SavedModel with one signature: ``images`` in, its dict of outputs by name out.

    ``keras.export.ExportArchive`` would trace the graph three times, which is most of the time that an export takes.

    Args:
        proposals: of a graph that takes them beside the pictures, float32 [batch, proposals, 4]: how many, or "any". None: it does
            not.
        dtype: of the pictures.
    """
    signature = [image_signature(image_size, batch_size, dtype)]
    if proposals is not None:
        signature.append(tf.TensorSpec((batch_size, None if proposals == ANY else proposals, 4), tf.float32, name="proposals"))

    @tf.function(input_signature=signature)
    def answer(images, *proposals):
        return deployed({"images": images, "proposals": proposals[0]} if proposals else images)

    module = tf.Module()
    module.weights = [variable.value for variable in deployed.variables]
    setattr(module, SIGNATURE, answer)
    tf.saved_model.save(module, str(path), signatures={SIGNATURE: answer.get_concrete_function()})


def operators(path) -> dict[str, int]:
    """Counts the TensorFlow operators of the signature, functions that it calls included."""
    from tensorflow.core.protobuf import saved_model_pb2

    proto = saved_model_pb2.SavedModel.FromString((pathlib.Path(path) / "saved_model.pb").read_bytes())
    graph = proto.meta_graphs[0].graph_def
    functions = {function.signature.name: function for function in graph.library.function}
    counts, pending, seen = {}, list(graph.node), set()
    # The signature is the call behind the outputs; saving and restoring have functions of their own.
    pending = [
        node
        for node in pending
        if node.op in ("StatefulPartitionedCall", "PartitionedCall") and "signature_wrapper" in _called(node)
    ]
    while pending:
        node = pending.pop()
        called = _called(node)
        if called in functions and called not in seen:
            seen.add(called)
            pending.extend(functions[called].node_def)
        elif called not in functions and node.op not in ("Const", "NoOp", "Identity", "ReadVariableOp", "Placeholder"):
            counts[node.op] = counts.get(node.op, 0) + 1
    return counts


def _called(node):
    return node.attr["f"].func.name if "f" in node.attr else ""
