"""The local server: the same protocol and the same answers as TensorFlow Serving gives from a served model, from any artifact."""

import contextlib
import http.client
import json
import queue
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request

import numpy as np
import pytest
from fast_cases import small

import tfzoo
import tfzoo.export
from tfzoo.cli import main
from tfzoo.cli.arguments import spell_out
from tfzoo.data.images import resize_image
from tfzoo.errors import InputError, MissingInputError
from tfzoo.export import verify
from tfzoo.serving import Client, LocalServer, rest, server
from tfzoo.serving.repository import _encode as png

SIZE = (64, 96)  # of the model in conftest.py


@pytest.fixture(scope="module")
def running():
    """Starts local servers; each is ended with the module."""
    started = []

    def start(artifact, **options):
        made = LocalServer(artifact, port=0, verbose=False, **options)
        threading.Thread(target=made.serve_forever, daemon=True).start()
        started.append(made)
        return made

    yield start
    for made in started:
        made.shutdown()
        made.server_close()


@pytest.fixture(scope="module")
def files(model, artifact, version, tmp_path_factory):
    """The tiny model in several formats."""
    folder = tmp_path_factory.mktemp("files")
    made = {"keras": artifact, "savedmodel": version}
    for name in ("tiny.tflite", "tiny.onnx"):
        tfzoo.export.export(model, folder / name)
        made[name.partition(".")[2]] = folder / name
    return made


@pytest.fixture(scope="module")
def tiny(running, files):
    return running(files["tflite"], name="tiny")


def ask(served, **options):
    return Client(f"127.0.0.1:{served.server_port}", served.model, protocol="rest", timeout=60, **options)


@pytest.mark.parametrize("format", ["keras", "savedmodel", "tflite", "onnx"])
def test_every_format_answers_what_the_served_model_answers(running, files, model, signatures, images, format):
    served = running(files[format])
    large = images.repeat(2, axis=1).repeat(3, axis=2)
    sent = [png(picture) for picture in large]
    got = ask(served).predict(sent)
    assert got["labels"].dtype == np.uint8 and got["labels"].shape == (3, *SIZE)
    check(got, model.predict(np.stack([resize_image(picture, SIZE) for picture in large]), verbose=0))
    graph = {name: value.numpy() for name, value in signatures["serving_default"](image_bytes=np.array(sent, dtype=object)).items()}
    assert set(got) == set(graph)
    np.testing.assert_array_equal(got["image_shape"], graph["image_shape"])
    assert (got["labels"] == graph["labels"]).mean() >= 0.99  # a few pixels differ by one step of 255 from the graph's resizing


def check(got, wanted):
    assert (got["labels"] == wanted["labels"]).mean() >= 0.9995
    np.testing.assert_allclose(got["scores"], wanted["scores"], atol=1e-4)


def test_arrays_are_answered_as_predict_does(tiny, images, answer):
    got = ask(tiny).predict(images)
    assert set(got) == {"labels", "scores"}
    check(got, answer)


def test_boxes_come_in_pixels_of_the_picture_sent(running):
    """Of a model by its name, with weights that ship with the package."""
    served = running("ssd300_vgg16", weights="bccd")
    rng = np.random.default_rng(0)
    sent = [rng.integers(0, 256, (height, width, 3), np.uint8) for height, width in ((200, 400), (300, 150))]
    got = ask(served).predict([png(picture) for picture in sent])
    np.testing.assert_array_equal(got.pop("image_shape"), [(200, 400), (300, 150)])
    taken = np.stack([resize_image(picture, (300, 300)) for picture in sent])
    wanted = tfzoo.create_model("ssd300_vgg16", weights="bccd").predict(taken, verbose=0)
    wanted["boxes"] *= np.array([[400, 200, 400, 200], [150, 300, 150, 300]], np.float32)[:, None] / 300
    parity = verify.compare(got, wanted)
    verify.check(parity, None)
    assert parity["detections"]["count"] > 3


