"""The same questions for every two-stage detector."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest
from two_stage_cases import NAMES, drawn, small, two_stage

import tfzoo
from tfzoo.errors import InputError
from tfzoo.metrics.coco import CocoEvaluator
from tfzoo.models.two_stage import TwoStageDetector
from tfzoo.zoo import MODELS

each = two_stage({"maskrcnn_mobilenetv2_fpn", "fasterrcnn_vgg16"})
ADDED = {  # to the answer, for D detections
    "mask": {"masks": (28, 28)},
    "keypoint": {"keypoints": (5, 3), "keypoint_scores": (5,)},
}


def test_every_two_stage_detector_is_asked():
    found = {name for name, entry in MODELS.items() if issubclass(entry.build_class(), TwoStageDetector)}
    assert set(NAMES) == found


@pytest.fixture(scope="module")
def pictures():
    """Two drawn pictures of 96x128 and their targets."""
    return drawn()


@each
def test_answers_in_fixed_places(name, pictures):
    """New models score alike everywhere: a low threshold lets all places be taken, and a high one none."""
    model = small(name, box_detections_per_img=7, box_score_thresh=1e-4)
    full = model.predict(pictures[0], verbose=0)
    model.box_score_thresh = 1.0
    empty = model.predict(pictures[0], verbose=0)
    shapes = {"boxes": (4,), "scores": (), "labels": ()}
    for branch in model.branches:
        shapes |= ADDED[branch.name]
    for answer in (full, empty):
        assert {key: value.shape for key, value in answer.items()} == {
            "num_detections": (2,),
            **{key: (2, 7, *shape) for key, shape in shapes.items()},
        }
        kinds = {key: keras.backend.standardize_dtype(value.dtype) for key, value in answer.items()}
        assert kinds == {key: "int32" if key in ("labels", "num_detections") else "float32" for key in answer}
    assert (full["num_detections"] == 7).all() and (np.diff(full["scores"]) <= 0).all() and (full["scores"] > 1e-4).all()
    assert set(full["labels"].ravel()) <= {0, 1, 2}
    assert (full["boxes"] >= 0).all() and (full["boxes"] <= np.array([128, 96, 128, 96]) + 1e-3).all()
    assert np.all(np.asarray(empty["labels"]) == -1)
    assert not any(np.any(value) for key, value in empty.items() if key != "labels")


@each
def test_the_first_stage(name, pictures):
    model = small(name)
    heads = model(pictures[0].astype("float32"))
    anchors = heads["objectness"].shape[1]
    assert heads["pred_bbox_deltas"].shape == (2, anchors, 4)
    assert model.pyramid(**model.options).grid((96, 128))[0].shape == (anchors, 4)
    assert heads["proposals"].shape == (2, 60, 4)
    raw = model.deployed(raw=True).predict(pictures[0], verbose=0)
    assert set(raw) == {"objectness", "pred_bbox_deltas", "proposals", "class_logits", "box_regression"}
    np.testing.assert_allclose(raw["objectness"], heads["objectness"], rtol=1e-4, atol=1e-5)
    assert raw["class_logits"].shape == (2, 60, 4) and raw["box_regression"].shape == (2, 60, 4, 4)


@each
def test_saves_and_loads(name, pictures, tmp_path):
    model = small(name, classes=2, class_names=["disc", "square"], image_size=(96, 128), box_score_thresh=0.001)
    model.save(tmp_path / "model.keras")
    loaded = tfzoo.load_model(tmp_path / "model.keras")
    assert loaded.class_names == ["disc", "square"] and loaded.image_size == (96, 128) and loaded.box_score_thresh == 0.001
    for key, value in model.predict(pictures[0], verbose=0).items():
        np.testing.assert_array_equal(loaded.predict(pictures[0], verbose=0)[key], value)


def changed(targets, boxes, labels):
    """The first picture's targets with other boxes."""
    count = len(labels)
    masks = np.zeros((1, count, *targets["masks"].shape[2:]), np.uint8)
    points = np.zeros((1, count, *targets["keypoints"].shape[2:]), np.float32)
    boxes = np.array(boxes, np.float32).reshape(1, count, 4)
    return {"boxes": boxes, "labels": np.array([labels], np.int32), "masks": masks, "keypoints": points}


