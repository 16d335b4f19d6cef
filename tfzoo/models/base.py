"""What every model of the zoo is: a functional graph of float32 heads, whose ``predict`` gives the deployed answer."""

import contextlib
import numbers

import keras

from tfzoo.errors import InputError
from tfzoo.layers.normalization import IMAGENET_MEAN, IMAGENET_STD

MIN_SIZE = 32
INNER = "features"  # outputs of such names are for a second stage, and stay as they are
BATCH_SIZE = 32  # of Keras's ``predict``, unless another one is asked for


class ZooModel(keras.Model):
    """Base of ``Segmenter`` and ``Detector``.

    ``build_graph`` makes the functional graph from pictures [B, H, W, 3], RGB, 0 to 255, to raw outputs, which become float32 under
    any policy; ``build_deployed`` the graph that answers. What takes more than pictures gives ``build_inputs``, ``pictures_of`` and
    ``check_input``.

    Args:
        num_classes: see the subclass.
        class_names: as many names; None: "class_0", ...
        image_mean, image_std: RGB, in pixel values; the weights that a model starts from decide them.
        image_size: (height, width) that it was trained at: what exports and artifacts take where no other size is stated.
        dtype: Keras dtype policy, such as "mixed_bfloat16"; None: the global one.
        **options: the architecture's own, kept in the configuration.

    Raises:
        InputError: an impossible number of classes, or names that do not fit it.
    """

    task = None
    class_limits = (1, 10_000)
    fixed_size = None  # (height, width), of a network that stretches every picture to it
    left_out = ()  # how names in a checkpoint begin whose tensors the model does without
    takes_proposals = False  # beside the pictures: then the input is a dict of both
    remembers_maxima = False  # whether a near-tie between two pixels, decided otherwise by another runtime, moves its answer
    raw_in_integers = True  # whether 8 bits could hold all that a raw file answers

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
        check_classes(num_classes, class_names, self.class_limits)
        policy = keras.dtype_policies.get(dtype or keras.config.dtype_policy())
        with policy_scope(policy):
            inputs = self.build_inputs()
            outputs = self.build_graph(inputs, num_classes, image_mean, image_std, **options)
            super().__init__(inputs=inputs, outputs=_as_float32(outputs), name=name)
        self.autocast = False  # pictures reach the normalisation as they are, whatever the policy
        self.num_classes = int(num_classes)
        self.class_names = list(class_names or (f"class_{i}" for i in range(num_classes)))
        self.image_mean, self.image_std = tuple(image_mean), tuple(image_std)
        self.image_size = image_size and tuple(image_size)
        self.policy_name = policy.name
        self.options = options

    @classmethod
    def checkpoint_options(cls, options, whole) -> dict:
        """Options that a checkpoint in torchvision's layout brings, unless others are given.

        Args:
            options: what the model's name in the zoo fixes.
            whole: the checkpoint is of the whole model; else of the backbone alone.
        """
        return {}

    @staticmethod
    def build_inputs():
        """Returns what the graph begins with: a Keras tensor of pictures, or a dict with one, "images"."""
        return keras.Input((None, None, 3), name="images", dtype="float32")

    @staticmethod
    def pictures_of(x):
        """The pictures of an input."""
        return x

    def check_input(self, x):
        """Raises an InputError unless it is a batch that the model takes."""
        check_images(x.shape)

    @classmethod
    def build_graph(cls, images, num_classes, image_mean, image_std, **options):
        """Returns the outputs for ``build_inputs``'s pictures [B, H, W, 3], 0 to 255: a Keras tensor or a dict of them."""
        raise NotImplementedError

    def build_deployed(self, network, raw):
        """Returns the ``DeployedModel`` that answers with ``network``, a float32 model of this class."""
        raise NotImplementedError

    def compile_from_config(self, config):
        """Compiles a loaded model as it was saved, its optimizer ready to take its saved state."""
        self.compile(**keras.saving.deserialize_keras_object(config))
        self.optimizer.build(self.trainable_variables)

    def deployed(self, raw=False):
        """Returns the graph that ``predict``, every exported file and the server run, in float32."""
        cache = self.__dict__.setdefault("_deployed", {})  # untracked: it holds this model
        key = raw, *self.answer_settings()
        if key not in cache:
            network = self if self.policy_name == "float32" else self._float32_twin()
            cache[key] = self.build_deployed(network, raw)
        if cache[key].network is not self:
            cache[key].network.set_weights(self.get_weights())
        return cache[key]

    def named_layers(self) -> list:
        """All layers that may have weights: a published file's keys begin with their names."""
        return self.layers

    def region_heads(self) -> list:
        """What runs on regions of a picture, in ``predict``: (functional model, how often)."""
        return []

    def integer_parts(self):
        """What an int8 file computes in integers: (names of models in the deployed graph, names of layers in them that stay float).

        None: everything.
        """
        return None

    def decoding(self, image_size) -> dict | None:
        """What makes of raw outputs the answer, for pictures of (height, width): see ``export.decoding``; None: nothing."""
        return None

    def answer_settings(self) -> tuple:
        """What may be changed on a model and is fixed in its deployed graph: where it changes, there is a graph of its own."""
        return ()

    def _float32_twin(self):
        return type(self).from_config({**self.get_config(), "dtype": "float32"})

    def predict(self, x, batch_size=None, verbose="auto", steps=None, callbacks=None):
        """Returns the answer of the deployed graph, a dict of arrays: see the task.

        Args:
            x: pictures [B, H, W, 3], uint8 or float32, 0 to 255, RGB, or a dict with these and what else the model takes; the rest
                as in ``keras.Model.predict``.
        """
        if hasattr(x, "shape") or isinstance(x, dict):
            self.check_input(x)
            if len(self.pictures_of(x)) <= (batch_size or BATCH_SIZE) and steps is None and not callbacks:
                return self._predict_one_batch(x)
        return self.deployed().predict(x, batch_size=batch_size, verbose=verbose, steps=steps, callbacks=callbacks)

    def _predict_one_batch(self, x):
        """The same answer without the loop over batches, which takes longer to set up than a small network takes to run."""
        return keras.tree.map_structure(keras.ops.convert_to_numpy, self.deployed().predict_on_batch(x))

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


