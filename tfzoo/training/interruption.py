"""Ctrl-C in the middle of a training."""

import signal
import sys
import threading

import keras

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interruption(keras.callbacks.Callback):
    """Makes Ctrl-C and SIGTERM a KeyboardInterrupt between two steps, when the model is whole; a second one is obeyed at once.

    Within a step JAX has taken the model's arrays and not given new ones yet: a model that is saved then is lost. A context manager
    around ``fit``, and one of its callbacks. Outside the main thread, where no handlers can be set, it changes nothing.
    """

    def __init__(self):
        super().__init__()
        self._asked, self._earlier = False, {}

    def __enter__(self):
        if threading.current_thread() is threading.main_thread():
            self._earlier = {number: signal.signal(number, self._ask) for number in SIGNALS}
        return self

    def __exit__(self, *_):
        for number, handler in self._earlier.items():
            signal.signal(number, handler or signal.SIG_DFL)

    def _ask(self, number, frame):
        if self._asked:
            raise KeyboardInterrupt
        self._asked = True
        print("\nEnding after this step; once more ends at once.", file=sys.stderr, flush=True)

    def on_train_batch_begin(self, batch, logs=None):
        if self._asked:
            raise KeyboardInterrupt
