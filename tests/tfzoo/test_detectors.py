"""The same questions for every one-shot detector."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest
from detector_cases import CASES, detectors, small

import tfzoo
from tfzoo.errors import InputError
from tfzoo.metrics.coco import CocoEvaluator
from tfzoo.models.detector import Detector
from tfzoo.zoo import MODELS

each = detectors({"retinanet_mobilenetv2_fpn", "ssdlite320_mobilenetv2", "yolov1_tiny", "yolov2_darknet19"})


def test_every_one_shot_detector_has_a_small_form():
    assert set(CASES) == {name for name, entry in MODELS.items() if issubclass(entry.build_class(), Detector)}


@pytest.fixture(scope="module")
def pictures():
    """Two drawn pictures of 96x128 and their targets."""
    return next(iter(tfzoo.load_dataset("shapes:96x128", "train", "detection").batches(2).as_numpy_iterator()))


@each
def test_answers_in_fixed_places(name, pictures):
    """New models score alike everywhere: a low threshold lets all places be taken, and a high one none."""
    model = small(name, detections_per_img=7, score_thresh=1e-4)
    full = model.predict(pictures[0], verbose=0)
    model.score_thresh = 1.0
    empty = model.predict(pictures[0], verbose=0)
    for answer in (full, empty):
        assert {key: (value.shape, keras.backend.standardize_dtype(value.dtype)) for key, value in answer.items()} == {
            "boxes": ((2, 7, 4), "float32"),
            "scores": ((2, 7), "float32"),
            "labels": ((2, 7), "int32"),
            "num_detections": ((2,), "int32"),
        }
    assert (full["num_detections"] == 7).all() and (np.diff(full["scores"]) <= 0).all() and (full["scores"] > 1e-4).all()
    assert set(full["labels"].ravel()) <= {0, 1, 2}
    assert (full["boxes"] >= 0).all() and (full["boxes"] <= np.array([128, 96, 128, 96]) + 1e-3).all()
    assert not np.any(empty["num_detections"]) and not np.any(empty["scores"]) and not np.any(empty["boxes"])
    assert np.all(np.asarray(empty["labels"]) == -1)


@each
def test_raw_heads_are_the_networks(name, pictures):
    model = small(name)
    heads = model(pictures[0])
    raw = model.deployed(raw=True).predict(pictures[0], verbose=0)
    assert set(raw) == set(heads)
    for key, head in heads.items():
        np.testing.assert_allclose(raw[key], head, rtol=1e-4, atol=1e-4)


@each
def test_saves_and_loads(name, pictures, tmp_path):
    model = small(name, classes=2, class_names=["disc", "square"], image_size=(96, 128), score_thresh=0.001)
    model.save(tmp_path / "model.keras")
    loaded = tfzoo.load_model(tmp_path / "model.keras")
    assert loaded.class_names == ["disc", "square"] and loaded.image_size == (96, 128) and loaded.score_thresh == 0.001
    for key, value in model.predict(pictures[0], verbose=0).items():
        np.testing.assert_array_equal(loaded.predict(pictures[0], verbose=0)[key], value)


def padded(*boxes, places=None):
    """Targets of one picture, of (box, label)."""
    places = places or max(len(boxes), 1)
    found = np.zeros((1, places, 4), np.float32), np.full((1, places), -1, np.int32)
    for place, (box, label) in enumerate(boxes):
        found[0][0, place], found[1][0, place] = box, label
    return {"boxes": found[0], "labels": found[1]}


HARD_TARGETS = {
    "no box": padded(),
    "padding alone": padded(places=5),
    "no area": padded(((20, 20, 20, 60), 0), ((5, 5, 50, 5), 1)),
    "outside": padded(((-40, -30, -5, -2), 0), ((500, 600, 700, 900), 1)),
    "200 boxes": padded(*(((i % 20 * 5, i // 20 * 8, i % 20 * 5 + 9, i // 20 * 8 + 12), i % 3) for i in range(200))),
}


@each
def test_losses_are_finite_whatever_the_boxes(name, pictures):
    model = small(name)
    model.compile(keras.optimizers.Adam(1e-3, clipnorm=1.0), run_eagerly=True)  # each case has shapes of its own
    for case, targets in HARD_TARGETS.items():
        found = model.train_on_batch(pictures[0][:1], targets, return_dict=True)
        assert np.isfinite(list(found.values())).all(), case
        assert all(np.isfinite(weight).all() for weight in model.get_weights()), case


@each
def test_boxes_without_area_count_as_padding(name, pictures):
    model = small(name)
    model.compile("sgd", run_eagerly=True)
    box = ((20, 20, 60, 70), 1)
    alone = model.test_on_batch(pictures[0][:1], padded(box), return_dict=True)
    beside = model.test_on_batch(pictures[0][:1], padded(box, ((40, 40, 40, 50), 2), places=4), return_dict=True)
    assert beside == pytest.approx(alone, rel=1e-6)


@each
def test_trains_in_mixed_precision(name, pictures):
    model = small(name, dtype="mixed_bfloat16")
    model.compile(keras.optimizers.Adam(1e-3), run_eagerly=True)  # one step is not worth a graph
    found = model.train_on_batch(*pictures, return_dict=True)
    assert np.isfinite(list(found.values())).all()
    assert {keras.backend.standardize_dtype(head.dtype) for head in model(pictures[0]).values()} == {"float32"}
    assert "bfloat16" in {layer.compute_dtype for layer in model.layers}
    assert {layer.compute_dtype for layer in model.deployed().network.layers} == {"float32"}


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"classes": 0}, "num_classes is 0: it must be a whole number from 1"),
        ({"width_multiplier": 0}, "width_multiplier is 0: it must be a number above 0"),
        ({"min_size": 0}, "min_size is 0 and max_size None: they must be pixels, 1 or more"),
        ({"max_size": 300}, "max_size is 300 and there is no min_size"),
        ({"score_thresh": 1.5}, "score_thresh is 1.5: it must be a number from 0 to 1"),
        ({"nms_thresh": -0.1}, "nms_thresh is -0.1: it must be a number from 0 to 1"),
        ({"detections_per_img": 0}, "detections_per_img is 0: it must be a whole number from 1"),
        ({"topk_candidates": 2.5}, "topk_candidates is 2.5: it must be a whole number from 1"),
        ({"class_names": ["disc"]}, "num_classes is 3, but there are 1 class names"),
        ({"widht_multiplier": 2}, "has no option 'widht_multiplier'.*'width_multiplier'"),
        ({"box_loss": "l3"}, "box_loss is 'l3': it must be one of l1, giou"),
        ({"negatives_per_positive": 0}, "negatives_per_positive is 0: it must be a number above 0, or None"),
        ({"trainable_backbone_layers": 6}, "has no option|must be 0 to 5"),
    ],
)
def test_impossible_options(options, sentence):
    name = "retinanet_resnet50_fpn" if "trainable_backbone_layers" in options else "retinanet_mobilenetv2_fpn"
    with pytest.raises(InputError, match=sentence):
        small(name, **options)


def test_pictures_that_are_too_small():
    with pytest.raises(InputError, match="at least 32x32"):
        small("retinanet_mobilenetv2_fpn").predict(np.zeros((1, 31, 64, 3), np.uint8), verbose=0)


def test_boxes_come_in_pixels_of_the_picture(pictures):
    """The network sees the picture resized; boxes of a larger one are the same boxes, larger."""
    model = small("retinanet_mobilenetv2_fpn", min_size=96, score_thresh=0.001, detections_per_img=5)
    head = next(layer for layer in model.layers if layer.name.endswith("cls_logits"))
    head.kernel.assign(keras.random.normal(head.kernel.shape, stddev=0.05, seed=1))
    picture = pictures[0][:1]
    twice = picture.repeat(2, axis=1).repeat(2, axis=2)
    plain, larger = model.predict(picture, verbose=0), model.predict(twice, verbose=0)
    assert plain["num_detections"][0] == 5
    np.testing.assert_allclose(larger["boxes"], 2 * plain["boxes"], atol=0.05)


def test_one_picture_is_answered_as_in_a_loop_over_batches(pictures):
    model = small("retinanet_mobilenetv2_fpn", score_thresh=0.001)
    loop = model.predict(pictures[0], batch_size=1, verbose=0)
    for index, picture in enumerate(pictures[0]):
        for key, value in model.predict(picture[None], verbose=0).items():
            assert isinstance(value, np.ndarray)
            np.testing.assert_array_equal(value[0], loop[key][index])


@detectors(set())
def test_overfits_two_pictures(name, pictures):
    keras.utils.set_random_seed(0)
    model = small(name, width_multiplier=0.25)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = min(layer.momentum, 0.9)
    steps = 300
    model.compile(keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(2e-3, steps), clipnorm=5.0))
    images, targets = pictures
    model.fit(images, targets, batch_size=2, epochs=steps, verbose=0)
    evaluator = CocoEvaluator(model.class_names)
    answer = model.predict(images, verbose=0)
    for index in range(2):
        evaluator.add(
            {key: value[index][targets["labels"][index] >= 0] for key, value in targets.items()},
            {key: answer[key][index] for key in ("boxes", "scores", "labels")},
        )
    assert evaluator.result()["AP50"] == pytest.approx(1.0)


LOSS_PROGRAM = """
import sys
import keras, numpy as np, tfzoo
sys.path.insert(0, sys.argv[3])
from detector_cases import small

model = small(sys.argv[1])
model.load_weights(sys.argv[2] + "/weights.weights.h5")
model.compile("sgd")
stored = np.load(sys.argv[2] + "/batch.npz")
found = model.test_on_batch(stored["images"], {"boxes": stored["boxes"], "labels": stored["labels"]}, return_dict=True)
print("loss", float(found["loss"]))
"""


@detectors(set())
def test_jax_gives_the_same_loss(name, pictures, tmp_path):
    pytest.importorskip("jax")
    model = small(name)
    model.compile("sgd")
    images, targets = pictures
    expected = float(model.test_on_batch(images, targets, return_dict=True)["loss"])
    model.save_weights(tmp_path / "weights.weights.h5")
    np.savez(tmp_path / "batch.npz", images=images, **targets)
    tests = os.path.dirname(os.path.dirname(__file__))
    program = [sys.executable, "-c", LOSS_PROGRAM, name, str(tmp_path), tests]
    ran = subprocess.run(program, env={**os.environ, "KERAS_BACKEND": "jax"}, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr[-2000:]
    assert float(ran.stdout.split()[-1]) == pytest.approx(expected, rel=1e-4)
