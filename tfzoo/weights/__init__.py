"""Where weights come from, and whether they fit."""

from tfzoo.weights.files import check_architecture, copy, input_transform, load, load_model, stored_options

__all__ = ["check_architecture", "copy", "input_transform", "load", "load_model", "stored_options"]
