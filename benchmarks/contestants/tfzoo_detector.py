"""The zoo's detector of a torchvision checkpoint. Arguments: name, checkpoint, picture (.npy), size, batch_size, precision."""

from loop import arguments, serve

# isort: split
import keras
import numpy as np

import tfzoo

given = arguments()
picture = np.load(given["picture"])
sizes = {"min_size": given["size"], "max_size": given["size"]}
model = tfzoo.create_model(given["name"], weights=given["checkpoint"], **sizes)
raw = model.deployed(raw=True)

frozen = {"frozen_norms": True, "trainable_backbone_layers": 5, "dtype": given["precision"]}
learner = tfzoo.create_model(given["name"], weights=given["checkpoint"], **sizes, **frozen)
learner.compile(keras.optimizers.SGD(0.0))  # all the work, and nothing learned: steps stay alike
images = np.repeat(picture[None], given["batch_size"], axis=0)
boxes = np.array([[[40, 60, 220, 300], [100, 80, 380, 180], [120, 200, 360, 480]]], np.float32)
targets = {"boxes": boxes.repeat(len(images), 0), "labels": np.array([[3, 17, 90]], np.int32).repeat(len(images), 0)}

serve(
    {
        "predict": lambda: model.predict(picture[None], verbose=0),
        "heads": lambda: raw.predict_on_batch(picture[None]),
        "training step": lambda: learner.train_on_batch(images, targets),
    },
    detections=int(model.predict(picture[None], verbose=0)["num_detections"][0]),
)
