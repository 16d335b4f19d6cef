"""What a TFLite file computes in which kind of number."""

from ai_edge_litert import schema_py_generated as schema

from tfzoo.export.tflite import OPERATORS

TYPES = {value: name for name, value in vars(schema.TensorType).items() if isinstance(value, int)}


def result_types(path):
    """The operators of a TFLite file: name -> the set of the types of their first results."""
    model, found = schema.ModelT.InitFromObj(schema.Model.GetRootAs(path.read_bytes(), 0)), {}
    for operator in model.subgraphs[0].operators:
        code = model.operatorCodes[operator.opcodeIndex]
        name = OPERATORS[max(code.builtinCode, code.deprecatedBuiltinCode)]
        found.setdefault(name, set()).add(TYPES[model.subgraphs[0].tensors[operator.outputs[0]].type])
    return found