HARD_TARGETS = {
    "no box": ([(0, 0, 0, 0)], [-1]),
    "padding alone": ([(0, 0, 0, 0)] * 5, [-1] * 5),
    "no area": ([(20, 20, 20, 60), (5, 5, 50, 5)], [0, 1]),
    "outside": ([(-40, -30, -5, -2), (500, 600, 700, 900)], [0, 1]),
    "200 boxes": ([(i % 20 * 5, i // 20 * 8, i % 20 * 5 + 9, i // 20 * 8 + 12) for i in range(200)], [i % 3 for i in range(200)]),
}


@each
def test_losses_are_finite_whatever_the_boxes(name, pictures):
    model = small(name)
    model.compile(keras.optimizers.Adam(1e-3, clipnorm=1.0), run_eagerly=True)  # each case has shapes of its own
    for case, hard in HARD_TARGETS.items():
        found = model.train_on_batch(pictures[0][:1], changed(pictures[1], *hard), return_dict=True)
        assert np.isfinite(list(found.values())).all(), case
        assert all(np.isfinite(weight).all() for weight in model.get_weights()), case


@each
def test_trains_in_mixed_precision(name, pictures):
    model = small(name, dtype="mixed_bfloat16")
    model.compile(keras.optimizers.Adam(1e-3), run_eagerly=True)
    found = model.train_on_batch(*pictures, return_dict=True)
    assert np.isfinite(list(found.values())).all()
    assert set(found) == {"loss", "foreground", *model.loss_names}
    assert {stage.layers[-1].compute_dtype for stage in model.stages} <= {"bfloat16", "float32"}
    heads = model(pictures[0].astype("float32"))
    assert keras.backend.standardize_dtype(heads["objectness"].dtype) == "float32"
    assert keras.backend.standardize_dtype(heads["features_0"].dtype) == "bfloat16"
    assert {layer.compute_dtype for layer in model.deployed().network.named_layers()} == {"float32"}


def test_validation_draws_the_same_sample(pictures):
    model = small("maskrcnn_mobilenetv2_fpn")
    model.compile("sgd")
    first, second = (model.test_on_batch(*pictures, return_dict=True) for _ in range(2))
    assert first == second


def test_masks_and_points_in_one_model(pictures):
    model = small("maskrcnn_mobilenetv2_fpn", with_keypoints=True, num_keypoints=5, box_detections_per_img=3, box_score_thresh=1e-4)
    assert model.loss_names[-2:] == ("mask", "keypoint")
    answer = model.predict(pictures[0], verbose=0)
    assert answer["masks"].shape == (2, 3, 28, 28) and answer["keypoints"].shape == (2, 3, 5, 3)
    model.compile("sgd", run_eagerly=True)
    assert np.isfinite(list(model.train_on_batch(*pictures, return_dict=True).values())).all()


def test_one_set_of_box_numbers_for_all_classes(pictures):
    model = small("maskrcnn_mobilenetv2_fpn", class_agnostic_boxes=True)
    assert model.deployed(raw=True).predict(pictures[0], verbose=0)["box_regression"].shape == (2, 60, 1, 4)
    assert model.predict(pictures[0], verbose=0)["boxes"].shape == (2, 100, 4)
    model.compile("sgd", run_eagerly=True)
    assert np.isfinite(model.train_on_batch(*pictures)).all()


def test_boxes_come_in_pixels_of_the_picture(pictures):
    """The network sees the picture resized; boxes of a larger one are the same boxes, larger."""
    model = small("maskrcnn_mobilenetv2_fpn", min_size=96, box_score_thresh=0.001, box_detections_per_img=5)
    picture = pictures[0][:1]
    twice = picture.repeat(2, axis=1).repeat(2, axis=2)
    plain, larger = model.predict(picture, verbose=0), model.predict(twice, verbose=0)
    assert plain["num_detections"][0] == 5
    np.testing.assert_allclose(larger["boxes"], 2 * plain["boxes"], atol=0.1)
    np.testing.assert_allclose(larger["masks"], plain["masks"], atol=0.01)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"box_score_thresh": 1.5}, "box_score_thresh is 1.5: it must be a number from 0 to 1"),
        ({"rpn_nms_thresh": -1}, "rpn_nms_thresh is -1: it must be a number from 0 to 1"),
        ({"box_detections_per_img": 0}, "box_detections_per_img is 0: it must be a whole number from 1"),
        ({"rpn_post_nms_top_n_test": 2.5}, "rpn_post_nms_top_n_test is 2.5: it must be a whole number from 1"),
        ({"version": 3}, "version is 3: it must be one of 1, 2"),
        ({"trainable_backbone_layers": 9}, "trainable_backbone_layers is 9: it must be 0 to 5"),
        ({"box_score_tresh": 0.1}, "has no option 'box_score_tresh'.*'box_score_thresh'"),
    ],
)
def test_impossible_options(options, sentence):
    name = "fasterrcnn_resnet50_fpn_v2" if "version" not in options else "maskrcnn_mobilenetv2_fpn"
    with pytest.raises(InputError, match=sentence):
        small(name, **options)


