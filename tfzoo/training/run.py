"""``tfzoo train``: one training, from a data set to checkpoints."""

import os
import pathlib
import sys
import time

import keras
import numpy as np

from tfzoo.data import load_dataset
from tfzoo.data.images import parse_size
from tfzoo.data.proposals import check_taken, with_proposals
from tfzoo.errors import InputError
from tfzoo.factory import create_model
from tfzoo.files import claim_folder
from tfzoo.losses import inverse_frequency_weights, make_loss, median_frequency_weights
from tfzoo.models.base import check_images
from tfzoo.training.callbacks import BEST, LAST, Checkpoints, CocoEvaluation, Pictures, TimeBudget, read_state
from tfzoo.training.interruption import Interruption
from tfzoo.training.recipe import Recipe
from tfzoo.training.settings import stored_settings, update_settings, write_settings
from tfzoo.weights import load_model
from tfzoo.zoo import find_entry

SPLITS = "train", "val"
CHECKPOINT_SECONDS = 30
MOST_LOADING_THREADS = 8
MONITORS = {  # what the best checkpoint has the highest of
    "semantic": "val_mean_iou",
    "detection": "val_AP",
    "instance": "val_AP_mask",
    "keypoint": "val_AP_keypoints",
}


def train(
    model_name: str,
    data: str,
    output,
    recipe: Recipe | None = None,
    weights=None,
    options: dict | None = None,
    splits: tuple[str, str | None] | None = None,
    resume: bool = False,
    verbose="auto",
    proposals=None,
) -> pathlib.Path:
    """Trains a model and leaves a folder: best.keras, last.keras, log.csv, tensorboard/, pictures/, training.json.

    Args:
        model_name: one of ``list_models()``.
        data: data set spec.
        output: folder; it must not hold anything yet, unless ``resume``.
        recipe: settings; None takes the defaults of the model's task. Resuming takes the settings, weights, options, splits and
            proposals that the training began with, but for ``epochs`` and ``minutes``, and those too where it is None.
        weights: as in ``create_model``.
        options: the model's own options.
        splits: names of the training and the validation split; None for the latter trains without one. None: "train" and "val".
        resume: go on from the folder's last.keras. Weights, options and splits need not be given again; others are refused.
        proposals: of a model that takes them: the folder that holds those of both splits, see ``data.proposals``.

    Returns:
        the path of best.keras: the checkpoint with the highest mean IoU (of a detector: COCO's AP, of the masks or keypoints if it
        finds these) on the validation split.

    Raises:
        InputError: something that was given is wrong. KeyboardInterrupt is passed on after last.keras is saved.
    """
    begin = time.monotonic()
    options, output, splits = dict(options or {}), pathlib.Path(output), splits or (None if resume else SPLITS)
    entry = find_entry(model_name)
    task = entry.task
    _check_options(options)
    if resume:
        given = {"model": model_name, "data": data, "weights": weights, "splits": splits}
        recipe, options, splits, stored_proposals = stored_settings(output, entry, given, recipe, options)
        proposals = stored_proposals if proposals is None else str(proposals)
    check_taken(model_name, entry.build_class().takes_proposals, proposals)
    recipe = recipe or Recipe.for_task(task)
    training_data = _open(data, splits[0], task, proposals)
    validation_data = _open(data, splits[1], task, proposals) if splits[1] else None
    size = _choose_size(recipe, training_data)

    state = read_state(output)
    keras.utils.set_random_seed(recipe.seed)
    batches = _training_batches(training_data, recipe, size, state["epochs"])
    validation = validation_data and _batches(validation_data, recipe.batch_size, size)
    stored = _open_last(output / LAST, training_data) if resume else None
    model = _build(model_name, training_data, size, recipe, weights, options) if stored is None else _copy(stored)
    model.compile(recipe.optimizer(steps=recipe.epochs * len(batches)), **_loss(recipe, training_data))
    if stored is not None:
        _restore(model, stored)
    claim_folder(output, allow_existing=resume, flag="--resume")
    if stored is None:
        write_settings(output, model_name, data, splits, recipe, weights, options, proposals)
    else:
        update_settings(output, recipe, proposals)
    checkpoints = Checkpoints(output, MONITORS[task], CHECKPOINT_SECONDS)
    callbacks = [
        *_evaluation(recipe, validation_data, size),  # first: the others read what it adds to the logs
        *_logs(output, state["epochs"]),
        checkpoints,
        *_pictures(recipe, validation_data, output, size),
        *_time_budget(recipe, begin),
    ]
    verbose = _verbosity() if verbose == "auto" else verbose
    if verbose:
        print(
            f"{len(training_data)} pictures, {len(batches)} steps an epoch; the first one prepares the training and takes longest."
        )
    try:
        _fit(model, batches, validation, callbacks, initial_epoch=state["epochs"], epochs=recipe.epochs, verbose=verbose)
    except KeyboardInterrupt:
        checkpoints.save_interrupted()
        raise
    return output / BEST


def _fit(model, batches, validation, callbacks, **settings):
    """``fit`` until its end or Ctrl-C, which is passed on after the step that runs; then loaders prepare no more batches."""
    interruption = Interruption()
    try:
        with interruption:
            model.fit(
                batches,
                validation_data=validation,
                callbacks=[interruption, *callbacks],
                shuffle=False,  # the batches are shuffled already
                **settings,
            )
    finally:
        for loader in (batches, validation):
            if hasattr(loader, "close"):
                loader.close()


def _build(model_name, dataset, size, recipe, weights, options):
    given = {"class_names": dataset.class_names, "image_size": size, "dtype": recipe.precision}
    if dataset.task == "keypoint":
        given["num_keypoints"] = len(dataset.keypoint_names)
    return create_model(model_name, weights=weights, **given, **options)


