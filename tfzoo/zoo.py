"""The one table of what the zoo has: name, builder, task, and what is published about it."""

import dataclasses
import importlib

from tfzoo.errors import InputError, nearest


@dataclasses.dataclass(frozen=True)
class Entry:
    """One line of the table.

    Attributes:
        builder: "module:Class".
        task: "semantic", "detection", "instance" or "keypoint".
        paper: first author and year.
        options: what this name fixes of the class's arguments.
        weights: names that ``create_model(weights=...)`` takes, beside paths.
        published: what is published about its accuracy.
    """

    builder: str
    task: str
    paper: str
    options: dict = dataclasses.field(default_factory=dict)
    weights: tuple[str, ...] = ()
    published: str = ""

    def build_class(self):
        """Imports and returns the class (this imports Keras)."""
        module, name = self.builder.split(":")
        return getattr(importlib.import_module(module), name)


def _of_task(task):
    def line(builder, paper, published="", weights=(), **options):
        return Entry(f"tfzoo.models.{builder}", task, paper, options, weights, published)

    return line


_semantic, _detection, _instance, _keypoint = map(_of_task, ("semantic", "detection", "instance", "keypoint"))
IMAGENET, VOC, COCO = ("imagenet",), ("voc", "imagenet"), ("coco", "imagenet")

