"""The zoo's detector of a torchvision checkpoint. Arguments: name, checkpoint, picture (.npy), size, batch_size, precision, and the
cases that will be run."""

from loop import arguments, serve

# isort: split
import keras
import numpy as np

import tfzoo

given = arguments()
picture = np.load(given["picture"])
sizes = {"min_size": given["size"], "max_size": given["size"]}
images = np.repeat(picture[None], given["batch_size"], axis=0)


def answering():
    """The cases of a model that answers, and how many detections it has; building one takes JAX half a minute."""
    model = tfzoo.create_model(given["name"], weights=given["checkpoint"], **sizes)
    raw = model.deployed(raw=True)
    found = model.predict(picture[None], verbose=0)["num_detections"][0]
    cases = {"predict": lambda: model.predict(picture[None], verbose=0), "heads": lambda: raw.predict_on_batch(picture[None])}
    return cases, int(found)


def learning():
    frozen = {"frozen_norms": True, "trainable_backbone_layers": 5, "dtype": given["precision"]}
    learner = tfzoo.create_model(given["name"], weights=given["checkpoint"], **sizes, **frozen)
    learner.compile(keras.optimizers.SGD(0.0))  # all the work, and nothing learned: steps stay alike
    targets = {name: np.repeat(values[None], len(images), axis=0) for name, values in truth(learner.num_classes).items()}
    return {"training step": lambda: learner.train_on_batch(images, targets)}


def truth(num_classes):
    boxes = np.array([[40, 60, 220, 300], [100, 80, 380, 180], [120, 200, 360, 480]], np.float32)
    masks = np.zeros((3, *picture.shape[:2]), np.uint8)
    for mask, (left, top, right, bottom) in zip(masks, boxes.astype(int), strict=True):
        mask[top:bottom, left:right] = 1
    points = np.concatenate([(boxes[:, None, :2] + boxes[:, None, 2:]) / 2, np.full((3, 1, 1), 2.0)], axis=2).repeat(17, axis=1)
    labels = np.array([3, 17, 90] if num_classes == 91 else [1, 1, 1], np.int32)
    return {"boxes": boxes, "labels": labels, "masks": masks, "keypoints": points.astype(np.float32)}


cases, detections = answering() if {"predict", "heads"} & set(given["cases"]) else ({}, None)
if "training step" in given["cases"]:
    cases |= learning()
serve(cases, detections=detections)
