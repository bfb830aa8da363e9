"""Request bodies: read within a limit, in memory, as multipart, raw bytes or JSON with base64.

The limit holds while the body streams in: what exceeds it is refused at that moment, and nothing of it is kept.
"""

import base64
import binascii
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from fastapi import Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect

from app.api.encodings import IDENTITY, decoded
from app.errors import (
    BodyTooLarge,
    ClientDisconnected,
    InvalidParameter,
    MalformedBody,
    QueueFull,
    UnsupportedMediaType,
)

if TYPE_CHECKING:  # it exists for type checkers only
    from python_multipart.multipart import MultipartCallbacks

IMAGE_FIELD = "file"
BATCH_FIELD = "files"
JSON_FIELD = "image"

Take = Callable[[int], None]

_BYTES = ("", "application/octet-stream", "application/x-image")  # the last one is SageMaker's
_OTHER_FIELDS = 16  # besides the pictures, for forms that send more
_MOST_JSON_VALUES = 100
_COUNTED_BYTES = 2**18

_TAKEN = "multipart/form-data with the field 'file', image/*, application/octet-stream or application/json"


def _uncounted(n_bytes: int) -> None:
    """For callers without a budget."""


class BodyBudget:
    """How many bytes of bodies are in memory, all requests together: what slow or large uploads can use up."""

    def __init__(self, max_total_bytes: int) -> None:
        self._max_total_bytes = max_total_bytes
        self.used_bytes = 0

    def account(self, share: float = 1.0) -> "_Account":
        """A block that yields what counts the pieces of one body, which are given back at its end.

        It raises `QueueFull` where that share of the memory is used.
        """
        return _Account(self, int(share * self._max_total_bytes))


class _Account:
    def __init__(self, budget: BodyBudget, limit: int) -> None:
        self._budget, self._limit = budget, limit
        self._taken = 0

    def __enter__(self) -> Take:
        return self._take

    def __exit__(self, *_: object) -> None:
        self._budget.used_bytes -= self._taken

    def _take(self, n_bytes: int) -> None:
        if self._budget.used_bytes + n_bytes > self._limit:
            message = f"{self._budget.used_bytes:,} bytes of uploads are in memory, the limit is {self._limit:,}"
            raise QueueFull(message, retry_after_s=1)
        self._budget.used_bytes += n_bytes
        self._taken += n_bytes


@dataclass
class Part:
    """One part of a multipart body."""

    headers: dict[bytes, bytes] = field(default_factory=dict)
    data: bytearray = field(default_factory=bytearray)

    @cached_property
    def name(self) -> str:
        return self._disposition.get(b"name", b"").decode("utf-8", "replace")

    @property
    def filename(self) -> str | None:
        filename = self._disposition.get(b"filename")
        return None if filename is None else filename.decode("utf-8", "replace")

    @cached_property
    def _disposition(self) -> dict[bytes, bytes]:
        return parse_options_header(self.headers.get(b"content-disposition", b""))[1]


def media_type_of(request: Request) -> str:
    """In small letters, without parameters; empty where the request names none."""
    return _content_type(request)[0]


async def read_image(request: Request, max_bytes: int, take: Take = _uncounted) -> bytes:
    """The one picture of a request. `take` is told of each piece. Raises `DemitasseError`s."""
    media_type, options = _content_type(request)
    if media_type == "multipart/form-data":
        part = _only_part(await _read_parts(request, options, max_bytes, 1 + _OTHER_FIELDS, take), IMAGE_FIELD)
        return bytes(part.data)
    if media_type == "application/json":
        return _from_json(await read_body(request, max_bytes, take))
    if media_type in _BYTES or media_type.startswith("image/"):
        return await read_body(request, max_bytes, take)
    raise UnsupportedMediaType(f"expected {_TAKEN}; the content type is {media_type}")


async def read_files(request: Request, max_bytes: int, max_files: int, take: Take = _uncounted) -> list[Part]:
    """The files of a batch, in order. `take` is told of each piece. Raises `DemitasseError`s."""
    media_type, options = _content_type(request)
    if media_type != "multipart/form-data":
        raise UnsupportedMediaType(
            f"expected multipart/form-data with fields '{BATCH_FIELD}'; the content type is {media_type or 'missing'}"
        )
    parts = await _read_parts(request, options, max_bytes, max_files + _OTHER_FIELDS, take)
    files = [part for part in parts if part.name == BATCH_FIELD]
    if not files:
        raise InvalidParameter(f"expected multipart fields named '{BATCH_FIELD}', got {_names(parts)}")
    if len(files) > max_files:
        raise InvalidParameter(f"expected at most {max_files} files, got {len(files)}")
    return files


def _content_type(request: Request) -> tuple[str, dict[bytes, bytes]]:
    media_type, options = parse_options_header(request.headers.get("content-type", ""))
    return media_type.decode("latin-1").lower(), options


async def read_body(request: Request, max_bytes: int, take: Take = _uncounted) -> bytes:
    """The body as it is. `take` is told of each piece. Raises `DemitasseError`s."""
    pieces: list[bytes] = []
    await _receive(request, max_bytes, take, pieces.append)
    return b"".join(pieces)


