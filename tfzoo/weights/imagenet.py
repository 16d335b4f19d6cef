"""ImageNet weights for backbones, from the files that Keras publishes (their download checks a digest)."""

import os
import pathlib

import numpy as np

from tfzoo.errors import InputError, MissingInputError

# Keras's VGG16 takes BGR minus these means. Our models take RGB, so the first kernel is turned round instead of the picture.
VGG16_TRANSFORM = {"image_mean": (123.68, 116.779, 103.939), "image_std": (1.0, 1.0, 1.0)}
VGG16_FILE = "vgg16_weights_tf_dim_ordering_tf_kernels.h5"


def load_vgg16(model):
    """Downloads VGG16 (553 MB, once) and puts it into an FCN: see ``copy_vgg16``."""
    import keras

    try:
        published = keras.applications.VGG16(weights="imagenet")
    except Exception as error:
        place = pathlib.Path(os.environ.get("KERAS_HOME", "~/.keras"), "models", VGG16_FILE)
        raise MissingInputError(
            f"The ImageNet weights of VGG16 could not be downloaded: put Keras's file at {place}, or go without weights."
        ) from error
    copy_vgg16(published, model)


def copy_vgg16(published, model):
    """Copies Keras's VGG16 into an FCN, its fully connected layers turned into convolutions (Long et al. 2015, figure 2).

    Args:
        published: ``keras.applications.VGG16`` with its top.
        model: an FCN of width 1 without batch normalisation.

    Raises:
        InputError: the model is of another width, or has batch normalisation.
    """
    if model.options["width_multiplier"] != 1 or model.options["batch_norm"]:
        raise InputError("ImageNet weights of VGG16 fit width_multiplier=1 and batch_norm=False only: leave these options out.")
    for layer in published.layers:
        if layer.name.startswith("block") and layer.weights:
            kernel, bias = layer.get_weights()
            if layer.name == "block1_conv1":
                kernel = kernel[:, :, ::-1]
            model.get_layer(layer.name).set_weights([np.ascontiguousarray(kernel), bias])
    for name, source, shape in (("fc6", "fc1", (7, 7, 512, 4096)), ("fc7", "fc2", (1, 1, 4096, 4096))):
        kernel, bias = published.get_layer(source).get_weights()
        model.get_layer(name).set_weights([kernel.reshape(shape), bias])
