"""What every semantic segmenter is: a Keras model of logits, whose ``predict`` gives the deployed answer."""

from keras import ops

from tfzoo.layers.decision import argmax
from tfzoo.layers.normalization import ImageNormalization
from tfzoo.models.base import DeployedModel, ZooModel


class Segmenter(ZooModel):
    """Base of the segmentation architectures.

    A subclass builds its functional graph in ``build_network``, which gets normalised pixels and the architecture's options.
    ``model(images)`` takes [B, H, W, 3], RGB, 0 to 255, any size from 32x32, and returns logits [B, H, W, C]; with an auxiliary
    head a dict of two such maps, ``out`` and ``aux``, in training and inference alike. The loss is then that of ``out`` plus
    ``aux_loss_weight`` times that of ``aux``; metrics and answers come from ``out``. ``predict`` answers ``labels`` uint8
    [B, H, W] and ``scores`` float32 [B, H, W], the label's probability.

    Args:
        num_classes: C, every label that a pixel can have (a background among them, where the data has one).
        class_names, image_mean, ...: see ``ZooModel``.
        **options: the architecture's own, kept in the configuration.
    """

    task = "semantic"
    class_limits = (2, 255)  # label maps are uint8 and 255 means ignore
    aux_loss_weight = 0.5

    @classmethod
    def build_graph(cls, images, num_classes, image_mean, image_std, **options):
        pixels = ImageNormalization(image_mean, image_std, name="normalization")(images)
        return cls.build_network(pixels, num_classes, **options)

    @staticmethod
    def build_network(pixels, num_classes, **options):
        """Returns the logits [B, H, W, C] for normalised pixels [B, H, W, 3], Keras tensors; or {"out": logits, "aux": logits}."""
        raise NotImplementedError

    def integer_parts(self):
        """The network; of its answer the probability needs more than 8 bits, and in float takes less time."""
        return [self.name], []

    def build_deployed(self, network, raw):
        return DeployedSegmenter(network, raw=raw)

    def compile(self, optimizer="adamw", loss=None, metrics=None, **kwargs):
        """As Keras's; without a loss and metrics it takes ``PixelCrossEntropy``, pixel accuracy and mean IoU."""
        from tfzoo.losses import PixelCrossEntropy
        from tfzoo.metrics import MeanIoU, PixelAccuracy

        if metrics is None:
            metrics = [PixelAccuracy(self.num_classes, name="accuracy"), MeanIoU(self.num_classes, name="mean_iou")]
        super().compile(optimizer=optimizer, loss=loss or PixelCrossEntropy(), metrics=metrics, **kwargs)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """The compiled loss; of a model with an auxiliary head both losses, see the class."""
        loss = super().compute_loss(x, y, main_logits(y_pred), sample_weight, training)
        if isinstance(y_pred, dict):
            loss = loss + self.aux_loss_weight * super().compute_loss(x, y, y_pred["aux"], sample_weight, training)
        return loss

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        """The compiled metrics, of the main logits."""
        return super().compute_metrics(x, y, main_logits(y_pred), sample_weight)


class DeployedSegmenter(DeployedModel):
    """A segmenter's answer; raw, ``logits`` float32 [B, H, W, C]."""

    def call(self, images):
        logits = main_logits(self.network(ops.cast(images, "float32"), training=False))
        if self.raw:
            return {"logits": logits}
        return {"labels": ops.cast(argmax(logits, axis=-1), "uint8"), "scores": largest_probability(logits)}


def largest_probability(logits):
    """What softmax gives the likeliest class, without the other classes: 1 / sum_c exp(x_c - max x). [..., C] -> [...]."""
    return 1.0 / ops.sum(ops.exp(logits - ops.max(logits, axis=-1, keepdims=True)), axis=-1)


def main_logits(outputs):
    """The logits that answer, of a model with or without an auxiliary head."""
    return outputs["out"] if isinstance(outputs, dict) else outputs
