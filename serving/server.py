"""``LocalServer``: an artifact behind TensorFlow Serving's REST protocol, on this machine, without TensorFlow Serving."""

import http.server
import json
import re
import socket
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
from tfzoo.serving.repository import refuse_proposals

VERSION = 1  # the only one
MOST_BYTES = 2**28  # of a request
BLOCK = 2**20  # bytes that are read at once of what is thrown away
SECONDS = 60  # without a byte after which a connection is closed
STATUS = {"version": str(VERSION), "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
JPEG_OR_PNG = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")  # what the files that the served graph takes begin with


class LocalServer(http.server.ThreadingHTTPServer):
    """Answers as TensorFlow Serving answers from what ``export_served`` writes; a context manager that frees its port.

    It predicts (:predict) and tells its status; the signatures, ``serving_default`` for JPEG or PNG bytes and ``tensor`` for uint8
    arrays, and the pixels that the answer is in are those of ``export_served``. It is meant for trying a file out and for writing
    clients: it knows no passwords, and runs one request after the other.

    Args:
        artifact: as ``tfzoo.export.load`` takes it.
        name: what clients call the model: letters, digits, "_", "." and "-"; None: its name in the zoo.
        host: name or IPv4 address to listen at; with others than 127.0.0.1 other machines can ask.
        port: 0 takes any that is free, see ``server_port``.
        image_size, weights, threads: as ``tfzoo.export.load`` takes them. Where the artifact has no size of its own, pictures sent
            as bytes are resized to 256x256.
        verbose: whether to print a line for each request.

    Raises:
        InputError: there is no such artifact, or it is raw or wants proposals; the name is impossible; the address cannot be had.
    """

    daemon_threads = True

    def __init__(self, artifact, name=None, host="127.0.0.1", port=8501, image_size=None, weights=None, threads=None, verbose=True):
        if name is not None and not rest.NAME.fullmatch(name):
            raise InputError(f"Model name '{name}' cannot be asked for: give one of letters, digits, '_', '.' and '-'.")
        self.verbose = verbose
        self._one_at_a_time = threading.Lock()  # interpreters are not for several threads
        try:
            super().__init__((host, port), _Handler)
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or error
            raise InputError(f"{host}:{port} cannot be listened at ({reason}): choose another --port or --host.") from None
        try:
            self.runner = self._open(artifact, threads, image_size, weights)
            self.model = name or self.runner.sidecar.model
            self.answer(rest.TENSOR, np.zeros((1, *self._size, 3), np.uint8))  # the first run takes longest
        except BaseException:
            self.server_close()
            raise

    @staticmethod
    def _open(artifact, threads, image_size, weights):
        runner = load(artifact, threads, image_size, weights)
        runner.require_answer()
        refuse_proposals(runner.sidecar.model, runner)
        if runner.image_size is None and runner.fixed_size:
            runner.set_image_size(runner.fixed_size)
        return runner

    @property
    def _size(self):
        return self.runner.image_size or DEFAULT_SIZE

    @property
    def address(self) -> str:
        """HOST:PORT that clients ask."""
        host = socket.gethostname() if self.server_name == "0.0.0.0" else self.server_name
        return f"{host}:{self.server_port}"

    @property
    def url(self) -> str:
        """Where predictions are asked for."""
        return f"http://{self.address}{rest.write_address(self.model)}"

    def server_bind(self):
        # HTTPServer's own asks for the host's full name, which takes seconds where no name server answers.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]

    def server_close(self):
        with self._one_at_a_time:  # a run that has begun ends first
            super().server_close()

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
        pictures = [_decode(data, f"Picture {number}") for number, data in enumerate(values, start=1)]
        found = self._run(np.stack([resize_image(picture, self._size) for picture in pictures]))
        return self._as_sent(found, np.array([picture.shape[:2] for picture in pictures], np.int32))

    def _run(self, images):
        with self._one_at_a_time:
            return self.runner.predict(images)

    def _as_sent(self, found, shapes):
        rows = [
            scale_found({name: value[row] for name, value in found.items()}, self._size, shape) for row, shape in enumerate(shapes)
        ]
        return {name: np.stack([row[name] for row in rows]) for name in found} | {"image_shape": shapes}

    def _checked(self, values):
        images = _to_array(values)
        if images is None or images.ndim != 4 or images.shape[-1] != 3 or not ((images >= 0) & (images < 256)).all():
            raise InputError("Pictures as numbers are whole ones from 0 to 255, [batch, height, width, 3]: send them so, or files.")
        wanted = self.runner.image_size
        if wanted and images.shape[1:3] != tuple(wanted):
            given, taken = ("x".join(map(str, size)) for size in (images.shape[1:3], wanted))
            raise InputError(f"The model takes pictures of {taken} as numbers, not {given}: resize them, or send files.")
        return images.astype(np.uint8)


def _decode(data, name):
    if not data.startswith(JPEG_OR_PNG):
        raise InputError(f"{name} is neither a JPEG nor a PNG file: convert it.")
    return decode_image(data, name)


def _to_array(values):
    """Whole numbers, or None."""
    try:
        array = np.asarray(values)
    except ValueError:  # lists of several lengths
        return None
    return array if array.dtype.kind in "iu" else None


class _Handler(http.server.BaseHTTPRequestHandler):
    server: LocalServer
    protocol_version = "HTTP/1.1"  # connections stay open
    wbufsize = -1  # an answer goes out at once, not its head and then its body
    timeout = SECONDS

    def do_GET(self):
        if int(self._length or 0):
            self.close_connection = True  # what is not read would be taken for the next request
        self._reply(*(self._refusal(predict=False) or (200, {"model_version_status": [STATUS]})))

    def do_POST(self):
        start = time.perf_counter()
        if self._length is None:
            self.close_connection = True
            self._reply(411, {"error": "A request must state its length (Content-Length): it is not sent in chunks."})
        elif int(self._length) > MOST_BYTES:
            self._throw_away(int(self._length))
            self._reply(413, {"error": f"A request has at most {MOST_BYTES >> 20} MB: send fewer pictures, or smaller ones."})
        else:
            body = self.rfile.read(int(self._length))
            self._reply(*(self._refusal(predict=True) or self._answer(body)), start)

    @property
    def _length(self):
        """Digits, or None."""
        found = re.fullmatch("[0-9]{1,12}", self.headers.get("Content-Length", ""))
        return found and found[0]

    def _throw_away(self, length):
        while length > 0:  # else the client could not read the answer
            length -= len(self.rfile.read(min(length, BLOCK))) or length

    def _refusal(self, predict):
        """Status and content where the path is not this model's, else None."""
        found = rest.read_address(self.path)
        if not found or found[2] != predict:
            return 400, {"error": f"Malformed request: {self.command} {self.path}; ask {self.server.url}"}
        if found[0] != self.server.model or found[1] not in (None, VERSION):
            return 404, {"error": f"Servable not found for request: {self.path}; ask {self.server.url}"}
        return None

    def _answer(self, body):
        try:
            signature, values, by_rows = rest.read_request(body)
            return 200, rest.write_answer(self.server.answer(signature, values), by_rows)
        except InputError as error:
            return 400, {"error": str(error)}
        except Exception as error:  # told to the client: the server goes on
            return 500, {"error": f"{type(error).__name__}: {error}"}

    def _reply(self, status, content, start=None):
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
        self.wfile.flush()
        self._tell(status, start)

    def _tell(self, status, start):
        if not self.server.verbose:
            return
        milliseconds = "" if start is None else f", {(time.perf_counter() - start) * 1000:.0f} ms"
        try:
            print(f"{self.command} {ascii(self.path)[1:-1]}: {status}{milliseconds}", flush=True)
        except OSError:  # nobody reads on
            self.server.verbose = False

    def log_message(self, *_):
        """``_tell`` has its line for each answer."""
