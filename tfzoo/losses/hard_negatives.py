"""Which of many examples a loss counts: the hardest ones."""

from keras import ops


def hard_negatives(losses, positive, ratio=3.0, counted=None):
    """Picks each picture's negatives of the highest loss, ``ratio`` times as many as it has positives.

    Liu et al. 2016 (SSD, section 2.2, hard negative mining). With the losses of any classifier it is what Lin et al. 2017 (Focal
    Loss, table 1d) compare the focal loss with as "OHEM 1:3".

    Args:
        losses: [B, A], the classification loss of each anchor. No gradient flows through the choice.
        positive: bool [B, A], anchors that have an object.
        ratio: negatives for each positive; where this is no whole number the count is rounded up.
        counted: bool [B, A]; False for anchors that are neither, such as those between two IoU thresholds. None: all count.

    Returns:
        bool [B, A]: the picked negatives, the positives not among them. Of equal losses the earlier anchor is picked.
    """
    negative = ops.logical_not(positive)
    if counted is not None:
        negative = ops.logical_and(negative, counted)
    wanted = ratio * ops.sum(ops.cast(positive, "float32"), axis=1, keepdims=True)
    return hardest(losses, wanted, among=negative)


def hardest(losses, number, among=None):
    """Picks the examples of the highest loss of each picture: online hard example mining (Shrivastava et al. 2016, section 4).

    Args:
        losses: [B, A], finite.
        number: how many of each picture; a number, or a tensor that [B, 1] broadcasts with.
        among: bool [B, A], which to choose from. None: all.

    Returns:
        bool [B, A]: True for ``number`` of them, fewer where there are no more. Of equal losses the earlier one is picked.
    """
    keys = -ops.cast(ops.stop_gradient(losses), "float32")
    if among is not None:
        keys = ops.where(among, keys, float("inf"))
    rank = ops.argsort(ops.argsort(keys, axis=1), axis=1)
    picked = ops.cast(rank, "float32") < ops.cast(number, "float32")
    return picked if among is None else ops.logical_and(picked, among)