def _copy(model):
    return type(model).from_config(model.get_config())


def _choose_size(recipe, dataset):
    """(height, width) to train at; an InputError where it, or what crops and several sizes make of it, is too small."""
    size = parse_size(recipe.image_size) or dataset.read(0)["images"].shape[:2]
    for each in (size, recipe.augmentation().at_size(size)[0], *recipe.several_sizes):
        check_images((1, *each, 3))
    return size


def _verbosity():
    return 1 if sys.stdout.isatty() else 2  # a line an epoch in a log file


def _open(data, split, task, proposals):
    dataset = load_dataset(data, split, task)
    return dataset if proposals is None else with_proposals(dataset, proposals, count=None)


def _training_batches(dataset, recipe, size, first_epoch):
    random = {"seed": recipe.seed, "first_epoch": first_epoch, "augmentation": recipe.augmentation()}
    batches = _batches(dataset, recipe.batch_size, size, training=True, **random)
    if not recipe.several_sizes:
        return batches
    if dataset.task != "detection" or not _has_tensorflow():
        raise InputError(
            f"several_sizes is {recipe.several_sizes}: it is for pictures with boxes alone, read by tf.data; leave it out."
        )
    from tfzoo.data.several_sizes import at_several_sizes

    return at_several_sizes(batches, recipe.several_sizes, seed=recipe.seed)


def _batches(dataset, *arguments, **options):
    """What ``fit`` takes: a tf.data pipeline, or a loader where TensorFlow is not installed."""
    if _has_tensorflow():
        return dataset.batches(*arguments, **options)
    workers = min(os.cpu_count() or 1, MOST_LOADING_THREADS)
    return dataset.loader(*arguments, **options, workers=workers, fill=options.get("training", False))


def _has_tensorflow() -> bool:
    try:
        import tensorflow  # noqa: F401
    except ImportError:
        return False
    return True


def _loss(recipe, dataset):
    """The loss as an argument of ``compile``; none for a detector, which has losses of its own."""
    if dataset.task == "semantic":
        return {"loss": _pixel_loss(recipe, dataset)}
    for field in ("loss", "class_weights"):
        if getattr(recipe, field) != getattr(Recipe, field):
            raise InputError(f"{field} is '{getattr(recipe, field)}': it is for segmenters alone; leave it out for a detector.")
    return {}


def _pixel_loss(recipe, dataset):
    if recipe.class_weights == "none":
        return make_loss(recipe.loss)
    pixels, images_pixels = _count_pixels(dataset)
    if recipe.class_weights == "median":
        weights = median_frequency_weights(pixels, images_pixels, cap=recipe.class_weight_cap)
    else:
        weights = inverse_frequency_weights(pixels, cap=recipe.class_weight_cap)
    return make_loss(recipe.loss, weights)


def _count_pixels(dataset):
    """Pixels of each class, and pixels of all pictures in which it occurs; ignored ones are not counted."""
    counts, pictures = np.zeros(len(dataset.class_names)), np.zeros(len(dataset.class_names))
    progress = keras.utils.Progbar(len(dataset), unit_name="picture counted", verbose=int(sys.stdout.isatty()))
    for index in range(len(dataset)):
        labels = dataset.read(index)["segmentation_masks"]
        found = np.bincount(labels.ravel(), minlength=256)[: len(counts)]
        counts += found
        pictures += (found > 0) * found.sum()
        progress.update(index + 1)
    return counts, pictures


def _time_budget(recipe, begin):
    if recipe.minutes is None:
        return []
    return [TimeBudget(begin + 60 * recipe.minutes, recipe.learning_rate, recipe.warmup)]


def _evaluation(recipe, dataset, size):
    if dataset is None or dataset.task == "semantic":
        return []
    return [CocoEvaluation(dataset, size, recipe.batch_size)]


def _logs(output, epochs):
    """What writes down an epoch's numbers; those of epochs that are to be repeated, as they were not saved, are taken out."""
    path = output / "log.csv"
    if epochs and path.exists():
        head, *rows = path.read_text().splitlines(keepends=True)
        path.write_text("".join([head, *(row for row in rows if int(row.partition(",")[0]) < epochs)]))
    table = keras.callbacks.CSVLogger(str(path), append=epochs > 0)
    if not _has_tensorflow():
        return [table]
    return [table, keras.callbacks.TensorBoard(str(output / "tensorboard"), write_graph=False)]


def _pictures(recipe, dataset, output, size):
    if not recipe.picture_epochs or dataset is None:
        return []
    return [Pictures(dataset, output / "pictures", recipe.picture_epochs, size)]


def _check_options(options):
    set_by = {"image_size": "--image-size", "dtype": "--precision", "name": "MODEL", "weights": "--weights"}
    for option, flag in (set_by | dict.fromkeys(("class_names", "num_classes", "num_keypoints"), "the data")).items():
        if option in options:
            raise InputError(f"The option '{option}' is set by {flag}: leave it out of the model's options.")


def _open_last(path, dataset):
    stored = load_model(path)
    if stored.class_names != dataset.class_names:
        raise InputError(f"{path} is for the classes {', '.join(stored.class_names)}: resume it with the same data.")
    return stored


def _restore(model, stored):
    """Puts the weights and the optimizer's state of a saved training into a model that is compiled alike."""
    model.set_weights(stored.get_weights())
    model.optimizer.build(model.trainable_variables)
    for variable, value in zip(model.optimizer.variables, stored.optimizer.variables, strict=True):
        variable.assign(value)
