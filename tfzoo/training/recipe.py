"""What a training is made of, apart from the model and the data."""

import dataclasses
import math

import keras

from tfzoo.data.augmentation import Augmentation
from tfzoo.errors import InputError
from tfzoo.losses import make_loss

DEFAULTS = {  # of tasks other than "semantic", where they differ
    "detection": {"learning_rate": 1e-3, "scale": (0.6, 1.6), "saturation": 0.2},
    "instance": {"learning_rate": 1e-3, "scale": (0.6, 1.6), "saturation": 0.2, "batch_size": 4},
    "keypoint": {"learning_rate": 1e-3, "scale": (0.6, 1.6), "saturation": 0.2, "batch_size": 4},
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe(Augmentation):
    """Settings of a training, those of ``Augmentation`` among them: what may happen to the pictures.

    The defaults are for segmenters; ``for_task`` gives those of another task.

    Attributes:
        epochs: passes over the training split.
        minutes: ends the training after so long, if ``epochs`` have not ended it; the learning rate then rises and falls over this
            time, epoch by epoch (see ``callbacks.TimeBudget``). Resuming takes as long again. None: as long as it takes.
        batch_size: pictures in a batch.
        image_size: (height, width) that the model is to work at: of training pictures (but for ``crop``) and of those of the
            validation split; None for the first picture's own.
        several_sizes: with boxes only: (height, width) each; every ten batches are stretched to another one of them (see
            ``data.several_sizes``). Empty: all have the one size.
        learning_rate: the highest one: reached after the warm-up, then falling to 0 along a cosine.
        warmup: share of the steps in which the learning rate rises from 0.
        weight_decay: AdamW's decoupled decay, on kernels only (not on biases and normalisation).
        clip_norm: gradients whose joint norm is larger are scaled down to it.
        loss: a name that ``tfzoo.losses.make_loss`` takes, such as "cross_entropy" or "cross_entropy+dice". Detectors have
            losses of their own and take neither this nor class weights.
        class_weights: "none", "median" (median frequency balancing) or "inverse" (inverse frequency).
        class_weight_cap: largest class weight.
        precision: Keras dtype policy: "float32", "mixed_bfloat16", "mixed_float16".
        picture_epochs: every so many epochs a picture of validation answers is written; 0: never.
        seed: decides initial weights, order and augmentation.
    """

    epochs: int = 50
    minutes: float | None = None
    batch_size: int = 8
    image_size: tuple[int, int] | None = None
    several_sizes: tuple[tuple[int, int], ...] = ()
    learning_rate: float = 2e-3
    warmup: float = 0.05
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    loss: str = "cross_entropy"
    class_weights: str = "none"
    class_weight_cap: float = 5.0
    precision: str = "float32"
    picture_epochs: int = 10
    seed: int = 0

    def __post_init__(self):
        super().__post_init__()
        for field in ("epochs", "batch_size"):
            if getattr(self, field) < 1:
                raise InputError(f"{field} is {getattr(self, field)}: it must be at least 1.")
        if self.minutes is not None and not 0 < self.minutes < math.inf:
            raise InputError(f"minutes is {self.minutes}: it must be above 0.")
        if not 0 < self.learning_rate < math.inf:
            raise InputError(f"learning_rate is {self.learning_rate}: it must be above 0.")
        if self.picture_epochs < 0:
            raise InputError(f"picture_epochs is {self.picture_epochs}: it must be 0 (never) or more.")
        make_loss(self.loss)  # which checks the name
        if self.class_weights not in ("none", "median", "inverse"):
            raise InputError(f"class_weights is '{self.class_weights}': it must be 'none', 'median' or 'inverse'.")

    @classmethod
    def for_task(cls, task: str, **given):
        """The recipe with the defaults of a task, but for what is given."""
        return cls(**{**DEFAULTS.get(task, {}), **given})

    def augmentation(self) -> Augmentation:
        """What may happen to the pictures, alone."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(Augmentation)}
        return Augmentation(**values | {"scale": tuple(self.scale)})

    def optimizer(self, steps: int) -> keras.optimizers.Optimizer:
        """AdamW with warm-up, cosine decay and clipping, for a training of so many steps in all.

        With ``minutes`` the rate is a plain number, which ``callbacks.TimeBudget`` changes.
        """
        if self.minutes is not None:
            return self._adamw(self.learning_rate)
        warmup_steps = round(steps * self.warmup)
        schedule = keras.optimizers.schedules.CosineDecay(
            0.0 if warmup_steps else self.learning_rate,
            decay_steps=max(steps - warmup_steps, 1),
            warmup_target=self.learning_rate if warmup_steps else None,
            warmup_steps=warmup_steps,
        )
        return self._adamw(schedule)

    def _adamw(self, learning_rate):
        optimizer = keras.optimizers.AdamW(learning_rate, weight_decay=self.weight_decay, global_clipnorm=self.clip_norm)
        optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
        return optimizer
