"""The losses of segmentation against numbers worked by hand, the papers' definitions, and published implementations."""

import itertools
import json
import math
import os
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfzoo.errors import InputError
from tfzoo.losses import (
    LOSSES,
    CombinedLoss,
    Dice,
    LovaszSoftmax,
    PixelCrossEntropy,
    PixelFocal,
    inverse_frequency_weights,
    make_loss,
    median_frequency_weights,
    sigmoid_focal_crossentropy,
)

FACTS = pathlib.Path(__file__).parents[2].parent / "shared" / "facts" / "tensorflow_addons.json"

# Softmax of a logarithm gives the probabilities back. One picture of 2x2 pixels, three classes, the last pixel ignored.
PROBABILITIES = np.array([[[[0.5, 0.3, 0.2], [0.5, 0.25, 0.25]], [[0.1, 0.8, 0.1], [0.2, 0.2, 0.6]]]], np.float32)
LOGITS = np.log(PROBABILITIES) + 3
LABELS = np.array([[[0, 2], [1, 255]]], np.uint8)

# Three pixels of two classes, labels 0, 1, 1, and an ignored one among them.
PAIR = np.log(np.array([[[[0.8, 0.2], [0.5, 0.5], [0.6, 0.4], [0.1, 0.9]]]], np.float32))
PAIR_LABELS = np.array([[[0, 255, 1, 1]]], np.uint8)

EVERY_LOSS = {
    "cross_entropy": PixelCrossEntropy(),
    "weighted_cross_entropy": PixelCrossEntropy(class_weights=[1, 2, 4]),
    "focal": PixelFocal(),
    "weighted_focal": PixelFocal(class_weights=[1, 2, 4], alpha=0.25, gamma=0.5),
    "dice": Dice(),
    "weighted_dice": Dice(class_weights=[1, 2, 4]),
    "lovasz": LovaszSoftmax(),
    "weighted_lovasz": LovaszSoftmax(class_weights=[1, 2, 4]),
    "lovasz_all": LovaszSoftmax(classes="all"),
    "lovasz_per_image": LovaszSoftmax(per_image=True),
    "combined": CombinedLoss([(PixelCrossEntropy(), 1.0), (Dice(), 0.5), (LovaszSoftmax(), 2.0)]),
}
every_loss = pytest.mark.parametrize("loss", EVERY_LOSS.values(), ids=EVERY_LOSS.keys())


def draw(seed=0, shape=(2, 5, 7), classes=3, ignored=0.2):
    """Labels with ignored ones, and logits, drawn at random."""
    rng = np.random.default_rng(seed)
    labels = np.where(rng.random(shape) < ignored, 255, rng.integers(0, classes, shape)).astype(np.uint8)
    return labels, rng.normal(0, 2, (*shape, classes)).astype(np.float32)


def value_and_gradient(loss, labels, logits):
    logits = tf.Variable(logits)
    with tf.GradientTape() as tape:
        value = loss(labels, logits)
    return float(value), tape.gradient(value, logits).numpy()


def softmax(logits):
    powers = np.exp(logits.astype(np.float64))
    return powers / powers.sum(axis=-1, keepdims=True)


def test_mean_of_the_pixels_that_count():
    expected = (math.log(2) + math.log(4) - math.log(0.8)) / 3
    assert float(PixelCrossEntropy()(LABELS, LOGITS)) == pytest.approx(expected, rel=1e-5)


def test_class_weights_divide_by_the_sum_of_weights():
    expected = (1 * math.log(2) + 4 * math.log(4) - 2 * math.log(0.8)) / (1 + 4 + 2)
    assert float(PixelCrossEntropy(class_weights=[1, 2, 4])(LABELS, LOGITS)) == pytest.approx(expected, rel=1e-5)


