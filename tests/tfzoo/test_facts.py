"""What `tfzoo models` tells: against numbers worked by hand, and against the networks themselves."""

import itertools
import json
import subprocess
import sys

import keras
import numpy as np
import pytest

import tfzoo
from tfzoo import facts
from tfzoo.analysis import analyse, without_weights
from tfzoo.backbones.vgg import vgg16_features
from tfzoo.cli import main
from tfzoo.zoo import MODELS, Entry


def network(*layers, channels=3, size=(None, None)):
    return keras.Sequential([keras.Input((*size, channels)), *layers])


def conv(filters, kernel, **options):
    return keras.layers.Conv2D(filters, kernel, padding="same", **options)


# === The graph ===


def test_three_layers_by_hand():
    """Fields: 1 + 2 = 3; + 2 * 4 taps at jump 2 = 19; + (4 / 2 - 1) positions at jump 2 = 21."""
    model = network(
        conv(8, 3, strides=2),
        conv(16, 3, dilation_rate=4),
        keras.layers.Conv2DTranspose(5, 4, strides=2, padding="same"),
    )
    found = analyse(model, (32, 64))
    assert found.receptive_field == 21 and not found.whole_picture and found.output_stride == 2
    # Maps of 16 x 32; the transposed convolution multiplies each position of its input by its whole kernel.
    assert found.multiply_adds == 16 * 32 * (9 * 3 * 8 + 9 * 8 * 16 + 16 * 16 * 5)


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        (conv(7, 5), 10 * 12 * 25 * 4 * 7),
        (conv(6, 3, groups=2), 10 * 12 * 9 * 2 * 6),
        (conv(7, 3, strides=3), 4 * 4 * 9 * 4 * 7),  # "same" rounds up
        (keras.layers.DepthwiseConv2D(3, depth_multiplier=2), 8 * 10 * 9 * 4 * 2),  # "valid"
        (keras.layers.SeparableConv2D(6, 3, padding="same"), 10 * 12 * (9 * 4 + 4 * 6)),
        (keras.layers.Dense(9), 10 * 12 * 4 * 9),
        (keras.layers.BatchNormalization(), 0),
        (keras.layers.PReLU(shared_axes=(1, 2)), 0),
        (keras.layers.MaxPooling2D(), 0),
    ],
)
def test_cost_of_one_layer_by_hand(layer, expected):
    assert analyse(network(layer, channels=4), (10, 12)).multiply_adds == expected


def test_a_kernel_without_a_rule_is_not_passed_over():
    with pytest.raises(TypeError, match="no rule for the cost of EinsumDense"):
        analyse(network(keras.layers.EinsumDense("abcd,de->abce", (None, None, 5))), (8, 8))


def test_field_of_an_encoder_is_what_reaches_its_middle():
    """Measured: all kernels are 1, a row or column at a time is lit, and a position in the middle must see just its field."""
    model = network(
        keras.layers.ZeroPadding2D(1),
        keras.layers.Conv2D(1, (3, 5), strides=2, kernel_initializer="ones"),
        keras.layers.AveragePooling2D(3, strides=2, padding="same"),
        conv(1, 3, dilation_rate=2, kernel_initializer="ones"),
        channels=1,
        size=(96, 96),
    )
    pictures = np.zeros((192, 96, 96, 1), np.float32)
    for place in range(96):
        pictures[place, place], pictures[96 + place, :, place] = 1, 1
    lit = keras.ops.convert_to_numpy(model(pictures))[:, 12, 12, 0] > 0
    rows, columns = (places.max() - places.min() + 1 for places in map(np.flatnonzero, (lit[:96], lit[96:])))
    assert (rows, columns) == (3 + 2 * 2 + 2 * 2 * 4, 5 + 2 * 2 + 2 * 2 * 4)
    assert analyse(model, (96, 96)).receptive_field == columns


def test_vgg16_is_the_well_known_one():
    """Receptive field 212 at pool5 and 404 at fc6 (Long 2015's FCN); 15.35 G multiply-adds at 224x224 in its convolutions."""
    pixels = keras.Input((None, None, 3))

    def build():
        features = vgg16_features(pixels)
        fields = {name: analyse(keras.Model(pixels, x), (224, 224)).receptive_field for name, x in features.items()}
        return fields, analyse(keras.Model(pixels, features["pool5"]), (224, 224)), features["pool5"]

    fields, found, pool5 = without_weights(build)
    pools = {"pool1": 6, "pool2": 16, "pool3": 44, "pool4": 100, "pool5": 212}
    assert {name: fields[name] for name in pools} == pools
    assert found.multiply_adds == 15_346_630_656 and found.output_stride == 32
    fc6 = without_weights(lambda: analyse(keras.Model(pixels, conv(8, 7)(pool5)), (224, 224)))
    assert fc6.receptive_field == 404


def test_several_branches_see_what_the_widest_sees():
    pixels = keras.Input((None, None, 3))
    narrow, wide = conv(4, 3)(pixels), conv(4, 3, dilation_rate=6)(pixels)
    found = analyse(keras.Model(pixels, keras.layers.Add()([narrow, wide])), (64, 64))
    assert found.receptive_field == 13 and found.output_stride == 1


