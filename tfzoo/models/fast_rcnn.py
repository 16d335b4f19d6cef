"""Fast R-CNN (Girshick 2015): one pass over the picture, and a second stage that looks at regions that come with it."""

import keras

from tfzoo.errors import InputError
from tfzoo.layers.given_proposals import GivenProposals
from tfzoo.models.base import check_images, check_options
from tfzoo.models.faster_rcnn import PYRAMIDS, FasterRCNN, box_stage, check_known, freeze_stages, pyramid_levels
from tfzoo.models.region_detector import FEATURES, RegionDetector

USUAL_PROPOSALS = 1000


@keras.saving.register_keras_serializable("tfzoo")
class FastRCNN(RegionDetector):
    """Fast R-CNN: Faster R-CNN's second stage, on proposals from elsewhere.

    ``model`` and ``fit`` take a dict, {"images": [B, H, W, 3], 0 to 255, "proposals": float32 [B, P, 4], xyxy in pixels of these
    images}, any P; boxes without an area are free places. So does ``predict``, which answers what every detector does. The order of
    the proposals does not matter; their number decides the time. See ``tfzoo.data.proposals`` for where they come from.

    A checkpoint of torchvision's Faster R-CNN loads, all but its ``rpn``.

    Args:
        num_classes, class_names, min_size, box_score_thresh, ...: see ``RegionDetector``. A torchvision checkpoint has 91, its
            first one the background.
        backbone, version, width_multiplier, norm_epsilon, frozen_norms, trainable_backbone_layers: see ``FasterRCNN``.
    """

    takes_proposals = True
    proposals_layer = "proposals_of_input"
    left_out = ("rpn.",)  # of a checkpoint
    backbone_prefix = FasterRCNN.backbone_prefix
    class_layers = FasterRCNN.class_layers

    def __init__(
        self,
        num_classes,
        backbone="resnet50",
        version=1,
        width_multiplier=1.0,
        norm_epsilon=1e-5,
        frozen_norms=False,
        trainable_backbone_layers=None,
        **kwargs,
    ):
        check_options(width_multiplier)
        check_known("backbone", backbone, PYRAMIDS)
        check_known("version", version, (1, 2))
        super().__init__(
            num_classes,
            backbone=backbone,
            version=version,
            width_multiplier=width_multiplier,
            norm_epsilon=norm_epsilon,
            frozen_norms=frozen_norms,
            trainable_backbone_layers=trainable_backbone_layers,
            **kwargs,
        )
        freeze_stages(self, backbone, trainable_backbone_layers, frozen_norms)

    checkpoint_options = FasterRCNN.checkpoint_options

    # === Graph ===

    @staticmethod
    def build_inputs():
        images = keras.Input((None, None, 3), name="images", dtype="float32")
        return {"images": images, "proposals": keras.Input((None, 4), name="proposals", dtype="float32")}

    @staticmethod
    def pictures_of(x):
        return x["images"]

    def check_input(self, x):
        check_regions(self.name, x)

    @classmethod
    def build_graph(cls, inputs, num_classes, image_mean, image_std, min_size, max_size, **options):
        layer, pictures = cls.input_layer(image_mean, image_std, min_size, max_size, **options), inputs["images"]
        form = {name: options[name] for name in ("backbone", "version", "width_multiplier", "norm_epsilon")}
        levels = pyramid_levels(layer(pictures), **form)
        proposals = GivenProposals(layer.sizes, name=cls.proposals_layer)(pictures, inputs["proposals"])
        maps = levels[: cls.pyramid(**options).maps]
        return {"proposals": proposals} | {FEATURES(index): x for index, x in enumerate(maps)}

    @staticmethod
    def pyramid(backbone, **options):
        return PYRAMIDS[backbone]

    def build_box_stage(self, channels, columns):
        return box_stage(channels, columns, **self.options)

    @property
    def usual_proposals(self):
        return USUAL_PROPOSALS


def check_regions(name, x):
    """Raises an InputError unless it is {"images": [B, H, W, 3], "proposals": [B, P, 4]}."""
    if not isinstance(x, dict) or set(x) != {"images", "proposals"}:
        raise InputError(f'Model \'{name}\' takes pictures and their proposals: give a dict with "images" and "proposals".')
    check_images(x["images"].shape)
    pictures, shape = len(x["images"]), tuple(x["proposals"].shape)
    if len(shape) != 3 or shape[0] != pictures or shape[-1] != 4:
        raise InputError(f"Proposals for {pictures} pictures must be [{pictures}, places, 4]; the shape given is {shape}.")
