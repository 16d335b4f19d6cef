"""Weights: files of ours, checkpoints in torchvision's layout, and published backbones."""

import hashlib
import types
import zipfile

import keras
import numpy as np
import pytest

import tfzoo
from tfzoo.backbones.mobilenet_v2 import mobilenet_v2_features
from tfzoo.errors import InputError, MissingInputError
from tfzoo.weights import imagenet, torchvision
from tfzoo.weights.backbone import backbone_layers


def test_a_keras_file_starts_another_training(small_unet, pictures):
    model, path = small_unet
    again = tfzoo.create_model("unet", weights=str(path), width_multiplier=0.125, depth=2)
    assert again.class_names == model.class_names
    np.testing.assert_array_equal(again.predict(pictures[0], verbose=0)["scores"], model.predict(pictures[0], verbose=0)["scores"])


def test_a_weights_file_starts_another_training(small_unet, pictures, tmp_path):
    model, _ = small_unet
    model.save_weights(tmp_path / "unet.weights.h5")
    again = tfzoo.create_model("unet", num_classes=5, weights=tmp_path / "unet.weights.h5", width_multiplier=0.125, depth=2)
    np.testing.assert_array_equal(again.predict(pictures[0], verbose=0)["scores"], model.predict(pictures[0], verbose=0)["scores"])


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("fcn8s_vgg16", {"num_classes": 5, "width_multiplier": 0.125}, r"holds the model 'unet' \(UNet\), not a FCN"),
        ("unet", {"num_classes": 4, "width_multiplier": 0.125, "depth": 2}, "was trained for 5 classes, not 4"),
        ("unet", {"num_classes": 5, "width_multiplier": 0.125, "depth": 3}, "was built with depth=2"),
    ],
)
def test_checkpoint_of_another_model_is_refused(small_unet, name, options, message):
    with pytest.raises(InputError, match=message):
        tfzoo.create_model(name, weights=str(small_unet[1]), **options)


def test_a_keras_file_brings_its_options_along(small_unet):
    again = tfzoo.create_model("unet", weights=str(small_unet[1]))
    assert again.get_config() == small_unet[0].get_config()


def test_fcn8s_is_no_fcn32s(tmp_path):
    tfzoo.create_model("fcn32s_vgg16", num_classes=2, width_multiplier=0.0625).save(tmp_path / "m.keras")
    with pytest.raises(InputError, match="not a FCN of stride 8"):
        tfzoo.create_model("fcn8s_vgg16", weights=str(tmp_path / "m.keras"))


def test_missing_and_foreign_files_are_refused(tmp_path):
    with pytest.raises(MissingInputError, match="There is no file"):
        tfzoo.load_model(tmp_path / "none.keras")
    (tmp_path / "broken.keras").write_bytes(b"PK\x03\x04 not really")
    with pytest.raises(InputError, match=r"is damaged, or no \.keras file"):
        tfzoo.load_model(tmp_path / "broken.keras")
    with zipfile.ZipFile(tmp_path / "other.keras", "w") as archive:
        archive.writestr("config.json", "{}")
    with pytest.raises(InputError, match="cannot be read as a Keras model"):
        tfzoo.load_model(tmp_path / "other.keras")
    keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]).save(tmp_path / "foreign.keras")
    with pytest.raises(InputError, match="not of this zoo"):
        tfzoo.load_model(tmp_path / "foreign.keras")