def fetch(url, body=None):
    """Status and content of what is found there."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body), timeout=60) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def test_status_and_addresses(tiny):
    status, content = fetch(tiny.url.removesuffix(":predict"))
    assert status == 200 and content["model_version_status"][0]["state"] == "AVAILABLE"
    for wrong in ("/v1/models/tiny/versions/2:predict", "/v1/models/other:predict", f"/v1/models/tiny/versions/{'9' * 18}:predict"):
        status, content = fetch(f"http://{tiny.address}{wrong}", b"{}")
        assert status == 404 and "Servable not found" in content["error"] and tiny.url in content["error"]
    for wrong in ("/", "/v1/models/tiny", "/v1/models/tiny:classify", f"/v1/models/tiny/versions/{'9' * 5000}:predict"):
        status, content = fetch(f"http://{tiny.address}{wrong}", b"{}")
        assert status == 400 and "Malformed request: POST /" in content["error"] and tiny.url in content["error"]
    assert fetch(tiny.url)[0] == 400  # predictions are POSTed
    with pytest.raises(InputError, match="has no model tiny version 5"):
        ask(tiny, version=5).predict(np.zeros((1, *SIZE, 3), np.uint8))


def test_the_size_that_pictures_are_brought_to(running, tmp_path):
    """As ``export_served`` chooses it: the one given, the model's own, the one that its network stretches them to, 256x256."""
    options = {"class_names": ["a", "b"], "width_multiplier": 0.125}
    tfzoo.create_model("ssdlite320_mobilenetv2", **options).save(tmp_path / "fixed.keras")
    tfzoo.create_model("unet", depth=2, **options).save(tmp_path / "any.keras")
    picture = np.zeros((40, 50, 3), np.uint8)
    with pytest.raises(InputError, match="takes pictures of 320x320 as numbers, not 40x50"):
        ask(running(tmp_path / "fixed.keras")).predict(picture[None])
    assert ask(running(tmp_path / "any.keras")).predict([png(picture)])["labels"].shape == (1, 256, 256)
    assert ask(running(tmp_path / "any.keras")).predict(picture[None])["labels"].shape == (1, 40, 50)
    assert ask(running(tmp_path / "any.keras", image_size=(64, 32))).predict([png(picture)])["labels"].shape == (1, 64, 32)


def test_rows(tiny, images):
    body = json.dumps({"instances": rest_values(images[:2])}).encode()
    status, content = fetch(tiny.url, body)
    columns = ask(tiny).predict([png(picture) for picture in images[:2]])
    assert status == 200 and [set(row) for row in content["predictions"]] == [{"labels", "scores", "image_shape"}] * 2
    np.testing.assert_array_equal([row["labels"] for row in content["predictions"]], columns["labels"])


def rest_values(images):
    return json.loads(rest.write_request(rest.BYTES, [png(picture) for picture in images]))["inputs"]["image_bytes"]


@pytest.mark.parametrize(
    ("signature", "values", "part"),
    [
        ("serving_default", [{"b64": "YWJj"}], "Picture 1 is neither a JPEG nor a PNG file"),
        ("serving_default", [{"b64": "iVBORw0KGgo="}], "Picture 1 is"),
        ("tensor", [[[[0, 0, 256]]]], "whole ones from 0 to 255"),
        ("tensor", [[[[0.5, 0, 1]]]], "whole ones from 0 to 255"),
        ("tensor", [[[0, 0, 1]]], "batch, height, width, 3"),
        ("tensor", [[[[0, 0, 1], [0]]]], "batch, height, width, 3"),
        ("tensor", np.zeros((1, 64, 64, 3), int).tolist(), "takes pictures of 64x96 as numbers, not 64x64"),
    ],
)
def test_what_is_no_picture_is_refused(tiny, signature, values, part):
    body = json.dumps({"signature_name": signature, "inputs": values}).encode()
    status, content = fetch(tiny.url, body)
    assert status == 400 and part in content["error"]


def test_a_connection_serves_several_requests(tiny, images):
    connection = http.client.HTTPConnection(tiny.address, timeout=60)
    for kept in (False, True):
        before = connection.sock
        connection.request("POST", rest.write_address("tiny"), rest.write_request(rest.TENSOR, images[:1]))
        assert "outputs" in json.loads(connection.getresponse().read())
        assert (connection.sock is before) == kept  # http.client would connect anew unasked


def test_requests_without_a_length_and_huge_ones(tiny, images, monkeypatch):
    connection = http.client.HTTPConnection(tiny.address, timeout=60)
    connection.putrequest("POST", rest.write_address("tiny"))
    connection.putheader("Transfer-Encoding", "chunked")
    connection.endheaders()
    response = connection.getresponse()
    assert response.status == 411 and "Content-Length" in json.loads(response.read())["error"]
    monkeypatch.setattr(server, "MOST_BYTES", 1000)
    with pytest.raises(InputError, match="send fewer pictures"):
        ask(tiny).predict(images.repeat(20, axis=0))


