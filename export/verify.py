"""The proof: a written file, run in its own runtime, against the Keras model."""

import time

import numpy as np

from tfzoo.data.boxes import box_ious
from tfzoo.errors import ExportError

# Float32 files compute what Keras computes, in another order: errors of some 1e-6 relative; labels differ at near-ties alone.
# Float16 weights move each weight by up to 2^-11 of itself, which some fifty layers bring to a hundredth of the logits.
LIMITS = {
    None: {
        "labels": ("agreement", 0.9995),
        "scores": ("max_abs_error", 1e-3),
        "logits": ("relative_error", 1e-4),
        "detections": ("agreement", 0.99),
        "masks": ("agreement", 0.99),
        "keypoints": ("agreement", 0.98),
        "proposals": ("agreement", 0.99),
    },
    "float16": {"labels": ("agreement", 0.98), "logits": ("relative_error", 2e-2)},
}
HEADS = (  # of detectors, in raw files: limited as logits are
    "cls_logits", "bbox_regression", "bbox_ctrness", "objectness", "pred_bbox_deltas", "class_logits", "box_regression",
    "regions",
)  # fmt: skip
OF_PROPOSALS = ("class_logits", "box_regression")
SAME_BOX, SAME_SCORE = 0.1, 1e-3  # pixels; detections no further apart than these are the same one
SAME_OBJECT = 0.5  # IoU
SAME_MASK, SAME_POINT = 1e-2, 0.5  # probability; pixels
# Unpooling by remembered places jumps: where two pixels of a cell are equal but for rounding, another order of summing puts a value
# beside its place, and a patch of the answer changes. Such jumps are few, so the norms and the labels as a whole stay close;
# float16 weights bring more of them.
LIMITS_OF_UNPOOLING = {
    None: {"labels": ("agreement", 0.999), "scores": ("relative_error", 5e-3), "logits": ("relative_error", 1e-2)},
    "float16": {"labels": ("agreement", 0.98), "logits": ("relative_error", 5e-2)},
}


def compare(answer: dict, reference: dict) -> dict[str, dict[str, float]]:
    """Errors of an answer's outputs against the reference's: see ``ExportReport.parity``.

    Detections are compared as such, see ``compare_detections``.

    Raises:
        ExportError: an output is missing, or has another shape or kind of number.
    """
    if "num_detections" in reference:
        return compare_detections(answer, reference)
    if "proposals" in reference:
        return compare_proposals(answer, reference)
    return _compare_outputs(answer, reference)


def _compare_outputs(answer, reference):
    errors = {}
    for name, want in reference.items():
        got = answer.get(name)
        _require_alike(name, got, want)
        difference = got.astype(np.float64) - want.astype(np.float64)
        errors[name] = {"max_abs_error": float(np.abs(difference).max())}
        if np.issubdtype(want.dtype, np.integer):
            errors[name]["agreement"] = float((got == want).mean())
        else:
            errors[name]["relative_error"] = float(np.linalg.norm(difference) / max(np.linalg.norm(want.astype(np.float64)), 1e-12))
    return errors


def compare_detections(answer: dict, reference: dict) -> dict[str, dict[str, float]]:
    """How far detections agree with the reference's.

    A detection agrees with one of the same picture and label, not taken yet, whose box is at most ``SAME_BOX`` pixels away on
    every side and whose score differs by ``SAME_SCORE`` at most; so two of nearly equal scores may change places. The agreement is
    the share of all detections, of both sides, that agree; 1 where neither side has any.

    Returns:
        {"detections": {"agreement", "max_box_error" in pixels, "max_score_error", both over those that agree, "found_again", the
        share of the reference's that one of the same label overlaps by an IoU of ``SAME_OBJECT``, "count"}}, the count being the
        reference's. With masks, "masks": {"agreement", the share of those that agree whose masks differ by at
        most ``SAME_MASK`` everywhere, "max_abs_error"}; with keypoints, "keypoints": {"agreement", the share of their points that
        are at most ``SAME_POINT`` pixels apart}.

    Raises:
        ExportError: an output is missing, or has another shape or kind of number.
    """
    for name, want in reference.items():
        _require_alike(name, answer.get(name), want)
    agreeing, again, box_errors, score_errors, mask_errors, point_errors = 0, 0, [0.0], [0.0], [], []
    for index, count in enumerate(reference["num_detections"]):
        want = {name: reference[name][index][:count] for name in ("boxes", "scores", "labels")}
        got = {name: answer[name][index][: answer["num_detections"][index]] for name in ("boxes", "scores", "labels")}
        free = np.ones(len(got["labels"]), bool)
        for place, (box, score, label) in enumerate(zip(want["boxes"], want["scores"], want["labels"], strict=True)):
            box_error = np.abs(got["boxes"] - box).max(axis=1, initial=0)
            score_error = np.abs(got["scores"] - score)
            again += bool(((got["labels"] == label) & (box_ious(got["boxes"], box[None])[:, 0] >= SAME_OBJECT)).any())
            same = free & (got["labels"] == label) & (box_error <= SAME_BOX) & (score_error <= SAME_SCORE)
            if same.any():
                taken = int(np.flatnonzero(same)[np.argmin(box_error[same])])
                free[taken] = False
                agreeing += 1
                box_errors.append(float(box_error[taken]))
                score_errors.append(float(score_error[taken]))
                mask_errors += _differences("masks", answer, reference, index, taken, place)
                point_errors += _differences("keypoints", answer, reference, index, taken, place)
    count, found = int(reference["num_detections"].sum()), int(answer["num_detections"].sum())
    agreement = 2 * agreeing / (count + found) if count + found else 1.0
    errors = {"agreement": agreement, "max_box_error": max(box_errors), "max_score_error": max(score_errors)}
    errors |= {"found_again": again / count if count else 1.0, "count": count}
    parity = {"detections": errors}
    if mask_errors:
        masks = np.array([difference.max() for difference in mask_errors])
        parity["masks"] = {"agreement": float((masks <= SAME_MASK).mean()), "max_abs_error": float(masks.max())}
    if point_errors:
        points = np.stack(point_errors)[..., :2].max(axis=-1)
        parity["keypoints"] = {"agreement": float((points <= SAME_POINT).mean())}
    return parity


