"""TensorFlow Serving's REST protocol: what the client and the local server both know of it.

A request is POSTed to /v1/models/NAME:predict, or /v1/models/NAME/versions/N:predict, as JSON: by columns, {"signature_name": ...,
"inputs": {input: values}}, answered with {"outputs": {output: values}}; or by rows, {"instances": [...]}, answered with
{"predictions": [...]}. Bytes are {"b64": text}. https://www.tensorflow.org/tfx/serving/api_rest
"""

import base64
import json
import re
import urllib.parse

import numpy as np

from tfzoo.errors import InputError

BYTES, TENSOR = "serving_default", "tensor"  # the signatures of a served model
INPUTS = {BYTES: "image_bytes", TENSOR: "images"}
INTEGERS = {"labels": np.int32, "num_detections": np.int32, "image_shape": np.int32}  # JSON tells no dtypes; the rest are float32
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")  # of a model
ADDRESS = re.compile(r"/v1/models/([^/:?]+)(?:/versions/([0-9]{1,18}))?(:predict)?(?:\?.*)?")


def write_address(model, version=None) -> str:
    """The path that predictions of a model are asked at; ``version`` None: its newest one."""
    return f"/v1/models/{urllib.parse.quote(model, safe='')}{f'/versions/{version}' if version else ''}:predict"


def read_address(path):
    """(model, version or None, whether it asks for predictions), or None where a path is no model's."""
    found = ADDRESS.fullmatch(path)
    return found and (urllib.parse.unquote(found[1]), int(found[2]) if found[2] else None, bool(found[3]))


def write_request(signature, values) -> bytes:
    """``values``: of the signature's input, a list of bytes or an array."""
    encoded = values.tolist() if isinstance(values, np.ndarray) else [{"b64": base64.b64encode(data).decode()} for data in values]
    return json.dumps({"signature_name": signature, "inputs": {INPUTS[signature]: encoded}}).encode()


def read_request(body) -> tuple:
    """Returns the signature, the values of its input (a list of bytes, or of nested lists), and whether they came by rows.

    Raises:
        InputError: it is no such request.
    """
    try:
        request = json.loads(body)
        by_rows = "instances" in request
        signature, values = request.get("signature_name", ""), request["instances" if by_rows else "inputs"]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise InputError('A request is JSON: {"signature_name": ..., "inputs": {...}}, or "instances": [...].') from None
    if by_rows and "inputs" in request:
        raise InputError("A request has inputs, by columns, or instances, by rows: leave out one of the two.")
    if signature == "":
        signature = BYTES
    if signature not in list(INPUTS):  # it may be anything that JSON has
        raise InputError(f"There is no signature {signature!r}: it is {' or '.join(INPUTS)}.")
    name = INPUTS[signature]
    values = _unnamed_rows(name, values) if by_rows else _unnamed(name, values)
    if not isinstance(values, list) or not values:
        raise InputError(f"Signature {signature} takes a list with at least one picture as {name}.")
    return signature, [_from_base64(value) for value in values] if signature == BYTES else values, by_rows


def _unnamed(name, value):
    """The value of the only input, which may come by its name or without."""
    return value[name] if isinstance(value, dict) and list(value) == [name] else value


def _unnamed_rows(name, rows):
    if not isinstance(rows, list):
        return rows
    named = {isinstance(row, dict) and name in row for row in rows}
    if len(named) > 1:
        raise InputError(f"Some instances name their input {name} and some do not: write all of them alike.")
    return [_unnamed(name, row) for row in rows]


def _from_base64(value):
    try:
        text = "".join(value["b64"].split())  # lines and missing "=" are taken by TensorFlow Serving too
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (TypeError, KeyError, ValueError, AttributeError):
        raise InputError('The bytes of a picture are sent as {"b64": their base64}.') from None


def write_answer(answer: dict, by_rows) -> bytes:
    columns = {name: value.tolist() for name, value in answer.items()}
    if not by_rows:
        return json.dumps({"outputs": columns}).encode()
    return json.dumps(
        {"predictions": [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]}
    ).encode()


def read_answer(body) -> dict[str, np.ndarray]:
    """The arrays of an answer by columns.

    Raises:
        ValueError: it is no such answer.
    """
    try:
        outputs = json.loads(body)["outputs"]
        dtypes = INTEGERS if "num_detections" in outputs else INTEGERS | {"labels": np.uint8}
        return {name: np.asarray(value, dtypes.get(name, np.float32)) for name, value in outputs.items()}
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"no answer by columns ({type(error).__name__})") from None
