"""Runs a TFLite file of the zoo with nothing but LiteRT, NumPy and Pillow: pip install ai-edge-litert numpy pillow

    python run_tflite.py model.tflite picture.jpg

The JSON beside the file says what there is to know. For files that take one picture and no proposals. For raw files of detectors
put the package's export/decoding.py, which needs NumPy alone, beside this program.
"""

import json
import pathlib
import sys

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from PIL import Image, ImageOps


def main(file, picture):
    facts = json.loads(pathlib.Path(f"{file}.json").read_text())
    height, width = facts["image_size"]
    given = ImageOps.exif_transpose(Image.open(picture)).convert("RGB")  # upright, however the telephone was held
    images = np.asarray(given.resize((width, height), Image.Resampling.BILINEAR))[None]  # [1, height, width, 3]
    interpreter = Interpreter(file, num_threads=4)
    interpreter.allocate_tensors()
    answer = interpreter.get_signature_runner()(images=images.astype(facts["input"]["dtype"]))
    for name, (scale, zero_point) in facts["integers"].items():  # of full_int8 files
        answer[name] = (answer[name].astype(np.float32) - zero_point) * scale
    if facts["decoding"]:
        from decoding import decode

        answer = decode(answer, facts["decoding"])
    tell = tell_labels if facts["task"] == "semantic" else tell_objects
    tell(answer, facts["class_names"], np.divide(given.size, (width, height)))


def tell_labels(answer, names, scale):
    labels = answer["labels"][0] if "labels" in answer else answer["logits"][0].argmax(axis=-1)
    for label, count in zip(*np.unique(labels, return_counts=True), strict=True):
        print(f"{names[label]}: {count / labels.size:.1%} of the picture")


def tell_objects(answer, names, scale):
    for index in range(int(answer["num_detections"][0])):
        box = (answer["boxes"][0, index] * np.tile(scale, 2)).round().astype(int).tolist()
        print(f"{names[answer['labels'][0, index]]} {answer['scores'][0, index]:.2f} at {box}")


if __name__ == "__main__":
    main(*sys.argv[1:])
