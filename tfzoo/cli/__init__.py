"""The ``tfzoo`` command: the one front door, with its exit statuses and what it says of errors."""

import contextlib
import os
import signal
import sys
import threading
import traceback

from tfzoo.cli.arguments import build_parser, spell_out
from tfzoo.errors import ExportError, find_sentence

BAD_INPUT, FAILED, INTERRUPTED = 2, 1, 130


def main(arguments=None) -> int:
    """Runs a command and returns its exit status: 2 for bad input, with one sentence on standard error."""
    # TensorFlow leaves oneDNN off where AVX2 is all that a processor has, and trains up to three times slower there.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    parser = build_parser()
    args = parser.parse_args(spell_out(sys.argv[1:] if arguments is None else arguments))
    if not hasattr(args, "run"):
        args.group.print_help()
        return BAD_INPUT
    try:
        with _terminating_interrupts(), _quiet_tensorflow(args):
            args.run(args)
        return 0
    except KeyboardInterrupt:
        print(f"\nInterrupted. {getattr(args, 'when_interrupted', '').format(**vars(args))}".rstrip(), file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        sys.stderr.close()
        return FAILED
    except Exception as error:
        return _explain(error)


@contextlib.contextmanager
def _terminating_interrupts():
    """SIGTERM ends a command as Ctrl-C does, so that it saves what it has and clears away its drafts."""
    if threading.current_thread() is not threading.main_thread():  # others may not set handlers
        yield
        return
    earlier = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, earlier)


def _explain(error) -> int:
    sentence = find_sentence(error)
    if type(error).__name__ in ("MemoryError", "ResourceExhaustedError"):  # TensorFlow's, which is not imported for its name
        error = ExportError("There is not enough memory for this: take smaller pictures, fewer at once, or a smaller model.")
    if not sentence and isinstance(error, OSError) and error.filename:
        sentence = f"{error.filename} cannot be used ({error.strerror}): check the path and its permissions."
    if os.environ.get("TFZOO_TRACEBACK"):
        traceback.print_exception(error)
    elif sentence or isinstance(error, ExportError):
        print(f"tfzoo: {sentence or error}", file=sys.stderr)
    else:
        line = str(error).strip().partition("\n")[0]
        print(
            f"tfzoo: this should not have happened ({type(error).__name__}: {line}); with TFZOO_TRACEBACK=1 in the environment the "
            "command shows where.",
            file=sys.stderr,
        )
    return BAD_INPUT if sentence else FAILED


@contextlib.contextmanager
def _quiet_tensorflow(args):
    """Keeps TensorFlow's start-up chatter off the screen; it is written past Python, straight to the file descriptor."""
    if not getattr(args, "tensorflow", True) or os.environ.get("TFZOO_TRACEBACK"):
        yield
        return
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    sys.stderr, visible = os.fdopen(os.dup(kept), "w", buffering=1), sys.stderr
    try:
        yield
    finally:
        sys.stderr.flush()
        sys.stderr = visible
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
