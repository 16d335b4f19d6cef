"""What every semantic segmenter is: a Keras model of logits, whose ``predict`` gives the deployed answer."""

import contextlib
import numbers

import keras
from keras import ops

from tfzoo.errors import InputError
from tfzoo.layers.decision import argmax
from tfzoo.layers.normalization import IMAGENET_MEAN, IMAGENET_STD, ImageNormalization

MIN_SIZE = 32
MAX_CLASSES = 255  # label maps are uint8 and 255 means ignore


class Segmenter(keras.Model):
    """Base of the segmentation architectures.

    A subclass builds its functional graph in ``build_network``, which gets normalised pixels and the architecture's options.
    ``model(images)`` takes [B, H, W, 3], RGB, 0 to 255, any size from 32x32, and returns logits [B, H, W, C]; with an auxiliary
    head a dict of two such maps, ``out`` and ``aux``, in training and inference alike. The loss is then that of ``out`` plus
    ``aux_loss_weight`` times that of ``aux``; metrics and answers come from ``out``.

    Args:
        num_classes: C, every label that a pixel can have (a background among them, where the data has one).
        class_names: C names; None: "class_0", ...
        image_mean, image_std: RGB, in pixel values; the weights that a model starts from decide them.
        image_size: (height, width) that it was trained at: what exports and artifacts take where no other size is stated.
        dtype: Keras dtype policy, such as "mixed_bfloat16"; None: the global one.
        **options: the architecture's own, kept in the configuration.

    Raises:
        InputError: an impossible number of classes, or names that do not fit it.
    """

    task = "semantic"
    aux_loss_weight = 0.5
    remembers_maxima = False  # whether a near-tie between two pixels, decided otherwise by another runtime, moves its answer

    def __init__(
        self,
        num_classes,
        class_names=None,
        image_mean=IMAGENET_MEAN,
        image_std=IMAGENET_STD,
        image_size=None,
        dtype=None,
        name=None,
        **options,
    ):
        check_classes(num_classes, class_names)
        policy = keras.dtype_policies.get(dtype or keras.config.dtype_policy())
        with policy_scope(policy):
            images = keras.Input((None, None, 3), name="images", dtype="float32")
            pixels = ImageNormalization(image_mean, image_std, name="normalization")(images)
            logits = self.build_network(pixels, num_classes, **options)
            super().__init__(inputs=images, outputs=_as_float32(logits), name=name)
        self.autocast = False  # pictures reach the normalisation as they are, whatever the policy
        self.num_classes = int(num_classes)
        self.class_names = list(class_names or (f"class_{i}" for i in range(num_classes)))
        self.image_mean, self.image_std = tuple(image_mean), tuple(image_std)
        self.image_size = image_size and tuple(image_size)
        self.policy_name = policy.name
        self.options = options

    @staticmethod
    def build_network(pixels, num_classes, **options):
        """Returns the logits [B, H, W, C] for normalised pixels [B, H, W, 3], Keras tensors; or {"out": logits, "aux": logits}."""
        raise NotImplementedError

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

    def compile_from_config(self, config):
        """Compiles a loaded model as it was saved, its optimizer ready to take its saved state."""
        self.compile(**keras.saving.deserialize_keras_object(config))
        self.optimizer.build(self.trainable_variables)

    def deployed(self, raw=False):
        """Returns the graph that ``predict``, every exported file and the server run: ``DeployedSegmenter``, float32."""
        cache = self.__dict__.setdefault("_deployed", {})  # untracked: it holds this model
        if raw not in cache:
            network = self if self.policy_name == "float32" else self._float32_twin()
            cache[raw] = DeployedSegmenter(network, raw=raw)
        if cache[raw].network is not self:
            cache[raw].network.set_weights(self.get_weights())
        return cache[raw]

    def _float32_twin(self):
        return type(self).from_config({**self.get_config(), "dtype": "float32"})

    def predict(self, x, batch_size=None, verbose="auto", steps=None, callbacks=None):
        """Returns the answer: ``labels`` uint8 [B, H, W] and ``scores`` float32 [B, H, W], the label's probability.

        Args:
            x: pictures [B, H, W, 3], uint8 or float32, 0 to 255, RGB; the rest as in ``keras.Model.predict``.
        """
        if hasattr(x, "shape"):
            check_images(x.shape)
        return self.deployed().predict(x, batch_size=batch_size, verbose=verbose, steps=steps, callbacks=callbacks)

    def get_config(self):
        return {
            "num_classes": self.num_classes,
            "class_names": self.class_names,
            "image_mean": self.image_mean,
            "image_std": self.image_std,
            "image_size": self.image_size,
            "dtype": self.policy_name,
            "name": self.name,
            **self.options,
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        return cls(**config)


class DeployedSegmenter(keras.Model):
    """Pictures in, the answer out. Its call takes [B, H, W, 3], uint8 or float32, 0 to 255.

    Args:
        network: a float32 Segmenter.
        raw: answer ``logits`` float32 [B, H, W, C] instead of ``labels`` and ``scores``.
    """

    def __init__(self, network, raw=False):
        super().__init__(dtype="float32", name=f"{network.name}_deployed")
        self.network, self.raw = network, raw
        self.built = True  # it has no weights of its own

    def call(self, images):
        logits = main_logits(self.network(ops.cast(images, "float32"), training=False))
        if self.raw:
            return {"logits": logits}
        scores = ops.max(ops.softmax(logits, axis=-1), axis=-1)
        return {"labels": ops.cast(argmax(logits, axis=-1), "uint8"), "scores": scores}


def main_logits(outputs):
    """The logits that answer, of a model with or without an auxiliary head."""
    return outputs["out"] if isinstance(outputs, dict) else outputs


def _as_float32(logits):
    if not isinstance(logits, dict):
        return keras.layers.Activation("linear", dtype="float32", name="logits")(logits)
    return {name: keras.layers.Activation("linear", dtype="float32", name=f"{name}_logits")(x) for name, x in logits.items()}


def check_images(shape):
    """Raises an InputError unless the shape is that of a batch of RGB pictures of at least 32x32."""
    if len(shape) != 4 or shape[-1] != 3:
        raise InputError(f"Pictures must be [batch, height, width, 3]; the shape given is {tuple(shape)}.")
    for side in shape[1:3]:
        if side is not None and side < MIN_SIZE:
            raise InputError(f"Pictures must be at least {MIN_SIZE}x{MIN_SIZE}; {shape[1]}x{shape[2]} is too small: enlarge them.")


def check_classes(num_classes, class_names):
    """Raises an InputError unless there are 2 to 255 classes and as many names."""
    if not isinstance(num_classes, numbers.Integral) or not 2 <= num_classes <= MAX_CLASSES:
        raise InputError(f"num_classes is {num_classes!r}: it must be a whole number from 2 to {MAX_CLASSES}.")
    if class_names is not None and len(class_names) != num_classes:
        raise InputError(f"num_classes is {num_classes}, but there are {len(class_names)} class names: they must be as many.")


def check_options(width_multiplier, batch_norm=True):
    """Raises an InputError unless the width is above 0 and ``batch_norm`` is True or False."""
    if not (isinstance(width_multiplier, numbers.Real) and width_multiplier > 0):
        raise InputError(f"width_multiplier is {width_multiplier!r}: it must be a number above 0.")
    if not isinstance(batch_norm, bool):
        raise InputError(f"batch_norm is {batch_norm!r}: it must be True or False.")


@contextlib.contextmanager
def policy_scope(policy):
    """Layers made inside take this dtype policy; made outside their model's call they would take the global one."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
