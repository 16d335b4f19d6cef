"""What is known of an exported file."""

import dataclasses
import json
import pathlib


@dataclasses.dataclass
class ExportReport:
    """The proof that comes with an export.

    Attributes:
        path: the file or folder.
        format: "savedmodel", "tflite", "onnx" or "openvino".
        quantization: None, "float16", "dynamic", "int8" or "full_int8".
        bytes: size on disk.
        image_size: (height, width) that it takes, or None for any.
        batch_size: pictures that it takes at once, or None for any.
        operators: name -> how often.
        parity: output -> {"max_abs_error", "relative_error" (norm of the difference over norm of Keras's), for labels
            "agreement" (share of equal labels)}, against the Keras model on pictures; of a detector "detections", see
            ``verify.compare_detections``.
        checked_pictures: how many pictures that was.
        latency_ms: median time for one run, in this machine's default number of threads.
        compared_on: where those pictures come from.
        calibration: where the int8 ranges come from: {"source", "pictures"}, or None.
        not_on_gpu: of a TFLite file, operators that TensorFlow Lite's GPU delegate leaves to the processor: name -> how often, see
            ``delegates.not_on_gpu``; None: it is another format.
        notes: what a person should know.
    """

    path: str
    format: str
    quantization: str | None
    bytes: int
    image_size: tuple[int, int] | None
    batch_size: int | None
    operators: dict[str, int]
    parity: dict[str, dict[str, float]]
    checked_pictures: int
    latency_ms: float
    compared_on: str
    calibration: dict | None = None
    not_on_gpu: dict[str, int] | None = None
    notes: list[str] = dataclasses.field(default_factory=list)

    @property
    def label_agreement(self) -> float | None:
        """Share of labels, or of detections, equal to Keras's; None where the file answers neither.

        Of a quantized file's detections: the share of Keras's that it finds again, if elsewhere by a little.
        """
        if "detections" in self.parity:
            return self.parity["detections"]["found_again" if self.quantization else "agreement"]
        return self.parity.get("labels", {}).get("agreement")

    def to_dict(self) -> dict:
        return dataclasses.asdict(self) | {"label_agreement": self.label_agreement}

    def save(self, path) -> None:
        pathlib.Path(path).write_text(json.dumps(self.to_dict(), indent=1))

    def __str__(self):
        size = "any size" if self.image_size is None else "x".join(map(str, self.image_size))
        lines = [
            f"{self.path}: {self.format}{f' {self.quantization}' if self.quantization else ''}, {self.bytes / 1e6:.2f} MB, "
            f"pictures of {size}, batch {self.batch_size or 'any'}, {self.latency_ms:.1f} ms a run",
            *(f"  note: {note}" for note in self.notes),
        ]
        for output, errors in self.parity.items():
            told = {key: value for key, value in errors.items() if output != "labels" or key == "agreement"}  # labels have no size
            text = ", ".join(f"{key.replace('_', ' ')} {value:.6g}" for key, value in told.items())
            lines.append(f"  {output} against Keras on {self.checked_pictures} pictures ({self.compared_on}): {text}")
        lines.append(f"  operators: {_listed(self.operators)}")
        if self.not_on_gpu is not None:
            but = f" but {_listed(self.not_on_gpu)}" if self.not_on_gpu else ""
            lines.append(f"  a GPU delegate takes all of these{but}")
        return "\n".join(lines)


def _listed(counts):
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))
