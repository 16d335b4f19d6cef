"""``trainable_backbone_layers``: which of a backbone's stages learn."""

import keras
import pytest

import tfzoo

# Modules with frozen weights for 0, 1, 2, ... stages that learn, as torchvision 0.29 freezes them (its norms' statistics apart).
TORCHVISION = {
    "ssd300_vgg16": [13, 10, 7, 4, 2, 0],
    "ssdlite320_mobilenet_v3_large": [108, 106, 82, 42, 18, 6, 0],
    "retinanet_resnet50_fpn": [106, 86, 48, 22, 2, 0],
    "fasterrcnn_mobilenet_v3_large_fpn": [108, 106, 82, 42, 18, 6, 0],
}


def frozen(name, trainable):
    model = tfzoo.create_model(name, num_classes=3, width_multiplier=0.25, trainable_backbone_layers=trainable)
    return [layer.name for layer in model.layers if layer.weights and not layer.trainable]


@pytest.mark.parametrize(
    ("name", "trainable"), [(name, count) for name, counts in TORCHVISION.items() for count in (0, 2, len(counts) - 2)]
)
def test_as_many_layers_are_frozen_as_in_torchvision(name, trainable):
    names = frozen(name, trainable)
    assert len(names) == TORCHVISION[name][trainable] and all(name.startswith("backbone.") for name in names)


def test_the_first_block_of_vgg16_is_told_from_those_whose_names_begin_alike():
    assert frozen("ssd300_vgg16", 4) == ["backbone.features.0", "backbone.features.2"]


@pytest.mark.parametrize(
    ("name", "stages", "stem"),
    [
        ("ssdlite320_mobilenetv2", 5, {"Conv1", "bn_Conv1", "expanded_conv_depthwise", "expanded_conv_project_BN"}),
        ("fasterrcnn_vgg16", 5, {"block1_conv1", "block1_conv2"}),
    ],
)
def test_backbones_with_names_of_keras(name, stages, stem):
    assert stem <= set(frozen(name, stages - 1)) and frozen(name, None) == frozen(name, stages) == []
    assert not any(name.startswith(("backbone.extra", "head", "roi_heads", "rpn")) for name in frozen(name, 0))


def test_frozen_weights_stay_and_the_option_is_kept(pictures, tmp_path):
    from tfzoo.data import load_dataset

    model = tfzoo.create_model("ssd300_vgg16", num_classes=4, width_multiplier=0.125, batch_norm=True, trainable_backbone_layers=3)
    model.save(tmp_path / "m.keras")
    model = tfzoo.load_model(tmp_path / "m.keras")
    model.compile(keras.optimizers.SGD(0.01))
    images, targets = next(iter(load_dataset("shapes:64x96", "train", "detection").batches(2, (64, 96))))
    before = {layer.name: layer.get_weights() for layer in model.layers if layer.weights}
    model.fit(images, targets, verbose=0)
    moved = {
        name
        for name, values in before.items()
        if any((a != b).any() for a, b in zip(values, model.get_layer(name).get_weights(), strict=True))
    }
    still = {f"backbone.features.{index}{norm}" for index in (0, 2, 5, 7) for norm in ("", "_bn")}
    assert not moved & still and {"backbone.features.10", "backbone.features.10_bn", "backbone.extra.0.7.1"} <= moved
