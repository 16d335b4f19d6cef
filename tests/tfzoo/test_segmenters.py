"""One tester for every segmenter: a new architecture is a row in ``CASES``."""

import os
import subprocess
import sys

import keras
import numpy as np
import paper_counts
import pytest
from segmenter_cases import CASES, EACH_FILE, segmenters

import tfzoo
from tfzoo.errors import InputError

ENCODERS = {"resnet50": [64, 256, 512, 1024, 2048], "mobilenetv2": [16, 24, 32, 96, 320]}  # channels at strides 2 to 32
PARAMETERS = {  # for 21 classes; torchvision's names are in test_torchvision.py
    "unet": ({"batch_norm": False}, paper_counts.unet(21)),
    "unet_resnet50": ({}, paper_counts.unet_with_backbone(paper_counts.RESNET50, ENCODERS["resnet50"], 21)),
    "unet_mobilenetv2": ({}, paper_counts.unet_with_backbone(paper_counts.MOBILENET_V2, ENCODERS["mobilenetv2"], 21)),
    "fcn32s_vgg16": ({}, paper_counts.fcn(21, 32)),
    "fcn16s_vgg16": ({}, paper_counts.fcn(21, 16)),
    "fcn8s_vgg16": ({}, paper_counts.fcn(21, 8)),
    "segnet_vgg16": ({}, paper_counts.segnet(21)),
    "segnet_basic": ({}, paper_counts.segnet_basic(21)),
    "deconvnet_vgg16": ({}, paper_counts.deconvnet(21)),
    "dilated_vgg16": ({}, paper_counts.dilated_vgg16(21)),
    "deeplab_largefov_vgg16": ({}, paper_counts.deeplab_largefov(21)),
    "deeplabv2_resnet101": ({}, paper_counts.deeplab_v2(21)),
    "deeplabv3plus_resnet50": ({}, paper_counts.deeplab_v3plus(paper_counts.RESNET50, 2048, 256, 21)),
    "deeplabv3plus_mobilenetv2": ({}, paper_counts.deeplab_v3plus(paper_counts.MOBILENET_V2, 320, 24, 21)),
    "enet": ({}, paper_counts.enet(21)),
    "pspnet_resnet50": ({}, paper_counts.pspnet(21)),
}
# The costly questions go to a few names in `make test`.
every_segmenter = segmenters(EACH_FILE)
thoroughly = segmenters({"unet", "fcn8s_vgg16", "segnet_basic", "lraspp_mobilenet_v3_large"})


def small(name, classes=5, **options):
    return tfzoo.create_model(name, num_classes=classes, **{**CASES[name], **options})


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_are_the_papers(name):
    options, expected = PARAMETERS[name]
    model = tfzoo.create_model(name, num_classes=21, **options)
    statistics = sum(np.prod(v.shape) for v in model.non_trainable_variables if "moving" in v.path)
    assert model.count_params() - statistics == expected


def test_count_of_the_unet_of_the_paper():
    """Grey pictures and two classes, as in the paper: 31,030,658 weights, the count that is often quoted for figure 1."""
    grey = paper_counts.unet(2) - 2 * 9 * 64
    assert grey == 31_030_658


@every_segmenter
def test_answers_at_the_pictures_size(name):
    model = small(name)
    for size in ((64, 96), (33, 61), (32, 32), (71, 45)):
        check_answer(model, size)


def check_answer(model, size):
    images = np.random.default_rng(0).integers(0, 256, (2, *size, 3), dtype=np.uint8)
    logits = model(images)
    assert logits.shape == (2, *size, 5) and logits.dtype == "float32"
    answer = model.predict(images, verbose=0)
    assert set(answer) == {"labels", "scores"}
    assert answer["labels"].shape == answer["scores"].shape == (2, *size)
    assert answer["labels"].dtype == np.uint8 and answer["scores"].dtype == np.float32
    probabilities = keras.ops.convert_to_numpy(keras.ops.softmax(logits))
    decided = np.diff(np.sort(probabilities)[..., -2:])[..., 0] > 1e-4  # at a tie either label is right
    np.testing.assert_array_equal(answer["labels"][decided], probabilities.argmax(-1)[decided])
    rounding = 1e-5 + 1e-6 * float(keras.ops.max(keras.ops.abs(logits)))  # of sums in another order, in a graph
    np.testing.assert_allclose(answer["scores"], probabilities.max(-1), atol=rounding)


