"""Conversion of SavedModels in a process of its own: TensorFlow's converters keep memory, and can end their process or never end.

The process starts with the first conversion, and takes further ones until it has grown large.
"""

import atexit
import contextlib
import json
import os
import pathlib
import queue
import subprocess
import sys
import tempfile
import threading
import time

import numpy as np

from tfzoo.errors import ExportError

SECONDS = 3600.0  # that a conversion may take, unless something else is said
MEMORY_SHARE = 0.8  # of the machine's memory, likewise
LARGE = 1.5e9  # bytes, from which the process is replaced by a new one
PAUSE = 0.1  # seconds between two looks at it
START = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from tfzoo.export.converter import serve; serve()"


def convert(saved_model, path, quantization=None, batches=None, integers=None, seconds=None, memory=None) -> dict[str, int]:
    """Converts a SavedModel to TFLite, ONNX or OpenVINO, by the path's ending; returns the operators: name -> how often.

    Args:
        saved_model: its folder.
        quantization: see ``tflite.convert``.
        batches: likewise; None where no ranges are asked for.
        integers: for int8, the arguments of ``tflite.within``; None: everything becomes integers.
        seconds: that it may take; None: an hour.
        memory: bytes that its process may hold; None: 0.8 of the machine's. Other systems than Linux do not tell, and set no bound.

    Raises:
        ExportError: an operator does not convert, or the process exceeds a bound, or ends. Nothing is written then.
    """
    with tempfile.TemporaryDirectory() as folder:
        calibration = pathlib.Path(folder) / "calibration.npz"
        if batches:
            np.savez(calibration, **{f"{i}/{name}": values for i, batch in enumerate(batches) for name, values in batch.items()})
        job = {
            "saved_model": str(pathlib.Path(saved_model).resolve()),  # the process stays in the folder where it was started
            "path": str(pathlib.Path(path).resolve()),
            "quantization": quantization,
            "calibration": str(calibration) if batches else None,
            "integers": integers,
        }
        return CONVERTER.run(job, seconds or SECONDS, memory or _usual_memory())


class Converter:
    """The process, seen from outside."""

    def __init__(self):
        self._process, self._answers, self._log, self._lock = None, None, None, threading.RLock()
        self._log_start = 0

    def start(self) -> None:
        """Starts the process, unless it runs: its imports take seconds, in which other work can be done."""
        with self._lock:
            if self._process is None or self._process.poll() is not None:
                self._begin()

    def _begin(self):
        self.stop()
        self._log, self._answers = tempfile.TemporaryFile(), queue.Queue()  # noqa: SIM115  (closed by stop)
        self._process = subprocess.Popen(
            [sys.executable, "-c", START, json.dumps(sys.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            start_new_session=True,  # so that Ctrl-C reaches this process alone, which then stops that one
        )
        threading.Thread(target=_read, args=(self._process.stdout, self._answers), daemon=True).start()

    def run(self, job: dict, seconds: float, memory: float) -> dict[str, int]:
        """See ``convert``."""
        with self._lock:
            self.start()
            try:
                answer = self._ask(job, seconds, memory)
            except BaseException:
                self.stop()
                raise
            if _resident(self._process.pid) > LARGE:
                self.stop()
        if "error" in answer:
            raise ExportError(answer["error"])
        return answer["operators"]

    def stop(self) -> None:
        """Ends the process, whatever it does."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout, self._log):
                with contextlib.suppress(OSError):  # what was not written yet
                    stream.close()

    def _ask(self, job, seconds, memory):
        end = time.monotonic() + seconds
        self._log_start = self._log.seek(0, os.SEEK_END)
        try:
            print(json.dumps(job), file=self._process.stdin, flush=True)
        except OSError:
            raise self._ended() from None
        while True:
            try:
                answer = self._answers.get(timeout=PAUSE)
            except queue.Empty:
                self._check(end, seconds, memory)
                continue
            if answer is None:
                raise self._ended()
            return json.loads(answer)

    def _check(self, end, seconds, memory):
        if time.monotonic() > end:
            raise ExportError(f"The conversion took longer than {seconds:g} seconds and was stopped: allow it more.")
        held = _resident(self._process.pid)
        if held > memory:
            raise ExportError(
                f"The conversion held {held / 1e9:.1f} GB of memory, more than {memory / 1e9:.1f}, and was stopped: allow it more, "
                "or take a smaller picture size."
            )

    def _ended(self):
        status = self._process.wait()
        self._log.seek(self._log_start)
        lines = self._log.read().decode(errors="replace").strip().splitlines() or ["it said nothing"]
        why = "perhaps for lack of memory; it was killed" if status == -9 else f"status {status}"
        return ExportError(f"The process that converts ended ({why}): {lines[-1][:300]}")


def _read(stream, answers):
    """Passes lines on, and None at the end. A file that is closed meanwhile ends, too."""
    try:
        for line in stream:
            answers.put(line)
    except ValueError:
        pass
    answers.put(None)


def _resident(process: int) -> int:
    """Bytes of memory that a process holds; 0 where the system does not tell."""
    try:
        pages = int(pathlib.Path(f"/proc/{process}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def _usual_memory():
    try:
        return MEMORY_SHARE * os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return float("inf")


CONVERTER = Converter()
atexit.register(CONVERTER.stop)


# === In the process ===


def serve() -> None:
    """Takes jobs, lines of JSON, and answers a line for each, until there are no more, or the process that asks has ended."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    from tfzoo.export import onnx, openvino, tflite

    write = {".tflite": tflite.write, ".onnx": onnx.write, ".xml": openvino.write}
    for line in sys.stdin:
        job = json.loads(line)
        path = pathlib.Path(job["path"])
        try:
            answer = {"operators": write[path.suffix](job["saved_model"], path, **_of_ranges(job))}
        except ExportError as error:
            answer = {"error": str(error)}
        except Exception as error:
            answer = {"error": f"The conversion failed ({type(error).__name__}: {str(error).strip()[:300]})."}
        print(json.dumps(answer), file=answers, flush=True)


def _of_ranges(job):
    """What TFLite alone takes."""
    if not job["path"].endswith(".tflite"):
        return {}
    batches = _batches(job["calibration"]) if job["calibration"] else ()
    return {"quantization": job["quantization"], "batches": batches, "integers": job["integers"]}


def _batches(path):
    with np.load(path) as arrays:
        batches = {}
        for key in arrays.files:
            number, _, name = key.partition("/")
            batches.setdefault(int(number), {})[name] = arrays[key]
    return [batches[number] for number in sorted(batches)]


def _end_with(parent):
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)
