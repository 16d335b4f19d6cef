"""Where proposals come from: selective search, or the first stage of a detector that has one."""

import pathlib

import numpy as np

from tfzoo.data.boxes import box_areas, scale_boxes
from tfzoo.data.images import parse_size, resize_image
from tfzoo.data.proposals import ProposalFile
from tfzoo.errors import InputError

SELECTIVE_SEARCH = "selective_search"


def open_source(method, image_size=None):
    """Returns the function that finds proposals: picture uint8 [H, W, 3] -> float32 [n, 4] in its pixels, best first.

    Args:
        method: "selective_search", or the path of a two-stage model's .keras file.
        image_size: N or (height, width) of the pictures that are searched; None: their own, or the size that the model was trained
            at.

    Raises:
        InputError: the method is none, the model has no first stage, or OpenCV's ``ximgproc`` is missing.
        MissingInputError: there is no such file.
    """
    size = parse_size(image_size)
    if str(method) == SELECTIVE_SEARCH:
        find = selective_search
        _ximgproc()  # before the first picture is read
    elif pathlib.Path(method).suffix == ".keras":
        from tfzoo.weights import load_model

        model = load_model(method)
        find, size = first_stage(model), size or model.image_size
    else:
        raise InputError(f"'{method}' is no source of proposals: give {SELECTIVE_SEARCH}, or a two-stage model's .keras file.")
    return find if size is None else lambda image: scale_boxes(find(resize_image(image, size)), size, image.shape[:2])


def selective_search(image: np.ndarray) -> np.ndarray:
    """Selective search (Uijlings et al. 2013, "fast"), by OpenCV: regions of like colour and texture, joined again and again.

    Args:
        image: uint8 [H, W, 3], RGB. The time grows faster than the number of pixels.

    Returns:
        float32 [n, 4], xyxy in pixels; the same set each time. Its order is the paper's (section 3.4), by rank in the hierarchy
        times a random number, which OpenCV draws anew each time.

    Raises:
        InputError: OpenCV's ``ximgproc`` is missing.
    """
    cv2 = _ximgproc()
    search = cv2.ximgproc.segmentation.createSelectiveSearchSegmentation()
    search.setBaseImage(np.ascontiguousarray(image[..., ::-1]))  # OpenCV's channels are blue, green, red
    search.switchToSelectiveSearchFast()
    found = np.asarray(search.process(), np.float32).reshape(-1, 4)
    return np.concatenate([found[:, :2], found[:, :2] + found[:, 2:]], axis=1)


def _ximgproc():
    try:
        import cv2

        cv2.ximgproc.segmentation.createSelectiveSearchSegmentation  # noqa: B018  (OpenCV without its contributions lacks it)
    except (ImportError, AttributeError):
        raise InputError(
            "Selective search needs OpenCV with its ximgproc, which is not installed: pip install opencv-contrib-python-headless, "
            "or take a two-stage model's proposals."
        ) from None
    return cv2


def first_stage(model):
    """Returns the function that finds a two-stage model's own proposals: picture uint8 [H, W, 3] -> float32 [n, 4], best first.

    Raises:
        InputError: the model has no first stage.
    """
    import keras

    from tfzoo.models.two_stage import TwoStageDetector

    if not isinstance(model, TwoStageDetector):
        raise InputError(f"Model '{model.name}' has no first stage that proposes: give a Faster, Mask or Keypoint R-CNN.")
    network = model.deployed().network
    stage = keras.Model(network.input, network.output["proposals"])

    def find(image):
        boxes = keras.ops.convert_to_numpy(stage.predict_on_batch(image[None].astype(np.float32)))[0]
        resized, _ = network.input_sizes(image.shape[:2])
        return scale_boxes(boxes[box_areas(boxes) > 0], resized, image.shape[:2])

    return find


def for_files(source):
    """Returns the function that finds the proposals of picture files: (path, picture) -> float32 [n, 4].

    Args:
        source: an .npz file that holds them by the files' names without their endings; or as in ``open_source``.
    """
    if pathlib.Path(source).suffix == ".npz":
        stored = ProposalFile(source)
        return lambda path, image: stored.read(pathlib.Path(path).stem)
    find = open_source(source)
    return lambda path, image: find(image)