def test_truncated_checkpoint_is_refused(small_unet, tmp_path):
    (tmp_path / "half.keras").write_bytes(small_unet[1].read_bytes()[:5000])
    with pytest.raises(InputError, match=r"is damaged, or no \.keras file"):
        tfzoo.load_model(tmp_path / "half.keras")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("taught", "name", "options"),
    [
        ("fcn8s_vgg16", "segnet_vgg16", {"batch_norm": True}),
        ("fcn8s_vgg16", "ssd300_vgg16", {}),
        ("deeplabv3plus_mobilenetv2", "unet_mobilenetv2", {}),
        ("lraspp_mobilenet_v3_large", "fasterrcnn_mobilenet_v3_large_fpn", {}),
        ("deeplabv3_resnet50", "retinanet_resnet50_fpn", {}),
    ],
)
def test_a_backbone_serves_another_model(tmp_path, taught, name, options):
    path = tmp_path / "taught.keras"
    stored = tfzoo.create_model(taught, num_classes=2, width_multiplier=0.125, image_mean=(1.0, 2.0, 3.0), **options)
    for weight in stored.weights:
        weight.assign(np.random.default_rng(0).random(weight.shape))
    stored.save(path)
    model = tfzoo.create_model(name, num_classes=3, weights=f"backbone:{path}", width_multiplier=0.125)
    given, taken = backbone_layers(stored), backbone_layers(model)
    shared = given.keys() & taken.keys()
    assert len(shared) == len(taken.keys() - {"fc6", "fc7"}) and len(shared) >= 13  # VGG16's convolutions
    for layer in shared:
        for weights in zip(given[layer].get_weights(), taken[layer].get_weights(), strict=True):
            np.testing.assert_array_equal(*weights)
    assert model.image_mean == (1.0, 2.0, 3.0) and model.num_classes == 3


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("unet_mobilenetv2", {}, "holds the model 'segnet_vgg16', another backbone than 'unet_mobilenetv2's"),
        ("fcn8s_vgg16", {"width_multiplier": 0.125, "batch_norm": True}, "build it with the same options"),
        ("fcn8s_vgg16", {"width_multiplier": 0.0625}, "in layer 'block1_conv1'"),  # without norms, with biases
    ],
)
def test_another_backbone_is_refused(tmp_path, expect_sentence, name, options, message):
    path = tmp_path / "segnet.keras"
    tfzoo.create_model("segnet_vgg16", num_classes=2, width_multiplier=0.0625).save(path)
    expect_sentence(lambda: tfzoo.create_model(name, num_classes=2, weights=f"backbone:{path}", **options), message)


def test_a_backbones_model_must_be_there(tmp_path):
    with pytest.raises(MissingInputError, match="There is no file"):
        tfzoo.create_model("fcn8s_vgg16", num_classes=2, weights=f"backbone:{tmp_path / 'none.keras'}")


def test_vgg16_computes_what_keras_vgg16_computes():
    """On random weights: Keras's network on its own input (BGR minus mean), our fc7 at 224x224 without padding effects."""
    published = keras.applications.VGG16(weights=None)
    model = tfzoo.create_model("fcn8s_vgg16", num_classes=2, **imagenet.VGG16_TRANSFORM)
    imagenet.copy_vgg16(published, model)
    images = np.random.default_rng(0).integers(0, 256, (1, 224, 224, 3)).astype("float32")
    expected = keras.Model(published.input, published.get_layer("block5_pool").output)(
        keras.applications.vgg16.preprocess_input(images.copy())
    )
    ours = keras.Model(model.input, model.get_layer("block5_pool").output)(images)
    np.testing.assert_allclose(ours, expected, atol=1e-4 * np.abs(expected).max())
    # fc6 sees the whole 7x7 map at its centre, so the convolution answers there what the dense layer answers.
    fc7 = keras.Model(published.input, published.get_layer("fc2").output)(keras.applications.vgg16.preprocess_input(images.copy()))
    ours = keras.Model(model.input, model.get_layer("fc7_relu").output)(images)[:, 3, 3]
    np.testing.assert_allclose(ours, fc7, atol=1e-4 * np.abs(fc7).max())


def test_offline_imagenet_says_which_file_goes_where(monkeypatch, tmp_path):
    def refuse(**_):
        raise Exception("URL fetch failure")

    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setattr(keras.applications, "VGG16", refuse)
    with pytest.raises(MissingInputError, match=f"put Keras's file at {tmp_path}.*{imagenet.VGG16_FILE}"):
        tfzoo.create_model("deeplab_largefov_vgg16", num_classes=3, weights="imagenet")