@two_stage(set())
def test_overfits_two_pictures(name, pictures):
    """Box AP50 and mask AP50 of 1, keypoint AP50 of 0.9 at least; all losses fall."""
    keras.utils.set_random_seed(0)
    plain = name == "fasterrcnn_vgg16"  # it has no norms, and anchors of 128 pixels and more
    model = small(name, width_multiplier=0.25, **({"anchor_sizes": (24, 40, 64)} if plain else {}))
    for layer in model.named_layers():
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = min(layer.momentum, 0.9)
    steps = 300
    model.compile(keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(1e-3 if plain else 2e-3, steps), clipnorm=5.0))
    images, targets = pictures
    history = model.fit(images, targets, batch_size=2, epochs=steps, verbose=0).history
    assert all(history[loss][-1] < 0.5 * history[loss][0] for loss in model.loss_names)
    assert model.predict(images, verbose=0)["num_detections"].min() > 0
    assert precision(model, images, targets, "boxes") == pytest.approx(1.0)
    if "masks" in model.predict(images, verbose=0):
        assert precision(model, images, targets, "masks") == pytest.approx(1.0)
    if model.task == "keypoint":
        assert precision(model, images, targets, "keypoints") >= 0.9


def precision(model, images, targets, kind):
    """AP50 of boxes, masks or points."""
    evaluator = CocoEvaluator(model.class_names, kind=kind)
    answer = model.predict(images, verbose=0)
    for index, image in enumerate(images):
        real = targets["labels"][index] >= 0
        truth = {key: targets[key][index][real] for key in ("boxes", "labels", "masks", "keypoints")}
        evaluator.add(truth | {"size": image.shape[:2]}, {key: values[index] for key, values in answer.items()})
    return evaluator.result()["AP50"]


LOSS_PROGRAM = """
import sys
import keras, numpy as np, tfzoo
sys.path.insert(0, sys.argv[3])
from two_stage_cases import small

model = small(sys.argv[1])
model.load_weights(sys.argv[2] + "/weights.weights.h5")
model.compile("sgd")
stored = dict(np.load(sys.argv[2] + "/batch.npz"))
found = model.test_on_batch(stored.pop("images"), stored, return_dict=True)
print("losses", *(float(found[name]) for name in model.loss_names))
"""


@two_stage(set())
def test_jax_gives_the_same_losses(name, pictures, tmp_path):
    pytest.importorskip("jax")
    model = small(name)
    model.compile("sgd")
    images, targets = pictures
    found = model.test_on_batch(images, targets, return_dict=True)
    model.save_weights(tmp_path / "weights.weights.h5")
    np.savez(tmp_path / "batch.npz", images=images, **targets)
    tests = os.path.dirname(os.path.dirname(__file__))
    program = [sys.executable, "-c", LOSS_PROGRAM, name, str(tmp_path), tests]
    ran = subprocess.run(program, env={**os.environ, "KERAS_BACKEND": "jax"}, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr[-2000:]
    theirs = dict(zip(model.loss_names, map(float, ran.stdout.split()[-len(model.loss_names) :]), strict=True))
    assert theirs == pytest.approx({loss: found[loss] for loss in theirs}, rel=1e-4)
