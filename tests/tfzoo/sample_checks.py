"""What the tests of readers share: what samples are to be, and a small data set in COCO's layouts."""

import json

import numpy as np
from PIL import Image
from pycocotools import mask as rle

TASKS = ["semantic", "detection", "instance", "keypoint"]
KEYS = {
    "semantic": {"images", "image_id", "segmentation_masks"},
    "detection": {"images", "image_id", "bounding_boxes"},
    "instance": {"images", "image_id", "bounding_boxes", "instance_masks"},
    "keypoint": {"images", "image_id", "bounding_boxes", "keypoints"},
}


BOX_TYPES = {"boxes": np.float32, "labels": np.int32, "crowd": np.bool_, "difficult": np.bool_, "area": np.float32}


def check_sample(sample, task, classes, points=0, box_keys=("boxes", "labels", "crowd")):
    """Keys, shapes and types as ``Dataset.read`` promises them."""
    assert set(sample) == KEYS[task]
    height, width, channels = sample["images"].shape
    assert (channels, sample["images"].dtype) == (3, np.uint8)
    assert isinstance(sample["image_id"], str)
    if task == "semantic":
        masks = sample["segmentation_masks"]
        assert (masks.shape, masks.dtype) == ((height, width, 1), np.uint8)
        assert masks[masks != 255].max(initial=0) < classes
        return
    boxes = sample["bounding_boxes"]
    count = len(boxes["boxes"])
    assert {key: (value.shape, value.dtype) for key, value in boxes.items()} == {
        key: ((count, 4) if key == "boxes" else (count,), BOX_TYPES[key]) for key in box_keys
    }
    assert ((boxes["labels"] >= 0) & (boxes["labels"] < classes)).all()
    assert (boxes["boxes"] >= 0).all()
    assert (boxes["boxes"] <= (width, height, width, height)).all()
    if task == "instance":
        assert (sample["instance_masks"].shape, sample["instance_masks"].dtype) == ((count, height, width), np.uint8)
        assert sample["instance_masks"].max(initial=0) <= 1
    if task == "keypoint":
        assert (sample["keypoints"].shape, sample["keypoints"].dtype) == ((count, points, 3), np.float32)


def assert_boxes_enclose_masks(sample):
    for box, mask in zip(sample["bounding_boxes"]["boxes"], sample["instance_masks"], strict=True):
        rows, columns = np.nonzero(mask)
        assert box.tolist() == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


# === COCO ===

HEIGHT, WIDTH = 20, 30
CAT, DOG = 18, 3  # ids; labels are counted in the order of the ids: dog 0, cat 1


def rectangle(left, top, width, height):
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[top : top + height, left : left + width] = 1
    return mask


def uncompressed(mask):
    """COCO's run lengths, down the columns, zeros first."""
    pixels = mask.ravel(order="F")
    edges = np.flatnonzero(np.diff(np.concatenate([[0], pixels]))).tolist()
    return {"size": list(mask.shape), "counts": np.diff([0, *edges, pixels.size]).tolist()}


def compressed(mask):
    encoded = rle.encode(np.asfortranarray(mask))
    return {"size": encoded["size"], "counts": encoded["counts"].decode()}


POLYGON, CROWD, PACKED = (4, 2, 10, 10), (20, 5, 6, 4), (10, 8, 8, 4)


def coco_json():
    return {
        "images": [
            {"id": 7, "file_name": "full.png", "height": HEIGHT, "width": WIDTH},
            {"id": 2, "file_name": "empty.png", "height": HEIGHT, "width": WIDTH},
        ],
        "categories": [{"id": CAT, "name": "cat"}, {"id": DOG, "name": "dog", "keypoints": ["nose", "tail"]}],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": CAT, "bbox": list(POLYGON), "area": 100, "iscrowd": 0}
            | {"segmentation": [[4, 2, 14, 2, 14, 12, 4, 12]]},
            {"id": 2, "image_id": 7, "category_id": DOG, "bbox": list(CROWD), "area": 24, "iscrowd": 1}
            | {"segmentation": uncompressed(rectangle(*CROWD))},
            {"id": 3, "image_id": 7, "category_id": DOG, "bbox": list(PACKED), "area": 32, "iscrowd": 0}
            | {"segmentation": compressed(rectangle(*PACKED)), "keypoints": [11, 9, 2, 17, 10, 1], "num_keypoints": 2},
        ],
    }


LAYOUTS = {  # where the annotations and the pictures lie; KIND is instances or person_keypoints
    "coco": ("annotations/KIND_val2017.json", "val2017"),
    "split, images": ("annotations/val.json", "images"),
    "split, images/split": ("annotations/val.json", "images/val"),
    "kind_split, images": ("annotations/KIND_val.json", "images"),
    "kind_split, images/split": ("annotations/KIND_val.json", "images/val"),
    "roboflow": ("val/_annotations.coco.json", "val"),
}


def write_coco(root, layout="split, images", kind="instances", content=None):
    """Writes the data set and returns (spec, the annotations' path, the pictures' folder)."""
    annotations, pictures = LAYOUTS[layout]
    path, folder = root / annotations.replace("KIND", kind), root / pictures
    for place in (path.parent, folder):
        place.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content or coco_json()))
    for index, name in enumerate(("full.png", "empty.png")):
        Image.fromarray(np.full((HEIGHT, WIDTH, 3), 40 * index, np.uint8)).save(folder / name)
    return f"coco:{root}", path, folder


def xyxy(rectangle):
    left, top, width, height = rectangle
    return [left, top, left + width, top + height]
