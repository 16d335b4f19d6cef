"""The two-stage detectors that tests build: small forms of every name, and which of them `make test` asks."""

import numpy as np
import pytest

import tfzoo

SMALL = {"width_multiplier": 0.125, "rpn_post_nms_top_n_train": 300, "rpn_post_nms_top_n_test": 60, "box_batch_size_per_image": 64}
NAMES = [
    "fasterrcnn_mobilenet_v3_large_320_fpn",
    "fasterrcnn_mobilenet_v3_large_fpn",
    "fasterrcnn_resnet50_fpn",
    "fasterrcnn_resnet50_fpn_v2",
    "fasterrcnn_vgg16",
    "keypointrcnn_resnet50_fpn",
    "maskrcnn_mobilenetv2_fpn",
    "maskrcnn_resnet50_fpn",
    "maskrcnn_resnet50_fpn_v2",
]
POINTS = {"keypointrcnn_resnet50_fpn": {"num_keypoints": 5}}


def small(name, classes=3, **options):
    """A small form of the detector, with random weights."""
    return tfzoo.create_model(name, num_classes=classes, **{**SMALL, **POINTS.get(name, {}), **options})


def two_stage(quick):
    """Parametrizes a test by ``name``, over all of them; those that are not in ``quick`` are slow tests."""
    return pytest.mark.parametrize("name", [n if n in quick else pytest.param(n, marks=pytest.mark.slow) for n in NAMES])


def drawn(count=2, size=(96, 128), split="train"):
    """Drawn pictures, and targets for every two-stage model: boxes, labels, masks and the shapes' corners."""
    spec = f"shapes:{size[0]}x{size[1]}"
    objects, corners = (tfzoo.load_dataset(spec, split, task) for task in ("instance", "keypoint"))
    images, targets = [], {"boxes": [], "labels": [], "masks": [], "keypoints": []}
    for index in range(count):
        sample, points = objects.read(index), corners.read(index)["keypoints"]
        boxes, labels = sample["bounding_boxes"]["boxes"], sample["bounding_boxes"]["labels"]
        fill = 4 - len(labels)
        images.append(sample["images"])
        targets["boxes"].append(np.pad(boxes, ((0, fill), (0, 0))))
        targets["labels"].append(np.pad(labels, (0, fill), constant_values=-1))
        targets["masks"].append(np.pad(sample["instance_masks"], ((0, fill), (0, 0), (0, 0))))
        targets["keypoints"].append(np.pad(points, ((0, fill), (0, 0), (0, 0))))
    return np.stack(images), {name: np.stack(values) for name, values in targets.items()}
