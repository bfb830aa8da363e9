"""The values of tensors: from JSON or from the bytes behind it, and back. `name` says in errors whose they are."""

import math
import struct
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt

from app.api.upload import decode_base64
from app.errors import InvalidParameter

_LENGTH = struct.Struct("<I")  # before each element of BYTES


def pixels_from_bytes(data: bytes | memoryview, shape: Sequence[int], name: str) -> npt.NDArray[np.uint8]:
    """uint8 of the shape, on the same memory. Raises `InvalidParameter`."""
    size = math.prod(shape)
    if len(data) != size:
        raise InvalidParameter(f"input '{name}': shape {list(shape)} has {size} values, got {len(data)}")
    return np.frombuffer(data, np.uint8).reshape(shape)


def pixels_from_json(data: Any, shape: Sequence[int], name: str) -> npt.NDArray[np.uint8]:
    """uint8 of the shape, from numbers nested like it or flat. Raises `InvalidParameter`."""
    try:
        packed = bytes(_flat(data, shape, name))
    except (TypeError, ValueError) as error:
        raise InvalidParameter(f"input '{name}': expected integers from 0 to 255 as its data") from error
    return pixels_from_bytes(packed, shape, name)


def files_from_bytes(data: memoryview, count: int, name: str) -> list[bytes]:
    """The elements, each of which has its length before it. Raises `InvalidParameter`."""
    files: list[bytes] = []
    start = 0
    while start < len(data):
        if len(files) == count:
            raise InvalidParameter(f"input '{name}': {len(data) - start} bytes are left behind its {count} elements")
        if start + _LENGTH.size > len(data):
            raise InvalidParameter(f"input '{name}': its data ends within the length of element {len(files)}")
        (length,) = _LENGTH.unpack_from(data, start)
        start += _LENGTH.size
        if start + length > len(data):
            raise InvalidParameter(
                f"input '{name}': element {len(files)} is to have {length} bytes, {len(data) - start} came"
            )
        files.append(bytes(data[start : start + length]))
        start += length
    if len(files) != count:
        raise InvalidParameter(f"input '{name}': expected {count} elements by its shape, got {len(files)}")
    return files


def files_from_json(data: Any, shape: Sequence[int], name: str) -> list[bytes]:
    """The elements, each of which is a string of base64. Raises `DemitasseError`s."""
    elements = _flat(data, shape, name)
    if len(elements) != math.prod(shape):
        raise InvalidParameter(
            f"input '{name}': shape {list(shape)} has {math.prod(shape)} values, got {len(elements)}"
        )
    if not all(isinstance(element, str) for element in elements):
        raise InvalidParameter(f"input '{name}': expected strings of base64 as its data")
    return [decode_base64(element, name) for element in elements]


def to_bytes(elements: Iterable[str]) -> bytes:
    """What BYTES are behind the JSON."""
    encoded = [element.encode() for element in elements]
    return b"".join(chain.from_iterable((_LENGTH.pack(len(element)), element) for element in encoded))


def _flat(data: Any, shape: Sequence[int], name: str) -> list[Any]:
    """The data without its nesting, which is that of the shape where there is any."""
    if not isinstance(data, list):
        raise InvalidParameter(f"input '{name}': expected a list as its data")
    if not any(isinstance(element, list) for element in data):
        return data
    values = data
    for size in shape[1:]:
        if not all(isinstance(row, list) and len(row) == size for row in values):
            raise InvalidParameter(f"input '{name}': its data is not nested like the shape {list(shape)}")
        values = list(chain.from_iterable(values))
    return values
