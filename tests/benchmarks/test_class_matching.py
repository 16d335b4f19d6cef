"""Classes matched by name."""

import types

import numpy as np
import pytest

from tfzoo.benchmarks.matching import describe, match_classes
from tfzoo.data import load_dataset
from tfzoo.errors import InputError

VOC = [  # as torchvision's segmentation checkpoints list them
    "__background__", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
    "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
]  # fmt: skip
CATEGORY_IDS = [  # COCO's categories for VOC's classes 1 to 20, as torchvision's checkpoints were trained and measured
    5, 2, 16, 9, 44, 6, 3, 17, 62, 21, 67, 18, 19, 4, 1, 64, 20, 63, 7, 72,
]  # fmt: skip


def data(*class_names):
    return types.SimpleNamespace(class_names=list(class_names), spec="masks:DIR")


def test_every_voc_class_is_found_in_coco(coco_mini):
    dataset = load_dataset(coco_mini, "val", "semantic")
    match = match_classes(VOC, dataset)
    ids = [None, *dataset.category_ids]  # class 0 is the background
    assert match.predicted[0] == 0 and [ids[label] for label in match.predicted[1:21]] == CATEGORY_IDS
    assert match.unmatched["artifact"] == [] and len(match.unmatched["data"]) == 60
    assert match.counted.sum() == 21 and match.truth[255] == 255
    for label, id_ in enumerate(ids):
        assert match.truth[label] == (label if id_ in CATEGORY_IDS else 0)
    assert set(match.equated) == {"__background__", "aeroplane", "diningtable", "motorbike", "pottedplant", "sofa", "tvmonitor"}


def test_the_same_names_in_another_order_match_whole():
    match = match_classes(["road", "sky"], data("sky", "road"))
    assert match.predicted[:2].tolist() == [1, 0] and match.truth[:2].tolist() == [0, 1] and match.counted.all()
    assert describe(match.unmatched, match.equated) == []


def test_the_very_same_name_goes_first():
    match = match_classes(["tv", "TV", "sofa", "couch"], data("TV", "tv", "couch", "sofa"))
    assert match.predicted[:4].tolist() == [1, 0, 3, 2] and match.equated == {}


def test_labels_that_the_data_do_not_have_are_background_where_there_is_one():
    match = match_classes(["sky", "road", "pole"], data("background", "road"))
    assert match.predicted[:3].tolist() == [0, 1, 0] and match.counted.tolist() == [True, True]
    assert match.unmatched == {"artifact": ["sky", "pole"], "data": [], "counted_as": "background"}


def test_labels_that_the_data_do_not_have_are_wrong_where_there_is_no_background():
    match = match_classes(["background", "road"], data("sky", "road"))
    assert match.predicted[:2].tolist() == [2, 1]  # 2: no class of the data
    assert match.truth[:2].tolist() == [0, 1] and match.counted.tolist() == [False, True]
    assert match.unmatched == {"artifact": ["background"], "data": ["sky"], "counted_as": "wrong"}
    assert match.prediction_names(["sky", "road"]) == ["sky", "road", "(another class)"]


def test_a_background_that_the_artifact_cannot_answer_takes_no_other_class():
    match = match_classes(["road"], data("background", "road", "pole"))
    assert match.truth[:3].tolist() == [0, 1, 2] and match.counted.tolist() == [False, True, False]
    assert match.unmatched == {"artifact": [], "data": ["background", "pole"], "counted_as": "wrong"}
    assert match.prediction_names(["background", "road", "pole"]) == ["background", "road", "pole"]


def test_a_label_beyond_the_artifact_s_own_is_never_ignored():
    match = match_classes(["sky", "road"], data("sky", "road"))
    assert (match.predicted[2:] == 2).all()


@pytest.mark.parametrize(("artifact", "other"), [(["cat", "dog"], ["sky", "road"]), (["background", "cat"], ["background", "sky"])])
def test_nothing_in_common_but_a_background_is_refused(artifact, other):
    with pytest.raises(InputError, match="evaluate it on data of its own classes"):
        match_classes(artifact, data(*other))


def test_sentences_name_at_most_twelve():
    match = match_classes([f"class {index}" for index in range(30)], data("class 0"))
    (sentence,) = describe(match.unmatched, match.equated)
    assert sentence.endswith("class 12 and 17 more.")
    assert np.all(match.predicted[1:30] == 1)
