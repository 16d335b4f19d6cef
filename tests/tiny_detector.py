"""A detector that is built in a moment: it finds one object in each picture, by what the picture's mean colour is."""

import keras
from keras import ops

from tfzoo.layers.normalization import ImageNormalization
from tfzoo.models.base import ZooModel
from tfzoo.zoo import Entry

NAME = "tiny"
ENTRY = Entry("tiny_detector:TinyDetector", "detection", "nobody")
PLACES = 3  # of the answer; all but one are padding


@keras.saving.register_keras_serializable("tests")
class TinyDetector(ZooModel):
    """A dense layer on the mean pixel gives the box, in shares of the picture's sides, and a score for each class."""

    task = "detection"

    @classmethod
    def build_graph(cls, images, num_classes, image_mean, image_std):
        pixels = ImageNormalization(image_mean, image_std, name="normalization")(images)
        numbers = keras.layers.Dense(4 + num_classes, name="head")(ops.mean(pixels, axis=(1, 2)))
        return {"box": numbers[:, :4], "scores": numbers[:, 4:]}

    def build_deployed(self, network, raw):
        return Deployed(network)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """The distance to the first box, and the cross-entropy of its label; nothing without a box."""
        real = ops.cast(y["labels"][:, 0] >= 0, "float32")
        sides = ops.cast(ops.shape(x)[1:3], "float32")
        wanted = y["boxes"][:, 0] / ops.stack([sides[1], sides[0], sides[1], sides[0]])
        distance = ops.sum(ops.abs(ops.sigmoid(y_pred["box"]) - wanted), axis=-1)
        label = ops.one_hot(ops.maximum(y["labels"][:, 0], 0), self.num_classes)
        return ops.mean(real * (distance + ops.categorical_crossentropy(label, y_pred["scores"], from_logits=True)))


class Deployed(keras.Model):
    """The answer, with one detection and padding."""

    def __init__(self, network):
        super().__init__(dtype="float32")
        self.network, self.built = network, True

    def call(self, images):
        found = self.network(ops.cast(images, "float32"), training=False)
        height, width = (ops.cast(side, "float32") for side in ops.shape(images)[1:3])
        box = ops.sigmoid(found["box"]) * ops.stack([width, height, width, height])
        scores = ops.softmax(found["scores"])
        padding = PLACES - 1
        return {
            "boxes": ops.pad(box[:, None], ((0, 0), (0, padding), (0, 0))),
            "scores": ops.pad(ops.max(scores, axis=-1)[:, None], ((0, 0), (0, padding))),
            "labels": ops.pad(ops.cast(ops.argmax(scores, axis=-1), "int32")[:, None], ((0, 0), (0, padding)), constant_values=-1),
            "num_detections": ops.ones_like(box[:, 0], dtype="int32"),
        }
