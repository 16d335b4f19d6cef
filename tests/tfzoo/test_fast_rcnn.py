"""Fast R-CNN: Faster R-CNN's second stage, on proposals from elsewhere."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest
from fast_cases import answer_of, decide, faster_alike, jittered, scattered, small
from two_stage_cases import drawn

import tfzoo
from tfzoo import facts
from tfzoo.data.boxes import scale_boxes
from tfzoo.metrics.coco import CocoEvaluator
from tfzoo.models.fast_rcnn import FastRCNN
from tfzoo.weights import torchvision
from tfzoo.zoo import find_entry

SIZE = (96, 128)


@pytest.fixture(scope="module")
def batch():
    """Two drawn pictures of 96x128 with proposals, and their targets."""
    images, targets = drawn()
    targets = {name: targets[name] for name in ("boxes", "labels")}
    return {"images": images, "proposals": jittered(targets, SIZE, 50)}, targets


@pytest.fixture(scope="module")
def model(batch):
    keras.utils.set_random_seed(1)
    return decide(small(box_score_thresh=0.02, box_detections_per_img=30), batch[0])


@pytest.mark.parametrize("options", [pytest.param({}, marks=pytest.mark.slow), {"min_size": 120, "max_size": 150}])
def test_on_faster_rcnns_proposals_it_answers_what_faster_rcnn_does(model, batch, options):
    """Resized, boxes go there and back in float32, which moves them by some 1e-5 pixels."""
    images = batch[0]["images"]
    if options:
        settings = {"box_score_thresh": 0.02, "box_detections_per_img": 30}
        other, model = model, small(**settings, **options)
        model.set_weights(other.get_weights())
    faster = faster_alike(model, rpn_post_nms_top_n_test=40)
    first_stage = answer_of(faster, images, raw=True)
    resized, _ = faster.input_sizes(SIZE)
    assert (resized == SIZE) == (not options)
    proposals = scale_boxes(first_stage["proposals"], resized, SIZE)
    given = {"images": images, "proposals": proposals}
    raw = answer_of(model, given, raw=True)
    assert set(raw) == {"regions", "class_logits", "box_regression"}
    for name, found in raw.items():
        wanted = first_stage["proposals" if name == "regions" else name]
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)
    theirs, ours = answer_of(faster, images), answer_of(model, given)
    assert theirs["num_detections"].min() > 3
    np.testing.assert_array_equal(ours["labels"], theirs["labels"])
    np.testing.assert_allclose(ours["scores"], theirs["scores"], atol=1e-5)
    np.testing.assert_allclose(ours["boxes"], theirs["boxes"], atol=1e-3)


def test_free_places_and_the_order_change_nothing(model, batch):
    given = batch[0]
    plain = model.predict(given, verbose=0)
    assert plain["num_detections"].min() > 3
    nothing = np.array([[0, 0, 0, 0], [30, 30, 30, 60], [200, 200, 300, 300]], np.float32)  # beside the picture, too
    more = np.concatenate([np.broadcast_to(nothing, (2, 3, 4)), given["proposals"][:, ::-1]], axis=1)
    other = model.predict({**given, "proposals": more}, verbose=0)
    for name, values in plain.items():
        np.testing.assert_allclose(other[name], values, atol=1e-3)
    empty = model.predict({**given, "proposals": np.zeros((2, 5, 4), np.float32)}, verbose=0)
    assert not empty["num_detections"].any() and (empty["labels"] == -1).all()


def test_what_is_no_input_is_told(model, batch, expect_sentence):
    images, proposals = batch[0]["images"], batch[0]["proposals"]
    expect_sentence(lambda: model.predict(images), "fastrcnn_small", '"images" and "proposals"')
    expect_sentence(lambda: model.predict({"images": images}), '"images" and "proposals"')
    expect_sentence(lambda: model.predict({"images": images, "proposals": proposals[:1]}), "[2, places, 4]", "(1, 50, 4)")
    expect_sentence(lambda: model.predict({"images": images[:, :20], "proposals": proposals}), "at least 32x32")


def test_it_has_no_options_of_a_first_stage(expect_sentence):
    names = facts.default_options(find_entry("fastrcnn_resnet50_fpn"))
    assert "box_score_thresh" in names and not any(name.startswith("rpn") for name in names)
    expect_sentence(
        lambda: tfzoo.create_model("fastrcnn_resnet50_fpn", num_classes=2, rpn_nms_thresh=0.5), "no option 'rpn_nms_thresh'"
    )


def test_learns_and_is_saved(batch, tmp_path):
    """In bfloat16, with nothing in one of the pictures; validation draws the same sample each time."""
    inputs, targets = batch
    model = small(classes=3, class_names=["disc", "square", "triangle"], dtype="mixed_bfloat16")
    model.compile(keras.optimizers.Adam(1e-3), run_eagerly=True)
    empty = {"boxes": targets["boxes"], "labels": np.stack([targets["labels"][0], np.full_like(targets["labels"][1], -1)])}
    found = model.train_on_batch({**inputs, "proposals": inputs["proposals"] * [[[1]], [[0]]]}, empty, return_dict=True)
    assert np.isfinite(list(found.values())).all() and set(found) == {"loss", "foreground", "classification", "box"}
    assert model.loss_names == ("classification", "box")
    first, second = (model.test_on_batch(inputs, targets, return_dict=True) for _ in range(2))
    assert first == second and first["foreground"] > 1
    model.save(tmp_path / "model.keras")
    loaded = tfzoo.load_model(tmp_path / "model.keras")
    assert isinstance(loaded, FastRCNN) and loaded.class_names == ["disc", "square", "triangle"]
    np.testing.assert_array_equal(*(answer_of(net, inputs, raw=True)["class_logits"] for net in (model, loaded)))


# === torchvision's checkpoint ===


def tensors_of(model):
    """The arrays of a checkpoint in torchvision's layout."""
    rng = np.random.default_rng(0)
    return {key: rng.normal(size=slot.their_shape).astype(np.float32) for key, slot in torchvision.expected(model).items()}


