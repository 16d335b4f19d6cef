"""What all tests share."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import pathlib

import pytest

SHARED = pathlib.Path(__file__).parents[1].parent / "shared" / "data"


def real_data(reader, name):
    """The spec of a real data set; where it is missing, the test is skipped: it may not be distributed with the project."""
    if not (SHARED / name).is_dir():
        pytest.skip(f"{name} is not at ../shared/data/{name} (it may not be distributed with the project)")
    return f"{reader}:{SHARED / name}"


@pytest.fixture(scope="session")
def camvid():
    return real_data("masks", "camvid")


@pytest.fixture(scope="session")
def dsb2018():
    return real_data("coco", "dsb2018")


@pytest.fixture(scope="session")
def coco_mini():
    return real_data("coco", "coco_mini")


@pytest.fixture(scope="session")
def coco_person_kp():
    return real_data("coco", "coco_person_kp")


@pytest.fixture(scope="session")
def bccd():
    return real_data("coco", "bccd")


@pytest.fixture(scope="session")
def pennfudan():
    return real_data("coco", "pennfudan")


@pytest.fixture(scope="session")
def pictures():
    """Four drawn pictures uint8 [4, 64, 96, 3] and their label maps uint8 [4, 64, 96]; five classes."""
    import numpy as np

    from tfzoo.data import load_dataset

    dataset = load_dataset("shapes:64x96", "train")
    samples = [dataset.read(index) for index in range(4)]
    return np.stack([s["images"] for s in samples]), np.stack([s["segmentation_masks"][..., 0] for s in samples])


@pytest.fixture(scope="session")
def masks_folder(tmp_path_factory):
    """A small ``masks:`` data set on disk: 8 training and 4 validation pictures of 64x96."""
    from PIL import Image

    from tfzoo.data import load_dataset

    root = tmp_path_factory.mktemp("masks")
    (root / "images").mkdir()
    (root / "labels").mkdir()
    for split, count in (("train", 8), ("val", 4)):
        dataset = load_dataset("shapes:64x96", split)
        names = []
        for index in range(count):
            sample = dataset.read(index)
            Image.fromarray(sample["images"]).save(root / "images" / f"{sample['image_id']}.jpg", quality=95)
            Image.fromarray(sample["segmentation_masks"][..., 0]).save(root / "labels" / f"{sample['image_id']}.png")
            names.append(sample["image_id"])
        (root / f"{split}.txt").write_text("\n".join(names))
    (root / "classes.txt").write_text("\n".join(dataset.class_names))
    return root


@pytest.fixture(scope="session")
def small_unet(tmp_path_factory):
    """A tiny U-Net for five classes that has learned a little, as (model, path of its .keras file)."""
    import keras

    import tfzoo

    keras.utils.set_random_seed(0)
    data = tfzoo.load_dataset("shapes:64x96", "train")
    model = tfzoo.create_model("unet", class_names=data.class_names, width_multiplier=0.125, depth=2, image_size=(64, 96))
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.8  # forty steps are few: the moving averages must keep up
    model.compile(keras.optimizers.Adam(3e-3))
    model.fit(data.batches(8, training=True).take(40), shuffle=False, verbose=0)
    path = tmp_path_factory.mktemp("model") / "unet.keras"
    model.save(path)
    return model, path
