"""OpenVINO's own files: NAME.xml, the graph, and NAME.bin, its weights."""

import collections

from tfzoo.errors import ExportError


def write(saved_model, path) -> dict[str, int]:
    """Converts a SavedModel; inputs and outputs keep the names of its signature. Returns the operators: name -> how often.

    OpenVINO reads the SavedModel itself: its converter would do the same, and tell its makers of it.

    Raises:
        ExportError: an operator does not convert.
    """
    import openvino

    try:
        graph = openvino.Core().read_model(str(saved_model))
        openvino.save_model(graph, str(path), compress_to_fp16=False)
    except Exception as error:
        raise ExportError(f"The model does not convert to OpenVINO: {str(error).strip()[-300:]}") from error
    kinds = collections.Counter(operator.get_type_name() for operator in graph.get_ops())
    return {kind: count for kind, count in kinds.items() if kind not in ("Parameter", "Constant", "Result")}