@pytest.mark.parametrize("keepdims", [True, False])
def test_global_pooling_sees_the_whole_picture_and_is_no_coarse_map(keepdims):
    """A squeeze-and-excitation: what passes by it keeps its own field and stride."""
    pixels = keras.Input((None, None, 3))
    x = conv(4, 3, strides=2)(pixels)
    factor = keras.layers.GlobalAveragePooling2D(keepdims=keepdims)(x)
    factor = conv(4, 1)(factor) if keepdims else keras.layers.Reshape((1, 1, 4))(keras.layers.Dense(4)(factor))
    found = analyse(keras.Model(pixels, keras.layers.Multiply()([x, factor])), (64, 64))
    assert (found.receptive_field, found.whole_picture, found.output_stride) == (3, True, 2)
    assert found.multiply_adds == 32 * 32 * 9 * 3 * 4 + 16


def test_inner_models_and_layers_of_layers_are_followed():
    class Pair(keras.layers.Layer):
        def __init__(self):
            super().__init__()
            self.first, self.second = conv(4, 3), conv(4, 3, strides=2)

        def call(self, x):
            return self.second(self.first(x))

    pixels = keras.Input((None, None, 3))
    inner = keras.Model(pixels, conv(4, 3)(pixels))
    x = Pair()(network(inner, keras.layers.ReLU())(pixels))
    found = analyse(keras.Model(pixels, keras.layers.UpSampling2D(2, interpolation="bilinear")(x)), (16, 16))
    assert found.receptive_field == 3 + 2 + 2 + 2 and found.output_stride == 2  # bilinear: one more position at jump 2
    assert found.multiply_adds == 256 * 9 * 3 * 4 + 256 * 9 * 16 + 64 * 9 * 16


# === The models ===


def test_unet_by_hand():
    """Ronneberger 2015, figure 1: a position at the bottom sees 140 pixels; four poolings.

    Down: 1, + 4 = 5, pooled 6; + 8 = 14, 16; + 16 = 32, 36; + 32 = 68, 76; + 64 = 140. Up again, a 2x2 transposed convolution of
    stride 2 takes one position, and each pair adds 32, 16, 8, 4 pixels: 200.
    """
    found = facts.describe("unet", batch_norm=False)
    assert (found.receptive_field, found.output_stride, found.whole_picture) == (200, 16, False)
    bottom = facts.describe("unet", batch_norm=False, depth=1)
    assert (bottom.receptive_field, bottom.output_stride) == (6 + 8 + 4, 2)


def test_multiply_adds_of_the_unet_by_hand():
    """At 64x64, for the widths 64 ... 1024 of figure 1."""
    widths, side, total = [64, 128, 256, 512, 1024], 64, 0
    for level, width in enumerate(widths):
        positions, before = (side >> level) ** 2, widths[level - 1] if level else 3
        total += positions * 9 * (before * width + width * width)
    for level, width in enumerate(widths[:-1]):
        positions = (side >> level) ** 2
        total += positions // 4 * 4 * 2 * width * width + positions * 9 * (2 * width * width + width * width)
    total += side * side * 64 * 21
    assert facts.describe("unet", (64, 64)).gflops == pytest.approx(2 * total / 1e9, rel=1e-12)


@pytest.mark.parametrize(("name", "field"), [("fcn32s_vgg16", 404 + 32), ("fcn16s_vgg16", 404 + 48), ("fcn8s_vgg16", 404 + 56)])
def test_fcn_sees_what_fc6_and_its_upsamplings_see(name, field):
    """A transposed convolution of kernel 2s and stride s takes two positions."""
    found = facts.describe(name, (64, 64))
    assert (found.receptive_field, found.output_stride) == (field, 32)


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("fcn_resnet50", {"aux_loss": True}, 152.717),
        ("fcn_resnet101", {"aux_loss": True}, 232.738),
        ("deeplabv3_resnet50", {"aux_loss": True}, 178.722),
        ("deeplabv3_resnet101", {"aux_loss": True}, 258.743),
        ("deeplabv3_mobilenet_v3_large", {"aux_loss": True}, 10.452),
        ("lraspp_mobilenet_v3_large", {}, 2.086),
    ],
)
def test_multiply_adds_are_those_that_torchvision_states(name, options, expected):
    """The "_ops" of torchvision's weights: 10^9 multiply-adds for 520x520 and 21 classes, to three decimals."""
    assert facts.describe(name, (520, 520), **options).gflops / 2 == pytest.approx(expected, abs=6e-4)


def test_parameters_are_those_of_the_model_with_weights():
    options = {"num_classes": 5, "width_multiplier": 0.0625}
    assert facts.describe("unet", (64, 64), **options).parameters == tfzoo.create_model("unet", **options).count_params()


