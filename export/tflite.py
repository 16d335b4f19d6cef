"""TFLite (LiteRT) files of builtin operators alone."""

import contextlib
import warnings

import tensorflow as tf

from tfzoo.errors import ExportError
from tfzoo.export.savedmodel import SIGNATURE

QUANTIZATIONS = (None, "float16", "dynamic", "int8")


def convert(saved_model, quantization=None, pictures=()) -> bytes:
    """Converts a SavedModel of fixed shapes.

    Args:
        saved_model: its folder.
        quantization: None, "float16" (weights), "dynamic" (int8 weights, float activations) or "int8" (weights and activations;
            pictures stay uint8, and what no integer kernel takes stays float).
        pictures: for int8, uint8 arrays [B, H, W, 3] as the model takes them.

    Raises:
        ExportError: an operator is no builtin.
    """
    converter = tf.lite.TFLiteConverter.from_saved_model(str(saved_model), signature_keys=[SIGNATURE])
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    if quantization:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if quantization == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if quantization == "int8":
        converter.representative_dataset = lambda: ({"images": batch} for batch in pictures)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8, tf.lite.OpsSet.TFLITE_BUILTINS]
    try:
        with _quiet():
            return converter.convert()
    except Exception as error:
        raise ExportError(f"The model does not convert to TFLite's builtin operators: {_reason(error)}") from error


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
    from ai_edge_litert import schema_py_generated as schema

    names = {value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}
    model = schema.Model.GetRootAs(data, 0)
    codes = [model.OperatorCodes(i) for i in range(model.OperatorCodesLength())]
    for code in codes:
        if code.CustomCode():
            raise ExportError(
                f"The TFLite file holds the operator {code.CustomCode().decode()}, which is no builtin: it cannot run everywhere."
            )
    # The older one-byte field holds what fits into it; the newer field is there for the rest.
    kinds = [names[max(code.BuiltinCode(), code.DeprecatedBuiltinCode())] for code in codes]
    counts = {}
    for index in range(model.SubgraphsLength()):
        graph = model.Subgraphs(index)
        for position in range(graph.OperatorsLength()):
            kind = kinds[graph.Operators(position).OpcodeIndex()]
            counts[kind] = counts.get(kind, 0) + 1
    return counts
