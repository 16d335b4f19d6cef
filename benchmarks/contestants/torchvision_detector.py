"""torchvision's detector of a checkpoint. Arguments as for ``tfzoo_detector.py``; setup: a module to import first, or None.

frozen_norms: as where it starts from trained weights; else plain batch normalisation, which is faster and gives the same.
device: "cpu" or "cuda".
"""

from loop import arguments, serve

# isort: split
import importlib

import numpy as np

given = arguments()
if given["setup"]:
    importlib.import_module(given["setup"])

import torch  # noqa: E402
from torchvision.models import resnet50  # noqa: E402
from torchvision.models.detection import FasterRCNN, KeypointRCNN, MaskRCNN, RetinaNet  # noqa: E402
from torchvision.models.detection._utils import overwrite_eps  # noqa: E402
from torchvision.models.detection.backbone_utils import _resnet_fpn_extractor  # noqa: E402
from torchvision.ops import FrozenBatchNorm2d  # noqa: E402
from torchvision.ops.feature_pyramid_network import LastLevelP6P7  # noqa: E402

torch.set_num_threads(given["threads"])
body = resnet50(weights=None, norm_layer=FrozenBatchNorm2d if given["frozen_norms"] else torch.nn.BatchNorm2d)
sizes = {"min_size": given["size"], "max_size": given["size"]}
if given["name"].startswith("retinanet"):
    backbone = _resnet_fpn_extractor(body, 5, returned_layers=[2, 3, 4], extra_blocks=LastLevelP6P7(256, 256))
    model = RetinaNet(backbone, 91, **sizes)
else:
    build, classes = {"faster": (FasterRCNN, 91), "maskrc": (MaskRCNN, 91), "keypoi": (KeypointRCNN, 2)}[given["name"][:6]]
    model = build(_resnet_fpn_extractor(body, 5), classes, **sizes)
overwrite_eps(model, 0.0)
model.load_state_dict(torch.load(given["checkpoint"]), strict=given["frozen_norms"])  # frozen ones count no batches
model.to(given["device"])

picture = torch.from_numpy(np.load(given["picture"])).permute(2, 0, 1).float().to(given["device"]) / 255
boxes = torch.tensor([[40.0, 60, 220, 300], [100, 80, 380, 180], [120, 200, 360, 480]])
masks = torch.zeros((3, *picture.shape[1:]), dtype=torch.uint8)
for mask, (left, top, right, bottom) in zip(masks, boxes.int().tolist(), strict=True):
    mask[top:bottom, left:right] = 1
points = torch.cat([(boxes[:, None, :2] + boxes[:, None, 2:]) / 2, torch.full((3, 1, 1), 2.0)], dim=2).repeat(1, 17, 1)
labels = torch.tensor([3, 17, 90]) if "keypoint" not in given["name"] else torch.ones(3, dtype=torch.int64)
target = {"boxes": boxes, "labels": labels, "masks": masks, "keypoints": points}
targets = [{name: values.to(given["device"]) for name, values in target.items()}] * given["batch_size"]
optimizer = torch.optim.SGD(model.parameters(), lr=0.0)  # all the work, and nothing learned: steps stay alike


def predict():
    model.eval()
    with torch.inference_mode():
        return {name: values.cpu() for name, values in model([picture])[0].items()}


def training_step():
    model.train()
    optimizer.zero_grad()
    with torch.autocast(given["device"], torch.bfloat16, enabled=given["precision"] == "mixed_bfloat16"):
        loss = sum(model([picture] * given["batch_size"], targets).values())
    loss.backward()
    optimizer.step()
    loss.item()  # waits for a device to be done


serve(
    {"predict": predict, "training step": training_step},
    detections=len(predict()["scores"]) if "predict" in given["cases"] else None,
)
