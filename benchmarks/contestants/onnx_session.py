"""ONNX Runtime on a file. Arguments: file, picture (.npy, uint8 [H, W, 3]), threads; as_float: [1, 3, H, W] from 0 to 1."""

from loop import arguments, serve

# isort: split
import numpy as np
import onnxruntime

given = arguments()
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = given["threads"]
session = onnxruntime.InferenceSession(given["file"], options, providers=["CPUExecutionProvider"])
picture = np.load(given["picture"])
images = np.float32(picture / 255).transpose(2, 0, 1)[None] if given["as_float"] else picture[None]
name = session.get_inputs()[0].name

serve({"heads": lambda: session.run(None, {name: images})}, numbers=sum(head.size for head in session.run(None, {name: images})))