def test_imagenet_needs_the_published_width():
    with pytest.raises(InputError, match="width_multiplier=1"):
        imagenet.copy_vgg16(None, tfzoo.create_model("fcn8s_vgg16", num_classes=3, width_multiplier=0.125))


@pytest.mark.parametrize(
    ("model_name", "names"),
    [
        ("deeplab_largefov_vgg16", ("block1_conv1", "block5_conv3")),
        ("ssd300_vgg16", ("backbone.features.0", "backbone.extra.0.5")),
    ],
)
def test_biases_of_vgg16_become_shifts_where_there_are_norms(model_name, names):
    model = tfzoo.create_model(model_name, num_classes=2, batch_norm=True)
    layers = []
    for index, (name, ours) in enumerate(zip(("block1_conv1", "block5_conv3"), names, strict=True)):
        kernel = model.get_layer(ours).kernel
        layer = keras.layers.Conv2D(kernel.shape[-1], 3, name=name)
        layer.build((None, None, None, kernel.shape[-2]))
        layer.set_weights([np.full(kernel.shape, index), np.full(kernel.shape[-1], index + 3)])
        layers.append(layer)
    imagenet.copy_vgg16(types.SimpleNamespace(layers=layers), model)
    for index, name in enumerate(names):
        np.testing.assert_array_equal(model.get_layer(name).kernel, np.full(model.get_layer(name).kernel.shape, index))
        np.testing.assert_array_equal(model.get_layer(f"{name}_bn").beta, np.full(model.get_layer(name).filters, index + 3))


def test_mobilenetv2_computes_what_keras_mobilenetv2_computes():
    published = keras.applications.MobileNetV2(weights=None, alpha=0.35, include_top=False, input_shape=(96, 96, 3))
    pixels = keras.Input((None, None, 3))
    ours = keras.Model(pixels, mobilenet_v2_features(pixels, width_multiplier=0.35))
    imagenet.copy_by_name(published, ours)
    images = np.random.default_rng(0).normal(size=(1, 96, 96, 3)).astype(np.float32)
    last = "block_16_project_BN"
    expected = np.asarray(keras.Model(published.input, published.get_layer(last).output)(images))
    np.testing.assert_allclose(ours(images)[last], expected, atol=1e-5 * np.abs(expected).max())


def test_mobilenetv2_is_published_for_some_widths_only():
    model = tfzoo.create_model("unet_mobilenetv2", num_classes=2, width_multiplier=0.25)
    with pytest.raises(InputError, match=r"width_multiplier=0.35 or .*width_multiplier=1 or .* and this model has 0.25"):
        imagenet.load_mobilenetv2(model)


# === Checkpoints in torchvision's layout ===

SMALL = {"width_multiplier": 0.125}  # no file is published for it, but its tensors bear the same names


@pytest.fixture
def write_checkpoint(tmp_path, monkeypatch):
    """A function that makes a ``.pth`` file of given tensors, as the reader would give them, and returns its path."""
    files = {}

    def write(tensors, name="model.pth"):
        path = tmp_path / name
        path.write_bytes(b"tensors")
        files[path] = tensors
        return path

    monkeypatch.setattr(torchvision, "read_tensors", lambda path: dict(files[path]))
    return write


def state_dict(model, seed=0):
    """Random arrays under torchvision's names, in its order of axes, as PyTorch saves them."""
    rng, tensors = np.random.default_rng(seed), {}
    for layer in model.layers:
        for variable in layer.weights:
            shape = variable.shape
            if isinstance(layer, keras.layers.BatchNormalization):
                name = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}[
                    variable.name
                ]
                tensors[f"{layer.name}.num_batches_tracked"] = np.array(7)
            elif variable.name == "bias":
                name = "bias"
            elif isinstance(layer, keras.layers.DepthwiseConv2D):
                name, shape = "weight", (shape[2], shape[3], shape[0], shape[1])
            else:
                name, shape = "weight", (shape[3], shape[2], shape[0], shape[1])
            tensors[f"{layer.name}.{name}"] = rng.uniform(0.1, 1, shape).astype(np.float32)
    return tensors


def small(name, classes=21, **options):
    return tfzoo.create_model(name, num_classes=classes, **SMALL, **options)