@thoroughly
def test_uint8_and_float_pictures_give_the_same(name, pictures):
    model = small(name)
    images = pictures[0][:1]
    scores = model.predict(images, verbose=0)["scores"]
    np.testing.assert_array_equal(scores, model.predict(images.astype("float32"), verbose=0)["scores"])


def quadrants():
    """Two pictures of four noisy fields, 64 pixels wide: what a network with scores at every 32nd pixel can still draw."""
    rng = np.random.default_rng(0)
    labels = np.kron([[[0, 1], [2, 3]], [[4, 0], [1, 2]]], np.ones((64, 64))).astype(np.uint8)
    colours = rng.integers(0, 256, (5, 3))
    return np.clip(colours[labels] + rng.normal(0, 20, (*labels.shape, 3)), 0, 255).astype(np.uint8), labels


@segmenters({"unet", "fcn8s_vgg16", "segnet_basic"})
def test_learns_two_pictures_by_plain_fit(name, pictures):
    keras.utils.set_random_seed(1)
    images, labels = quadrants() if name == "fcn32s_vgg16" else (pictures[0][:2], pictures[1][:2].copy())
    labels[:, :4] = 255
    model = small(name)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = min(layer.momentum, 0.9)  # so few steps are too few for averages that follow by 1 % a step
    steps = 320 if name in ("unet_mobilenetv2", "unet_resnet50", "enet") else 160
    model.compile(keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(3e-3, steps)))
    model.fit(images, labels, batch_size=2, epochs=steps, verbose=0)
    counted = labels != 255
    right = (model.predict(images, verbose=0)["labels"] == labels)[counted].mean()
    trained = model.get_metrics_result()["accuracy"]
    assert trained >= 0.95, f"pixel accuracy while training {trained:.3f}, in prediction {right:.3f}"
    assert right >= 0.95, f"pixel accuracy in prediction {right:.3f}, while training {trained:.3f}"


@every_segmenter
def test_saves_and_loads(name, pictures, tmp_path):
    model = tfzoo.create_model(name, class_names=list("abcde"), image_size=(64, 96), **CASES[name])
    model.save(tmp_path / "model.keras")
    loaded = tfzoo.load_model(tmp_path / "model.keras")
    assert type(loaded) is type(model) and loaded.class_names == list("abcde") and loaded.image_size == (64, 96)
    for key, value in model.predict(pictures[0], verbose=0).items():
        np.testing.assert_array_equal(loaded.predict(pictures[0], verbose=0)[key], value)


@thoroughly
def test_mixed_precision_trains_and_deploys_in_float32(name, pictures):
    model = small(name, dtype="mixed_bfloat16")
    assert {layer.compute_dtype for layer in model.layers if isinstance(layer, keras.layers.Conv2D)} == {"bfloat16"}
    assert {str(weight.dtype) for weight in model.trainable_weights} == {"float32"}
    model.compile("adam", run_eagerly=True)  # a step or two are not worth a graph
    history = model.fit(pictures[0], pictures[1], verbose=0).history
    assert np.isfinite(history["loss"]).all()
    network = model.deployed().network
    assert {layer.compute_dtype for layer in network.layers} == {"float32"}
    for ours, theirs in zip(network.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert keras.config.dtype_policy().name == "float32"


@thoroughly
def test_mixed_float16_scales_its_loss(name, pictures):
    model = small(name, dtype="mixed_float16")
    model.compile("adam", run_eagerly=True)  # a step or two are not worth a graph
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)


@thoroughly
def test_all_ignored_pixels_give_a_finite_loss(name, pictures):
    model = small(name)
    model.compile("adam", run_eagerly=True)  # a step or two are not worth a graph
    labels = np.full_like(pictures[1], 255)
    assert model.evaluate(pictures[0], labels, verbose=0, return_dict=True)["loss"] == 0
    assert np.isfinite(model.fit(pictures[0], labels, verbose=0).history["loss"]).all()


