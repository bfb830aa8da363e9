"""Bodies as callers send them, and as they should not."""

import asyncio
import base64
import json
import random
from collections.abc import Callable, Iterable

import pytest
from fastapi import Request

from app.api.upload import BodyBudget, Part, read_files, read_image
from app.errors import (
    BodyTooLarge,
    ClientDisconnected,
    DemitasseError,
    InvalidParameter,
    MalformedBody,
    QueueFull,
    UnsupportedMediaType,
)

PICTURE = b"\x89PNG\r\n\x1a\n--b\r\n--edge\x00\r\n--edg\r\n\r\nrest\r\n"  # what looks like a boundary, and is none
MULTIPART = "multipart/form-data; boundary=edge-1"


class _Caller:
    """Sends a body in the given pieces, and counts those that were taken."""

    def __init__(self, pieces: Iterable[bytes], leaves: bool = False) -> None:
        self._pieces = iter(pieces)
        self._leaves = leaves
        self.taken = 0

    async def receive(self) -> dict[str, object]:
        for piece in self._pieces:
            self.taken += 1
            return {"type": "http.request", "body": piece, "more_body": True}
        if self._leaves:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": b"", "more_body": False}


def _request(caller: _Caller, content_type: str | None, length: str | None = None) -> Request:
    headers = {b"content-type": content_type, b"content-length": length}
    pairs = [(name, value.encode("latin-1")) for name, value in headers.items() if value is not None]
    return Request({"type": "http", "method": "POST", "path": "/predict", "headers": pairs}, caller.receive)


def _image(body: bytes | _Caller, content_type: str | None, limit: int = 10_000, length: str | None = None) -> bytes:
    caller = body if isinstance(body, _Caller) else _Caller([body])
    return asyncio.run(read_image(_request(caller, content_type, length), limit))


def _files(body: bytes, content_type: str | None = MULTIPART, max_files: int = 5) -> list[Part]:
    return asyncio.run(read_files(_request(_Caller([body]), content_type), 10_000, max_files))


def _part(name: str = "file", data: bytes = PICTURE, more: str = '; filename="a.png"') -> bytes:
    return f'--edge-1\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n'.encode() + data + b"\r\n"


def _form(*parts: bytes) -> bytes:
    return b"".join(parts) + b"--edge-1--\r\n"


@pytest.mark.parametrize("piece", [1, 2, 3, 7, 64, 100_000])
def test_multipart_is_read_however_it_arrives(piece: int) -> None:
    body = _form(_part("note", b"hello", ""), _part())
    pieces = [body[start : start + piece] for start in range(0, len(body), piece)]
    assert _image(_Caller(pieces), MULTIPART) == PICTURE


@pytest.mark.parametrize(
    "content_type",
    [
        'multipart/form-data; boundary="edge-1"',
        "Multipart/Form-Data; charset=utf-8; BOUNDARY=edge-1",
        "multipart/form-data;boundary=edge-1",
    ],
)
def test_boundary_is_found_however_it_is_spelled(content_type: str) -> None:
    assert _image(_form(_part()), content_type) == PICTURE


def test_preamble_and_epilogue_are_no_part_of_the_picture() -> None:
    assert _image(b"\r\n" + _form(_part()) + b"\r\n", MULTIPART) == PICTURE


def test_part_without_a_file_name_is_taken_as_well() -> None:
    assert _image(_form(_part(more="")), MULTIPART) == PICTURE


def test_file_names_come_back_as_they_were_sent() -> None:
    names = ["größe.png", "a b;c.png", "咖啡.jpg", '\\"quoted\\".png', "C:\\photos\\cup.png"]
    body = _form(*(_part("files", b"1", f'; filename="{name}"') for name in names), _part("files", b"2", ""))
    found = [part.filename for part in _files(body, max_files=6)]
    assert found == ["größe.png", "a b;c.png", "咖啡.jpg", '"quoted".png', "cup.png", None]


def test_file_name_that_is_no_utf8_is_marked_and_costs_nothing() -> None:
    body = _form(_part("files")).replace(b"a.png", b"\xff.png")
    assert [part.filename for part in _files(body)] == ["�.png"]


def test_files_of_a_batch_come_in_order_and_other_fields_are_ignored() -> None:
    body = _form(_part("files", b"2"), _part("note", b"x"), _part("files", b""), _part("files", b"1"))
    assert [bytes(part.data) for part in _files(body)] == [b"2", b"", b"1"]


