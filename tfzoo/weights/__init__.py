"""Where weights come from, and whether they fit."""

from tfzoo.weights.files import input_transform, load, load_model, stored_class_names

__all__ = ["input_transform", "load", "load_model", "stored_class_names"]