def compare_decoded(answer: dict, reference: dict) -> dict[str, dict[str, float]]:
    """``compare_detections`` for what ``decoding.decode`` makes of a raw file, which is boxes, scores and labels alone."""
    return compare_detections(answer, {name: reference[name] for name in answer})


def _differences(name, answer, reference, index, taken, place):
    return [np.abs(answer[name][index, taken] - reference[name][index, place])] if name in reference else []


def compare_proposals(answer: dict, reference: dict) -> dict[str, dict[str, float]]:
    """Errors of a raw two-stage file: proposals of nearly equal scores may change places, and what is said of them with them.

    Returns ``compare``'s errors, those of proposals and of what is said of them over the proposals that are on both sides; the
    "agreement" of "proposals" is the share of the reference's, free places left out, that the answer has, at most ``SAME_BOX``
    pixels away.

    Raises:
        ExportError: an output is missing, or has another shape or kind of number.
    """
    for name, want in reference.items():
        _require_alike(name, answer.get(name), want)
    ours, theirs, count = [], [], 0
    for index, (got, want) in enumerate(zip(answer["proposals"], reference["proposals"], strict=True)):
        real = np.flatnonzero((want[:, 2:] > want[:, :2]).all(axis=-1))  # free places are alike, and prove nothing
        distance = np.abs(got[:, None] - want[None, real]).max(axis=-1)
        nearest = distance.argmin(axis=0)
        same = np.flatnonzero(distance[nearest, np.arange(len(real))] <= SAME_BOX)
        ours += [(index, place) for place in nearest[same]]
        theirs += [(index, place) for place in real[same]]
        count += len(real)
    parts = [name for name in reference if name not in ("proposals", *OF_PROPOSALS)]
    errors = _compare_outputs({name: answer[name] for name in parts}, {name: reference[name] for name in parts})
    if not count:
        return errors
    if theirs:
        where = (answer, tuple(np.array(ours).T)), (reference, tuple(np.array(theirs).T))
        errors |= _compare_outputs(*({name: side[name][places] for name in ("proposals", *OF_PROPOSALS)} for side, places in where))
    errors.setdefault("proposals", {})["agreement"] = len(theirs) / count
    return errors


def _require_alike(name, got, want):
    if got is None or got.shape != want.shape or got.dtype != want.dtype:
        shape = "missing" if got is None else f"{got.dtype} {got.shape}"
        raise ExportError(f"The exported file's output '{name}' is {shape}, the model's {want.dtype} {want.shape}.")


def limits(quantization, remembers_maxima: bool = False) -> dict:
    """Returns output -> (measure, limit) for a file; {} for int8 and dynamic ones, which are measured, not limited."""
    return (LIMITS_OF_UNPOOLING if remembers_maxima else LIMITS).get(quantization, {})


def check(parity: dict, quantization, remembers_maxima: bool = False) -> None:
    """Raises an ExportError that says by how much, if an output is off by more than the limits allow.

    Args:
        parity: see ``compare``; quantization: None, "float16", ...
        remembers_maxima: the model unpools by remembered places (``Segmenter.remembers_maxima``).
    """
    allowed = limits(quantization, remembers_maxima)
    if "logits" in allowed:
        allowed = {**allowed, **dict.fromkeys(HEADS, allowed["logits"])}
    for output, (measure, limit) in allowed.items():
        value = parity.get(output, {}).get(measure)
        if value is None:
            continue
        if not (value >= limit if measure == "agreement" else value <= limit):
            raise ExportError(
                f"The exported file does not answer what the model answers: {measure.replace('_', ' ')} of {output} is "
                f"{value:.6g}, the limit is {limit:g}; nothing was written."
            )


def run_in_batches(runner, images: np.ndarray, proposals=None) -> dict:
    """The runner's answer; a file that takes any batch gets the first picture alone and the others together.

    Args:
        images: [B, H, W, 3]; proposals: of each, for a file that takes them.
    """
    more = {} if proposals is None else {"proposals": proposals}
    if runner.batch_size is not None:
        return runner.predict(images, **more)
    cuts = [cut for cut in (slice(1), slice(1, None)) if len(images[cut])]
    parts = [runner.predict(images[cut], **{name: values[cut] for name, values in more.items()}) for cut in cuts]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def latency(runner, batch: dict, runs: int = 5) -> float:
    """Median milliseconds of one run, after one to warm up; ``batch``: the inputs by name, as the file takes them."""
    runner.run(**batch)
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        runner.run(**batch)
        times.append(time.perf_counter() - start)
    return float(np.median(times) * 1000)