def test_an_ignored_pixel_changes_neither_the_loss_nor_its_gradient():
    logits = tf.Variable(LOGITS)
    with tf.GradientTape() as tape:
        loss = PixelCrossEntropy(class_weights=[1, 2, 4])(LABELS, logits)
    gradient = tape.gradient(loss, logits).numpy()
    assert not gradient[0, 1, 1].any()
    assert gradient[0, 0, 0].any()
    other = LOGITS.copy()
    other[0, 1, 1] = (100, -100, 7)
    assert float(PixelCrossEntropy(class_weights=[1, 2, 4])(LABELS, other)) == float(loss)


def test_another_ignore_label():
    labels = np.array([[[0, 2], [1, 1]]], np.uint8)
    expected = (math.log(2) + math.log(4)) / 2
    assert float(PixelCrossEntropy(ignore_label=1)(labels, LOGITS)) == pytest.approx(expected, rel=1e-5)


@every_loss
def test_all_ignored_gives_zero_and_no_gradient(loss):
    value, gradient = value_and_gradient(loss, np.full_like(LABELS, 255), LOGITS)
    assert value == 0
    np.testing.assert_array_equal(gradient, np.zeros_like(LOGITS))


@pytest.mark.parametrize("name", LOSSES)
def test_weights_that_are_all_zero_give_zero_and_no_gradient(name):
    value, gradient = value_and_gradient(make_loss(name, class_weights=[0, 0, 0]), LABELS, LOGITS)
    assert value == 0
    np.testing.assert_array_equal(gradient, np.zeros_like(LOGITS))


def test_extreme_logits_stay_finite():
    logits = np.array([[[[1e4, -1e4, 0], [0, 0, 0]], [[0, 0, 0], [0, 0, 0]]]], np.float32)
    assert float(PixelCrossEntropy()(np.array([[[1, 255], [255, 255]]]), logits)) == pytest.approx(2e4)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@every_loss
def test_half_precision_logits_give_a_float32_loss(loss, dtype):
    logits = tf.cast(LOGITS, dtype)
    value = loss(LABELS, logits)
    assert value.dtype == tf.float32
    assert float(value) == float(loss(LABELS, tf.cast(logits, "float32")))


def test_config_round_trip():
    loss = PixelCrossEntropy(class_weights=(1, 2, 4), ignore_label=7, name="pixels")
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
    assert isinstance(again, PixelCrossEntropy)
    assert again.get_config() == loss.get_config() == {"class_weights": [1.0, 2.0, 4.0], "ignore_label": 7, "name": "pixels"}
    labels = np.array([[[0, 2], [1, 7]]], np.uint8)
    assert float(again(labels, LOGITS)) == float(loss(labels, LOGITS)) > 0


def test_median_frequency_weights_worked_by_hand():
    # Frequencies 0.6, 0.3, 0.2: their median is 0.3. The last class never occurs.
    assert median_frequency_weights([60, 30, 10, 0], [100, 100, 50, 0]) == pytest.approx([0.5, 1.0, 1.5, 0.0])
    assert median_frequency_weights([60, 30, 10, 0], [100, 100, 50, 0], cap=1.2) == pytest.approx([0.5, 1.0, 1.2, 0.0])


def test_median_of_an_even_number_of_classes_is_the_mean_of_the_middle_two():
    assert median_frequency_weights([60, 20], [100, 100]) == pytest.approx([0.4 / 0.6, 0.4 / 0.2])


def test_median_frequency_weights_of_nothing_are_zero():
    assert median_frequency_weights([0, 0], [0, 0]) == [0.0, 0.0]


def test_inverse_frequency_weights_worked_by_hand():
    # 120 pixels, three classes that occur: 120 / (3 * 60), 120 / (3 * 40), 120 / (3 * 20). The last class never occurs.
    assert inverse_frequency_weights([60, 40, 20, 0]) == pytest.approx([2 / 3, 1.0, 2.0, 0.0])
    assert inverse_frequency_weights([60, 40, 20, 0], cap=1.5) == pytest.approx([2 / 3, 1.0, 1.5, 0.0])
    assert inverse_frequency_weights([0, 0]) == [0.0, 0.0]


