"""The backbone of another model of ours: what it learned for one task serves the next."""

import re

from tfzoo.errors import InputError
from tfzoo.weights.files import load_model
from tfzoo.weights.source import Source

PREFIX = "backbone:"
# Keras's names of VGG16's and MobileNetV2's layers; torchvision's of ResNet's and MobileNetV3's, where detectors add "body.".
LAYERS = re.compile(r"block\d_conv\d|fc[67]|(bn_)?Conv_?1|expanded_conv_|block_\d+_|backbone\.(?!fpn|extra)")
NARROWED = re.compile(r"fc[67]")  # by models whose papers do so: these start anew then


class Backbone(Source):
    """What the layers of a backbone have learned in the model of a ``.keras`` file; it brings the normalisation of pictures along.

    Raises:
        MissingInputError: there is no such file.
        InputError: it holds no model of this zoo.
    """

    def __init__(self, path):
        self.path, self.stored = path, load_model(path)
        self.options = {key: getattr(self.stored, key) for key in ("image_mean", "image_std")}

    def load(self, model, new_head):
        """Puts them into the layers of these names in a model; an InputError if it has another backbone, or another width."""
        given, wanted = backbone_layers(self.stored), backbone_layers(model)
        shared = [name for name in wanted if name in given]
        if not shared:
            raise InputError(
                f"{self.path} holds the model '{self.stored.name}', another backbone than '{model.name}'s: give a model on "
                "the same one."
            )
        for name in shared:
            shapes = [[tuple(weight.shape) for weight in layer.weights] for layer in (given[name], wanted[name])]
            if shapes[0] == shapes[1]:
                wanted[name].set_weights(given[name].get_weights())
            elif not NARROWED.match(name):
                raise InputError(
                    f"{self.path} has weights of {shapes[0]} in layer '{name}', where '{model.name}' has {shapes[1]}: build it "
                    "with the same options, such as width_multiplier."
                )


def backbone_layers(model) -> dict:
    """The layers of a model's backbone that have weights, by the names that they have in every model on it."""
    renamed = {own: name for name, own in getattr(model, "vgg16_layers", {}).items()}
    layers = {renamed.get(layer.name, layer.name): layer for layer in model.named_layers() if layer.weights}
    return {name.replace("backbone.body.", "backbone."): layer for name, layer in layers.items() if LAYERS.match(name)}
