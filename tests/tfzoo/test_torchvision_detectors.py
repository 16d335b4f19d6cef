"""torchvision's detectors on a pyramid: their layout, and the same numbers from the same checkpoint."""

import json
import math
import zipfile

import numpy as np
import pytest
from test_torchvision import drawn_picture, reference_program, run

import tfzoo
from tfzoo.analysis import without_weights
from tfzoo.weights import torchvision
from tfzoo.weights.torch_file import read_tensors
from tfzoo.zoo import find_entry

# Published with the weights. What a frozen norm holds is no parameter there.
PARAMETERS = {
    "retinanet_resnet50_fpn": 34_014_999,
    "retinanet_resnet50_fpn_v2": 38_198_935,
    "fcos_resnet50_fpn": 32_269_600,
}
every_name = pytest.mark.parametrize("name", PARAMETERS)
BROUGHT = {  # what a checkpoint fixes of the model's options: ``Checkpoint.options``
    "retinanet_resnet50_fpn": {"frozen_norms": True, "norm_epsilon": 0.0},
    "retinanet_resnet50_fpn_v2": {"frozen_norms": False},
    "fcos_resnet50_fpn": {"frozen_norms": True},
}


def built(name):
    """A model of 91 classes, its backbone's norms frozen where those of the published one are; every stage learns."""
    return tfzoo.create_model(name, num_classes=91, frozen_norms=BROUGHT[name]["frozen_norms"])


@every_name
def test_parameters_are_the_published_ones(name):
    shapes = without_weights(lambda: [variable.shape for variable in built(name).trainable_weights])
    assert sum(math.prod(shape) for shape in shapes) == PARAMETERS[name]


# Keys that torchvision's source spells out, with the shapes that its tables give.
LAYOUT = {
    "retinanet_resnet50_fpn": {
        "backbone.body.conv1.weight": (64, 3, 7, 7),
        "backbone.body.layer1.0.downsample.1.running_var": (256,),
        "backbone.body.layer4.2.bn3.bias": (2048,),
        "backbone.fpn.inner_blocks.0.0.weight": (256, 512, 1, 1),
        "backbone.fpn.inner_blocks.2.0.bias": (256,),
        "backbone.fpn.layer_blocks.1.0.weight": (256, 256, 3, 3),
        "backbone.fpn.extra_blocks.p6.weight": (256, 256, 3, 3),
        "backbone.fpn.extra_blocks.p7.bias": (256,),
        "head.classification_head.conv.3.0.weight": (256, 256, 3, 3),
        "head.classification_head.conv.0.0.bias": (256,),
        "head.classification_head.cls_logits.weight": (9 * 91, 256, 3, 3),
        "head.regression_head.conv.2.0.bias": (256,),
        "head.regression_head.bbox_reg.bias": (9 * 4,),
    },
    "retinanet_resnet50_fpn_v2": {
        "backbone.fpn.extra_blocks.p6.weight": (256, 2048, 3, 3),
        "head.classification_head.conv.3.0.weight": (256, 256, 3, 3),
        "head.classification_head.conv.0.1.weight": (256,),
        "head.regression_head.conv.3.1.bias": (256,),
        "head.regression_head.bbox_reg.weight": (9 * 4, 256, 3, 3),
    },
    "fcos_resnet50_fpn": {
        "backbone.fpn.extra_blocks.p6.weight": (256, 256, 3, 3),
        "head.classification_head.conv.0.bias": (256,),
        "head.classification_head.conv.9.weight": (256, 256, 3, 3),
        "head.classification_head.conv.10.weight": (256,),
        "head.classification_head.cls_logits.bias": (91,),
        "head.regression_head.conv.1.bias": (256,),
        "head.regression_head.bbox_reg.weight": (4, 256, 3, 3),
        "head.regression_head.bbox_ctrness.weight": (1, 256, 3, 3),
    },
}
TENSORS = {  # in each file, without the norms' counters of batches: ResNet-50, pyramid, heads
    "retinanet_resnet50_fpn": 53 * 5 + 8 * 2 + 10 * 2,
    "retinanet_resnet50_fpn_v2": 53 * 5 + 8 * 2 + 8 * 3 + 2 * 2,
    "fcos_resnet50_fpn": 53 * 5 + 8 * 2 + 8 * 4 + 3 * 2,
}


@every_name
def test_layers_bear_torchvisions_names(name):
    shapes = without_weights(lambda: {key: slot.their_shape for key, slot in torchvision.expected(built(name)).items()})
    assert {key: shapes.get(key) for key in LAYOUT[name]} == LAYOUT[name]
    assert len(shapes) == TENSORS[name]


OLD_NAMES = {
    "backbone.fpn.inner_blocks.2.weight": "backbone.fpn.inner_blocks.2.0.weight",
    "backbone.fpn.layer_blocks.0.bias": "backbone.fpn.layer_blocks.0.0.bias",
    "head.classification_head.conv.0.weight": "head.classification_head.conv.0.0.weight",
    "head.classification_head.conv.2.bias": "head.classification_head.conv.1.0.bias",
    "head.regression_head.conv.6.weight": "head.regression_head.conv.3.0.weight",
}


