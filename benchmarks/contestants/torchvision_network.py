"""torchvision's network without what comes after its heads, eager; it also writes the file that torch.onnx makes of it.

Arguments: name, checkpoint, classes, picture (.npy, uint8 [H, W, 3]), threads, file (to be written, or None), setup (a module to
import first, or None). Pictures from 0 to 1 are normalised inside, as they are in the zoo's files.
"""

from loop import arguments, serve

# isort: split
import importlib

import numpy as np

given = arguments()
if given["setup"]:
    importlib.import_module(given["setup"])

import torch  # noqa: E402
import torchvision  # noqa: E402

torch.set_num_threads(given["threads"])


class Network(torch.nn.Module):
    """Pictures [B, 3, H, W], 0 to 1, to raw heads, under the names of none: a tuple."""

    def __init__(self):
        super().__init__()
        choice = {"weights": None, "weights_backbone": None, "num_classes": given["classes"]}
        self.model = torchvision.models.get_model(given["name"], **choice).eval()
        self.model.load_state_dict(torch.load(given["checkpoint"]), strict=False)  # the auxiliary head's tensors have no place
        transform = getattr(self.model, "transform", None)
        mean, std = (transform.image_mean, transform.image_std) if transform else ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1))

    def forward(self, images):
        images = (images - self.mean) / self.std
        if not hasattr(self.model, "head"):
            return (self.model(images)["out"],)
        features = self.model.backbone(images)
        return tuple(self.model.head(list(features.values())).values())


network = Network().eval()
pictures = torch.from_numpy(np.load(given["picture"])).permute(2, 0, 1)[None].float() / 255
if given["file"]:
    torch.onnx.export(network, (pictures,), given["file"], dynamo=True, external_data=False)


def heads():
    with torch.inference_mode():
        return network(pictures)


serve({"heads": heads}, numbers=sum(head.numel() for head in heads()))