JAX_PROGRAM = """
import sys
import numpy as np, keras, tfzoo
assert keras.backend.backend() == "jax"
name, folder = sys.argv[1:]
data = np.load(folder + "/data.npz")
model = tfzoo.load_model(folder + "/model.keras")
np.testing.assert_allclose(np.asarray(model(data["images"])), data["logits"], atol=2e-4 * np.abs(data["logits"]).max())
model.compile("adam")
loss = model.evaluate(data["images"], data["labels"], verbose=0, return_dict=True)["loss"]
assert abs(loss - data["loss"]) <= 1e-4 * max(1, data["loss"]), (loss, data["loss"])
history = model.fit(data["images"], data["labels"], epochs=2, verbose=0).history
assert np.isfinite(history["loss"]).all()
assert model.predict(data["images"], verbose=0)["labels"].dtype == np.uint8
"""


@segmenters({"segnet_basic"})
def test_jax_gives_what_tensorflow_gives(name, pictures, tmp_path):
    pytest.importorskip("jax")
    model = small(name)
    for variable in model.trainable_variables:  # scoring layers start at zero
        if "score" in variable.path:
            variable.assign(np.random.default_rng(0).normal(0, 0.1, variable.shape))
    model.compile("adam")
    loss = model.evaluate(*pictures, verbose=0, return_dict=True)["loss"]
    model.save(tmp_path / "model.keras")
    np.savez(tmp_path / "data.npz", images=pictures[0], labels=pictures[1], logits=model(pictures[0]), loss=loss)
    environment = {**os.environ, "KERAS_BACKEND": "jax"}
    done = subprocess.run(
        [sys.executable, "-c", JAX_PROGRAM, name, str(tmp_path)], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize("name", ["fcn_resnet50", "pspnet_resnet50"])
def test_auxiliary_head_adds_its_share_of_the_loss(name, pictures):
    model = small(name, aux_loss=True)
    model.compile("adam", run_eagerly=True)
    outputs = model(pictures[0])
    assert set(outputs) == {"out", "aux"}
    out, aux = (float(model.loss(pictures[1], outputs[head])) for head in ("out", "aux"))
    result = model.evaluate(*pictures, verbose=0, return_dict=True)
    expected = out + {"fcn_resnet50": 0.5, "pspnet_resnet50": 0.4}[name] * aux
    assert abs(result["loss"] - expected) <= 1e-5 * expected
    labels = keras.ops.convert_to_numpy(outputs["out"]).argmax(-1)
    assert (model.predict(pictures[0], verbose=0)["labels"] == labels).mean() >= 0.9995
    assert np.isfinite(model.fit(*pictures, verbose=0).history["loss"]).all()


def test_valid_unet_answers_at_the_pictures_size(pictures):
    model = small("unet", padding="valid")
    assert model(np.zeros((1, 388, 65, 3), np.uint8)).shape == (1, 388, 65, 5)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("unet", {"num_classes": 1}, "num_classes is 1"),
        ("unet", {"num_classes": 256}, "num_classes is 256"),
        ("unet", {}, "needs to know its classes"),
        ("unet", {"num_classes": 3, "class_names": ["a", "b"]}, "2 class names"),
        ("unet", {"num_classes": 3, "padding": "full"}, "padding is 'full'"),
        ("unet", {"num_classes": 3, "widht_multiplier": 1}, "Did you mean 'width_multiplier'"),
        ("fcn8s_vgg16", {"num_classes": 3, "stride": 16}, "no option 'stride'"),
        ("unett", {"num_classes": 3}, "Did you mean 'unet'"),
        ("unet", {"num_classes": 3, "width_multiplier": 0}, "it must be a number above 0"),
        ("unet", {"num_classes": 3, "width_multiplier": "wide"}, "it must be a number above 0"),
        ("unet", {"num_classes": 3, "batch_norm": "no"}, "must be True or False"),
        ("unet", {"num_classes": 3, "depth": "four"}, "cannot be built with"),
        ("unet", {"num_classes": 3, "dropout": 3}, "cannot be built with"),
        ("fcn8s_vgg16", {"num_classes": 3, "weights": "imagnet"}, "published ones are 'imagenet'"),
    ],
)
def test_wrong_arguments_are_told_in_words(name, options, message):
    with pytest.raises(InputError, match=message):
        tfzoo.create_model(name, **options)


@pytest.mark.parametrize("shape", [(1, 31, 64, 3), (64, 64, 3), (1, 64, 64, 1)])
def test_impossible_pictures_are_refused(shape):
    with pytest.raises(InputError, match="Pictures must be"):
        small("unet").predict(np.zeros(shape, np.uint8), verbose=0)
