"""Bodies that come compressed, whole and damaged, small and as bombs."""

import asyncio
import gzip
import os
import random
import zlib
from collections.abc import AsyncIterator, Iterable
from contextlib import suppress
from pathlib import Path

import pytest

from app.api.encodings import decoded
from app.errors import MalformedBody, UnsupportedEncoding
from tests.app.conftest import png, publish, serving

BODY = os.urandom(70_000) + b"a" * 700_000


async def _pieces(chunks: Iterable[bytes]) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


def _decoded(chunks: Iterable[bytes], encoding: str = "gzip") -> list[bytes]:
    async def collect() -> list[bytes]:
        return [piece async for piece in decoded(_pieces(chunks), encoding)]

    return asyncio.run(collect())


def _cut(data: bytes, size: int) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


@pytest.mark.parametrize("size", [1, 7, 4096, 10**6])
@pytest.mark.parametrize(
    ("encoding", "compress"), [("gzip", gzip.compress), ("x-gzip", gzip.compress), ("deflate", zlib.compress)]
)
def test_body_is_what_it_was_however_it_arrives(encoding: str, compress: object, size: int) -> None:
    assert callable(compress)
    pieces = _decoded(_cut(compress(BODY), size), encoding)
    assert b"".join(pieces) == BODY
    assert max(map(len, pieces)) <= 2**18


def test_gzip_may_have_several_members_but_not_without_end() -> None:
    members = [gzip.compress(part) for part in (BODY[:50], b"", BODY[50:])]
    for size in (1, 30, 4096, 10**6):
        assert b"".join(_decoded(_cut(b"".join(members), size))) == BODY
    with pytest.raises(MalformedBody, match="goes on after the end"):
        _decoded([gzip.compress(b"") * 1001])


def test_bomb_comes_in_pieces_of_which_no_more_is_computed_than_is_read() -> None:
    async def first() -> tuple[int, int]:
        pieces = decoded(_pieces([gzip.compress(bytes(2**28))]), "gzip")  # 256 MiB in 260 KB
        return len(await anext(pieces)), len(await anext(pieces))

    assert asyncio.run(first()) == (2**18, 2**18)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "the body ends before the end of what gzip holds"),
        (gzip.compress(BODY)[:-1], "the body ends before the end of what gzip holds"),
        (gzip.compress(BODY)[:1000], "the body ends before the end of what gzip holds"),
        (gzip.compress(BODY) + b"x", "the body goes on after the end of what gzip holds"),
        (b"\x89PNG\r\n\x1a\n and so on", "the body is not what its Content-Encoding, gzip, says"),
        (gzip.compress(BODY)[:-8] + bytes(8), "the body is not what its Content-Encoding, gzip, says"),
    ],
)
def test_damage_is_said(body: bytes, words: str) -> None:
    for size in (1000, 10**6):
        with pytest.raises(MalformedBody, match=words):
            _decoded(_cut(body, size))


def test_any_damage_gives_the_body_or_our_error() -> None:
    body = b"a body of some length" * 20
    chance, whole = random.Random(5), gzip.compress(body)  # noqa: S311  nothing secret
    for _ in range(300):
        damaged = bytearray(whole)
        damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        with suppress(MalformedBody):
            assert b"".join(_decoded([bytes(damaged)])) == body  # where it was its date, or its system


@pytest.mark.parametrize("encoding", ["br", "gzip, gzip", "zstd", ""])
def test_other_encodings_are_refused_with_those_that_are_read(encoding: str) -> None:
    with pytest.raises(UnsupportedEncoding, match=f"gzip, deflate or none, got {encoding}") as refused:
        _decoded([b"body"], encoding)
    assert refused.value.headers == {"Accept-Encoding": "gzip, deflate"}


async def test_service_reads_compressed_pictures_within_the_limit_of_what_they_hold(tmp_path: Path) -> None:
    publish(tmp_path)
    async with serving(tmp_path, max_body_bytes=100_000) as served:

        async def ask(body: bytes, encoding: str = "gzip") -> tuple[int, dict[str, object]]:
            headers = {"Content-Type": "image/png", "Content-Encoding": encoding}
            answer = await served.http.post("/predict", content=body, headers=headers)
            return answer.status_code, answer.json()

        for encoding, body in (
            ("GZIP", gzip.compress(png(7))),
            ("deflate", zlib.compress(png(7))),
            ("Identity", png(7)),
        ):
            status, answer = await ask(body, encoding)
            assert (status, answer["model"]) == (200, "cups"), encoding
        form = {"file": ("a.png", png(7), "image/png")}
        request = served.http.build_request("POST", "/predict", files=form)
        request.headers["Content-Encoding"] = "gzip"
        body = gzip.compress(request.read())
        headers = {"Content-Type": request.headers["Content-Type"], "Content-Encoding": "gzip"}
        assert (await served.http.post("/predict", content=body, headers=headers)).status_code == 200

        status, answer = await ask(gzip.compress(bytes(10**8)))
        assert (status, answer["error"]["code"]) == (413, "body_too_large")  # type: ignore[index]
        status, answer = await ask(gzip.compress(png(7))[:-4])
        assert (status, answer["error"]["code"]) == (400, "malformed_body")  # type: ignore[index]
        for second, expected in (("gzip", 415), ("br", 415), ("identity", 200), ("", 200)):
            twice = [("Content-Type", "image/png"), ("Content-Encoding", "gzip"), ("Content-Encoding", second)]
            answered = await served.http.post("/predict", content=gzip.compress(png(7)), headers=twice)
            assert answered.status_code == expected
        twice = [("Content-Encoding", "deflate"), ("Content-Encoding", "GZIP")]
        answered = await served.http.post("/predict", content=b"x", headers=twice)
        assert answered.json()["error"]["message"].endswith("got deflate, gzip")
        answered = await served.http.post("/predict", content=b"x", headers={"Content-Encoding": "br"})
        assert (answered.status_code, answered.headers["Accept-Encoding"]) == (415, "gzip, deflate")
        assert (served.batcher.under_way, served.app.state.bodies.used_bytes) == (0, 0)
