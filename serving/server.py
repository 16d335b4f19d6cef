"""``LocalServer``: any artifact behind TensorFlow Serving's REST protocol, on this machine, without TensorFlow Serving."""

import http.server
import json
import socketserver
import sys
import threading
import time

import numpy as np

from tfzoo.data.images import decode_image, resize_image
from tfzoo.data.objects import scale_found
from tfzoo.errors import InputError
from tfzoo.export import load
from tfzoo.export.exporter import DEFAULT_SIZE
from tfzoo.serving import rest

VERSION = 1  # the only one
MOST_BYTES = 2**28  # of a request
STATUS = {"version": str(VERSION), "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}


class LocalServer(http.server.ThreadingHTTPServer):
    """Answers as TensorFlow Serving answers from what ``export_served`` writes; a context manager that frees its port.

    The signatures, ``serving_default`` for JPEG or PNG bytes and ``tensor`` for uint8 arrays, and the pixels that the answer is in
    are those of ``export_served``. It is meant for trying a file out and for the tests of clients: it knows no passwords, and runs
    one request after the other.

    Args:
        artifact: as ``tfzoo.export.load`` takes it.
        name: what clients call the model; None: its name in the zoo.
        host: of the address to listen at; others than 127.0.0.1 let other machines ask.
        port: 0 takes any that is free, see ``server_port``.
        image_size, weights, threads: as ``tfzoo.export.load`` takes them. Where the artifact has no size of its own, pictures sent
            as bytes are resized to 256x256.
        verbose: whether to print a line for each request.

    Raises:
        InputError: there is no such artifact, it is raw or wants proposals, or the address cannot be listened at.
    """

    daemon_threads = True

    def __init__(self, artifact, name=None, host="127.0.0.1", port=8501, image_size=None, weights=None, threads=None, verbose=True):
        self.runner = load(artifact, threads, image_size, weights)
        self.runner.require_answer()
        rest.refuse_proposals(self.runner.sidecar.model, self.runner)
        self.model, self.verbose = name or self.runner.sidecar.model, verbose
        self._one_at_a_time = threading.Lock()  # interpreters are not for several threads
        self.answer(rest.TENSOR, np.zeros((1, *self._size, 3), np.uint8))  # the first run takes longest
        try:
            super().__init__((host, port), _Handler)
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or error
            raise InputError(f"{host}:{port} cannot be listened at ({reason}): choose another --port or --host.") from None

    @property
    def _size(self):
        return self.runner.image_size or DEFAULT_SIZE

    @property
    def address(self) -> str:
        """Where predictions are asked for."""
        return f"http://{self.server_address[0]}:{self.server_port}{rest.write_address(self.model)}"

    def server_bind(self):
        # HTTPServer's own asks for the host's full name, which takes seconds where no name server answers.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]

    def handle_error(self, request, client_address):
        if not isinstance(sys.exception(), ConnectionError):  # a client may go before it has its answer
            super().handle_error(request, client_address)

    def answer(self, signature, values) -> dict[str, np.ndarray]:
        """What a signature answers.

        Args:
            values: encoded pictures for "serving_default"; uint8 [B, H, W, 3], or nested lists of it, for "tensor".

        Raises:
            InputError: they are no pictures, or of a size that the model does not take.
        """
        if signature == rest.TENSOR:
            return self._run(self._checked(values))
        pictures = [decode_image(data, f"Picture {number}") for number, data in enumerate(values, start=1)]
        found = self._run(np.stack([resize_image(picture, self._size) for picture in pictures]))
        return self._as_sent(found, np.array([picture.shape[:2] for picture in pictures], np.int32))

    def _run(self, images):
        with self._one_at_a_time:
            return self.runner.predict(images)

    def _as_sent(self, found, shapes):
        rows = [{name: value[row] for name, value in found.items()} for row in range(len(shapes))]
        carried = [scale_found(row, self._size, shape) for row, shape in zip(rows, shapes, strict=True)]
        return {name: np.stack([row[name] for row in carried]) for name in found} | {"image_shape": shapes}

    def _checked(self, values):
        try:
            images = np.asarray(values)
        except ValueError:  # rows of several lengths
            images = np.empty(0)
        if images.ndim != 4 or images.shape[-1] != 3 or images.dtype.kind not in "iu" or not ((images >= 0) & (images < 256)).all():
            raise InputError("Pictures as numbers are whole ones from 0 to 255, [batch, height, width, 3].")
        wanted = self.runner.image_size
        if wanted and images.shape[1:3] != tuple(wanted):
            given, taken = ("x".join(map(str, size)) for size in (images.shape[1:3], wanted))
            raise InputError(f"The model takes pictures of {taken} as numbers, not {given}: resize them, or send files.")
        return images.astype(np.uint8)


class _Handler(http.server.BaseHTTPRequestHandler):
    server: LocalServer
    protocol_version = "HTTP/1.1"  # connections stay open

    def do_GET(self):
        asked = self._find(predict=False)
        self._reply(*(asked or (200, {"model_version_status": [STATUS]})))

    def do_POST(self):
        self._start = time.perf_counter()
        body = self._read()
        missing = self._find(predict=True)
        if body is None:
            self.close_connection = True  # what was not read would be taken for the next request
            self._reply(413, {"error": f"A request states its length, at most {MOST_BYTES >> 20} MB."})
        elif missing:
            self._reply(*missing)
        else:
            self._reply(*self._answer(body))

    def _read(self):
        length = self.headers.get("Content-Length", "")
        return self.rfile.read(int(length)) if length.isdecimal() and int(length) <= MOST_BYTES else None

    def _find(self, predict):
        """None where the path is this model's, else the answer that says otherwise."""
        found = rest.read_address(self.path)
        if found and found[0] == self.server.model and found[1] in (None, VERSION) and found[2] == predict:
            return None
        return 404, {"error": f"Servable not found for request: {self.path}; ask {self.server.address}"}

    def _answer(self, body):
        try:
            signature, values, by_rows = rest.read_request(body)
            return 200, rest.write_answer(self.server.answer(signature, values), by_rows)
        except InputError as error:
            return 400, {"error": str(error)}
        except Exception as error:  # told to the client: the server goes on
            return 500, {"error": f"{type(error).__name__}: {error}"}

    def _reply(self, status, content):
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_request(self, code="-", size="-"):
        if self.server.verbose:
            milliseconds = f", {(time.perf_counter() - self._start) * 1000:.0f} ms" if self.command == "POST" else ""
            print(f"{self.command} {self.path}: {int(code)}{milliseconds}", flush=True)

    def log_error(self, *_):
        """Every answer has its line from ``log_request``."""
