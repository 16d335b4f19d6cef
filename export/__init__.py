"""Exports that are proved: every written file is run in its own runtime and compared with the Keras model.

``export(model, path)`` writes SavedModel, TFLite, ONNX or OpenVINO; ``load(path)`` runs any artifact.
"""

from tfzoo.export.decoding import decode
from tfzoo.export.report import ExportReport
from tfzoo.export.runner import Runner, load

__all__ = ["ExportReport", "Runner", "decode", "export", "load"]


def __getattr__(name):
    if name != "export":
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    from tfzoo.export.exporter import export  # only writing needs TensorFlow: Keras files are run without it

    return export
