"""What every two-stage detector is: proposals from a first stage, and heads that look at each of them again."""

from keras import ops

from tfzoo.layers.rpn import Proposals, rpn_losses
from tfzoo.layers.sampler import draw
from tfzoo.models.detector import check_counts, check_shares
from tfzoo.models.region_detector import FEATURES, RegionDetector


class TwoStageDetector(RegionDetector):
    """Base of the two-stage detectors.

    ``model(images)`` returns what the first stage says: ``objectness`` [B, A, 1], ``pred_bbox_deltas`` [B, A, 4] of its anchors,
    ``proposals`` [B, P, 4] and the maps ``features_0`` ... that the second stage reads: see ``RegionDetector``.

    A subclass gives ``build_first_stage``, ``pyramid``, ``build_box_stage`` and ``build_branches``.

    Args:
        num_classes, box_score_thresh, ...: see ``RegionDetector``.
        rpn_pre_nms_top_n_train, rpn_pre_nms_top_n_test: anchors of each level that go into the proposals' NMS.
        rpn_post_nms_top_n_train, rpn_post_nms_top_n_test: P, the proposals.
        rpn_nms_thresh, rpn_score_thresh: of the proposals.
        **options: the architecture's own, kept in the configuration.

    Raises:
        InputError: a threshold outside 0 to 1, or a count below 1; and what ``RegionDetector`` raises.
    """

    proposals_layer = "rpn.proposals"

    def __init__(
        self,
        num_classes,
        rpn_pre_nms_top_n_train=2000,
        rpn_pre_nms_top_n_test=1000,
        rpn_post_nms_top_n_train=2000,
        rpn_post_nms_top_n_test=1000,
        rpn_nms_thresh=0.7,
        rpn_score_thresh=0.0,
        **kwargs,
    ):
        counts = {
            "rpn_pre_nms_top_n_train": rpn_pre_nms_top_n_train,
            "rpn_pre_nms_top_n_test": rpn_pre_nms_top_n_test,
            "rpn_post_nms_top_n_train": rpn_post_nms_top_n_train,
            "rpn_post_nms_top_n_test": rpn_post_nms_top_n_test,
        }
        shares = {"rpn_nms_thresh": rpn_nms_thresh, "rpn_score_thresh": rpn_score_thresh}
        check_shares(**shares)
        check_counts(**counts)
        super().__init__(num_classes, **counts, **shares, **kwargs)

    # === Graph ===

    @classmethod
    def build_graph(cls, images, num_classes, image_mean, image_std, min_size, max_size, **options):
        layer = cls.input_layer(image_mean, image_std, min_size, max_size, **options)
        maps, objectness, deltas = cls.build_first_stage(layer(images), **options)
        proposals = Proposals(
            layer.sizes,
            cls.pyramid(**options).grid,
            before=(options["rpn_pre_nms_top_n_train"], options["rpn_pre_nms_top_n_test"]),
            after=(options["rpn_post_nms_top_n_train"], options["rpn_post_nms_top_n_test"]),
            nms_thresh=options["rpn_nms_thresh"],
            score_thresh=options["rpn_score_thresh"],
            name=cls.proposals_layer,
        )(images, objectness, deltas)
        heads = {"objectness": objectness, "pred_bbox_deltas": deltas, "proposals": proposals}
        return heads | {FEATURES(index): x for index, x in enumerate(maps)}

    @staticmethod
    def build_first_stage(pixels, **options):
        """Returns (maps that the second stage reads, objectness [B, A, 1], box numbers [B, A, 4]) for normalised pixels."""
        raise NotImplementedError

    @staticmethod
    def pyramid(**options):
        """Returns the ``Pyramid`` of these options: its anchors, and how regions are read from its maps."""
        raise NotImplementedError

    @property
    def usual_proposals(self):
        return self.options["rpn_post_nms_top_n_test"]

    @property
    def loss_names(self):
        return ("objectness", "rpn_box", *super().loss_names)

    # === Training ===

    def losses_of(self, heads, truth, image_size, training):
        anchors, _ = self.pyramid(**self.options).grid(image_size)
        drawn = draw(ops.shape(heads["objectness"])[:2], self.seed_of(training))
        losses = rpn_losses(heads["objectness"], heads["pred_bbox_deltas"], truth, anchors, drawn)
        return losses | super().losses_of(heads, truth, image_size, training)
