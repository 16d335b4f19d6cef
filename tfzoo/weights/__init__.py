"""Where weights come from, and whether they fit."""

from tfzoo.weights.files import load_model, open_model, open_weights

__all__ = ["load_model", "open_model", "open_weights"]
