"""``Client``: asks a model behind TensorFlow Serving, over gRPC or REST."""

import http.client
import os
import pathlib
import urllib.error
import urllib.request

import numpy as np

from tfzoo.errors import InputError, MissingInputError, nearest
from tfzoo.serving import rest
from tfzoo.serving.rest import BYTES, INPUTS, TENSOR

PROTOCOLS = ("grpc", "rest")


class Client:
    """A served model.

    Args:
        address: HOST:PORT of the server: usually port 8500 for gRPC and 8501 for REST.
        model: the name under which it is served.
        version: a number; None: the newest that is served.
        protocol: "grpc" (fast; needs the package's extra ``serving``) or "rest" (needs nothing else).
        timeout: seconds to wait for an answer.

    Raises:
        InputError: an unknown protocol, or packages that it needs are missing.
    """

    def __init__(self, address, model, version=None, protocol="grpc", timeout=10.0):
        if protocol not in PROTOCOLS:
            raise InputError(f"Protocol '{protocol}' is not known: it is grpc or rest.{nearest(protocol, PROTOCOLS)}")
        self.address = address.removeprefix("http://").removeprefix("grpc://").rstrip("/")
        self.model, self.version, self.protocol, self.timeout = model, version, protocol, timeout
        self._ask = _grpc(self) if protocol == "grpc" else lambda *request: _rest(self, *request)

    def predict(self, images) -> dict[str, np.ndarray]:
        """Returns the answer.

        Args:
            images: a list of JPEG or PNG files, each a path or bytes, which the server resizes; or an array
                uint8 [B, H, W, 3] of the size that the served model takes.

        Returns:
            what ``predict`` of the model answers: ``labels`` uint8 and ``scores`` float32, [B, H, W], of a segmenter, at the size
            that it is served at; ``boxes`` [B, N, 4], ``scores``, ``labels`` int32, ``num_detections`` and, where it has them,
            ``masks``, or ``keypoints`` and ``keypoint_scores``, of a detector. For files also ``image_shape`` int32 [B, 2], height
            and width of each as sent, in whose pixels boxes and keypoints are.

        Raises:
            MissingInputError: there is no such file.
            InputError: they are no pictures, the server cannot be reached, it has no such model, or it refuses the pictures.
        """
        if isinstance(images, np.ndarray):
            if images.ndim != 4 or images.shape[-1] != 3 or images.dtype != np.uint8:
                raise InputError(
                    f"An array of pictures is uint8 [batch, height, width, 3]; this one is {images.dtype} {images.shape}."
                )
            return self._ask(TENSOR, images)
        if isinstance(images, (str, bytes, os.PathLike)):
            raise InputError("Pictures to send come as a list of paths or bytes, or as an array: put a single one into a list.")
        files = [_read(image) for image in images]
        if not files:
            raise InputError("There are no pictures to send: give at least one.")
        return self._ask(BYTES, files)

    def unreachable(self, reason):
        return InputError(
            f"No server answers at {self.address} over {self.protocol} ({reason}): check that it runs, its address and its port."
        )

    def refused(self, missing, reason):
        reason = " ".join(reason.split())[:300]
        if missing:
            wanted = f"{self.model}{f' version {self.version}' if self.version else ''}"
            return InputError(
                f"The server {self.address} has no model {wanted} ({reason}): check the name that it is served under."
            )
        return InputError(
            f"The server {self.address} refuses the request ({reason}): send JPEG or PNG files, or the size it takes."
        )


def _read(image):
    if isinstance(image, bytes):
        return image
    if not isinstance(image, (str, os.PathLike)):
        raise InputError(
            f"A picture to send is a path or bytes, not {type(image).__name__}: stack arrays into one of [B, H, W, 3]."
        )
    try:
        return pathlib.Path(image).read_bytes()
    except FileNotFoundError:
        raise MissingInputError(f"There is no file {image}: check the name.") from None
    except OSError as error:
        raise InputError(f"File {image} cannot be read: {error.strerror}.") from None


def _rest(client, signature, values):
    url = f"http://{client.address}{rest.write_address(client.model, client.version)}"
    try:
        request = urllib.request.Request(url, rest.write_request(signature, values), {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=client.timeout) as response:
            return rest.read_answer(response.read())
    except urllib.error.HTTPError as error:
        raise client.refused(error.code == 404, error.read().decode(errors="replace") or str(error.reason)) from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise client.unreachable(getattr(error, "reason", error) or type(error).__name__) from None


def _grpc(client):
    """Opens a channel; returns the function that asks."""
    try:
        import grpc
        import tensorflow as tf
        from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc
    except ImportError:
        raise InputError(
            "gRPC needs packages that are not here: pip install tensorflow-serving-api, or choose protocol='rest'."
        ) from None
    endless = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]  # score maps outgrow the usual 4 MB
    stub = prediction_service_pb2_grpc.PredictionServiceStub(grpc.insecure_channel(client.address, endless))

    def ask(signature, values):
        request = predict_pb2.PredictRequest()
        request.model_spec.name, request.model_spec.signature_name = client.model, signature
        if client.version:
            request.model_spec.version.value = client.version
        request.inputs[INPUTS[signature]].CopyFrom(tf.make_tensor_proto(values))
        try:
            outputs = stub.Predict(request, timeout=client.timeout).outputs
        except grpc.RpcError as error:
            if error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
                raise client.unreachable(error.code().name) from None
            raise client.refused(error.code() == grpc.StatusCode.NOT_FOUND, error.details() or error.code().name) from None
        return {name: tf.make_ndarray(value) for name, value in outputs.items()}

    return ask
