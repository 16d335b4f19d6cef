"""Training beyond a plain ``fit``: a recipe, checkpoints, logs and pictures."""

from tfzoo.training.recipe import Recipe
from tfzoo.training.run import train
from tfzoo.training.settings import evaluation_command, resumed_recipe, splits_of

__all__ = ["Recipe", "evaluation_command", "resumed_recipe", "splits_of", "train"]
