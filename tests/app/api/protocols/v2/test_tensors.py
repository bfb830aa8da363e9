"""Values in JSON and behind it: as the shape says, or refused with the input's name."""

import base64
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from app.api.protocols.v2.tensors import (
    files_from_bytes,
    files_from_json,
    pixels_from_bytes,
    pixels_from_json,
    to_bytes,
)
from app.errors import DemitasseError

PIXELS = np.arange(24, dtype=np.uint8).reshape(2, 2, 2, 3)
SHAPE = PIXELS.shape


def test_pixels_are_the_same_from_bytes_and_from_nested_and_flat_numbers() -> None:
    for found in (
        pixels_from_bytes(memoryview(PIXELS.tobytes()), SHAPE, "images"),
        pixels_from_json(PIXELS.tolist(), SHAPE, "images"),
        pixels_from_json(PIXELS.ravel().tolist(), SHAPE, "images"),
    ):
        assert found.dtype == np.uint8
        np.testing.assert_array_equal(found, PIXELS)


def test_files_are_the_same_from_bytes_and_from_base64() -> None:
    files = [b"", b"\0\xff", b"abc" * 1000]
    behind = b"".join(len(file).to_bytes(4, "little") + file for file in files)
    assert files_from_bytes(memoryview(behind), 3, "image") == files
    encoded = [base64.b64encode(file).decode() for file in files]
    assert files_from_json(encoded, [3], "image") == files
    assert files_from_json([[one] for one in encoded], [3, 1], "image") == files


def test_strings_go_out_with_their_lengths_in_bytes_before_them() -> None:
    assert to_bytes(["é", "", "ab"]) == b"\x02\0\0\0\xc3\xa9" + b"\0\0\0\0" + b"\x02\0\0\0ab"
    assert to_bytes([]) == b""


_ROW = [[[0, 0, 0], [0, 0, 0]]] * 2  # a picture of 2x2
CASES: dict[str, tuple[Callable[[], Any], str]] = {
    "bytes lack": (lambda: pixels_from_bytes(b"123", [1, 2, 2, 3], "x"), "shape [1, 2, 2, 3] has 12 values, got 3"),
    "huge shape": (lambda: pixels_from_bytes(b"", [2**62, 2, 2, 3], "x"), "values, got 0"),
    "numbers lack": (lambda: pixels_from_json([1] * 11, [1, 2, 2, 3], "x"), "has 12 values, got 11"),
    "rows are uneven": (lambda: pixels_from_json([[_ROW[0], [[0] * 3]]], [1, 2, 2, 3], "x"), "nested like the shape"),
    "picture lacks": (lambda: pixels_from_json([_ROW], [2, 2, 2, 3], "x"), "has 24 values, got 12"),
    "one level too many": (lambda: pixels_from_json([[_ROW]], [1, 2, 2, 3], "x"), "nested like the shape"),
    "lists for numbers": (lambda: pixels_from_json([[[[[], [], []]] * 2] * 2], [1, 2, 2, 3], "x"), "from 0 to 255"),
    "list among numbers": (lambda: pixels_from_json([0, [0], 0], [3], "x"), "from 0 to 255"),
    "256": (lambda: pixels_from_json([256, 0, 0], [3], "x"), "integers from 0 to 255"),
    "-1": (lambda: pixels_from_json([-1, 0, 0], [3], "x"), "integers from 0 to 255"),
    "10**400": (lambda: pixels_from_json([10**400, 0, 0], [3], "x"), "integers from 0 to 255"),
    "a fraction": (lambda: pixels_from_json([0.5, 0, 0], [3], "x"), "integers from 0 to 255"),
    "a string": (lambda: pixels_from_json(["1", 0, 0], [3], "x"), "integers from 0 to 255"),
    "null": (lambda: pixels_from_json([None, 0, 0], [3], "x"), "integers from 0 to 255"),
    "no list": (lambda: pixels_from_json(12, [12], "x"), "expected a list"),
    "an object": (lambda: pixels_from_json({"0": 1}, [1], "x"), "expected a list"),
    "cut length": (lambda: files_from_bytes(memoryview(b"\x01\0\0"), 1, "x"), "ends within the length of element 0"),
    "cut file": (lambda: files_from_bytes(memoryview(b"\x05\0\0\0abc"), 1, "x"), "is to have 5 bytes, 3 came"),
    "length of 4 GB": (lambda: files_from_bytes(memoryview(b"\xff\xff\xff\xffa"), 1, "x"), "4294967295 bytes, 1 came"),
    "file lacks": (
        lambda: files_from_bytes(memoryview(b"\0\0\0\0"), 2, "x"),
        "expected 2 elements by its shape, got 1",
    ),
    "file over": (lambda: files_from_bytes(memoryview(bytes(8)), 1, "x"), "4 bytes are left behind its 1 elements"),
    "huge count": (lambda: files_from_bytes(memoryview(b""), 2**62, "x"), "elements by its shape, got 0"),
    "strings lack": (lambda: files_from_json([""], [2], "x"), "shape [2] has 2 values, got 1"),
    "numbers for strings": (lambda: files_from_json([1], [1], "x"), "strings of base64"),
    "string for list": (lambda: files_from_json("QUJD", [1], "x"), "expected a list"),
    "no base64": (lambda: files_from_json(["§"], [1], "x"), "'x' is not base64"),
}


@pytest.mark.parametrize("case", CASES)
def test_what_does_not_fit_is_refused_and_named(case: str) -> None:
    call, words = CASES[case]
    with pytest.raises(DemitasseError, match=re.escape(words)) as error:
        call()
    assert "'x'" in error.value.message
