"""The client, against servers that speak TensorFlow Serving's protocols and run the exported model in this process."""

import base64
import concurrent.futures
import http.server
import io
import json
import re
import sys
import threading

import numpy as np
import pytest
from PIL import Image

from tfzoo.errors import InputError, MissingInputError
from tfzoo.serving import Client

SIZE = (64, 96)  # of the model in conftest.py


def png(image):
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def rest(signatures):
    import tensorflow as tf

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            found = re.fullmatch(r"/v1/models/([^/:]+)(?:/versions/(\d+))?:predict", self.path)
            if not found or found[1] != "tiny" or found[2] not in (None, "1"):
                return self.reply(404, {"error": f"Servable not found for request: {self.path}"})
            signature = signatures[body["signature_name"]]
            (name, value), dtype = *body["inputs"].items(), None
            if name == "image_bytes":
                value = [base64.b64decode(item["b64"]) for item in value]
            else:
                dtype = tf.uint8
            try:
                out = signature(**{name: tf.constant(value, dtype)})
            except (tf.errors.OpError, TypeError, ValueError) as error:
                return self.reply(400, {"error": str(error)})
            return self.reply(200, {"outputs": {key: tensor.numpy().tolist() for key, tensor in out.items()}})

        def reply(self, status, content):
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(content).encode())

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="module")
def grpc_server(signatures):
    pytest.importorskip("tensorflow_serving")
    import grpc
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

    class Service(prediction_service_pb2_grpc.PredictionServiceServicer):
        def Predict(self, request, context):
            spec = request.model_spec
            if spec.name != "tiny" or spec.version.value not in (0, 1):
                context.abort(grpc.StatusCode.NOT_FOUND, f"Servable not found for request: Latest({spec.name})")
            inputs = {name: tf.constant(tf.make_ndarray(value)) for name, value in request.inputs.items()}
            try:
                out = signatures[spec.signature_name](**inputs)
            except (tf.errors.OpError, TypeError, ValueError) as error:
                context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
            answer = predict_pb2.PredictResponse()
            for name, value in out.items():
                answer.outputs[name].CopyFrom(tf.make_tensor_proto(value))
            return answer

    endless = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(2), options=endless)
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(Service(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None)


@pytest.fixture(params=["rest", "grpc"])
def connect(request):
    """Opens a client for either protocol, of the model "tiny" unless told otherwise."""
    address = request.getfixturevalue("rest" if request.param == "rest" else "grpc_server")
    return lambda model="tiny", **options: Client(address, model, protocol=request.param, timeout=60, **options)


def check(got, answer):
    assert got["labels"].dtype == np.uint8 and got["scores"].dtype == np.float32
    assert (got["labels"] == answer["labels"]).mean() >= 0.9995
    np.testing.assert_allclose(got["scores"], answer["scores"], atol=1e-4)


def test_array(connect, images, answer):
    got = connect().predict(images)
    assert set(got) == {"labels", "scores"}
    check(got, answer)


def test_files(connect, images, answer, tmp_path):
    (tmp_path / "a.png").write_bytes(png(images[0]))
    got = connect(version=1).predict([tmp_path / "a.png", png(images[1]), str(tmp_path / "a.png")])
    check(got, {name: value[[0, 1, 0]] for name, value in answer.items()})
    assert got["image_shape"].dtype == np.int32
    np.testing.assert_array_equal(got["image_shape"], [SIZE] * 3)


def test_answer_of_many_megabytes(grpc_server, images):
    got = Client(grpc_server, "tiny", timeout=60).predict(images.repeat(50, axis=0))
    assert got["labels"].shape == (150, *SIZE)


@pytest.mark.parametrize("options", [{"model": "other"}, {"version": 5}])
def test_unknown_model(connect, images, options):
    with pytest.raises(InputError, match=r"has no model (other|tiny version 5) \(.*Servable not found"):
        connect(**options).predict(images)


def test_refused_pictures(connect, images):
    with pytest.raises(InputError, match="refuses the request"):
        connect().predict([b"no picture"])
    with pytest.raises(InputError, match="refuses the request"):
        connect().predict(images[:, :40])


@pytest.mark.parametrize("protocol", ["rest", "grpc"])
def test_unreachable_server(images, protocol):
    if protocol == "grpc":
        pytest.importorskip("tensorflow_serving")
    with pytest.raises(InputError, match=r"No server answers at 127\.0\.0\.1:9 over") as error:
        Client("127.0.0.1:9", "tiny", protocol=protocol, timeout=3).predict(images)
    assert "\n" not in str(error.value)


def test_something_else_listens(images):
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<html>")

        def log_message(self, *_):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with pytest.raises(InputError, match="No server answers"):
            Client(f"http://127.0.0.1:{server.server_port}/", "tiny", protocol="rest").predict(images)
        server.shutdown()


def test_bad_input(tmp_path):
    client = Client("localhost:8501", "tiny", protocol="rest")
    with pytest.raises(MissingInputError, match="no file"):
        client.predict([tmp_path / "nothing.png"])
    for images, sentence in [
        ([], "at least one"),
        ("a.png", "into a list"),
        (b"data", "into a list"),
        ([np.zeros((64, 96, 3), np.uint8)], "stack arrays"),
        (np.zeros((64, 96, 3), np.uint8), "uint8 "),
        (np.zeros((1, 64, 96, 3), np.float32), "uint8 "),
    ]:
        with pytest.raises(InputError, match=sentence):
            client.predict(images)
    with pytest.raises(InputError, match="grpc or rest"):
        Client("localhost:8501", "tiny", protocol="http")


def test_missing_packages_are_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "grpc", None)
    with pytest.raises(InputError, match="pip install tensorflow-serving-api"):
        Client("localhost:8500", "tiny")
