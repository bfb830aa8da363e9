"""A body, with or without bytes behind its JSON: its pictures and the outputs wanted, or what is wrong with it."""

import base64
import json
import re
from typing import Any

import numpy as np
import pytest

from app.api.protocols.v2.bodies import IndexRequest
from app.api.protocols.v2.request import Wanted, parse, read
from app.errors import DemitasseError
from tests.app.conftest import manifest

MANIFEST = manifest()  # of pictures of 2x2, in three classes
PIXELS = np.arange(12, dtype=np.uint8).reshape(1, 2, 2, 3)
FILE = {"name": "image", "shape": [1], "datatype": "BYTES", "data": [base64.b64encode(b"photo").decode()]}
ARRAY = {"name": "images", "shape": [1, 2, 2, 3], "datatype": "UINT8", "data": PIXELS.ravel().tolist()}


def _body(tensor: dict[str, Any], **more: Any) -> bytes:
    return json.dumps({"inputs": [tensor]} | more).encode()


def _binary(tensor: dict[str, Any], behind: bytes, size: int | None = None, **more: Any) -> tuple[bytes, str]:
    """The body, and the length of its JSON."""
    sent = {key: value for key, value in tensor.items() if key != "data"}
    sent["parameters"] = {"binary_data_size": len(behind) if size is None else size}
    header = _body(sent, **more)
    return header + behind, str(len(header))


def test_files_come_as_base64_or_as_bytes_behind_the_json() -> None:
    assert read(_body(FILE), None, MANIFEST).pictures == [b"photo"]
    assert read(_body(FILE | {"shape": [1, 1]}), None, MANIFEST).pictures == [b"photo"]
    assert read(*_binary(FILE, b"\x05\0\0\0photo"), MANIFEST).pictures == [b"photo"]


def test_pixels_come_as_numbers_or_as_bytes_behind_the_json() -> None:
    for asked in (
        read(_body(ARRAY), None, MANIFEST),
        read(_body(ARRAY | {"data": PIXELS.tolist()}), None, MANIFEST),
        read(*_binary(ARRAY, PIXELS.tobytes()), MANIFEST),
    ):
        (found,) = asked.pictures
        np.testing.assert_array_equal(found, PIXELS[0])


def test_header_length_may_be_given_where_nothing_is_behind_the_json() -> None:
    body = _body(FILE)
    assert read(body, str(len(body)), MANIFEST).pictures == [b"photo"]


def test_body_without_json_is_one_file_and_wants_everything_in_binary() -> None:
    asked = read(b"photo", "0", MANIFEST)
    assert (asked.id, asked.pictures) == (None, [b"photo"])
    assert asked.outputs == [Wanted("probabilities", binary=True), Wanted("label", binary=True)]


@pytest.mark.parametrize(
    ("more", "wanted"),
    [
        ({}, [Wanted("probabilities", False), Wanted("label", False)]),
        ({"outputs": []}, [Wanted("probabilities", False), Wanted("label", False)]),
        ({"parameters": {"binary_data_output": True}}, [Wanted("probabilities", True), Wanted("label", True)]),
        ({"outputs": [{"name": "label"}]}, [Wanted("label", False)]),
        (
            {
                "parameters": {"binary_data_output": True},
                "outputs": [{"name": "label", "parameters": {"binary_data": False}}, {"name": "probabilities"}],
            },
            [Wanted("label", False), Wanted("probabilities", True)],
        ),
        (
            {"outputs": [{"name": "probabilities", "parameters": {"classification": 2}}]},
            [Wanted("probabilities", False, 2)],
        ),
    ],
)
def test_outputs_are_those_asked_for_in_their_order_or_all(more: dict[str, Any], wanted: list[Wanted]) -> None:
    assert read(_body(FILE, **more), None, MANIFEST).outputs == wanted


def test_keys_that_others_have_added_and_nulls_do_no_harm() -> None:
    tensor = FILE | {"parameters": {"content_type": "base64"}, "x": 1}
    asked = read(_body(tensor, id=None, outputs=None, parameters=None, model_name="cups"), None, MANIFEST)
    assert (asked.id, asked.pictures) == (None, [b"photo"])
    assert read(_body(FILE, id="42"), None, MANIFEST).id == "42"


def _json(tensor: dict[str, Any], **more: Any) -> tuple[bytes, None]:
    return _body(tensor, **more), None


