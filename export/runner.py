"""One interface for every artifact: .keras, SavedModel, TFLite, ONNX, OpenVINO."""

import abc
import os
import pathlib

import numpy as np

from tfzoo.data.boxes import scale_boxes
from tfzoo.data.images import parse_size, resize_image, resize_labels, resize_scores
from tfzoo.data.objects import scale_found
from tfzoo.data.proposals import pad_proposals
from tfzoo.errors import InputError, MissingInputError
from tfzoo.export import sidecar as sidecars
from tfzoo.models.base import check_images
from tfzoo.zoo import MODELS

PROPOSALS_STEP = 100


def load(path, threads: int | None = None, image_size=None, weights=None) -> "Runner":
    """Opens an artifact.

    Args:
        path: a ``.keras``, ``.tflite``, ``.onnx`` or OpenVINO's ``.xml`` file, the folder of a SavedModel, or a model's name in
            the zoo.
        threads: of the runtime; None: as many as there are cores.
        image_size: N or (height, width) to run pictures at, for an artifact that takes any size. None: the size that it was
            trained or exported at, else each picture's own.
        weights: with a model's name: as ``create_model`` takes them.

    Raises:
        MissingInputError: the artifact or its sidecar is not there.
        InputError: it is damaged, no artifact of this zoo, or does not take pictures of that size.
    """
    path = pathlib.Path(path)
    named = weights is not None or (str(path) in MODELS and not path.exists())
    runner = KerasRunner(path, threads, weights) if named else _find_class(path)(path, threads)
    if image_size is not None:
        runner.set_image_size(parse_size(image_size))
    return runner


def _find_class(path):
    if not path.exists():
        raise MissingInputError(f"There is no artifact {path}: check the path.")
    if path.is_dir():
        if not (path / "saved_model.pb").is_file():
            raise InputError(f"Folder {path} is no SavedModel (it has no saved_model.pb): give the folder that the export wrote.")
        return SavedModelRunner
    runners = {".keras": KerasRunner, ".tflite": TFLiteRunner, ".onnx": OnnxRunner, ".xml": OpenVinoRunner}
    if path.suffix not in runners:
        raise InputError(f"{path} is no artifact: it must be a {', '.join(runners)} file, or the folder of a SavedModel.")
    return runners[path.suffix]


