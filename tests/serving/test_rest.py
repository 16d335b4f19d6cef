"""TensorFlow Serving's REST protocol, as bytes."""

import base64
import json

import numpy as np
import pytest

from tfzoo.errors import InputError
from tfzoo.serving import rest


def test_addresses():
    assert rest.write_address("mine") == "/v1/models/mine:predict"
    assert rest.write_address("my model", 3) == "/v1/models/my%20model/versions/3:predict"
    assert rest.read_address("/v1/models/my%20model/versions/3:predict") == ("my model", 3, True)
    assert rest.read_address("/v1/models/mine") == ("mine", None, False)
    assert rest.read_address("/v1/models/mine:classify") is None and rest.read_address("/") is None


def test_a_request_comes_back():
    assert rest.read_request(rest.write_request("serving_default", [b"ab", b"\xff"])) == (
        "serving_default",
        [b"ab", b"\xff"],
        False,
    )
    images = np.arange(12, dtype=np.uint8).reshape(1, 2, 2, 3)
    signature, values, by_rows = rest.read_request(rest.write_request("tensor", images))
    assert signature == "tensor" and not by_rows
    np.testing.assert_array_equal(values, images)


CODED = {"b64": base64.b64encode(b"ab").decode()}


@pytest.mark.parametrize(
    "request_",
    [
        {"instances": [CODED]},
        {"instances": [{"image_bytes": CODED}]},
        {"inputs": [CODED]},
        {"inputs": {"image_bytes": [CODED]}},
        {"signature_name": "serving_default", "inputs": [CODED]},
        {"signature_name": "", "inputs": [CODED]},
        {"inputs": [{"b64": "YW\n I"}]},
    ],
)
def test_ways_to_write_a_request(request_):
    """By rows or by columns; the only input by its name or without; the signature named or left out."""
    assert rest.read_request(json.dumps(request_)) == ("serving_default", [b"ab"], "instances" in request_)


@pytest.mark.parametrize(
    ("body", "part"),
    [
        (b"<html>", "is JSON"),
        (b"[1]", "is JSON"),
        (b"{}", "is JSON"),
        (b'{"inputs": [1], "signature_name": "other"}', "no signature 'other': it is serving_default or tensor"),
        (b'{"inputs": [1], "signature_name": {}}', "no signature {}"),
        (b"[" * 100000, "is JSON"),
        (b'{"inputs": [], "instances": []}', "leave out one of the two"),
        (b'{"instances": {"b64": "YWI="}}', "at least one picture"),
        (b'{"instances": [{"image_bytes": {"b64": "YWI="}}, {"b64": "YWI="}]}', "all of them alike"),
        (b'{"instances": [{"image_bytes": {"b64": "YWI="}, "more": 1}]}', "their base64"),
        (b'{"inputs": []}', "at least one picture"),
        (b'{"inputs": {"pictures": [1]}}', "as image_bytes"),
        (b'{"inputs": ["text"]}', "their base64"),
        (b'{"inputs": [{"b64": "%"}]}', "their base64"),
        (b'{"inputs": [{"b64": "\xc3\xa9"}]}', "their base64"),
        (b'{"inputs": [{"b64": 1}]}', "their base64"),
    ],
)
def test_bad_requests(body, part):
    with pytest.raises(InputError, match=part):
        rest.read_request(body)


def test_answers_by_columns_and_by_rows():
    answer = {"labels": np.array([[[1, 2]], [[3, 4]]], np.uint8), "scores": np.array([[[0.5, 0.25]], [[1, 0]]], np.float32)}
    found = rest.read_answer(rest.write_answer(answer, by_rows=False))
    for name, value in answer.items():
        np.testing.assert_array_equal(found[name], value)
        assert found[name].dtype == value.dtype
    rows = json.loads(rest.write_answer(answer, by_rows=True))["predictions"]
    assert rows == [{"labels": [[1, 2]], "scores": [[0.5, 0.25]]}, {"labels": [[3, 4]], "scores": [[1, 0]]}]


def test_dtypes_of_an_answer():
    """JSON has none: they are those of ``predict``."""
    found = {"boxes": [[[1, 2, 3, 4]]], "labels": [[-1]], "num_detections": [0], "image_shape": [[5, 6]]}
    assert {name: value.dtype.name for name, value in rest.read_answer(json.dumps({"outputs": found})).items()} == {
        "boxes": "float32",
        "labels": "int32",
        "num_detections": "int32",
        "image_shape": "int32",
    }


@pytest.mark.parametrize("body", ["[]", "{}", '{"outputs": []}', "<html>", '{"outputs": {"labels": "text"}}'])
def test_what_is_no_answer(body):
    with pytest.raises(ValueError):
        rest.read_answer(body)
