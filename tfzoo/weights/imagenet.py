"""ImageNet weights for backbones: VGG16 and MobileNetV2 from Keras's files (their download checks a digest), ResNet and
MobileNetV3 from torchvision's.

A model's backbone is told by its name in the zoo: ``fcn8s_vgg16``, ``deeplabv3_mobilenet_v3_large``.
"""

import os
import pathlib

import numpy as np

from tfzoo.errors import InputError, MissingInputError
from tfzoo.weights import torchvision
from tfzoo.weights.source import Source

# Keras's VGG16 takes BGR minus these means. Our models take RGB, so the first kernel is turned round instead of the picture.
VGG16_TRANSFORM = {"image_mean": (123.68, 116.779, 103.939), "image_std": (1.0, 1.0, 1.0)}
VGG16_FILE = "vgg16_weights_tf_dim_ordering_tf_kernels.h5"

# Keras's MobileNetV2 takes pixels from -1 to 1; its weights are published for these widths.
MOBILENETV2_TRANSFORM = {"image_mean": (127.5, 127.5, 127.5), "image_std": (127.5, 127.5, 127.5)}
MOBILENETV2_FILE = "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_{}_224_no_top.h5"
MOBILENETV2_WIDTHS = (0.35, 0.5, 0.75, 1.0, 1.3, 1.4)


class KerasBackbone(Source):
    """A backbone that Keras publishes; ``load`` downloads it."""

    def __init__(self, options, put_into):
        self.options, self.put_into = dict(options), put_into

    def load(self, model, new_head):
        self.put_into(model)


def open_backbone(name, entry) -> Source:
    """Returns the ImageNet weights of the backbone that the zoo's ``name`` tells.

    Raises:
        MissingInputError: torchvision's file cannot be downloaded.
        InputError: it is not the published one; or no such weights are known.
    """
    for backbone, file_name in torchvision.BACKBONES.items():
        if backbone in name:
            return torchvision.Checkpoint(torchvision.fetch(file_name), entry)
    if "vgg16" in name:
        return KerasBackbone(VGG16_TRANSFORM, load_vgg16)
    if "mobilenetv2" in name:
        return KerasBackbone(MOBILENETV2_TRANSFORM, load_mobilenetv2)
    raise InputError(f"No ImageNet weights are known for the backbone of '{name}': go without weights.")


def load_vgg16(model):
    """Downloads VGG16 (553 MB, once) and puts it into a model: see ``copy_vgg16``."""
    import keras

    _check_width(model, "VGG16", (1,))
    copy_vgg16(_download("VGG16", VGG16_FILE, keras.applications.VGG16, weights="imagenet"), model)


def load_mobilenetv2(model):
    """Downloads MobileNetV2 of the model's width and puts it into the model: see ``copy_by_name``."""
    import keras

    _check_width(model, "MobileNetV2", MOBILENETV2_WIDTHS)
    width = float(model.options["width_multiplier"])
    options = {"alpha": width, "include_top": False, "input_shape": (224, 224, 3), "weights": "imagenet"}
    file_name = MOBILENETV2_FILE.format(width)
    copy_by_name(_download("MobileNetV2", file_name, keras.applications.MobileNetV2, **options), model)


def copy_vgg16(published, model):
    """Copies Keras's VGG16 into a model whose layers bear its names, or those that the model's ``vgg16_layers`` gives them.

    The fully connected layers become convolutions (Long et al. 2015, figure 2) where the model has such ones. With batch
    normalisation the biases become the norms' shifts: before training that is VGG16 still, but for the norms' epsilon.

    Args:
        published: ``keras.applications.VGG16`` with its top.
        model: a model on VGG16 of width 1.

    Raises:
        InputError: the model is of another width.
    """
    _check_width(model, "VGG16", (1,))
    layers = {layer.name: layer for layer in model.layers}
    names = getattr(model, "vgg16_layers", {})
    for layer in published.layers:
        if layer.name.startswith("block") and layer.weights:
            kernel, bias = layer.get_weights()
            if layer.name == "block1_conv1":
                kernel = np.ascontiguousarray(kernel[:, :, ::-1])
            _put_convolution(layers, names.get(layer.name, layer.name), kernel, bias)
    for name, source, shape in (("fc6", "fc1", (7, 7, 512, 4096)), ("fc7", "fc2", (1, 1, 4096, 4096))):
        if name in layers and tuple(layers[name].kernel.shape) == shape:
            kernel, bias = published.get_layer(source).get_weights()
            _put_convolution(layers, name, kernel.reshape(shape), bias)


def _put_convolution(layers, name, kernel, bias):
    layers[name].kernel.assign(kernel)
    (layers[name].bias if layers[name].use_bias else layers[f"{name}_bn"].beta).assign(bias)


def copy_by_name(published, model):
    """Copies the weights of every layer of a published network into the model's layer of that name, where it has one."""
    layers = {layer.name: layer for layer in model.layers}
    for layer in published.layers:
        if layer.weights and layer.name in layers:
            layers[layer.name].set_weights(layer.get_weights())


def _download(network, file_name, build, **options):
    try:
        return build(**options)
    except Exception as error:
        place = pathlib.Path(os.environ.get("KERAS_HOME", "~/.keras"), "models", file_name)
        raise MissingInputError(
            f"The ImageNet weights of {network} could not be downloaded: put Keras's file at {place}, or go without weights."
        ) from error


def _check_width(model, network, widths):
    width = model.options.get("width_multiplier", 1)
    if width not in widths:
        published = " or ".join(f"width_multiplier={w:g}" for w in widths)
        raise InputError(f"ImageNet weights of {network} fit {published} only, and this model has {width:g}.")
