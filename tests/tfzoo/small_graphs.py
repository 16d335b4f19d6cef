"""Small graphs, for layers that must run everywhere: Keras models in every format, and single operators of ONNX Runtime."""

import onnx
import onnxruntime
import tensorflow as tf

from tfzoo.export import onnx as onnx_files
from tfzoo.export import savedmodel, tflite
from tfzoo.layers.target import graph_for


def saved(model, folder, size, batch, converted=True):
    with graph_for(portable=True, converted=converted):
        savedmodel.write(model, folder, size, batch)
    return folder


def run_saved_model(model, batches, folder):
    """What a SavedModel of any size answers to each batch of pictures: a list of dicts. The model's call takes uint8 pictures."""
    loaded = tf.saved_model.load(str(saved(model, folder, None, None, converted=False))).signatures[savedmodel.SIGNATURE]
    return [{name: value.numpy() for name, value in loaded(images=tf.constant(pictures)).items()} for pictures in batches]


def run_onnx(model, batches, folder):
    """The same from an ONNX file of the default domain."""
    data = onnx_files.convert(saved(model, folder, None, None))
    assert onnx_files.operators(data)
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return [dict(zip(names, session.run(None, {"images": pictures}), strict=True)) for pictures in batches]


def run_tflite(model, pictures, folder):
    """The same from a TFLite file of builtin operators, for one batch, of whose shape the file is made: a dict."""
    from ai_edge_litert.interpreter import Interpreter

    data = tflite.convert(saved(model, folder, pictures.shape[1:3], len(pictures)))
    assert tflite.operators(data)
    return Interpreter(model_content=data).get_signature_runner()(images=pictures)


def onnx_operator(kind, inputs, opset=18, **attributes):
    """What ONNX Runtime's operator ``kind`` answers to inputs, name -> array, in their order; None is one that is left out."""
    given = {name: value for name, value in inputs.items() if value is not None}
    node = onnx.helper.make_node(kind, [name if name in given else "" for name in inputs], ["y"], **attributes)
    values = [
        onnx.helper.make_tensor_value_info(name, onnx.helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
        for name, value in given.items()
    ]
    graph = onnx.helper.make_graph([node], kind, values, [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)], ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, given)[0]