@pytest.fixture(scope="module")
def of_three_columns():
    return small(class_names=["__background__", "a", "b"])


@pytest.fixture
def checkpoint(of_three_columns, monkeypatch, tmp_path):
    """A Faster R-CNN's, of the small form and 3 columns, as the reader would give it."""
    tensors = tensors_of(of_three_columns)
    rpn = {"conv.0.0": (32, 32, 3, 3), "cls_logits": (3, 32, 1, 1), "bbox_pred": (12, 32, 1, 1)}
    for layer, shape in rpn.items():
        tensors |= {f"rpn.head.{layer}.weight": np.zeros(shape), f"rpn.head.{layer}.bias": np.zeros(shape[0])}
    monkeypatch.setattr(torchvision, "read_tensors", lambda path: dict(tensors))
    source = torchvision.Checkpoint(tmp_path / "faster.pth", find_entry("fastrcnn_resnet50_fpn"))
    return source, tensors


def test_a_faster_rcnns_checkpoint_loads_without_its_first_stage(checkpoint, of_three_columns):
    (source, tensors), model = checkpoint, of_three_columns
    assert source.num_classes == 3 and source.class_names[0] == "__background__"
    source.load(model, new_head=False)
    layer = next(layer for layer in model.box_stage.layers if layer.name.endswith("cls_score"))
    np.testing.assert_array_equal(layer.kernel, tensors["roi_heads.box_predictor.cls_score.weight"].T)


@pytest.mark.parametrize(
    ("spoil", "part"),
    [
        (
            lambda tensors: tensors.update({"roi_heads.mask_head.0.0.weight": np.zeros(3)}),
            "has what the model has not, roi_heads.mask",
        ),
        (lambda tensors: tensors.pop("backbone.fpn.layer_blocks.0.0.bias"), "lacks backbone.fpn.layer_blocks.0.0.bias"),
    ],
)
def test_anything_else_is_refused_by_name(checkpoint, of_three_columns, spoil, part, expect_sentence):
    source, _ = checkpoint
    spoil(source.tensors)
    expect_sentence(lambda: source.load(of_three_columns, new_head=False), part)