@every_loss
def test_ignored_pixels_are_as_good_as_absent(loss):
    """A picture's value and gradients are those of the row of its other pixels, whatever the ignored ones hold."""
    labels, logits = draw(shape=(1, 9, 8))
    counted = labels != 255
    logits[~counted] *= 10
    value, gradient = value_and_gradient(loss, labels, logits)
    alone, gradient_alone = value_and_gradient(loss, labels[counted][None, None], logits[counted][None, None])
    assert value == pytest.approx(alone, rel=1e-6)
    np.testing.assert_allclose(gradient[counted], gradient_alone[0, 0], rtol=1e-5, atol=1e-8)
    assert np.abs(gradient_alone).max() > 1e-4
    assert not gradient[~counted].any()


@every_loss
def test_saturated_logits_give_finite_gradients(loss):
    """Pixels that are surely right and surely wrong, ties of all errors among them."""
    decided = np.eye(3, dtype=np.float32)[draw(7, (1, 4, 3), ignored=0)[0]]
    for labels, scale in itertools.product((np.zeros((1, 4, 3), np.uint8), draw(8, (1, 4, 3))[0]), (0, 100, 1e4)):
        logits = scale * decided
        value, gradient = value_and_gradient(loss, labels, logits)
        assert math.isfinite(value) and np.isfinite(gradient).all()


@every_loss
def test_descending_the_gradient_lowers_the_loss(loss):
    labels, logits = draw(2)
    value, gradient = value_and_gradient(loss, labels, logits)
    after = float(loss(labels, logits - 1e-3 * gradient / np.abs(gradient).max()))
    # the loss falls by the step times the gradient's squares, as a differentiable function does
    assert value - after == pytest.approx(1e-3 * (gradient**2).sum() / np.abs(gradient).max(), rel=0.05)


@every_loss
def test_survives_saving(loss):
    again = keras.saving.deserialize_keras_object(json.loads(json.dumps(keras.saving.serialize_keras_object(loss))))
    assert type(again) is type(loss) and again.get_config() == loss.get_config()
    labels, logits = draw(3)
    assert float(again(labels, logits)) == float(loss(labels, logits)) > 0