def test_old_names_of_retinanet():
    unchanged = (
        "backbone.fpn.extra_blocks.p6.weight",
        "head.regression_head.bbox_reg.weight",
        "backbone.body.layer1.0.conv1.weight",
    )
    tensors = {key: np.array(index) for index, key in enumerate((*OLD_NAMES, *unchanged))}
    found = torchvision.under_present_keys(tensors, {*OLD_NAMES.values(), *unchanged})
    assert found == {OLD_NAMES.get(key, key): array for key, array in tensors.items()}


def test_present_names_are_never_taken_for_old_ones():
    """FCOS has a layer "conv.0", and the RetinaNets one "conv.1.0": neither is another one's old name."""
    for keys in (LAYOUT["fcos_resnet50_fpn"], LAYOUT["retinanet_resnet50_fpn"], LAYOUT["retinanet_resnet50_fpn_v2"]):
        assert list(torchvision.under_present_keys(dict.fromkeys(keys), set(keys))) == list(keys)


# === Parity ===

# Torchvision's heads and losses, of the first picture three times: with three boxes, with one, and with none.
LOSS_PROGRAM = """
import importlib, pathlib, sys
script, checkpoint, size = sys.argv[1:]
sys.path.insert(0, str(pathlib.Path(script).parent))
reference = importlib.import_module(pathlib.Path(script).stem)  # first: it mends a torchvision whose compiled part does not load
import numpy as np, torch

path = pathlib.Path(checkpoint)
given = np.load(path.with_suffix(".npz"))
model, _ = reference.build(path.stem.rpartition("-seed")[0], int(size))
model.load_state_dict(torch.load(path))
seen = {}
model.head.register_forward_hook(lambda module, inputs, output: seen.update(heads=output))
model.anchor_generator.register_forward_hook(lambda module, inputs, output: seen.update(features=inputs[1], anchors=output[0]))
boxes = torch.tensor([[20.0, 30, 110, 150], [100, 40, 190, 90], [60, 100, 180, 190], [5, 5, 8, 11]])
labels = torch.tensor([3, 17, 90, 4])
parts = [[0, 1, 2], [3], []]
with torch.no_grad():
    model([torch.from_numpy(given["image_0"].copy()).permute(2, 0, 1).float() / 255])
    heads = {key: value.repeat(3, 1, 1) for key, value in seen["heads"].items()}
    targets = [{"boxes": boxes[part], "labels": labels[part]} for part in parts]
    counts = ([level.shape[2] * level.shape[3] for level in seen["features"]],) if hasattr(model, "center_sampling_radius") else ()
    losses = model.compute_loss(targets, heads, [seen["anchors"]] * 3, *counts)
np.savez(path.with_suffix(".losses.npz"), anchors=seen["anchors"].numpy(), boxes=boxes.numpy(), labels=labels.numpy(),
         **{f"loss_{key}": value.numpy() for key, value in losses.items()},
         **{f"head_{key}": value.numpy() for key, value in seen["heads"].items()})
"""
THEIR_LOSSES = {"classification": "classification", "bbox_regression": "box", "bbox_ctrness": "centerness"}


def reference_of(name, seed, size, folder, *flags):
    """Lets torchvision make a checkpoint and answer; returns its path and the answer."""
    python, script = reference_program()
    pictures = [folder / "a.png", folder / "b.jpg"]
    for index, path in enumerate(pictures):
        drawn_picture(2 * seed + index).save(path)
    run(python, script, name, "--seed", seed, "--size", size, "--images", *pictures, "--output", folder, *flags)
    checkpoint = folder / f"{name}-seed{seed}.pth"
    return checkpoint, np.load(checkpoint.with_suffix(".npz"))


def loaded(name, checkpoint, **options):
    sizes = json.loads(checkpoint.with_suffix(".json").read_text())["arguments"]
    return tfzoo.create_model(name, weights=str(checkpoint), min_size=sizes["min_size"], max_size=sizes["max_size"], **options)


def with_area(detections):
    """Those of one picture that have one, best first.

    The reference script's NMS, in plain PyTorch, drops all but one box without an area, for their overlaps are 0 / 0 there;
    torchvision's compiled one keeps them, as ours does. Such boxes are what clipping leaves of boxes outside the picture.
    """
    sides = detections["boxes"][:, 2:] - detections["boxes"][:, :2]
    return {key: value[(sides > 0).all(axis=1)] for key, value in detections.items()}


def without_partner(some, others):
    """The share of detections that the others have not: the same label, a score within 1e-4, a box within 0.05 pixels."""
    alike = some["labels"][:, None] == others["labels"]
    alike &= np.abs(some["scores"][:, None] - others["scores"]) < 1e-4
    alike &= np.abs(some["boxes"][:, None] - others["boxes"]).max(axis=-1) < 0.05
    return (~alike.any(axis=1)).mean() if len(alike) else 0.0


