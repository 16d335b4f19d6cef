"""Checkpoints in torchvision's layout: where they are published, what they bring, and how their arrays become ours.

Our layers bear the names of torchvision's modules, so a key of the checkpoint is a layer's name and one of weight, bias,
running_mean and running_var; only the order of the axes differs.
"""

import collections
import dataclasses
import hashlib
import inspect
import os
import pathlib
import re

import numpy as np

from tfzoo.errors import InputError, MissingInputError
from tfzoo.weights.source import Source
from tfzoo.weights.torch_file import read_tensors

URL = "https://download.pytorch.org/models/"
SUFFIXES = (".pth", ".pt")

# File names carry the first eight hex digits of the file's SHA-256.
PUBLISHED = {
    "fcn_resnet50": "fcn_resnet50_coco-1167a1af.pth",
    "fcn_resnet101": "fcn_resnet101_coco-7ecb50ca.pth",
    "deeplabv3_resnet50": "deeplabv3_resnet50_coco-cd0a2569.pth",
    "deeplabv3_resnet101": "deeplabv3_resnet101_coco-586e9e4e.pth",
    "deeplabv3_mobilenet_v3_large": "deeplabv3_mobilenet_v3_large-fc3c493d.pth",
    "lraspp_mobilenet_v3_large": "lraspp_mobilenet_v3_large-d234d4ea.pth",
    "retinanet_resnet50_fpn": "retinanet_resnet50_fpn_coco-eeacb38b.pth",
    "retinanet_resnet50_fpn_v2": "retinanet_resnet50_fpn_v2_coco-5905b1c5.pth",
    "fcos_resnet50_fpn": "fcos_resnet50_fpn_coco-99b0c9b7.pth",
    "ssd300_vgg16": "ssd300_vgg16_coco-b556d3b4.pth",
    "ssdlite320_mobilenet_v3_large": "ssdlite320_mobilenet_v3_large_coco-a79551df.pth",
    "fastrcnn_resnet50_fpn": "fasterrcnn_resnet50_fpn_coco-258fb6c6.pth",  # which has a second stage like it
    "fasterrcnn_resnet50_fpn": "fasterrcnn_resnet50_fpn_coco-258fb6c6.pth",
    "fasterrcnn_resnet50_fpn_v2": "fasterrcnn_resnet50_fpn_v2_coco-dd69338a.pth",
    "fasterrcnn_mobilenet_v3_large_fpn": "fasterrcnn_mobilenet_v3_large_fpn-fb6a3cc7.pth",
    "fasterrcnn_mobilenet_v3_large_320_fpn": "fasterrcnn_mobilenet_v3_large_320_fpn-907ea3f9.pth",
    "maskrcnn_resnet50_fpn": "maskrcnn_resnet50_fpn_coco-bf2d0c1e.pth",
    "maskrcnn_resnet50_fpn_v2": "maskrcnn_resnet50_fpn_v2_coco-73cbd019.pth",
    "keypointrcnn_resnet50_fpn": "keypointrcnn_resnet50_fpn_coco-fc266e95.pth",
}
BACKBONES = {
    "resnet50": "resnet50-0676ba61.pth",
    "resnet101": "resnet101-63fe2227.pth",
    "mobilenet_v3_large": "mobilenet_v3_large-8738ca79.pth",
}
VOC_CLASSES = (
    *("__background__", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable"),
    *("dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)
COCO_CLASSES = (  # by COCO's category numbers, of which eleven were never used
    *("__background__", "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "traffic light"),
    *("fire hydrant", "N/A", "stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse", "sheep", "cow", "elephant"),
    *("bear", "zebra", "giraffe", "N/A", "backpack", "umbrella", "N/A", "N/A", "handbag", "tie", "suitcase", "frisbee", "skis"),
    *("snowboard", "sports ball", "kite", "baseball bat", "baseball glove", "skateboard", "surfboard", "tennis racket", "bottle"),
    *("N/A", "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple", "sandwich", "orange", "broccoli", "carrot"),
    *("hot dog", "pizza", "donut", "cake", "chair", "couch", "potted plant", "bed", "N/A", "dining table", "N/A", "N/A", "toilet"),
    *("N/A", "tv", "laptop", "mouse", "remote", "keyboard", "cell phone", "microwave", "oven", "toaster", "sink", "refrigerator"),
    *("N/A", "book", "clock", "vase", "scissors", "teddy bear", "hair drier", "toothbrush"),
)
CLASS_LISTS = {len(names): names for names in (VOC_CLASSES, COCO_CLASSES)}  # by number of classes

BACKBONE, AUXILIARY = "backbone.", "aux_classifier."
CLASSIFIERS = ("fc.", "classifier.")  # of ImageNet's 1000 classes, in a backbone's file

# Our variables' names, and theirs.
ARRAYS = {
    "kernel": "weight",
    "bias": "bias",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}
# Which of their axes each of ours is.
AXES = {
    "Conv2D": (2, 3, 1, 0),  # [out, in, h, w] to [h, w, in, out]
    "DepthwiseConv2D": (2, 3, 0, 1),  # [channels, 1, h, w] to [h, w, channels, 1]
    "Conv2DTranspose": (2, 3, 1, 0),  # [in, out, h, w] to [h, w, out, in]
    "Dense": (1, 0),  # [out, in] to [in, out]
}
# Keys of files from before torchvision's modules of convolution, norm and activation, and the present ones.
OLD_KEYS = (
    (r"((?:inner|layer)_blocks\.\d+)\.(\w+)$", r"\1.0.\2"),
    (r"((?:classification|regression)_head\.conv)\.(\d+)\.(\w+)$", lambda m: f"{m[1]}.{int(m[2]) // 2}.0.{m[3]}"),
    (r"(rpn\.head\.conv)\.(\w+)$", r"\1.0.0.\2"),
    (r"(mask_head)\.mask_fcn(\d+)\.(\w+)$", lambda m: f"{m[1]}.{int(m[2]) - 1}.0.{m[3]}"),
)
NAMED = 3  # tensors that an error names, of each kind


class Checkpoint(Source):
    """A ``.pth`` file of a whole model of torchvision, or of a backbone alone (whose classifier is left out).

    Args:
        path: the file.
        entry: line of the zoo's table whose model it is for.

    Attributes:
        tensors: key -> array, without the norms' counters of batches; a backbone's keys begin with "backbone.".
        whole: whether it has a head, and so brings classes.

    Raises:
        MissingInputError: there is no such file.
        InputError: it is damaged, or holds anything but tensors.
    """

    def __init__(self, path, entry):
        self.path, builder = pathlib.Path(path), entry.build_class()
        tensors = {key: array for key, array in read_tensors(path).items() if not key.endswith("num_batches_tracked")}
        self.whole = any(key.startswith(BACKBONE) for key in tensors)
        self.backbone = getattr(builder, "backbone_prefix", BACKBONE)
        self.tensors = tensors if self.whole else as_backbone(tensors, getattr(builder, "backbone_key", None) or self._prefixed)
        self.options = builder.checkpoint_options(entry.options, self.whole)
        if not self.whole:
            return
        self.num_classes = self._count_classes(builder)
        self.class_names = (CLASS_LISTS | getattr(builder, "class_lists", {})).get(self.num_classes)
        if self.class_names is None and getattr(builder, "background_column", False):
            self.class_names = (VOC_CLASSES[0], *(f"class_{index}" for index in range(1, self.num_classes)))
        if "aux_loss" in inspect.signature(builder.__init__).parameters:
            self.options = {**self.options, "aux_loss": self._has(AUXILIARY)}

    def _prefixed(self, key):
        return self.backbone + key

    def _count_classes(self, builder):
        """The number of classes that most of the class layers' arrays tell: a reshaped one is found later, and named."""
        arrays = [
            (self.tensors.get(f"{layer}.{array}"), columns)
            for layer, columns in class_layers(builder).items()
            for array in ("weight", "bias")
        ]
        widths = collections.Counter(len(array) // columns for array, columns in arrays if array is not None and array.ndim)
        return widths.most_common(1)[0][0] if widths else None

    def _has(self, prefix):
        return any(key.startswith(prefix) for key in self.tensors)

    def load(self, model, new_head):
        """Puts the arrays into a model. ``new_head``: not those whose shape depends on the number of classes.

        Raises:
            InputError: the file lacks tensors, has some that the model has not, or in other shapes; the first ones are named.
        """
        anew = self._layers_made_anew(model, new_head) if self.whole else []
        if anew:
            print(f"{self.path.name}: {', '.join(anew)} start anew, for {model.num_classes} classes.")
        unread = tuple(f"{name}." for name in anew)
        unwanted = unread if model.options.get("aux_loss", True) else (*unread, AUXILIARY)
        unwanted += model.left_out
        variables = {
            key: slot
            for key, slot in expected(model).items()
            if (self.whole or key.startswith(self.backbone)) and not key.startswith(unread)
        }
        tensors = under_present_keys(self.tensors, {*expected(model)})
        tensors = {key: array for key, array in tensors.items() if not key.startswith(unwanted)}
        self._check(model, tensors, variables)
        for key, slot in variables.items():
            slot.fill(tensors[key])

    def _layers_made_anew(self, model, new_head):
        """Names of layers, or of a module, that keep their random start."""
        if model.options.get("aux_loss") and not self._has(AUXILIARY):
            head, module = [layer for layer in class_layers(model) if not layer.startswith(AUXILIARY)], [AUXILIARY[:-1]]
        else:
            head, module = class_layers(model), []
        present = {layer.name for layer in model.named_layers()}
        return [layer for layer in head if layer in present and new_head] + module

    def _check(self, model, tensors, variables):
        shapes = {key: slot.their_shape for key, slot in variables.items()}
        missing = [key for key in shapes if key not in tensors]
        extra = [key for key in tensors if key not in shapes]
        reshaped = [
            f"{key} as {list(tensors[key].shape)} instead of {list(shape)}"
            for key, shape in shapes.items()
            if key in tensors and tensors[key].shape != shape
        ]
        faults = (("lacks", missing), ("has what the model has not,", extra), ("has", reshaped))
        told = " and ".join(f"{verb} {_some(keys)}" for verb, keys in faults if keys)
        if told:
            raise InputError(
                f"{self.path} does not fit model '{model.name}': it {told}; build the model that the file was trained as "
                "(published files have width_multiplier=1)."
            )


def class_layers(model) -> dict:
    """The layers whose shape depends on the number of classes, of a model or its class: name -> channels for each class."""
    layers = getattr(model, "class_layers", ())
    return layers if isinstance(layers, dict) else dict.fromkeys(layers, 1)


def under_present_keys(tensors, present) -> dict:
    """Returns the arrays, those under old keys (see ``OLD_KEYS``) under the keys of the model where it has these."""
    renamed = {}
    for key, array in tensors.items():
        for pattern, replacement in OLD_KEYS:
            new = re.sub(pattern, replacement, key)
            key = new if key not in present and new in present else key
        renamed[key] = array
    return renamed


def as_backbone(tensors, rename) -> dict:
    """Returns the arrays of a classification network under the names that they have in a model, without its classifier.

    Args:
        rename: gives a model's key for one of the network's, without a leading "features.".
    """
    renamed = {}
    for key, array in tensors.items():
        if key.startswith("features."):
            key = key.removeprefix("features.")
        elif key.startswith(CLASSIFIERS):
            continue
        renamed[rename(key)] = array
    return renamed


@dataclasses.dataclass(frozen=True)
class Slot:
    """Where a tensor of torchvision's goes.

    Attributes:
        variable: ours.
        axes: which of their axes each of ours is.
        factors: of a layer over all of a map, their second axis' channels, rows and columns; else empty.
    """

    variable: object
    axes: tuple
    factors: tuple = ()

    @property
    def their_shape(self) -> tuple:
        """The shape of their tensor."""
        shape = self.variable.shape
        return tuple(shape[self.axes.index(axis)] for axis in range(len(self.axes)))

    def fill(self, tensor):
        """Puts their tensor into our variable."""
        if self.factors:  # [out, channels * h * w] to [h * w * channels, out]
            array = tensor.reshape(-1, *self.factors).transpose(2, 3, 1, 0).reshape(self.variable.shape)
        else:
            array = np.transpose(tensor, self.axes)
        self.variable.assign(array.astype("float32"))


def expected(model) -> dict:
    """Returns torchvision's key -> ``Slot``, for all of a model's variables."""
    return {
        f"{layer.name}.{ARRAYS.get(variable.name, variable.name)}": _slot(layer, variable)
        for layer in model.named_layers()
        for variable in layer.weights
        if variable.dtype != "uint32"  # a dropout's random state
    }


def _slot(layer, variable):
    kind, unchanged = type(layer).__name__, tuple(range(len(variable.shape)))
    if variable.name != "kernel":
        return Slot(variable, unchanged)
    if kind == "FlattenedDense":
        *sides, channels = layer.map_shape
        return Slot(variable, AXES["Dense"], (channels, *sides))
    return Slot(variable, AXES.get(kind, unchanged))


def _some(keys):
    more = len(keys) - NAMED
    return ", ".join(keys[:NAMED]) + (f" and {more} more" if more > 0 else "")


def fetch(file_name) -> pathlib.Path:
    """Returns the path of a published file in Keras's cache, downloaded if it is not there.

    Raises:
        MissingInputError: it cannot be downloaded; the message says which file to put where.
        InputError: the file's digest is not the one in its name.
    """
    import keras

    cache = pathlib.Path(os.environ.get("KERAS_HOME", "~/.keras")).expanduser()
    try:
        path = keras.utils.get_file(file_name, URL + file_name, cache_dir=str(cache), cache_subdir="models")
    except Exception as error:
        raise MissingInputError(
            f"{URL}{file_name} could not be downloaded: put this file at {cache / 'models' / file_name}, or go without weights."
        ) from error
    check_digest(path)
    return pathlib.Path(path)


def check_digest(path):
    """Raises an InputError unless the file's SHA-256 begins with the digits at the end of its name."""
    path = pathlib.Path(path)
    wanted = path.stem.rpartition("-")[-1]
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if not found.startswith(wanted):
        raise InputError(
            f"{path} is not the published file (its SHA-256 begins with {found[: len(wanted)]}, not {wanted}): delete it, so that "
            "it is downloaded again."
        )