MODELS = {
    "fcn8s_vgg16": _semantic("fcn:FCN", "Long 2015", "mIoU 62.2 (VOC 2012 test)", IMAGENET, stride=8),
    "fcn16s_vgg16": _semantic("fcn:FCN", "Long 2015", weights=IMAGENET, stride=16),
    "fcn32s_vgg16": _semantic("fcn:FCN", "Long 2015", weights=IMAGENET, stride=32),
    "fcn_resnet50": _semantic("fcn_resnet:FCNResNet", "Long 2015", "mIoU 60.5 (COCO val2017)", VOC, backbone="resnet50"),
    "fcn_resnet101": _semantic("fcn_resnet:FCNResNet", "Long 2015", "mIoU 63.7 (COCO val2017)", VOC, backbone="resnet101"),
    "segnet_vgg16": _semantic("segnet:SegNet", "Badrinarayanan 2017", "mIoU 55.6 (CamVid test)", IMAGENET),
    "segnet_basic": _semantic("segnet:SegNetBasic", "Badrinarayanan 2017", "mIoU 46.3 (CamVid test)"),
    "deconvnet_vgg16": _semantic("deconvnet:DeconvNet", "Noh 2015", "mIoU 69.6 (VOC 2012 test)", IMAGENET),
    "unet": _semantic("unet:UNet", "Ronneberger 2015", "IoU 92.0 (PhC-U373)"),
    "unet_resnet50": _semantic("unet:UNetWithBackbone", "Ronneberger 2015", weights=IMAGENET, backbone="resnet50"),
    "unet_mobilenetv2": _semantic("unet:UNetWithBackbone", "Ronneberger 2015", weights=IMAGENET, backbone="mobilenetv2"),
    "dilated_vgg16": _semantic("dilated:DilatedVGG", "Yu 2016", "mIoU 65.3 (CamVid test)", IMAGENET),
    "deeplab_largefov_vgg16": _semantic("deeplab:DeepLabLargeFOV", "Chen 2015", "mIoU 62.3 (VOC 2012 val)", IMAGENET),
    "deeplabv2_resnet101": _semantic("deeplab:DeepLabV2", "Chen 2018", "mIoU 76.4 (VOC 2012 val)", IMAGENET, backbone="resnet101"),
    "deeplabv3_resnet50": _semantic("deeplabv3:DeepLabV3", "Chen 2017", "mIoU 66.4 (COCO val2017)", VOC, backbone="resnet50"),
    "deeplabv3_resnet101": _semantic("deeplabv3:DeepLabV3", "Chen 2017", "mIoU 67.4 (COCO val2017)", VOC, backbone="resnet101"),
    "deeplabv3_mobilenet_v3_large": _semantic(
        "deeplabv3:DeepLabV3", "Chen 2017", "mIoU 60.3 (COCO val2017)", VOC, backbone="mobilenet_v3_large"
    ),
    "deeplabv3plus_resnet50": _semantic("deeplabv3plus:DeepLabV3Plus", "Chen 2018", weights=IMAGENET, backbone="resnet50"),
    "deeplabv3plus_mobilenetv2": _semantic("deeplabv3plus:DeepLabV3Plus", "Chen 2018", weights=IMAGENET, backbone="mobilenetv2"),
    "lraspp_mobilenet_v3_large": _semantic("lraspp:LRASPP", "Howard 2019", "mIoU 57.9 (COCO val2017)", VOC),
    "enet": _semantic("enet:ENet", "Paszke 2016", "mIoU 51.3 (CamVid test)"),
    "pspnet_resnet50": _semantic("pspnet:PSPNet", "Zhao 2017", "mIoU 41.7 (ADE20K val)", IMAGENET, backbone="resnet50"),
    "retinanet_resnet50_fpn": _detection(
        "retinanet:RetinaNet", "Lin 2017", "box AP 36.4 (COCO val2017)", COCO, backbone="resnet50"
    ),
    "retinanet_resnet50_fpn_v2": _detection(
        "retinanet:RetinaNet",
        "Zhang 2020",
        "box AP 41.5 (COCO val2017)",
        COCO,
        backbone="resnet50",
        group_norm=True,
        p6_from="c5",
        box_loss="giou",
    ),
    "retinanet_mobilenetv2_fpn": _detection("retinanet:RetinaNet", "Lin 2017", weights=IMAGENET, backbone="mobilenetv2"),
    "fcos_resnet50_fpn": _detection("fcos:FCOS", "Tian 2019", "box AP 39.2 (COCO val2017)", COCO),
    "ssd300_vgg16": _detection("ssd:SSD", "Liu 2016", "box AP 25.1 (COCO val2017)", (*COCO, "bccd"), size=300),
    "ssd512_vgg16": _detection("ssd:SSD", "Liu 2016", "box AP 26.8 (COCO test-dev2015)", IMAGENET, size=512),
    "ssdlite320_mobilenet_v3_large": _detection(
        "ssdlite:SSDLite", "Sandler 2018", "box AP 21.3 (COCO val2017)", COCO, backbone="mobilenet_v3_large"
    ),
    "ssdlite320_mobilenetv2": _detection(
        "ssdlite:SSDLite", "Sandler 2018", "box AP 22.1 (COCO test-dev)", IMAGENET, backbone="mobilenetv2"
    ),
    "yolov1_tiny": _detection("yolov1:YOLOv1", "Redmon 2016", "mAP 52.7 (VOC 2007 test)"),
    "yolov2_darknet19": _detection("yolov2:YOLOv2", "Redmon 2017", "mAP 76.8 (VOC 2007 test, at 416)"),
    "fastrcnn_resnet50_fpn": _detection("fast_rcnn:FastRCNN", "Girshick 2015", weights=COCO, backbone="resnet50"),
    "fasterrcnn_resnet50_fpn": _detection(
        "faster_rcnn:FasterRCNN", "Ren 2015", "box AP 37.0 (COCO val2017)", COCO, backbone="resnet50"
    ),
    "fasterrcnn_resnet50_fpn_v2": _detection(
        "faster_rcnn:FasterRCNN", "Li 2021", "box AP 46.7 (COCO val2017)", COCO, backbone="resnet50", version=2
    ),
    "fasterrcnn_mobilenet_v3_large_fpn": _detection(
        "faster_rcnn:FasterRCNN", "Ren 2015", "box AP 32.8 (COCO val2017)", COCO, backbone="mobilenet_v3_large"
    ),
    "fasterrcnn_mobilenet_v3_large_320_fpn": _detection(
        "faster_rcnn:FasterRCNN",
        "Ren 2015",
        "box AP 22.8 (COCO val2017)",
        COCO,
        backbone="mobilenet_v3_large",
        published_size=320,
    ),
    "fasterrcnn_vgg16": _detection("faster_rcnn:FasterRCNN", "Ren 2015", "mAP 73.2 (VOC 2007 test)", IMAGENET, backbone="vgg16"),
    "maskrcnn_resnet50_fpn": _instance(
        "mask_rcnn:MaskRCNN", "He 2017", "box AP 37.9, mask AP 34.6 (COCO val2017)", COCO, backbone="resnet50"
    ),
    "maskrcnn_resnet50_fpn_v2": _instance(
        "mask_rcnn:MaskRCNN", "Li 2021", "box AP 47.4, mask AP 41.8 (COCO val2017)", COCO, backbone="resnet50", version=2
    ),
    "maskrcnn_mobilenetv2_fpn": _instance("mask_rcnn:MaskRCNN", "He 2017", weights=(*IMAGENET, "dsb2018"), backbone="mobilenetv2"),
    "keypointrcnn_resnet50_fpn": _keypoint(
        "keypoint_rcnn:KeypointRCNN", "He 2017", "box AP 54.6, keypoint AP 65.0 (COCO val2017)", COCO, backbone="resnet50"
    ),
}


def list_models(task: str | None = None) -> list[str]:
    """Returns the names that ``create_model`` takes, sorted; ``task`` keeps those of one task.

    Raises:
        InputError: the task is not known.
    """
    from tfzoo.data.dataset import TASKS

    if task is not None and task not in TASKS:
        raise InputError(f"Task '{task}' is not known: it is one of {', '.join(TASKS)}.{nearest(task, TASKS)}")
    return sorted(name for name, entry in MODELS.items() if task in (None, entry.task))


def find_entry(name: str) -> Entry:
    """Returns the table's line, or raises an InputError that suggests the nearest name."""
    if name not in MODELS:
        raise InputError(f"There is no model '{name}': 'tfzoo models' lists them.{nearest(name, MODELS)}")
    return MODELS[name]