class Runner(abc.ABC):
    """An artifact that can be run.

    Attributes:
        path, format: where and what it is.
        task, class_names: what it answers.
        image_size: (height, width) that it takes, or None for any.
        batch_size: pictures that it takes at once, or None for any.
        threads: of its runtime; None where that is TensorFlow, whose threads are the process's.
    """

    format: str
    fixed_size: tuple[int, int] | None = None  # that its network stretches pictures to, whatever size is given

    def __init__(self, path: pathlib.Path, threads: int | None):
        self.path, self.threads = path, threads or os.cpu_count()
        self.sidecar = self._read_sidecar()
        self.task, self.class_names = self.sidecar.task, list(self.sidecar.class_names)
        self.image_size, self.batch_size = self.sidecar.image_size, self.sidecar.batch_size
        self.name = f"{self.format} {self.sidecar.quantization}" if self.sidecar.quantization else self.format
        try:
            self._open()
            self._check_shape()
        except (ImportError, InputError):
            raise
        except Exception as error:  # each runtime has its own way to refuse a damaged file
            reason = str(error).strip().partition("\n")[0][:200]
            raise InputError(f"{path} cannot be opened as {self.format} ({reason}): export it again.") from error

    def _check_shape(self):
        told, own = [self.batch_size, *(self.image_size or (None, None))], self._own_shape()
        if any(side not in (None, said) for side, said in zip(own, told, strict=False)):
            raise InputError(
                f"{self.path} takes pictures of [batch, height, width] {_shown(own)}, but {sidecars.place(self.path)} tells of "
                f"{_shown(told)}: put the JSON exported with it there, or export again."
            )

    def _own_shape(self) -> list[int | None]:
        """[batch, height, width] of pictures as the artifact itself tells it, None for any; [] where that takes long to ask."""
        return []

    def _read_sidecar(self) -> sidecars.Sidecar:
        return sidecars.read(self.path)

    @abc.abstractmethod
    def _open(self): ...

    def set_image_size(self, size: tuple[int, int]) -> None:
        """Runs pictures at (height, width); an InputError where the file takes another size only."""
        check_images((1, *size, 3))
        if self.image_size not in (None, size) and not self.takes_any_size:
            fixed, wanted = ("x".join(map(str, s)) for s in (self.image_size, size))
            raise InputError(f"{self.path} takes pictures of {fixed} only, not {wanted}: export it again with that image size.")
        self.image_size = size

    def require_answer(self) -> None:
        """Raises an InputError where the file answers what the network gives, not what was found."""
        if self.sidecar.quantization == "full_int8":
            raise InputError(
                f"{self.path} answers raw integers (full_int8): measure an int8 file of the same model, without raw, in its place."
            )
        if self.sidecar.raw:
            raw = "logits" if self.task == "semantic" else "raw heads"
            raise InputError(f"{self.path} answers {raw} (it was exported with raw): export it without, for labels and scores.")

    @property
    def takes_any_size(self) -> bool:
        return self.sidecar.image_size is None

    @property
    def integers(self) -> dict[str, list[float]]:
        """Output -> [scale, zero point] of the integers that it is given as; ``run`` and ``predict`` give what they stand for."""
        return {}

    @abc.abstractmethod
    def run(self, images: np.ndarray, **proposals) -> dict[str, np.ndarray]:
        """Runs the artifact on uint8 [B, H, W, 3], of a batch and size that it takes, and ``proposals`` float32 [B, P, 4] if it
        takes these.
        """

    @property
    def takes_proposals(self) -> bool:
        return self.sidecar.proposals is not None

    def check_proposals(self, given: bool) -> None:
        """Raises an InputError unless proposals come with the pictures where the artifact takes them, and only there."""
        if self.takes_proposals and not given:
            raise InputError(f"{self.path} looks at proposals: give those of each picture too (--proposals).")
        if given and not self.takes_proposals:
            raise InputError(f"{self.path} takes pictures alone, no proposals: leave these out.")

    def predict(self, images, proposals=None) -> dict:
        """Returns the answer for pictures of any size.

        A picture of another size than the file takes is resized (bilinear, antialiased), and its answer mapped back to the
        picture's own size (label maps nearest, maps of scores bilinear, boxes and keypoints by the ratio of the sides).

        Args:
            images: [B, H, W, 3], or a list of [H, W, 3]; uint8, or float32, which is rounded; 0 to 255, RGB.
            proposals: for an artifact that takes them (``takes_proposals``): of each picture [n, 4], any n, xyxy in its pixels,
                best first. A file of a fixed number takes the first ones.

        Returns:
            a dict. Semantic task: ``labels`` uint8 and ``scores`` float32, [B, H, W]; raw files: ``logits`` [B, H, W, C].
            Detection: ``boxes`` float32 [B, N, 4], xyxy in the picture's own pixels, ``scores`` float32 [B, N], ``labels`` int32
            [B, N], -1 for padding, and ``num_detections`` int32 [B]; instance: ``masks`` float32 [B, N, 28, 28] too, inside the
            boxes (see ``data.instance_masks.paste_masks``); keypoint: ``keypoints`` float32 [B, N, K, 3], x, y, visible, and
            ``keypoint_scores`` float32 [B, N, K]. Raw files: the network's heads, as they are. For a list, each value is a list
            with an entry for each picture.

        Raises:
            InputError: they are no pictures, or too small; proposals are missing, or not what the artifact takes.
        """
        pictures = [_to_uint8(image) for image in images]
        if not pictures:
            raise InputError("There are no pictures to predict: give at least one.")
        self.check_proposals(proposals is not None)
        taken = [resize_image(picture, self.image_size or picture.shape[:2]) for picture in pictures]
        boxes = self._carried(proposals, pictures, taken)
        answers = [None] * len(pictures)
        for positions in _groups(taken, self.batch_size):
            batch = np.stack([taken[position] for position in positions])
            fill = (self.batch_size or len(batch)) - len(batch)
            more = {"proposals": self._padded([boxes[position] for position in positions])} if boxes else {}
            out = self.run(**{name: _filled(values, fill) for name, values in ({"images": batch} | more).items()})
            for row, position in enumerate(positions):
                answer = {name: value[row] for name, value in out.items()}
                answers[position] = MAP_BACK[self.task](answer, batch.shape[1:3], pictures[position].shape[:2])
        gathered = {name: [answer[name] for answer in answers] for name in answers[0]}
        return gathered if isinstance(images, (list, tuple)) else {name: np.stack(values) for name, values in gathered.items()}

    def _typed(self, images):
        """uint8 pictures as the artifact takes them."""
        return images.astype(sidecars.picture_type(self.sidecar), copy=False)

    def _carried(self, proposals, pictures, taken):
        """The proposals in pixels of the pictures as they are taken."""
        if proposals is None:
            return None
        if len(proposals) != len(pictures):
            raise InputError(f"There are {len(pictures)} pictures and proposals for {len(proposals)}: give those of each picture.")
        return [
            scale_boxes(_to_boxes(boxes), picture.shape[:2], small.shape[:2])
            for boxes, picture, small in zip(proposals, pictures, taken, strict=True)
        ]

    def _padded(self, boxes):
        """As many as the file takes; where it takes any, few different numbers: some runtimes prepare themselves for each."""
        places = self.sidecar.proposals
        if places == "any":
            places = max(-(-max(map(len, boxes)) // PROPOSALS_STEP), 1) * PROPOSALS_STEP
        return pad_proposals(boxes, places)

    def __repr__(self):
        return (
            f"<{self.name} {self.path}: {self.task}, {len(self.class_names)} classes, pictures of {self.image_size or 'any size'}>"
        )


def _shown(shape):
    return f"[{', '.join('any' if side is None else str(side) for side in shape)}]"


def _to_uint8(image):
    image = np.asarray(image)
    check_images((1, *image.shape))
    return image if image.dtype == np.uint8 else np.clip(np.rint(image), 0, 255).astype(np.uint8)


def _to_boxes(boxes):
    boxes = np.asarray(boxes, np.float32)
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise InputError(f"Proposals of a picture must be [n, 4]; the shape given is {boxes.shape}.")
    return boxes


def _filled(values, count):
    """A batch with its last one repeated so often."""
    return np.concatenate([values, values[-1:].repeat(count, axis=0)]) if count else values


def _groups(pictures, batch_size):
    """Positions of neighbouring pictures of one size, at most ``batch_size`` (or 8) together."""
    group = []
    for position, picture in enumerate(pictures):
        if group and (len(group) == (batch_size or 8) or picture.shape != pictures[group[0]].shape):
            yield group
            group = []
        group.append(position)
    if group:
        yield group


def _resize_maps(answer, taken_size, size):
    return {name: resize_labels(m, size) if name == "labels" else resize_scores(m, size) for name, m in answer.items()}


MAP_BACK = {  # the answer for a picture as it was taken -> as it was given
    "semantic": _resize_maps,
    **dict.fromkeys(("detection", "instance", "keypoint"), scale_found),
}


class KerasRunner(Runner):
    """A ``.keras`` file, or a model of the zoo by name; any batch and size, at first the size that it was trained at."""

    format = "keras"

    def __init__(self, path, threads, weights=None):
        self._weights = weights
        super().__init__(path, threads)

    def _read_sidecar(self):
        from tfzoo.weights import open_model

        self.model = open_model(self.path, self._weights)
        proposals = "any" if self.model.takes_proposals else None
        facts = self.model.name, self.model.task, self.model.class_names, self.model.image_size
        return sidecars.Sidecar(*facts, batch_size=None, proposals=proposals)

    def _open(self):
        self.threads = None
        self._deployed, self.fixed_size = self.model.deployed(), self.model.fixed_size

    @property
    def takes_any_size(self):
        return True

    def run(self, images, **proposals):
        return self._deployed.predict_on_batch({"images": images, **proposals} if proposals else images)


class SavedModelRunner(Runner):
    """A SavedModel: the signature ``tensor`` where it has one (a served model), else ``serving_default``.

    TensorFlow's threads belong to the process, so ``threads`` changes nothing here.
    """

    format = "savedmodel"

    def _open(self):
        self.threads = None
        import tensorflow as tf

        self._loaded = tf.saved_model.load(str(self.path))  # kept: the signature holds its variables weakly
        signatures = self._loaded.signatures
        self._signature = signatures["tensor" if "tensor" in signatures else "serving_default"]

    def run(self, images, **proposals):
        import tensorflow as tf

        given = {name: tf.constant(values) for name, values in {"images": self._typed(images), **proposals}.items()}
        return {name: value.numpy() for name, value in self._signature(**given).items()}


class TFLiteRunner(Runner):
    """A TFLite file in the LiteRT interpreter."""

    format = "tflite"

    def _open(self):
        from ai_edge_litert.interpreter import Interpreter

        self._interpreter = Interpreter(str(self.path), num_threads=self.threads)
        self._interpreter.allocate_tensors()
        self._signature = self._interpreter.get_signature_runner()

    def _own_shape(self):
        shape = self._signature.get_input_details()["images"]["shape_signature"][:3].tolist()
        return [None if side < 0 else side for side in shape]

    @property
    def integers(self):
        details = self._signature.get_output_details()
        return {name: list(detail["quantization"]) for name, detail in details.items() if detail["dtype"] == np.int8}

    def run(self, images, **proposals):
        answer = self._signature(images=self._typed(images), **proposals)
        return answer | {name: _as_real(answer[name], *numbers) for name, numbers in self.integers.items()}


def _as_real(value, scale, zero_point):
    return (value.astype(np.float32) - zero_point) * np.float32(scale)


class OnnxRunner(Runner):
    """An ONNX file in ONNX Runtime, on the CPU."""

    format = "onnx"

    def _open(self):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.threads
        self._session = onnxruntime.InferenceSession(str(self.path), options, providers=["CPUExecutionProvider"])
        self._outputs = [output.name for output in self._session.get_outputs()]

    def _own_shape(self):
        shape = next(given.shape for given in self._session.get_inputs() if given.name == "images")[:3]
        return [side if isinstance(side, int) else None for side in shape]  # one that is any has a name

    def run(self, images, **proposals):
        return dict(zip(self._outputs, self._session.run(self._outputs, {"images": self._typed(images), **proposals}), strict=True))


class OpenVinoRunner(Runner):
    """OpenVINO's two files, on the CPU, in float32: some processors would take bfloat16 unasked."""

    format = "openvino"

    def _open(self):
        try:
            import openvino
        except ImportError:
            raise InputError(f"{self.path} needs the package openvino, which is not installed: pip install openvino.") from None
        wanted = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": self.threads}
        self._compiled = openvino.Core().compile_model(str(self.path), "CPU", wanted)

    def run(self, images, **proposals):
        answer = self._compiled({"images": self._typed(images), **proposals})
        return {output.any_name: answer[output].copy() for output in self._compiled.outputs}