def test_published_weights_are_faster_rcnns():
    entry = find_entry("fastrcnn_resnet50_fpn")
    assert entry.weights == ("coco", "imagenet")
    assert torchvision.PUBLISHED["fastrcnn_resnet50_fpn"] == torchvision.PUBLISHED["fasterrcnn_resnet50_fpn"]
    brought = entry.build_class().checkpoint_options(entry.options, whole=True)
    assert brought == find_entry("fasterrcnn_resnet50_fpn").build_class().checkpoint_options(entry.options, whole=True)


# === Slow ===


@pytest.mark.slow
@pytest.mark.parametrize("backbone", ["mobilenetv2", "resnet50"])
def test_overfits_two_pictures(batch, backbone):
    keras.utils.set_random_seed(0)
    inputs, targets = batch
    model = small(backbone=backbone, width_multiplier=0.25)
    for layer in model.named_layers():
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = min(layer.momentum, 0.9)
    steps = 300
    model.compile(keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(2e-3, steps), clipnorm=5.0))
    history = model.fit(inputs, targets, batch_size=2, epochs=steps, verbose=0).history
    assert all(history[loss][-1] < 0.5 * history[loss][0] for loss in model.loss_names)
    evaluator, answer = CocoEvaluator(model.class_names), model.predict(inputs, verbose=0)
    for index in range(2):
        real = targets["labels"][index] >= 0
        truth = {key: targets[key][index][real] for key in ("boxes", "labels")}
        evaluator.add(truth | {"size": SIZE}, {key: values[index] for key, values in answer.items()})
    assert evaluator.result()["AP50"] == pytest.approx(1.0)


LOSS_PROGRAM = """
import sys
import numpy as np
sys.path.insert(0, sys.argv[2])
from fast_cases import small

model = small(box_score_thresh=0.02, box_detections_per_img=30)
model.load_weights(sys.argv[1] + "/weights.weights.h5")
model.compile("sgd")
stored = dict(np.load(sys.argv[1] + "/batch.npz"))
inputs = {name: stored.pop(name) for name in ("images", "proposals")}
found = model.test_on_batch(inputs, stored, return_dict=True)
answer = model.predict(inputs)
np.savez(sys.argv[1] + "/answer.npz", **answer, **{name: found[name] for name in model.loss_names})
model.train_on_batch(inputs, stored)
"""


@pytest.mark.slow
def test_jax_gives_the_same(model, batch, tmp_path):
    pytest.importorskip("jax")
    inputs, targets = batch
    model.compile("sgd")
    found = model.test_on_batch(inputs, targets, return_dict=True)
    model.save_weights(tmp_path / "weights.weights.h5")
    np.savez(tmp_path / "batch.npz", **inputs, **targets)
    program = [sys.executable, "-c", LOSS_PROGRAM, str(tmp_path), os.path.dirname(os.path.dirname(__file__))]
    ran = subprocess.run(program, env={**os.environ, "KERAS_BACKEND": "jax"}, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr[-2000:]
    theirs = dict(np.load(tmp_path / "answer.npz"))
    for name in model.loss_names:
        assert float(theirs.pop(name)) == pytest.approx(found[name], rel=1e-4)
    answer = model.predict(inputs, verbose=0)
    np.testing.assert_array_equal(theirs["labels"], answer["labels"])
    np.testing.assert_allclose(theirs["boxes"], answer["boxes"], atol=1e-2)


@pytest.mark.slow
def test_any_number_of_proposals_and_any_size(model):
    for size, count in (((77, 91), 1), ((33, 64), 13)):
        inputs = {"images": np.zeros((1, *size, 3), np.uint8), "proposals": scattered((1, count), size)}
        answer = model.predict(inputs, verbose=0)
        limits = np.array([size[1], size[0]] * 2) + 1e-3
        assert answer["boxes"].shape == (1, 30, 4) and (answer["boxes"] <= limits).all()