@pytest.fixture(scope="module")
def fcn_tensors():
    return state_dict(small("fcn_resnet50", aux_loss=True))


def test_arrays_find_their_layers_and_axes(write_checkpoint):
    tensors = state_dict(small("lraspp_mobilenet_v3_large"))
    model = tfzoo.create_model("lraspp_mobilenet_v3_large", weights=write_checkpoint(tensors), **SMALL)
    kernel, _ = model.get_layer("classifier.low_classifier").get_weights()
    np.testing.assert_array_equal(kernel[0, 0, 3, 20], tensors["classifier.low_classifier.weight"][20, 3, 0, 0])
    (kernel,) = model.get_layer("backbone.4.block.1.0").get_weights()
    np.testing.assert_array_equal(kernel[1, 4, 5, 0], tensors["backbone.4.block.1.0.weight"][5, 0, 1, 4])
    (kernel,) = model.get_layer("backbone.0.0").get_weights()
    np.testing.assert_array_equal(kernel[0, 2, 1, 6], tensors["backbone.0.0.weight"][6, 1, 0, 2])
    norm = model.get_layer("classifier.cbr.1")
    for ours, theirs in (
        ("gamma", "weight"),
        ("beta", "bias"),
        ("moving_mean", "running_mean"),
        ("moving_variance", "running_var"),
    ):
        np.testing.assert_array_equal(getattr(norm, ours), tensors[f"classifier.cbr.1.{theirs}"])


def test_a_whole_checkpoint_brings_its_classes_and_its_auxiliary_head(write_checkpoint, fcn_tensors):
    model = tfzoo.create_model("fcn_resnet50", weights=write_checkpoint(fcn_tensors), **SMALL)
    assert model.class_names[:2] == ["__background__", "aeroplane"] and model.class_names[-1] == "tvmonitor"
    assert model.num_classes == 21 and model.options["aux_loss"] is True
    without = {key: array for key, array in fcn_tensors.items() if not key.startswith("aux_classifier.")}
    model = tfzoo.create_model("fcn_resnet50", weights=write_checkpoint(without, "without.pth"), **SMALL)
    assert model.options["aux_loss"] is False
    model = tfzoo.create_model("fcn_resnet50", weights=write_checkpoint(fcn_tensors), aux_loss=False, **SMALL)
    assert model.options["aux_loss"] is False


def test_a_checkpoint_of_other_classes_brings_their_number(write_checkpoint):
    path = write_checkpoint(state_dict(small("fcn_resnet50", classes=4)))
    model = tfzoo.create_model("fcn_resnet50", weights=path, **SMALL)
    assert model.class_names == ["class_0", "class_1", "class_2", "class_3"]


@pytest.mark.parametrize("classes", [{"num_classes": 3}, {"class_names": list("abc")}, {"num_classes": 21}])
def test_where_classes_are_given_their_layers_start_anew(write_checkpoint, fcn_tensors, classes, capsys):
    model = tfzoo.create_model("fcn_resnet50", weights=write_checkpoint(fcn_tensors), **classes, **SMALL)
    assert capsys.readouterr().out.splitlines() == [
        f"model.pth: classifier.4, aux_classifier.4 start anew, for {model.num_classes} classes."
    ]
    for name in ("classifier", "aux_classifier"):
        assert not np.any(model.get_layer(f"{name}.4").bias)
        np.testing.assert_array_equal(model.get_layer(f"{name}.1").gamma, fcn_tensors[f"{name}.1.weight"])


def test_an_auxiliary_head_that_the_file_lacks_starts_anew(write_checkpoint, fcn_tensors, capsys):
    without = {key: array for key, array in fcn_tensors.items() if not key.startswith("aux_classifier.")}
    model = tfzoo.create_model("fcn_resnet50", weights=write_checkpoint(without), aux_loss=True, **SMALL)
    assert capsys.readouterr().out == "model.pth: aux_classifier start anew, for 21 classes.\n"
    np.testing.assert_array_equal(model.get_layer("classifier.4").bias, fcn_tensors["classifier.4.bias"])


