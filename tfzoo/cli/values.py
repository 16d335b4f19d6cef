"""What is read from one word of the command line: functions for argparse's ``type``."""

import argparse
import ast
import contextlib


def count(text):
    """A whole number from 1."""
    if not (text.isascii() and text.isdigit() and int(text)):
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number from 1")
    return int(text)


def above_zero(text):
    """A number above 0."""
    with contextlib.suppress(ValueError):
        if 0 < float(text) < float("inf"):
            return float(text)
    raise argparse.ArgumentTypeError(f"'{text}' is not a number above 0")


def share(text):
    """A number from 0 to 1."""
    with contextlib.suppress(ValueError):
        if 0 <= float(text) <= 1:
            return float(text)
    raise argparse.ArgumentTypeError(f"'{text}' is not a number from 0 to 1")


def count_or_any(text):
    return text if text == "any" else count(text)


def seed(text):
    """A whole number from 0 to 2^32 - 1, which NumPy, Keras and TensorFlow all take."""
    return _below(2**32, text)


def port(text):
    """A whole number from 0 to 2^16 - 1."""
    return _below(2**16, text)


def _below(limit, text):
    if not (text.isascii() and text.isdigit() and int(text) < limit):
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number from 0 to {limit - 1}")
    return int(text)


def option(text):
    """KEY=VALUE, the value read as Python where it is: 0.5, True, "valid"."""
    key, equals, value = text.partition("=")
    if not (key and equals):
        raise argparse.ArgumentTypeError(f"'{text}' is not of the form KEY=VALUE, such as width_multiplier=0.25")
    try:
        return key, ast.literal_eval({"true": "True", "false": "False", "none": "None"}.get(value, value))
    except (ValueError, SyntaxError):
        return key, value