def test_what_speaks_no_http_does_no_harm(tiny, images, capfd):
    for line in (b"\x16\x03\x01\r\n", b"POST\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"GET /" + b"a" * 70000):
        with contextlib.suppress(ConnectionError), socket.create_connection(("127.0.0.1", tiny.server_port), timeout=60) as wire:
            wire.sendall(line)
            wire.shutdown(socket.SHUT_WR)
            wire.recv(1000)
    assert ask(tiny).predict(images[:1])["labels"].shape == (1, *SIZE)
    assert "Traceback" not in capfd.readouterr().err


def test_each_request_has_its_line(running, files, images, monkeypatch):
    served, lines = running(files["tflite"], name="told"), queue.Queue()
    served.verbose = True
    monkeypatch.setattr("builtins.print", lambda line, **_: lines.put(line))
    ask(served).predict(images[:1])
    assert lines.get(timeout=60).startswith("POST /v1/models/told:predict: 200, ")
    fetch(f"http://{served.address}/%1b%5b31m")
    assert lines.get(timeout=60) == "GET /%1b%5b31m: 400"
    served.verbose = False


def test_it_goes_on_where_nobody_reads_its_lines(running, files, images, monkeypatch):
    def fails(*_, **__):
        raise BrokenPipeError

    served = running(files["tflite"], name="told")
    served.verbose = True
    monkeypatch.setattr("builtins.print", fails)
    for _ in range(2):
        assert ask(served).predict(images[:1])["labels"].shape == (1, *SIZE)


def test_a_failing_runtime_does_not_end_the_server(tiny, images, monkeypatch):
    def fails(_):
        raise RuntimeError("out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(tiny.runner, "predict", fails)
        with pytest.raises(InputError, match="RuntimeError: out of memory"):
            ask(tiny).predict(images)
    assert ask(tiny).predict(images[:1])["labels"].shape == (1, *SIZE)


def test_several_clients_at_once(tiny, images, answer):
    """The interpreter runs one request after the other, whatever threads the requests come in."""
    found = {}

    def one(number):
        found[number] = ask(tiny).predict(images[number % 3][None])

    threads = [threading.Thread(target=one, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, got in found.items():
        assert (got["labels"][0] == answer["labels"][number % 3]).mean() >= 0.9995
    assert len(found) == 12


@pytest.mark.parametrize(
    ("words", "whole"),
    [
        (["serve", "x.tflite", "--port", "0"], ["serve", "run", "x.tflite", "--port", "0"]),
        (["serve", "--port", "0", "x.tflite"], ["serve", "run", "--port", "0", "x.tflite"]),
        (["serve", "./export"], ["serve", "run", "./export"]),
        *(
            (words, words)
            for words in (["serve"], ["serve", "-h"], ["serve", "run", "x"], ["serve", "export", "x"], ["export", "x"], [])
        ),
    ],
)
def test_what_is_short_is_spelt_out(words, whole):
    assert spell_out(words) == whole


def test_what_cannot_be_served(tmp_path, model, tiny, files):
    with pytest.raises(InputError, match="'a/b' cannot be asked for"):
        LocalServer(files["tflite"], name="a/b", port=0)
    with pytest.raises(MissingInputError, match="no artifact"):
        LocalServer(tmp_path / "none.tflite", port=0)
    with pytest.raises(InputError, match=r"cannot be listened at .*choose another --port"):
        LocalServer(files["tflite"], port=tiny.server_port)
    tfzoo.export.export(model, tmp_path / "raw.tflite", raw=True)
    with pytest.raises(InputError, match="answers logits"):
        LocalServer(tmp_path / "raw.tflite", port=0)
    small().save(tmp_path / "fast.keras")
    with pytest.raises(InputError, match="wants proposals with each picture"):
        LocalServer(tmp_path / "fast.keras", port=0)


def test_the_command_answers_until_it_is_interrupted(files, images):
    process = subprocess.Popen(
        [sys.executable, "-m", "tfzoo", "serve", str(files["tflite"]), "--port", "0", "--name", "mine"],
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs inherit that it is ignored
    )
    try:
        line = process.stdout.readline()
        assert "tiny.tflite answers at http://127.0.0.1:" in line
        address = line.partition("http://")[2].partition("/")[0]
        assert Client(address, "mine", protocol="rest", timeout=60).predict(images[:1])["labels"].shape == (1, *SIZE)
        process.send_signal(signal.SIGINT)
        printed, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0
    assert "POST /v1/models/mine:predict: 200, " in printed and "The server has stopped." in printed


def test_the_command_line(capfd, tmp_path):
    assert main(["serve", str(tmp_path / "none.tflite"), "--port", "0"]) == 2
    assert capfd.readouterr().err.startswith("tfzoo: There is no artifact")
    with pytest.raises(SystemExit) as exit_:
        main(["serve", "run", "--help"])
    assert exit_.value.code == 0 and "example:\n  tfzoo serve model.tflite" in capfd.readouterr().out
    with pytest.raises(SystemExit) as exit_:
        main(["serve", "x.tflite", "--port", "65536"])
    assert exit_.value.code == 2 and "'65536' is not a whole number from 0 to 65535" in capfd.readouterr().err