def test_counters_of_batches_may_be_missing(write_checkpoint, fcn_tensors):
    without = {key: array for key, array in fcn_tensors.items() if not key.endswith("num_batches_tracked")}
    assert len(without) < len(fcn_tensors)
    model = tfzoo.create_model("fcn_resnet50", weights=write_checkpoint(without), **SMALL)
    np.testing.assert_array_equal(model.get_layer("classifier.4").bias, fcn_tensors["classifier.4.bias"])


def removed(tensors):
    del tensors["backbone.layer4.1.conv2.weight"], tensors["classifier.4.weight"]


def added(tensors):
    tensors |= {f"backbone.layer5.{i}.conv1.weight": np.zeros(1) for i in range(5)}


def turned(tensors):
    tensors["classifier.4.weight"] = tensors["classifier.4.weight"].transpose(1, 0, 2, 3)


@pytest.mark.parametrize(
    ("spoil", "parts"),
    [
        (removed, ("lacks backbone.layer4.1.conv2.weight, classifier.4.weight",)),
        (added, ("has what the model has not, backbone.layer5.0.conv1.weight", "and 2 more")),
        (turned, ("has classifier.4.weight as [64, 21, 1, 1] instead of [21, 64, 1, 1]",)),
    ],
)
def test_tensors_that_do_not_fit_are_named(write_checkpoint, fcn_tensors, spoil, parts, expect_sentence):
    tensors = dict(fcn_tensors)
    spoil(tensors)
    path = write_checkpoint(tensors)
    expect_sentence(
        lambda: tfzoo.create_model("fcn_resnet50", weights=path, **SMALL), path, "does not fit model 'fcn_resnet50'", *parts
    )


def test_a_checkpoint_of_another_model_is_told(write_checkpoint, fcn_tensors, expect_sentence):
    path = write_checkpoint(fcn_tensors)
    expect_sentence(lambda: tfzoo.create_model("deeplabv3_resnet50", weights=path, **SMALL), "lacks classifier.0.convs.")
    expect_sentence(lambda: tfzoo.create_model("fcn_resnet101", weights=path, **SMALL), "lacks backbone.layer3.6.conv1.weight")
    expect_sentence(lambda: tfzoo.create_model("fcn_resnet50", weights=path), "as [8, 3, 7, 7] instead of [64, 3, 7, 7]")
    expect_sentence(lambda: tfzoo.create_model("unet", num_classes=2, weights=path, depth=2, **SMALL), "does not fit model 'unet'")


def test_a_missing_checkpoint_is_told(tmp_path, expect_sentence):
    expect_sentence(lambda: tfzoo.create_model("fcn_resnet50", weights=tmp_path / "no.pth"), tmp_path / "no.pth", missing=True)


@pytest.mark.parametrize("name", ["deeplabv3_resnet50", "deeplabv3_mobilenet_v3_large"])
def test_a_backbones_file_fills_the_backbone(write_checkpoint, name):
    whole = state_dict(small(name))
    prefix = "features." if "mobilenet" in name else ""
    tensors = {key.replace("backbone.", prefix): array for key, array in whole.items() if key.startswith("backbone.")}
    tensors |= (
        {"fc.weight": np.zeros((1000, 256)), "fc.bias": np.zeros(1000)} if not prefix else {"classifier.3.weight": np.zeros(9)}
    )
    path = write_checkpoint(tensors)
    model = tfzoo.create_model(name, num_classes=5, weights=path, **SMALL)
    for key, slot in torchvision.expected(model).items():
        if key.startswith("backbone."):
            np.testing.assert_array_equal(slot.variable, whole[key].transpose(slot.axes))
    with pytest.raises(InputError, match="needs to know its classes"):
        tfzoo.create_model(name, weights=path, **SMALL)