_WANTED = "probabilities, label, each once"
CASES: dict[str, tuple[tuple[bytes, str | None], str]] = {
    "empty": ((b"", None), "Invalid JSON: EOF"),
    "no JSON": ((b"\xff\xd8\xff\xe0", None), "Invalid JSON"),
    "cut JSON": ((_body(FILE)[:-1], None), "Invalid JSON: EOF"),
    "list": ((b"[]", None), "Input should be an object"),
    "no inputs": ((b"{}", None), "inputs: Field required"),
    "empty inputs": ((b'{"inputs": []}', None), "'image' or 'images', got none"),
    "null inputs": ((b'{"inputs": null}', None), "inputs: Input should be a valid"),
    "deep": ((b'{"inputs": ' + b"[" * 100_000, None), "recursion limit"),
    "a million values": (
        _json(ARRAY | {"data": [0] * 1_000_000}),
        "more than 400,000 values; large tensors can come in binary",
    ),
    "a million lists": (
        (b'{"inputs": [' + b"[]," * 1_000_000 + b"0]}", None),
        "more than 400,000 values; large tensors can come in binary",
    ),
    "18 MB of digits": ((b'{"inputs": [' + b"1" * 18_000_000 + b"]}", None), "number out of range"),
    "20 inputs": ((json.dumps({"inputs": [FILE] * 20}).encode(), None), "at most 16 items"),
    "both inputs": ((json.dumps({"inputs": [FILE, ARRAY]}).encode(), None), "got 'image', 'images'"),
    "unknown input": (_json(FILE | {"name": "input_1"}), "expected one input, 'image' or 'images', got 'input_1'"),
    "no name": (_json({key: value for key, value in FILE.items() if key != "name"}), "inputs.0.name: Field required"),
    "no shape": (
        _json({key: value for key, value in FILE.items() if key != "shape"}),
        "inputs.0.shape: Field required",
    ),
    "datatype of files": (_json(FILE | {"datatype": "UINT8"}), "expected datatype BYTES, got UINT8"),
    "datatype of pixels": (_json(ARRAY | {"datatype": "FP32"}), "expected datatype UINT8, got FP32"),
    "shape of files": (_json(FILE | {"shape": [1, 2]}), "expected shape [-1], got [1, 2]"),
    "shape of pixels": (_json(ARRAY | {"shape": [1, 3, 2, 2]}), "expected shape [-1, 2, 2, 3], got [1, 3, 2, 2]"),
    "no batch": (_json(ARRAY | {"shape": [2, 2, 3]}), "expected shape [-1, 2, 2, 3], got [2, 2, 3]"),
    "negative shape": (_json(ARRAY | {"shape": [-1, 2, 2, 3]}), "inputs.0.shape.0: Input should be greater"),
    "shape beyond writing": (
        _json(ARRAY | {"shape": [10**4299, 2, 2, 3]}),  # their product has too many digits for Python
        "inputs.0.shape.0: Input should be less than or equal to 2147483648",
    ),
    "shape of strings": (_json(ARRAY | {"shape": ["1", 2, 2, 3]}), "inputs.0.shape.0: Input should be a valid integer"),
    "100 dimensions": (_json(ARRAY | {"shape": [1] * 100}), "at most 16 items"),
    "wrong count": (_json(ARRAY | {"shape": [2, 2, 2, 3]}), "has 24 values, got 12"),
    "no data": (_json({**FILE, "data": None}), "either data or a binary_data_size"),
    "data twice": (_json(FILE | {"parameters": {"binary_data_size": 0}}), "either data or a binary_data_size"),
    "id of a number": (_json(FILE, id=7), "id: Input should be a valid string"),
    "unknown output": (_json(FILE, outputs=[{"name": "logits"}]), f"{_WANTED}, got 'logits'"),
    "output twice": (_json(FILE, outputs=[{"name": "label"}] * 2), f"{_WANTED}, got 'label'"),
    "classes of labels": (
        _json(FILE, outputs=[{"name": "label", "parameters": {"classification": 1}}]),
        "classification is of 'probabilities' only",
    ),
    "no classes": (
        _json(FILE, outputs=[{"name": "probabilities", "parameters": {"classification": 0}}]),
        "outputs.0.parameters.classification: Input should be greater",
    ),
    "header of -1": ((_body(FILE), "-1"), "Inference-Header-Content-Length: expected a number up to"),
    "header of x": ((_body(FILE), "x"), "got x"),
    "header of ²": ((_body(FILE), "²"), "got ²"),
    "header beyond": ((b"{}", "3"), "expected a number up to the body's 2 bytes, got 3"),
    "header of 5000 digits": ((b"{}", "9" * 5000), "got 9999"),
    "header too short": ((_body(FILE), "5"), "Invalid JSON"),
    "negative size": (_binary(ARRAY, PIXELS.tobytes(), -12), "binary_data_size: Input should be greater"),
    "huge size": (_binary(ARRAY, PIXELS.tobytes(), 10**30), "but 12 bytes follow the JSON"),
    "size of a string": (
        _json({**ARRAY, "data": None, "parameters": {"binary_data_size": "12"}}),
        "binary_data_size: Input should be a valid integer",
    ),
    "cut bytes": (
        _binary(ARRAY, PIXELS.tobytes()[:-1], 12),
        "its binary_data_size is 12, but 11 bytes follow the JSON",
    ),
    "bytes left": (_binary(ARRAY, PIXELS.tobytes() + b"x", 12), "is 12, but 13 bytes follow the JSON"),
    "bytes of another shape": (_binary(ARRAY, PIXELS.tobytes()[:-1]), "shape [1, 2, 2, 3] has 12 values, got 11"),
    "bytes that nobody announced": ((_body(FILE) + b"xyz", str(len(_body(FILE)))), "but 3 bytes follow the JSON"),
    "size without bytes": (
        _json({**ARRAY, "data": None, "parameters": {"binary_data_size": 12}}),
        "its binary_data_size is 12, but 0 bytes follow the JSON",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_bad_request_is_told_what_is_wrong(case: str) -> None:
    (body, header_length), words = CASES[case]
    with pytest.raises(DemitasseError, match=re.escape(words)) as error:
        read(body, header_length, MANIFEST)
    assert error.value.status in (400, 422)  # of which the protocol makes 400
    assert len(error.value.message) < 400


def test_other_bodies_are_parsed_as_strictly() -> None:
    assert parse(IndexRequest, b'{"ready": true}').ready is True
    with pytest.raises(DemitasseError, match="ready: Input should be a valid boolean"):
        parse(IndexRequest, b'{"ready": "yes"}')