async def _read_parts(
    request: Request, options: dict[bytes, bytes], max_bytes: int, max_parts: int, take: Take
) -> list[Part]:
    boundary = options.get(b"boundary")
    if not boundary:
        raise MalformedBody("the multipart content type names no boundary")
    collector = _PartCollector(max_parts)
    try:
        parser = MultipartParser(boundary, collector.callbacks())
        await _receive(request, max_bytes, take, parser.write)
        parser.finalize()
    except FormParserError as error:
        raise MalformedBody(f"the multipart body is malformed: {error}") from error
    if not collector.complete:
        raise MalformedBody("the multipart body ends before its last boundary")
    return collector.parts


async def _receive(request: Request, max_bytes: int, take: Take, into: Callable[[bytes], object]) -> None:
    """Hand on the body's pieces as they arrive, as long as their sum, announced or real, is within the limit.

    Those of a compressed body are what it holds.
    """
    headers = dict(request.scope["headers"])
    announced = headers.get(b"content-length", b"")
    if announced.isdigit() and int(announced) > max_bytes:
        raise BodyTooLarge(f"the body has {int(announced):,} bytes, the limit is {max_bytes:,}")
    received = 0
    pieces: AsyncIterator[bytes] = request.stream()
    # Repeated headers are one list (RFC 9110, section 5.3): such a body was encoded twice
    said = b",".join(value for name, value in request.scope["headers"] if name == b"content-encoding")
    encodings = [each for part in said.split(b",") if (each := part.strip().lower()) not in (b"", IDENTITY)]
    if encodings:
        pieces = decoded(pieces, b", ".join(encodings).decode("latin-1"))
    try:
        async for piece in pieces:
            received += len(piece)
            if received > max_bytes:
                raise BodyTooLarge(f"the body has more than {max_bytes:,} bytes, which is the limit")
            take(len(piece))
            into(piece)
    except ClientDisconnect as error:
        raise ClientDisconnected("the caller left before the body was complete") from error


class _PartCollector:
    """The callbacks of python-multipart's streaming parser."""

    def __init__(self, max_parts: int) -> None:
        self.parts: list[Part] = []
        self._max_parts = max_parts
        self.complete = False
        self._name = bytearray()
        self._value = bytearray()

    def callbacks(self) -> "MultipartCallbacks":
        return {
            "on_part_begin": self._begin,
            "on_part_data": lambda data, start, end: self.parts[-1].data.extend(memoryview(data)[start:end]),
            "on_header_field": lambda data, start, end: self._name.extend(data[start:end]),
            "on_header_value": lambda data, start, end: self._value.extend(data[start:end]),
            "on_header_end": self._end_header,
            "on_end": self._end,
        }

    def _begin(self) -> None:
        # A part can be as short as 9 bytes: millions fit into a body within its limit, and take 25 times its memory
        if len(self.parts) >= self._max_parts:
            raise InvalidParameter(f"expected at most {self._max_parts} multipart fields, more came")
        self.parts.append(Part())

    def _end_header(self) -> None:
        self.parts[-1].headers[bytes(self._name).lower()] = bytes(self._value)
        self._name.clear()
        self._value.clear()

    def _end(self) -> None:
        self.complete = True


def _only_part(parts: list[Part], name: str) -> Part:
    found = [part for part in parts if part.name == name]
    if len(found) != 1:
        raise InvalidParameter(
            f"expected one multipart field named '{name}', got {_names(parts)}"
            + ("; several pictures go to /predict/batch" if len(found) > 1 else "")
        )
    return found[0]


def _names(parts: list[Part]) -> str:
    return ", ".join(f"'{part.name[:40]}'" for part in parts[:8]) or "none"


def parse_json(body: bytes, most_values: int) -> Any:
    """The document, if it has no more than so many values. Raises `MalformedBody`."""
    check_json(body, most_values)
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise MalformedBody(f"the JSON body can't be parsed: {error}") from error


def check_json(body: bytes, most_values: int) -> None:
    """Raises `MalformedBody` where a document has more values than that.

    Counted before parsing, which would hold up every other request for seconds, or nest without end.
    """
    found = 0
    for start in range(0, len(body), _COUNTED_BYTES):  # in pieces, between which other threads get their turn
        found += sum(body.count(mark, start, start + _COUNTED_BYTES) for mark in (b",", b"[", b"{"))
        if found > most_values:
            raise MalformedBody(f"the JSON body has more than {most_values:,} values")


def decode_base64(encoded: str, name: str) -> bytes:
    """The bytes, of a data: URL as well. `name` says in an error what they were to be. Raises `MalformedBody`."""
    _, _, payload = encoded.rpartition("base64,")
    try:
        return base64.b64decode("".join(payload.split()), validate=True)  # many encoders break lines
    except (binascii.Error, ValueError) as error:
        raise MalformedBody(f"'{name}' is not base64: {error}") from error


def _from_json(body: bytes) -> bytes:
    document = parse_json(body, _MOST_JSON_VALUES)
    encoded = document.get(JSON_FIELD) if isinstance(document, dict) else None
    if not isinstance(encoded, str):
        raise InvalidParameter(f'expected a JSON object {{"{JSON_FIELD}": "<base64>"}}')
    return decode_base64(encoded, JSON_FIELD)
