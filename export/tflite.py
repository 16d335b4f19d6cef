"""TFLite (LiteRT) files of builtin operators alone."""

import collections
import contextlib
import itertools
import re
import warnings

import flatbuffers
import numpy as np
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema
from tensorflow.lite.python.convert import mlir_quantize  # the converter's own second half, which takes what is to stay float

from tfzoo.errors import ExportError
from tfzoo.export.savedmodel import SIGNATURE

OPERATORS = {value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}
QUANTIZATIONS = (None, "float16", "dynamic", "int8", "full_int8")
CALIBRATED = ("int8", "full_int8")
WITH_INTEGERS = (*CALIBRATED, "dynamic")
ARG_MAX_OF_INTEGERS = 2  # the operator's version
ALIGNMENT = 16  # of the schema's buffers


def write(saved_model, path, quantization=None, batches=(), integers=None) -> dict[str, int]:
    """Converts a SavedModel to a file; returns its operators: name -> how often.

    Args:
        integers: the arguments of ``within``, or None; all else as for ``convert``, and it raises what that and ``operators`` do.
    """
    data = convert(saved_model, quantization, batches, integers and within(*integers))
    counts = operators(data)
    path.write_bytes(data)
    return counts


def convert(saved_model, quantization=None, batches=(), integers=None) -> bytes:
    """Converts a SavedModel of fixed shapes.

    Args:
        saved_model: its folder.
        quantization: None, "float16" (weights), "dynamic" (int8 weights, float activations), "int8" (weights and activations;
            pictures stay uint8, and what no integer kernel takes stays float) or "full_int8" (everything: pictures, which the
            SavedModel takes as float32, become uint8, and all outputs int8).
        batches: for the last two, dicts of what the model takes, by name: "images" uint8 [B, H, W, 3], ...
        integers: for int8, tells of an operator's name whether integers may compute it; None: all.

    Raises:
        ExportError: an operator is no builtin.
    """
    converter = tf.lite.TFLiteConverter.from_saved_model(str(saved_model), signature_keys=[SIGNATURE])
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    if quantization:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if quantization == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if quantization in CALIBRATED:
        converter.representative_dataset = lambda: iter(batches)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    if quantization == "int8":
        converter.target_spec.supported_ops.append(tf.lite.OpsSet.TFLITE_BUILTINS)
        converter._experimental_calibrate_only = True
    if quantization == "full_int8":
        converter.inference_input_type, converter.inference_output_type = tf.uint8, tf.int8
    try:
        with _quiet():
            converted = converter.convert()
            if quantization == "int8":
                converted = _quantize(converted, integers)
            return _trimmed(converted) if quantization in WITH_INTEGERS else converted
    except Exception as error:
        raise ExportError(f"The model does not convert to TFLite's builtin operators: {_reason(error)}") from error


def _quantize(calibrated, integers):
    """An int8 file from a float one that knows the ranges of its tensors.

    What is to stay float loses its ranges, unless integers alone are made of it, and the converter is told the names of its
    operators, or, where an operator has several results and so no name there, its kind. Each of these alone leaves some
    probabilities or boxes with 8 bits.
    """
    if integers is None:
        return mlir_quantize(calibrated)
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(calibrated, 0))
    graph, names, kinds = model.subgraphs[0], set(), set()
    stay_float = [not integers(graph.tensors[operator.outputs[0]].name.decode()) for operator in graph.operators]
    readers = collections.defaultdict(set)  # tensor -> whether those that read it stay float
    for operator, stays in zip(graph.operators, stay_float, strict=True):
        for tensor in operator.inputs:
            readers[tensor].add(stays)
    for operator in itertools.compress(graph.operators, stay_float):
        names.add(graph.tensors[operator.outputs[0]].name.decode())
        if len(operator.outputs) > 1:
            kinds.add(kind_of(model.operatorCodes[operator.opcodeIndex]).lower())
        for tensor in operator.outputs:
            if readers[tensor] != {False}:
                graph.tensors[tensor].quantization = None
    return mlir_quantize(_packed(model), denylisted_nodes=sorted(names), denylisted_ops=sorted(kinds))


def _trimmed(quantized):
    """The same file without what it holds or does twice: the largest integer is found without making them real numbers first."""
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(quantized, 0))
    for graph in model.subgraphs:
        real = {
            operator.outputs[0]: operator.inputs[0]
            for operator in graph.operators
            if kind_of(model.operatorCodes[operator.opcodeIndex]) == "DEQUANTIZE"
            and graph.tensors[operator.inputs[0]].type == schema.TensorType.INT8
        }
        for operator in graph.operators:
            code = model.operatorCodes[operator.opcodeIndex]
            if kind_of(code) == "ARG_MAX" and operator.inputs[0] in real:
                operator.inputs = np.array([real[operator.inputs[0]], *operator.inputs[1:]], operator.inputs.dtype)
                code.version = max(code.version, ARG_MAX_OF_INTEGERS)
    return _packed(model)


def _packed(model) -> bytes:
    builder = SharingBuilder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


class SharingBuilder(flatbuffers.Builder):
    """Stores equal arrays once: a file has a zero point of eight bytes for each channel of each weight, and all of them are 0."""

    def __init__(self, size):
        super().__init__(size)
        self._known = {}

    def CreateNumpyVector(self, x):
        key = x.dtype.str, x.tobytes()
        if key not in self._known:
            self._known[key] = self._aligned(x) if x.dtype == np.uint8 else super().CreateNumpyVector(x)
        return self._known[key]

    def _aligned(self, data):
        """Bytes of a tensor, where the format wants them: at a multiple of 16."""
        self.StartVector(1, data.size, ALIGNMENT)
        self.head = self.Head() - data.size
        self.Bytes[self.Head() : self.Head() + data.size] = data.tobytes()
        self.vectorNumElems = data.size
        return self.EndVector()


def within(parts, but=()):
    """Returns a function that tells of an operator's name whether it lies within a named part of the graph, but for some layers."""

    def pattern(names):
        return re.compile(rf"(^|[/;])({'|'.join(map(re.escape, names))})(_\d+)?(/|;|$)") if names else re.compile(r"(?!)")

    inside, outside = pattern(parts), pattern(but)
    return lambda name: bool(inside.search(name)) and not outside.search(name)


def _reason(error):
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [
        line for line in lines if "is neither a custom op nor a flex op" in line or "failed to legalize" in line or "ops:" in line
    ]
    return (telling or lines or [type(error).__name__])[0][:300]


@contextlib.contextmanager
def _quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the converter's calibrator still builds tf.lite.Interpreter, which says it is deprecated
        yield


def operators(data: bytes) -> dict[str, int]:
    """Counts the operators of a TFLite file, all subgraphs.

    Raises:
        ExportError: one of them is a custom or Flex operator; it is named.
    """
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(data, 0))
    for code in model.operatorCodes:
        if code.customCode:
            raise ExportError(
                f"The TFLite file holds the operator {code.customCode.decode()}, which is no builtin: it cannot run everywhere."
            )
    kinds = [kind_of(code) for code in model.operatorCodes]
    return dict(collections.Counter(kinds[operator.opcodeIndex] for graph in model.subgraphs for operator in graph.operators))


def kind_of(code):
    """An operator's name in the file format. The older one-byte field holds what fits into it, the newer one the rest."""
    return OPERATORS[max(code.builtinCode, code.deprecatedBuiltinCode)]