def test_models_built_without_weights_leave_nothing_behind():
    without_weights(lambda: tfzoo.create_model("unet", num_classes=2, width_multiplier=0.0625))
    model = tfzoo.create_model("unet", num_classes=2, width_multiplier=0.0625)
    assert all(np.isfinite(weight).all() for weight in model.get_weights())
    with pytest.raises(tfzoo.errors.InputError, match="Did you mean 'unet'"):
        facts.describe("unett")


# === What ships ===


def test_every_model_has_its_facts():
    assert sorted(facts.read_facts()) == tfzoo.list_models(), "run python -m tfzoo.facts"


def by_builder(names):
    """The names as parameters; of each class only the smallest model is part of ``make test``."""
    size = {name: known.parameters for name, known in facts.read_facts().items()}
    groups = itertools.groupby(sorted(names, key=lambda name: MODELS[name].builder), key=lambda name: MODELS[name].builder)
    smallest = {min(group, key=lambda name: size.get(name, 0)) for _, group in groups}
    return [pytest.param(name, marks=[] if name in smallest else pytest.mark.slow) for name in names]


@pytest.mark.parametrize("name", by_builder(tfzoo.list_models()))
def test_facts_that_ship_are_those_of_the_networks(name):
    shipped, found = facts.read_facts()[name], facts.describe(name)
    assert found == shipped, "run python -m tfzoo.facts"


@pytest.mark.parametrize("name", by_builder(facts.read_proofs()))
def test_proofs_that_ship_are_of_the_networks_as_they_are(name):
    proof = facts.read_proofs()[name]
    network = facts.Facts(**{**proof["network"], "image_size": tuple(proof["network"]["image_size"])})  # some stretch pictures
    found = facts.describe(name, tuple(proof["image_size"]), network.num_classes, **proof["options"])
    assert found == network, "run python -m tfzoo.benchmarks.proofs"


@pytest.fixture
def known(monkeypatch, tmp_path):
    """One model in the zoo, with facts and proofs."""
    entry = Entry("tfzoo.models.fcn:FCN", "semantic", "Long 2015", {"stride": 8}, ("imagenet",), "mIoU 62.2 (VOC 2012 test)")
    proof = {
        "options": {"width_multiplier": 0.125},
        "image_size": [96, 128],
        "formats": {
            "onnx": {"proved": True, "agreement": 1.0, "error": 2.5e-7},
            "int8": {"proved": False, "reason": "the process died"},
        },
    }
    for key in list(MODELS):
        monkeypatch.delitem(MODELS, key)
    monkeypatch.setitem(MODELS, "fcn8s_vgg16", entry)
    shipped = facts.Facts(134_000_000, 12.34, (512, 512), 21, 460, False, 32)
    monkeypatch.setattr(facts, "read_facts", lambda: {"fcn8s_vgg16": shipped})
    monkeypatch.setattr(facts, "read_proofs", lambda: {"fcn8s_vgg16": proof})


def test_table(known, capsys):
    assert main(["models"]) == 0
    header, row, *_ = capsys.readouterr().out.splitlines()
    assert header.split() == ["name", "task", "params", "GFLOPs", "field", "stride", "weights", "published", "proved"]
    assert row.split() == ["fcn8s_vgg16", "semantic", "134.0", "M", "12.3", "460", "32", "imagenet", "mIoU", "62.2", "onnx"]


def test_details(known, capsys):
    assert main(["models", "fcn8s_vgg16"]) == 0
    text = capsys.readouterr().out
    for expected in (
        "134,000,000 (with 21 classes)",
        "460 pixels (theoretical)",
        "mIoU 62.2 (VOC 2012 test)",
        "onnx       100.00% of the labels equal Keras's, error 2.5e-07 of the logits",
        "with width_multiplier=0.125 at 96x128",
        "width_multiplier=1.0, batch_norm=False, dropout=0.5, class_names=None",
        "stride=8",
        "VGG16 with its fully connected layers turned into convolutions",
    ):
        assert expected in text
    assert "int8" not in text


def test_json_tells_all(known, capsys):
    assert main(["models", "--json"]) == 0
    (model,) = json.loads(capsys.readouterr().out)
    assert model["parameters"] == 134_000_000 and model["image_size"] == [512, 512] and model["formats_proved"] == ["onnx"]
    assert model["proofs"]["formats"]["int8"]["reason"] == "the process died"


def test_real_table_fits_a_terminal(capsys):
    assert main(["models", "--task", "semantic"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) > len(tfzoo.list_models("semantic")) and max(map(len, lines)) <= 120


@pytest.mark.parametrize("name", tfzoo.list_models())
def test_every_model_can_be_told_of(name, capsys):
    assert main(["models", name]) == 0
    text = capsys.readouterr().out
    assert "class_names=None" in text and "Args:" in text


def test_unknown_model(capsys):
    assert main(["models", "unett"]) == 2
    assert "Did you mean 'unet'?" in capsys.readouterr().err


def test_telling_of_models_imports_neither_keras_nor_tensorflow():
    program = (
        "import sys; from tfzoo.cli import main; main(['models']); main(['models', 'unet']); main(['models', '--json']); "
        "assert not {'tensorflow', 'keras', 'jax'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
