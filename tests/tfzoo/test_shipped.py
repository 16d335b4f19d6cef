"""Weights that come with the package: half precision, a card, and the same answers."""

import json

import keras
import numpy as np
import pytest

import tfzoo
from tfzoo import facts
from tfzoo.errors import InputError
from tfzoo.weights import shipped
from tfzoo.zoo import find_entry

NAME = "retinanet_mobilenetv2_fpn"
CARD = {"data": "shapes", "licence": "Apache-2.0", "command": "none", "metrics": {"AP": 0.0}}


@pytest.fixture
def trained(tmp_path):
    keras.utils.set_random_seed(0)
    options = {"class_names": ["disc", "square"], "image_size": (96, 128), "score_thresh": 0.001}
    model = tfzoo.create_model(NAME, width_multiplier=0.125, **options)
    model.save(tmp_path / "best.keras")
    return model


def packed(tmp_path):
    shipped.pack(tmp_path / "best.keras", NAME, "tiny", CARD, tmp_path)
    return shipped.Shipped(NAME, "tiny", tmp_path)


def build(source, **options):
    model = tfzoo.create_model(NAME, class_names=source.class_names, **{**source.options, **options})
    source.load(model, new_head=False)
    return model


def test_half_the_size_and_nearly_the_same_answers(trained, tmp_path):
    source = packed(tmp_path)
    assert shipped.is_shipped(NAME, "tiny", tmp_path) and not shipped.is_shipped(NAME, "other", tmp_path)
    assert source.path.stat().st_size < 2.2 * trained.count_params()
    model = build(source)
    assert model.get_config() == {**trained.get_config(), "name": model.name}
    for ours, theirs in zip(model.get_weights(), trained.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=2.0**-11, atol=1e-7)


@pytest.mark.parametrize(("array", "largest"), [("moving_variance", 1.0), ("gamma", 1e9)])
def test_numbers_that_half_precision_cannot_hold_stay_as_they_are(trained, array, largest, tmp_path):
    norm = next(layer for layer in trained.layers if isinstance(layer, keras.layers.BatchNormalization))
    variable = getattr(norm, array)
    variable.assign(np.geomspace(1e-9, largest, variable.shape[0]))
    trained.save(tmp_path / "best.keras")
    loaded = build(packed(tmp_path)).get_layer(norm.name)
    np.testing.assert_array_equal(getattr(loaded, array), variable)


def test_what_does_not_fit_is_told(trained, tmp_path):
    source = packed(tmp_path)
    with pytest.raises(InputError, match="know the classes disc, square only"):
        source.load(tfzoo.create_model(NAME, num_classes=2, **source.options), new_head=True)
    with pytest.raises(InputError, match="do not fit these options"):
        source.load(tfzoo.create_model("fcos_resnet50_fpn", class_names=source.class_names, width_multiplier=0.125), False)
    with pytest.raises(InputError, match="do not fit these options"):
        build(source, width_multiplier=0.25)
    with pytest.raises(InputError, match="lacks licence, metrics"):
        shipped.pack(tmp_path / "best.keras", NAME, "tiny", {"data": "shapes", "command": "none"}, tmp_path)
    source.path.write_bytes(source.path.read_bytes()[:-1])
    with pytest.raises(InputError, match="is not what the package came with"):
        build(source)


SETS = sorted(path.stem for path in shipped.FOLDER.glob("*.json"))


def test_the_table_names_what_is_there():
    named = {f"{name}-{weights}" for name in tfzoo.list_models() for weights in find_entry(name).weights}
    assert (
        set(SETS)
        == {stem for stem in named if shipped.is_shipped(*stem.rsplit("-", 1))}
        == {stem for stem in named if stem.rsplit("-", 1)[1] not in ("imagenet", "voc", "coco")}
    )


@pytest.mark.parametrize("stem", SETS)
def test_each_set_loads_and_has_a_card(stem):
    name, weights = stem.rsplit("-", 1)
    model = tfzoo.create_model(name, weights=weights)
    assert len(model.class_names) == model.num_classes and model.image_size
    assert all(json.loads((shipped.FOLDER / f"{stem}.json").read_text())["card"][key] for key in shipped.CARD)
    assert shipped.read_cards(name)[weights]["metrics"] and "licence" in facts.format_details(name)
    assert (shipped.FOLDER / f"{stem}.npz").stat().st_size <= 8_000_000
    assert all(np.isfinite(weight).all() for weight in model.get_weights())