class DeployedModel(keras.Model):
    """Base of what answers: pictures in, the answer out. Its call takes [B, H, W, 3], uint8 or float32, 0 to 255.

    Args:
        network: a float32 model of the zoo.
        raw: answer the network's outputs instead: logits, or a detector's heads.
    """

    def __init__(self, network, raw=False):
        super().__init__(dtype="float32", name=f"{network.name}_deployed")
        self.network, self.raw = network, raw
        self.built = True  # it has no weights of its own


def _as_float32(outputs):
    if not isinstance(outputs, dict):
        return _cast(outputs, "logits")
    return {name: x if name.startswith(INNER) else _cast(x, f"{name}_float32") for name, x in outputs.items()}


def _cast(x, name):
    return keras.layers.Activation("linear", dtype="float32", name=name)(x)


def check_images(shape):
    """Raises an InputError unless the shape is that of a batch of RGB pictures of at least 32x32."""
    if len(shape) != 4 or shape[-1] != 3:
        raise InputError(f"Pictures must be [batch, height, width, 3]; the shape given is {tuple(shape)}.")
    for side in shape[1:3]:
        if side is not None and side < MIN_SIZE:
            raise InputError(f"Pictures must be at least {MIN_SIZE}x{MIN_SIZE}; {shape[1]}x{shape[2]} is too small: enlarge them.")


def check_classes(num_classes, class_names, limits):
    """Raises an InputError unless the number of classes lies in the limits, and there are as many names."""
    low, high = limits
    if not isinstance(num_classes, numbers.Integral) or not low <= num_classes <= high:
        raise InputError(f"num_classes is {num_classes!r}: it must be a whole number from {low} to {high}.")
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