@pytest.mark.parametrize(
    ("body", "content_type", "error", "message"),
    [
        (_form(_part()), "multipart/form-data", MalformedBody, "the multipart content type names no boundary"),
        (_form(_part()), 'multipart/form-data; boundary=""', MalformedBody, "names no boundary"),
        (_form(_part()), f"multipart/form-data; boundary={'x' * 300}", MalformedBody, "Boundary length 300"),
        (_form(_part()), "multipart/form-data; boundary=other", MalformedBody, "the multipart body is malformed"),
        (_part(), MULTIPART, MalformedBody, "the multipart body ends before its last boundary"),
        (_form(_part())[:60], MULTIPART, MalformedBody, "the multipart body ends before its last boundary"),
        (b"", MULTIPART, MalformedBody, "the multipart body ends before its last boundary"),
        (b"--edge-1\r\nno header\r\n\r\nx\r\n--edge-1--", MULTIPART, MalformedBody, "the multipart body is malformed"),
        (_form(), MULTIPART, InvalidParameter, "expected one multipart field named 'file', got none"),
        (_form(_part("image"), _part("x" * 99)), MULTIPART, InvalidParameter, f"got 'image', '{'x' * 40}'$"),
        (_form(_part(), _part()), MULTIPART, InvalidParameter, "'file', 'file'; several pictures go to /predict/batch"),
        (_form(*[_part("x")] * 18), MULTIPART, InvalidParameter, "expected at most 17 multipart fields, more came"),
        (PICTURE, "text/plain", UnsupportedMediaType, "expected multipart.* the content type is text/plain"),
        (PICTURE, "application/x-www-form-urlencoded", UnsupportedMediaType, "x-www-form-urlencoded"),
        (b"{", "application/json", MalformedBody, "the JSON body can't be parsed"),
        (b"\xff\xfe\xff", "application/json", MalformedBody, "the JSON body can't be parsed"),
        (b"", "application/json", MalformedBody, "the JSON body can't be parsed"),
        (b"[" * 5000, "application/json", MalformedBody, "the JSON body has more than 100 values"),
        (b'{"a":' * 101 + b"1" + b"}" * 101, "application/json", MalformedBody, "more than 100 values"),
        (b'{"image":[' + b"1," * 100 + b"1]}", "application/json", MalformedBody, "more than 100 values"),
        (b"[1]", "application/json", InvalidParameter, 'expected a JSON object {"image": "<base64>"}'),
        (b'{"image": 1}', "application/json", InvalidParameter, "expected a JSON object"),
        (b'{"file": "AAAA"}', "application/json", InvalidParameter, "expected a JSON object"),
        (b'{"image": "AAA"}', "application/json", MalformedBody, "'image' is not base64: Incorrect padding"),
        (b'{"image": "AA*AA"}', "application/json", MalformedBody, "'image' is not base64"),
        ('{"image": "Kaffeetaße"}'.encode(), "application/json", MalformedBody, "'image' is not base64"),
    ],
)
def test_bad_body_says_what_was_expected(
    body: bytes, content_type: str, error: type[DemitasseError], message: str
) -> None:
    with pytest.raises(error, match=message.replace("{", r"\{")) as refusal:
        _image(body, content_type)
    assert type(refusal.value) is error


@pytest.mark.parametrize(
    ("body", "content_type", "error", "message"),
    [
        (PICTURE, "image/png", UnsupportedMediaType, "expected multipart/form-data with fields 'files'.* image/png"),
        (PICTURE, None, UnsupportedMediaType, "the content type is missing"),
        (_form(_part("file")), MULTIPART, InvalidParameter, "expected multipart fields named 'files', got 'file'"),
        (_form(*[_part("files")] * 6), MULTIPART, InvalidParameter, "expected at most 5 files, got 6"),
        (_form(*[_part("files")] * 22), MULTIPART, InvalidParameter, "expected at most 21 multipart fields, more came"),
    ],
)
def test_bad_batch_says_what_was_expected(
    body: bytes, content_type: str | None, error: type[DemitasseError], message: str
) -> None:
    with pytest.raises(error, match=message):
        _files(body, content_type)


@pytest.mark.parametrize(
    "content_type", ["image/png", "IMAGE/JPEG; q=1", "application/octet-stream", "Application/Octet-Stream", "", None]
)
def test_raw_body_is_the_picture(content_type: str | None) -> None:
    assert _image(_Caller([PICTURE[:5], PICTURE[5:]]), content_type) == PICTURE


@pytest.mark.parametrize("prefix", ["", "data:image/png;base64,", "data:image/svg+xml;charset=utf-8;base64,"])
def test_json_carries_base64_with_or_without_a_data_url(prefix: str) -> None:
    body = json.dumps({"image": prefix + base64.b64encode(PICTURE).decode(), "note": ["x"]}).encode()
    assert _image(body, "application/json; charset=utf-8") == PICTURE
    assert _image(body.decode().encode("utf-16"), "Application/JSON") == PICTURE


