"""SSD's default boxes and the layer on conv4_3, against published counts and numbers worked by hand."""

import math

import keras
import numpy as np
import pytest

from tfzoo.errors import InputError
from tfzoo.layers.l2_normalization import L2Normalization
from tfzoo.layers.priors import PriorBoxes
from tfzoo.models.ssd import FORMS
from tfzoo.models.ssdlite import SSDLite


def ssd_boxes(size):
    form = FORMS[size]
    priors = PriorBoxes(form.aspect_ratios, form.scales, form.steps)
    return priors.grid([(cells, cells) for cells in form.feature_sizes], (size, size))


def test_counts_are_the_papers():
    """Liu 2016, section 3.1: 8732 of SSD300; table 7: 24564 of SSD512; torchvision's SSDLite320 has 3234."""
    assert len(ssd_boxes(300)) == 8732 and len(ssd_boxes(512)) == 24564
    cells = SSDLite.feature_sizes(320)
    assert list(cells) == [20, 10, 5, 3, 2, 1]
    assert len(SSDLite.prior_boxes().grid([(n, n) for n in cells], (320, 320))) == 3234


def test_first_cell_of_ssd300_by_hand():
    """Step 8 pixels, so the centre is at 4; scale .07 of 300 is 21, then sqrt(.07 * .15) * 300 = 30.74, then 21 times 2 ** +-.5."""
    between, wide, narrow = 300 * math.sqrt(0.07 * 0.15), 21 * math.sqrt(2), 21 / math.sqrt(2)
    sides = [(21, 21), (between, between), (wide, narrow), (narrow, wide)]
    expected = [(4 - w / 2, 4 - h / 2, 4 + w / 2, 4 + h / 2) for w, h in sides]
    np.testing.assert_allclose(ssd_boxes(300)[:4], expected, atol=1e-4)


def test_order_is_row_by_row():
    """Boxes 4 to 7 stand one step to the right, those of the second row 38 cells later."""
    boxes = ssd_boxes(300)
    np.testing.assert_allclose(boxes[4:8] - boxes[:4], np.tile([8, 0, 8, 0], (4, 1)), atol=1e-4)
    np.testing.assert_allclose(boxes[38 * 4 : 39 * 4 : 4][0] - boxes[0], [0, 8, 0, 8], atol=1e-4)


def test_sides_are_cut_off_at_the_pictures():
    """The last level of SSD300 has the scale .87: its wide box would be 1.23 pictures wide, and the second square .956 times it."""
    sides = ssd_boxes(300)[-4:, 2:] - ssd_boxes(300)[-4:, :2]
    second = 300 * math.sqrt(0.87 * 1.05)
    np.testing.assert_allclose(sides, [[261, 261], [second, second], [300, 261 / 2**0.5], [261 / 2**0.5, 300]], rtol=1e-5)


def test_without_steps_centres_divide_the_picture():
    boxes = PriorBoxes([()], [0.1, 0.4]).grid([(2, 4)], (100, 200))
    centres = (boxes[:, :2] + boxes[:, 2:])[::2] / 2
    np.testing.assert_allclose(centres[:4], [[25, 25], [75, 25], [125, 25], [175, 25]], atol=1e-4)
    np.testing.assert_allclose(boxes[:2, 2:] - boxes[:2, :2], [[20, 10], [40, 20]], atol=1e-4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([(2,)], [0.1]), "1 scales for 1 levels of default boxes: give 2"),
        (([(2,)], [0.1, 0.2], [8, 16]), "2 steps for 1 levels"),
        (([(2,)], [0.1, 0.0]), "must be above 0"),
        (([(2,)], [0.1, 0.2], [0]), "must be above 0"),
    ],
)
def test_impossible_default_boxes_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        PriorBoxes(*arguments)


def test_l2_normalization_by_hand():
    """(3, 4) has the length 5; a pixel of zeros stays one; each channel has its own factor."""
    layer = L2Normalization(scale=10)
    x = np.array([[[[3, 4], [0, 0]]]], np.float32)
    np.testing.assert_allclose(layer(x), [[[[6, 8], [0, 0]]]], rtol=1e-6)
    layer.set_weights([np.array([1, 100], np.float32)])
    np.testing.assert_allclose(layer(x)[0, 0, 0], [0.6, 80], rtol=1e-6)


def test_l2_normalization_has_slopes_everywhere_and_holds_in_float16():
    """The length of (300, 400) has a square beyond float16's 65504."""
    layer = L2Normalization(dtype="mixed_float16")
    result = layer(np.array([[[[300, 400]]]], np.float16))
    assert result.dtype == "float16"
    np.testing.assert_allclose(np.asarray(result).ravel(), [12, 16], rtol=1e-3)
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        x = tf.zeros((1, 2, 2, 3))
        with tf.GradientTape() as tape:
            tape.watch(x)
            total = tf.reduce_sum(L2Normalization()(x))
        assert np.isfinite(tape.gradient(total, x)).all()