def test_ssdlite_cuts_its_backbone_in_two(write_checkpoint):
    """The same file as DeepLab's: where the backbone is cut, a block's parts lie in two modules."""
    whole = state_dict(small("deeplabv3_mobilenet_v3_large"))
    keys = [key.removeprefix("backbone.") for key in whole if key.startswith("backbone.") and "num_batches" not in key]
    path = write_checkpoint({f"features.{key}": whole[f"backbone.{key}"] for key in keys})
    model = tfzoo.create_model("ssdlite320_mobilenet_v3_large", num_classes=2, weights=path, **SMALL)
    variables = torchvision.expected(model)
    assert "backbone.features.0.13.0.weight" in variables and model.options["reduced_tail"] is False
    for key in keys:
        slot = variables[type(model).backbone_key(key)]
        np.testing.assert_array_equal(slot.variable, whole[f"backbone.{key}"].transpose(slot.axes))


@pytest.mark.parametrize("given", [{}, {"class_names": ["disc", "square"]}])
def test_columns_of_a_checkpoint_of_ssdlite_begin_with_the_background(write_checkpoint, given):
    form = {"width_multiplier": 0.25}
    stored = tfzoo.create_model("ssdlite320_mobilenet_v3_large", num_classes=4, **form)
    tensors = state_dict(stored)
    path = write_checkpoint(tensors)
    model = tfzoo.create_model("ssdlite320_mobilenet_v3_large", weights=path, **form, **given)
    names = ["__background__", "class_1", "class_2", "class_3", "class_4"]
    assert list(model.class_names) == given.get("class_names", names)
    assert model.output["cls_logits"].shape[-1] == (3 if given else 5)


# === Published files ===


def published(monkeypatch, tmp_path, content):
    """Lets ``keras.utils.get_file`` find a file of this content, as a download would, and returns where."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))

    def get_file(name, origin, cache_dir, cache_subdir):
        assert origin == f"https://download.pytorch.org/models/{name}"
        path = tmp_path / "models" / name
        assert path.parent == (tmp_path.__class__(cache_dir) / cache_subdir)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        return str(path)

    monkeypatch.setattr(keras.utils, "get_file", get_file)


def test_a_published_file_is_checked_by_its_digest(monkeypatch, tmp_path, expect_sentence):
    published(monkeypatch, tmp_path, b"weights")
    digest = hashlib.sha256(b"weights").hexdigest()
    assert torchvision.fetch(f"net-{digest[:8]}.pth") == tmp_path / "models" / f"net-{digest[:8]}.pth"
    sentence = expect_sentence(
        lambda: tfzoo.create_model("fcn_resnet50", weights="voc"), "fcn_resnet50_coco-1167a1af.pth", "delete it"
    )
    assert f"begins with {digest[:8]}, not 1167a1af" in sentence


@pytest.mark.parametrize(
    ("name", "weights", "file_name"),
    [
        ("fcn_resnet101", "voc", "fcn_resnet101_coco-7ecb50ca.pth"),
        ("deeplabv3_resnet50", "voc", "deeplabv3_resnet50_coco-cd0a2569.pth"),
        ("lraspp_mobilenet_v3_large", "voc", "lraspp_mobilenet_v3_large-d234d4ea.pth"),
        ("fcn_resnet50", "imagenet", "resnet50-0676ba61.pth"),
        ("pspnet_resnet50", "imagenet", "resnet50-0676ba61.pth"),
        ("deeplabv3_mobilenet_v3_large", "imagenet", "mobilenet_v3_large-8738ca79.pth"),
    ],
)
def test_offline_the_sentence_says_which_file_goes_where(monkeypatch, tmp_path, expect_sentence, name, weights, file_name):
    def refuse(*_, **__):
        raise Exception("URL fetch failure")

    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setattr(keras.utils, "get_file", refuse)
    place = tmp_path / "models" / file_name
    expect_sentence(
        lambda: tfzoo.create_model(name, num_classes=3, weights=weights),
        f"https://download.pytorch.org/models/{file_name} could not be downloaded",
        f"put this file at {place}",
        missing=True,
    )


def test_every_published_name_has_its_file():
    from tfzoo.zoo import MODELS

    assert {name for name, entry in MODELS.items() if {"voc", "coco"} & {*entry.weights}} == set(torchvision.PUBLISHED)