@pytest.mark.parametrize("content_type", ["image/png", MULTIPART, "application/json"])
def test_announced_body_over_the_limit_is_refused_unread(content_type: str) -> None:
    caller = _Caller([b"x" * 1001])
    with pytest.raises(BodyTooLarge, match=r"^the body has 1,001 bytes, the limit is 1,000$"):
        _image(caller, content_type, limit=1000, length="1001")
    assert caller.taken == 0


@pytest.mark.parametrize(
    ("content_type", "start"), [("image/png", b""), (MULTIPART, _part()), ("application/json", b"")]
)
@pytest.mark.parametrize("length", [None, "5", "-1", "many"])
def test_body_that_grows_over_the_limit_is_refused_at_that_piece(
    content_type: str, start: bytes, length: str | None
) -> None:
    def endless() -> Iterable[bytes]:
        yield start[:-2]
        while True:
            yield b"x" * 100

    caller = _Caller(endless())
    with pytest.raises(BodyTooLarge, match=r"^the body has more than 1,000 bytes, which is the limit$"):
        _image(caller, content_type, limit=1000, length=length)
    assert caller.taken == 2 + (1000 - len(start[:-2])) // 100


def test_body_of_the_limit_itself_is_taken() -> None:
    assert _image(b"x" * 1000, "image/png", limit=1000, length="1000") == b"x" * 1000


def test_many_small_parts_are_refused_before_they_fill_the_memory() -> None:
    caller = _Caller([b"--edge-1\r\n\r\n\r\n" * 20] * 500)
    with pytest.raises(InvalidParameter, match="at most 17"):
        _image(caller, MULTIPART, limit=1_000_000)
    assert caller.taken == 1


@pytest.mark.parametrize("content_type", ["image/png", MULTIPART, "application/json"])
def test_caller_who_leaves_while_it_sends_is_noticed(content_type: str) -> None:
    with pytest.raises(ClientDisconnected, match="the caller left before the body was complete"):
        _image(_Caller([_part()], leaves=True), content_type)


def _mutated(body: bytes, chance: random.Random) -> bytes:
    place, other = sorted(chance.randrange(len(body)) for _ in range(2))
    kinds: list[Callable[[], bytes]] = [
        lambda: body[:place] + bytes([chance.randrange(256)]) + body[place + 1 :],
        lambda: body[:place] + body[other:],
        lambda: body[:other] + body[place:],
        lambda: body[:place],
        lambda: body[:place] + b"\r\n--edge-1" + chance.choice([b"", b"\r\n", b"--", b"--\r\n"]) + body[place:],
        lambda: body.replace(chance.choice([b"\r\n", b"\r", b":", b'"', b"form-data", b"name", b"-"]), b"", place % 5),
        lambda: body[:place] + bytes(chance.randbytes(20)) + body[place:],
    ]
    return chance.choice(kinds)()


def test_any_damage_to_a_body_gives_a_picture_or_one_of_our_errors() -> None:
    chance = random.Random(20250102)  # noqa: S311  the same damage each time
    body = _form(_part("note", b"hello", ""), _part(), _part("files", b"2"))

    async def feed(damaged: bytes, content_type: str) -> str:
        cut = chance.randrange(len(damaged) + 1)
        try:
            if chance.random() < 0.5:
                await read_image(_request(_Caller([damaged[:cut], damaged[cut:]]), content_type), 10_000)
            else:
                await read_files(_request(_Caller([damaged[:cut], damaged[cut:]]), content_type), 10_000, 5)
        except DemitasseError as error:
            return error.code
        return "read"

    async def feed_all() -> set[str]:
        outcomes = set()
        for _ in range(600):
            damaged = body
            for _ in range(chance.randrange(1, 4)):
                damaged = _mutated(damaged, chance) or body
            content_type = MULTIPART
            if chance.random() < 0.2:
                content_type = _mutated(MULTIPART.encode(), chance).decode("latin-1")
            outcomes.add(await feed(damaged, content_type))
        return outcomes

    assert asyncio.run(feed_all()) >= {"read", "malformed_body", "invalid_parameter", "unsupported_media_type"}


def test_budget_is_shared_by_all_bodies_and_given_back() -> None:
    budget = BodyBudget(10)
    with budget.account() as take:
        take(6)
        with budget.account() as take_more:
            take_more(4)
            with pytest.raises(QueueFull, match="10 bytes of uploads are in memory, the limit is 10"):
                take_more(1)
        assert budget.used_bytes == 6
    assert budget.used_bytes == 0