@every_loss
def test_compiled_with_free_sizes_and_by_xla(loss):
    labels, logits = draw(4)
    expected, _ = value_and_gradient(loss, labels, logits)
    free = [tf.TensorSpec((None, None, None), tf.uint8), tf.TensorSpec((None, None, None, 3), tf.float32)]
    assert float(tf.function(loss, input_signature=free)(labels, logits)) == pytest.approx(expected, rel=1e-5)
    assert float(tf.function(loss, jit_compile=True)(labels, logits)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", LOSSES)
def test_class_weights_must_be_as_many_as_the_classes(name):
    with pytest.raises(InputError, match="2 class weights for 3 classes"):
        make_loss(name, class_weights=[1, 2])(LABELS, LOGITS)


# Focal loss


def test_sigmoid_focal_loss_is_that_of_tensorflow_addons():
    if not FACTS.is_file():
        pytest.skip("the values of tensorflow-addons 0.23 are not at ../shared/facts/tensorflow_addons.json")
    facts = json.loads(FACTS.read_text())["sigmoid_focal_crossentropy"]
    loss = sigmoid_focal_crossentropy(facts["y_true"], facts["logits"], facts["alpha"], facts["gamma"])
    assert loss.shape == np.shape(facts["logits"])
    np.testing.assert_allclose(np.sum(loss, axis=-1), facts["per_row_sum"], rtol=0, atol=1e-5)


def test_sigmoid_focal_loss_worked_by_hand():
    logits = [math.log(0.9 / 0.1), math.log(0.9 / 0.1), 0.0]
    loss = sigmoid_focal_crossentropy([1, 0, 1], logits)
    expected = [0.25 * 0.1**2 * -math.log(0.9), 0.75 * 0.9**2 * -math.log(0.1), 0.25 * 0.5**2 * math.log(2)]
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    np.testing.assert_allclose(
        sigmoid_focal_crossentropy([1, 0, 1], logits, alpha=None, gamma=0), -np.log([0.9, 0.1, 0.5]), rtol=1e-5
    )


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
def test_sigmoid_focal_loss_of_extreme_logits(gamma):
    logits = tf.Variable([-1e4, -50.0, 0.0, 50.0, 1e4, -1e4, 1e4])
    with tf.GradientTape() as tape:
        loss = sigmoid_focal_crossentropy([0, 0, 1, 1, 1, 1, 0], logits, 0.25, gamma)
    np.testing.assert_allclose(loss, [0, 0, 0.25 * 0.5**gamma * math.log(2), 0, 0, 2500, 7500], rtol=1e-5, atol=1e-8)
    assert np.isfinite(tape.gradient(loss, logits)).all()


def test_pixel_focal_worked_by_hand():
    terms = 0.5**2 * math.log(2), 0.75**2 * math.log(4), 0.2**2 * -math.log(0.8)
    assert float(PixelFocal()(LABELS, LOGITS)) == pytest.approx(sum(terms) / 3, rel=1e-5)
    weighted = (1 * terms[0] + 4 * terms[1] + 2 * terms[2]) / 7
    assert float(PixelFocal(class_weights=[1, 2, 4], alpha=0.25)(LABELS, LOGITS)) == pytest.approx(0.25 * weighted, rel=1e-5)


def test_pixel_focal_of_two_classes_is_the_binary_one():
    """A softmax of two logits is the sigmoid of their difference."""
    labels, logits = draw(classes=2, ignored=0)
    expected = np.mean(sigmoid_focal_crossentropy(labels, logits[..., 1] - logits[..., 0], alpha=None, gamma=1.5))
    assert float(PixelFocal(gamma=1.5)(labels, logits)) == pytest.approx(expected, rel=1e-5)


def test_pixel_focal_with_gamma_zero_is_cross_entropy():
    labels, logits = draw()
    expected = float(PixelCrossEntropy(class_weights=[1, 2, 4])(labels, logits))
    assert float(PixelFocal(class_weights=[1, 2, 4], gamma=0)(labels, logits)) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("wrong", [{"alpha": 0}, {"gamma": -1}, {"gamma": float("nan")}])
def test_focal_refuses_values_out_of_range(wrong):
    with pytest.raises(InputError, match="alpha above 0 and a gamma of 0 or more"):
        PixelFocal(**wrong)


# Dice and Lovasz-softmax


def test_dice_worked_by_hand():
    # p of class 0: 0.8, 0.6, 0.1, squares 1.01, one pixel; of class 1: 0.2, 0.4, 0.9, squares 1.01, two pixels.
    zero, one = 1 - 2 * 0.8 / (1.01 + 1), 1 - 2 * (0.4 + 0.9) / (1.01 + 2)
    assert float(Dice()(PAIR_LABELS, PAIR)) == pytest.approx((zero + one) / 2, rel=1e-5)
    assert float(Dice(class_weights=[3, 1])(PAIR_LABELS, PAIR)) == pytest.approx((3 * zero + one) / 4, rel=1e-5)


def test_lovasz_worked_by_hand():
    # Both classes have the errors 0.6, 0.2, 0.1, of the pixels labelled 1, 0, 1. Class 0 (one pixel): the Jaccard loss of the
    # growing set of mistakes is 1/2, 2/2, 3/3. Class 1 (two pixels): 1/2, 2/3, 3/3.
    zero, one = 0.6 * 1 / 2 + 0.2 * 1 / 2 + 0.1 * 0, 0.6 * 1 / 2 + 0.2 * 1 / 6 + 0.1 * 1 / 3
    assert float(LovaszSoftmax()(PAIR_LABELS, PAIR)) == pytest.approx((zero + one) / 2, rel=1e-5)
    assert float(LovaszSoftmax(class_weights=[3, 1])(PAIR_LABELS, PAIR)) == pytest.approx((3 * zero + one) / 4, rel=1e-5)


def test_classes_that_are_absent():
    """With labels 0 only, class 1 is left out of "present"; in "all" its loss is the largest probability that it gets."""
    labels = np.where(PAIR_LABELS == 255, 255, 0)
    # Class 0: errors 0.9, 0.4, 0.2, all of them of its pixels: a third each.
    zero, one = (0.9 + 0.4 + 0.2) / 3, 0.9
    assert float(LovaszSoftmax()(labels, PAIR)) == pytest.approx(zero, rel=1e-5)
    assert float(LovaszSoftmax(classes="all")(labels, PAIR)) == pytest.approx((zero + one) / 2, rel=1e-5)
    assert float(Dice()(labels, PAIR)) == pytest.approx(1 - 2 * 1.5 / (1.01 + 3), rel=1e-5)


def jaccard_loss(mistakes, members):
    """Berman 2018, equation 6: the Jaccard loss of a set of mistaken pixels for a class with these pixels."""
    union = members | mistakes
    return len(mistakes) / len(union) if union else 0.0


def lovasz_reference(labels, logits, classes):
    """Berman 2018, equations 8, 9, 11 and the mean over classes, with sets of pixels and Python's sort."""
    kept = labels != 255
    labels, probabilities = labels[kept], softmax(logits[kept])
    losses = []
    for c in range(logits.shape[-1]):
        members = set(np.flatnonzero(labels == c))
        if classes == "present" and not members:
            continue
        errors = np.where(labels == c, 1 - probabilities[:, c], probabilities[:, c])
        order = sorted(range(len(errors)), key=lambda i: -errors[i])
        steps = [jaccard_loss(set(order[: k + 1]), members) - jaccard_loss(set(order[:k]), members) for k in range(len(order))]
        losses.append(sum(errors[i] * step for i, step in zip(order, steps, strict=True)))
    return np.mean(losses) if losses else 0.0


@pytest.mark.parametrize("classes", ["present", "all"])
@pytest.mark.parametrize("seed", range(5))
def test_lovasz_equals_the_papers_definition(seed, classes):
    labels, logits = draw(seed, classes=6)
    labels[labels == 3] = 1
    batch = lovasz_reference(labels, logits, classes)
    assert float(LovaszSoftmax(classes=classes)(labels, logits)) == pytest.approx(batch, rel=1e-5)
    single = np.mean([lovasz_reference(*one, classes) for one in zip(labels, logits, strict=True)])
    assert float(LovaszSoftmax(classes=classes, per_image=True)(labels, logits)) == pytest.approx(single, rel=1e-5)
    assert batch != pytest.approx(single, rel=1e-4)


def test_a_picture_that_is_all_ignored_is_not_averaged():
    labels, logits = draw(shape=(3, 4, 5))
    labels[1] = 255
    expected = float(LovaszSoftmax(per_image=True)(labels[::2], logits[::2]))
    assert float(LovaszSoftmax(per_image=True)(labels, logits)) == pytest.approx(expected, rel=1e-6)


def test_certain_predictions_give_one_minus_iou_and_one_minus_dice():
    labels, logits = draw(5)
    logits = 100 * np.eye(3, dtype=np.float32)[logits.argmax(axis=-1)]
    kept = labels != 255
    truth, found = labels[kept], logits.argmax(axis=-1)[kept]
    both = [((truth == c) & (found == c)).sum() for c in range(3)]
    either = [((truth == c) | (found == c)).sum() for c in range(3)]
    iou = np.divide(both, either)
    assert float(LovaszSoftmax()(labels, logits)) == pytest.approx(1 - iou.mean(), rel=1e-5)
    assert float(Dice()(labels, logits)) == pytest.approx(1 - (2 * iou / (1 + iou)).mean(), rel=1e-5)


def test_lovasz_of_many_pixels_loses_nothing():
    """Every pixel of a large picture gets its gradient: 1 / pixels each, where all are of one class and equally wrong.

    Steps taken as differences of Jaccard losses, which are near 1, would be off by 2^-24 of 1: 6 % of a step here.
    """
    pixels = 1_000_000
    labels, logits = np.zeros((1, 1, pixels), np.uint8), np.zeros((1, 1, pixels, 2), np.float32)
    value, gradient = value_and_gradient(LovaszSoftmax(), labels, logits)
    assert value == pytest.approx(0.5, rel=1e-5)
    np.testing.assert_allclose(gradient[0, 0, :, 0], -0.25 / pixels, rtol=1e-4)


def test_lovasz_refuses_other_classes():
    with pytest.raises(InputError, match="classes is 'some'"):
        LovaszSoftmax(classes="some")


# Sums and names


def test_a_sum_is_weighted():
    labels, logits = draw()
    loss = CombinedLoss([(PixelCrossEntropy(), 1.0), (Dice(), 0.5)])
    expected = float(PixelCrossEntropy()(labels, logits)) + 0.5 * float(Dice()(labels, logits))
    assert float(loss(labels, logits)) == pytest.approx(expected, rel=1e-6)
    with pytest.raises(InputError, match="at least one pair"):
        CombinedLoss([])


@pytest.mark.parametrize("name", LOSSES)
def test_losses_by_name(name):
    loss = make_loss(name, class_weights=[1, 2, 4])
    assert type(loss) is LOSSES[name] and loss.class_weights == [1, 2, 4]
    assert make_loss(name).class_weights is None


def test_sums_by_name():
    labels, logits = draw()
    loss = make_loss("cross_entropy+dice + lovasz", class_weights=[1, 2, 4])
    assert [(type(term), term.class_weights, weight) for term, weight in loss.terms] == [
        (cls, [1, 2, 4], 1) for cls in (PixelCrossEntropy, Dice, LovaszSoftmax)
    ]
    expected = sum(float(term(labels, logits)) for term, _ in loss.terms)
    assert float(loss(labels, logits)) == pytest.approx(expected, rel=1e-6)


def test_unknown_names_are_refused(expect_sentence):
    expect_sentence(lambda: make_loss("cross_entropi"), "no loss 'cross_entropi'", "'cross_entropy'?")
    expect_sentence(lambda: make_loss("dice+lovas"), "'lovas' in 'dice+lovas'", "'lovasz'?")
    expect_sentence(lambda: make_loss("dice+"), "no loss '' in 'dice+'", "cross_entropy, focal, dice, lovasz")
    expect_sentence(lambda: make_loss(""), "no loss ''")


JAX_PROGRAM = """
import json, sys
import jax, keras, numpy as np
import tfzoo.losses
assert keras.backend.backend() == "jax" and "tensorflow" not in sys.modules
folder = sys.argv[1]
data = np.load(folder + "/data.npz")
configs = json.load(open(folder + "/losses.json"))
for name, config in configs.items():
    loss = keras.saving.deserialize_keras_object(config)
    function = jax.jit(jax.value_and_grad(lambda x, labels: loss(labels, x)))
    value, gradient = function(data["logits"], data["labels"])
    np.testing.assert_allclose(value, data[name], rtol=1e-5, err_msg=name)
    np.testing.assert_allclose(gradient, data[name + "_gradient"], rtol=1e-4, atol=1e-7, err_msg=name)
    value, gradient = function(data["logits"], np.full_like(data["labels"], 255))
    assert value == 0 and not np.asarray(gradient).any(), name
"""


def test_jax_gives_what_tensorflow_gives(tmp_path):
    pytest.importorskip("jax")
    labels, logits = draw(6)
    arrays = {"labels": labels, "logits": logits}
    for name, loss in EVERY_LOSS.items():
        arrays[name], arrays[f"{name}_gradient"] = value_and_gradient(loss, labels, logits)
    np.savez(tmp_path / "data.npz", **arrays)
    configs = {name: keras.saving.serialize_keras_object(loss) for name, loss in EVERY_LOSS.items()}
    (tmp_path / "losses.json").write_text(json.dumps(configs))
    done = subprocess.run(
        [sys.executable, "-c", JAX_PROGRAM, str(tmp_path)],
        env={**os.environ, "KERAS_BACKEND": "jax"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