def check_detections(model, theirs, index, case):
    """Two near-ties may be decided otherwise, of scores or of an overlap and the threshold: 1 % of the detections."""
    found = {key: value[0] for key, value in model.predict(theirs[f"image_{index}"][None], verbose=0).items()}
    count = int(found.pop("num_detections"))
    ours = with_area({key: value[:count] for key, value in found.items()})
    expected = with_area({key: theirs[f"{key}_{index}"] for key in ours})
    if count < model.detections_per_img:
        assert abs(len(ours["scores"]) - len(expected["scores"])) <= 0.01 * len(expected["scores"]), case
    common = min(len(ours["scores"]), len(expected["scores"]))  # of full answers, ours has places taken by boxes without area
    ours, expected = ({key: value[:common] for key, value in some.items()} for some in (ours, expected))
    missing = max(without_partner(expected, ours), without_partner(ours, expected))
    print(f"\n{case}: {count} detections, {common} compared, {missing:.2%} without partner", end="")
    assert common >= 3 and missing <= 0.01, case


def check_losses(model, checkpoint, size):
    """From the same heads the same losses; torchvision's are sums in another order."""
    python, script = reference_program()
    run(python, "-c", LOSS_PROGRAM, script, checkpoint, size)
    theirs = np.load(checkpoint.with_suffix(".losses.npz"))
    heads = {key.removeprefix("head_"): theirs[key].repeat(3, axis=0) for key in theirs if key.startswith("head_")}
    boxes, labels = np.zeros((3, 3, 4), np.float32), np.full((3, 3), -1, np.int32)
    boxes[0], boxes[1, 0] = theirs["boxes"][:3], theirs["boxes"][3]
    labels[0], labels[1, 0] = theirs["labels"][:3], theirs["labels"][3]
    found = model.head_losses(heads, boxes, labels, labels >= 0, theirs["anchors"])
    assert set(found) - {"foreground"} == {THEIR_LOSSES[key.removeprefix("loss_")] for key in theirs if key.startswith("loss_")}
    assert float(found["foreground"]) > 1
    for key, name in THEIR_LOSSES.items():
        if name in found:
            np.testing.assert_allclose(found[name], theirs[f"loss_{key}"], rtol=1e-4, err_msg=name)


CASES = [  # seed, size, flags
    (11, 224, ()),
    (23, 200, ("--sparse",)),
]


@pytest.mark.slow
@every_name
def test_the_same_checkpoint_gives_the_same_numbers(name, tmp_path):
    """Anchors, heads, losses and detections.

    Fifty layers of seeded weights amplify rounding: heads agree to some 7e-5 of their norm.
    """
    reference_program()
    for seed, size, flags in CASES:
        checkpoint, theirs = reference_of(name, seed, size, tmp_path, *flags)
        model = loaded(name, checkpoint)
        assert tuple(model.class_names) == torchvision.COCO_CLASSES
        assert {key: model.options[key] for key in BROUGHT[name]} == BROUGHT[name]
        case = f"{name} seed {seed} size {size}"
        heads = model(theirs["image_0"][None])
        assert {f"raw_head_{key}" for key in heads} == {key for key in theirs if key.startswith("raw_head_")}
        for key, ours in heads.items():
            expected = theirs[f"raw_head_{key}"]
            assert ours.shape == expected.shape
            difference = np.linalg.norm(ours - expected) / np.linalg.norm(expected)
            print(f"\n{case} {key}: {difference:.2e}", end="")
            assert difference <= 1e-4, case
        for index in range(2):
            check_detections(model, theirs, index, f"{case} picture {index}")
        if not flags:
            check_losses(model, checkpoint, size)
            _, padded = model.input_sizes(theirs["image_0"].shape[:2])
            np.testing.assert_array_equal(model.anchors(padded), np.load(checkpoint.with_suffix(".losses.npz"))["anchors"])


@pytest.mark.slow
def test_published_files_have_old_names_and_the_old_format(tmp_path):
    reference_program()
    name = "retinanet_resnet50_fpn"
    checkpoint, theirs = reference_of(name, 47, 160, tmp_path, "--old-keys", "--legacy-file")
    assert not zipfile.is_zipfile(checkpoint)
    assert set(OLD_NAMES) <= set(read_tensors(checkpoint))
    model = loaded(name, checkpoint)
    for index in range(2):
        check_detections(model, theirs, index, f"old file, picture {index}")


@pytest.mark.slow
@every_name
def test_other_classes_start_anew_and_the_rest_is_kept(name, tmp_path):
    reference_program()
    checkpoint, theirs = reference_of(name, 5, 128, tmp_path)
    model = loaded(name, checkpoint, num_classes=3)
    image = theirs["image_0"][None]
    heads = model(image)
    assert heads["cls_logits"].shape[-1] == model.num_classes == 3
    expected = theirs["raw_head_bbox_regression"]
    assert np.linalg.norm(heads["bbox_regression"] - expected) <= 1e-4 * np.linalg.norm(expected)
    # every anchor starts with a probability of about 0.01
    assert np.median(1 / (1 + np.exp(-np.asarray(heads["cls_logits"])))) == pytest.approx(0.01, rel=0.5)
    assert torchvision.Checkpoint(checkpoint, find_entry(name)).num_classes == 91
