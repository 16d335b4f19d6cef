"""What TensorFlow Lite's GPU delegate cannot take of a file, and leaves to the processor.

The rules are those of the delegate's own check, tensorflow/lite/tools/versioning/gpu_compatibility.cc of TensorFlow 2.21, as far as
they depend on the kind of an operator and on its tensors' types and ranks. ``tf.lite.experimental.Analyzer`` is meant to apply that
check, but in the published packages of TensorFlow 2.21 it calls every file compatible, NMS and all.
"""

import collections
import pathlib

from ai_edge_litert import schema_py_generated as schema

from tfzoo.export.tflite import kind_of

ANY_TENSORS = frozenset(  # whatever their tensors are
    """
    ABS ADD ADD_N ATAN2 AVERAGE_POOL_2D BATCH_MATMUL CEIL CONCATENATION CONV_2D COS DENSIFY DEPTHWISE_CONV_2D
    DEPTH_TO_SPACE DIV ELU EQUAL EXP FLOOR FLOOR_DIV FLOOR_MOD FULLY_CONNECTED GELU GREATER GREATER_EQUAL HARD_SWISH
    LEAKY_RELU LESS LESS_EQUAL LOG LOGICAL_AND LOGISTIC MAXIMUM MAX_POOL_2D MEAN MINIMUM MUL NEG NOT_EQUAL PACK POW
    PRELU QUANTIZE REDUCE_MAX REDUCE_MIN REDUCE_PROD RELU RELU6 RELU_N1_TO_1 RESHAPE RESIZE_BILINEAR
    RESIZE_NEAREST_NEIGHBOR RSQRT SIGN SIN SOFTMAX SPACE_TO_DEPTH SPLIT SPLIT_V SQRT SQUARE SQUARED_DIFFERENCE SUB SUM
    TANH TILE TRANSPOSE TRANSPOSE_CONV
    """.split()  # noqa: SIM905  (a list would be four times as long)
)
FLOATS, CAST_TYPES = {"FLOAT16", "FLOAT32"}, {"FLOAT32", "INT32"}
TYPES = {value: name for name, value in vars(schema.TensorType).items() if isinstance(value, int)}


def not_on_gpu(path) -> dict[str, int]:
    """Returns operator -> how often, of those that the GPU delegate does not take; {} if it takes the whole file."""
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(pathlib.Path(path).read_bytes(), 0))
    kinds = [kind_of(code) for code in model.operatorCodes]
    return dict(
        collections.Counter(
            kinds[operator.opcodeIndex]
            for graph in model.subgraphs
            for operator in graph.operators
            if not _taken(kinds[operator.opcodeIndex], *_tensors(graph, operator))
        )
    )


def _tensors(graph, operator):
    """Type and rank of its inputs, and of its outputs."""
    return [
        [
            None if place < 0 else (TYPES[graph.tensors[place].type], _rank(graph.tensors[place]))  # an input that is left out
            for place in places
        ]
        for places in (operator.inputs, operator.outputs)
    ]


def _rank(tensor):
    return 0 if tensor.shape is None else len(tensor.shape)


def _taken(kind, inputs, outputs):
    return kind in ANY_TENSORS or (kind in RULES and RULES[kind](inputs, outputs))


def _cast(inputs, outputs):
    pair = inputs[0][0], outputs[0][0]
    return set(pair) <= CAST_TYPES or ("BOOL" in pair and bool(FLOATS & set(pair)))


RULES = {  # (type, rank) of each input and output -> whether it is taken
    "CAST": _cast,
    "CUMSUM": lambda inputs, outputs: inputs[0][0] in FLOATS,
    "DEQUANTIZE": lambda inputs, outputs: inputs[0][0] != "INT16",
    "GATHER": lambda inputs, outputs: inputs[0][0] != "INT32" and inputs[1] == ("INT32", 1),
    "ONE_HOT": lambda inputs, outputs: inputs[0][0] == "INT32" and inputs[2][0] == "FLOAT32",
    "SELECT": lambda inputs, outputs: {value[0] for value in inputs[1:]} <= FLOATS,
    "SELECT_V2": lambda inputs, outputs: {value[0] for value in inputs[1:]} <= FLOATS,
    **dict.fromkeys(("SLICE", "STRIDED_SLICE"), lambda inputs, outputs: inputs[0][1] in (3, 4)),
    **dict.fromkeys(("PAD", "PADV2", "MIRROR_PAD"), lambda inputs, outputs: inputs[0][1] in (3, 4)),
}
