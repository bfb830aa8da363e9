"""The short way to `POST /predict`: nobody can tell it from FastAPI's."""

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.responses import Response

from app.api import predict
from app.api.direct import DirectPredict, plain_query
from tests.app.conftest import FakeEngine, HeldEngine, Served, png, publish, serving, until

PNG = {"content-type": "image/png"}
NOTHING_ASKED = (None, None, None)


@pytest.mark.parametrize(
    ("query", "found"),
    [
        (b"", NOTHING_ASKED),
        (b"model=cups", ("cups", None, None)),
        (b"version=12", (None, 12, None)),
        (b"top_k=3", (None, None, 3)),
        (b"top_k=3&model=My_cups-2&version=1", ("My_cups-2", 1, 3)),
        (b"model=" + b"x" * 64, ("x" * 64, None, None)),
        (b"version=999999999&top_k=999999999", (None, 999_999_999, 999_999_999)),
    ],
)
def test_plain_query_is_read(query: bytes, found: tuple[str | None, int | None, int | None]) -> None:
    assert plain_query(query) == found


@pytest.mark.parametrize(
    "query",
    [
        *(b"x=1", b"model=cups&x=1", b"Model=cups", b"model", b"&", b"model=cups&", b"top_k=1;version=1"),
        *(b"model=cups&model=cups", b"top_k=1&version=1&top_k=2"),
        *(b"model=", b"version=", b"top_k="),
        *(b"model=c%75ps", b"model=two+cups", b"mod%65l=cups", "model=tässchen".encode(), b"model=cups\n"),
        *(b"top_k=0", b"top_k=03", b"top_k=-1", b"top_k=+1", b"top_k=1.0", b"top_k=1_0", "top_k=٣".encode()),
        *(b"version=0", b"version=01", b"version=x"),
        *(b"model=" + b"x" * 65, b"version=1234567890", b"top_k=1234567890"),
    ],
)
def test_any_other_query_is_left_to_fastapi(query: bytes) -> None:
    assert plain_query(query) is None


@pytest.mark.parametrize(
    ("kind", "method", "path", "query", "short"),
    [
        ("http", "POST", "/predict", b"", True),
        ("http", "POST", "/predict", b"top_k=1", True),
        ("http", "POST", "/predict", b"top_k=0", False),
        ("http", "GET", "/predict", b"", False),
        ("http", "POST", "/predict/", b"", False),
        ("http", "POST", "/predict/batch", b"", False),
        ("websocket", "POST", "/predict", b"", False),
    ],
)
async def test_plain_requests_alone_go_the_short_way(
    kind: str, method: str, path: str, query: bytes, short: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    ways: list[str] = []

    async def endpoint(*_: object) -> Response:
        ways.append("short")
        return Response()

    async def fastapi(*_: object) -> None:
        ways.append("long")

    async def send(_: object) -> None:
        """Nobody reads the answer."""

    monkeypatch.setattr(predict, "predict", endpoint)
    scope = {"type": kind, "method": method, "path": path, "query_string": query, "headers": []}
    await DirectPredict(fastapi)(scope, None, send)  # type: ignore[arg-type]
    assert ways == ["short" if short else "long"]


async def _both_ways(served: Served, query: str, **body: Any) -> list[httpx.Response]:
    """The answers of the short way and of FastAPI's, which an unknown key makes a request take."""
    queries = (query, f"{query}&x=1" if query else "x=1")
    return [await served.http.post(f"/predict?{query}", **body) for query in queries]


def _told(response: httpx.Response) -> dict[str, Any]:
    """All of an answer but what is its own: its id, and how long it took."""
    body = response.json()
    body.get("error", body).pop("request_id")
    timing = body.pop("timing_ms", {})
    headers = {key: value for key, value in response.headers.items() if key not in ("x-request-id", "content-length")}
    return {"status": response.status_code, "headers": headers, "body": body, "stages": list(timing)}


@pytest.mark.parametrize("query", ["", "model=cups", "model=mugs&version=2", "version=1", "top_k=1"])
@pytest.mark.parametrize("body", [{"content": png(204), "headers": PNG}, {"files": {"file": png(51)}}])
async def test_both_ways_give_the_same_answer(query: str, body: dict[str, Any], tmp_path: Path) -> None:
    for name, version in (("cups", 1), ("cups", 3), ("mugs", 2)):
        publish(tmp_path, name, version)
    async with serving(tmp_path) as served:
        short, long = await _both_ways(served, query, **body)
    assert (short.status_code, short.headers["x-request-id"]) == (200, short.json()["request_id"])
    assert list(short.json()) == list(long.json())
    assert _told(short) == _told(long)


@pytest.mark.parametrize(
    ("query", "body", "status", "code"),
    [
        ("model=jugs", {"content": png(1)}, 404, "unknown_model"),
        ("version=9", {"content": png(1)}, 404, "unknown_version"),
        ("top_k=4", {"content": png(1)}, 422, "invalid_parameter"),
        ("", {"content": b""}, 400, "unreadable_image"),
        ("", {"content": png(1)[:40]}, 400, "unreadable_image"),
        ("", {"content": b"{", "headers": {"content-type": "application/json"}}, 400, "malformed_body"),
        ("", {"content": png(1, (9, 9))}, 413, "too_many_pixels"),
        ("", {"content": b"x" * 1001}, 413, "body_too_large"),
        ("", {"content": b"%PDF-1.7"}, 415, "unsupported_media_type"),
        ("", {"content": png(1), "headers": {"content-type": "text/plain"}}, 415, "unsupported_media_type"),
    ],
)
async def test_both_ways_give_the_same_error(
    query: str, body: dict[str, Any], status: int, code: str, tmp_path: Path
) -> None:
    publish(tmp_path)
    async with serving(tmp_path, max_body_bytes=1000, max_image_pixels=80) as served:
        short, long = await _both_ways(served, query, **body)
    assert (short.status_code, short.json()["error"]["code"]) == (status, code)
    assert short.json()["error"]["request_id"] == short.headers["x-request-id"]
    assert _told(short) == _told(long)


async def test_both_ways_say_when_to_come_back_to_a_full_queue(tmp_path: Path) -> None:
    publish(tmp_path)
    async with serving(tmp_path, HeldEngine, queue_size=1) as served:
        first = asyncio.create_task(served.http.post("/predict", content=png(1)))
        await until(lambda: served.engine.sizes)
        short, long = await _both_ways(served, "", content=png(1))
        served.engine.let()
        await first
    assert (short.status_code, short.headers["retry-after"]) == (429, "1")
    assert _told(short) == _told(long)


async def test_both_ways_are_503_without_a_model(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        short, long = await _both_ways(served, "", content=png(1))
    assert (short.status_code, short.json()["error"]["code"]) == (503, "not_ready")
    assert _told(short) == _told(long)


async def test_both_ways_make_an_exception_that_nobody_foresaw_a_500_of_the_one_shape(tmp_path: Path) -> None:
    async def broken(*_: object) -> None:
        raise ZeroDivisionError("secret of the house")

    publish(tmp_path)
    async with serving(tmp_path) as served:
        served.app.state.pipeline.classify = broken
        short, long = await _both_ways(served, "", content=png(1))
    assert (short.status_code, short.json()["error"]["code"]) == (500, "internal_error")
    assert list(short.json()["error"]) == ["code", "message", "request_id"]
    assert "secret" not in short.text
    assert _told(short) == _told(long)


async def test_both_ways_log_and_count_as_the_same_route(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Failing(FakeEngine):
        def infer(self, images: Any) -> Any:
            if (images == 13).any():
                raise RuntimeError("no")
            return super().infer(images)

    publish(tmp_path)
    caplog.set_level("INFO", logger="app.observability")
    async with serving(tmp_path, Failing) as served:
        for shade in (1, 13):
            await _both_ways(served, "model=cups", content=png(shade))
        await _both_ways(served, "model=jugs", content=png(1))
        samples = served.app.state.metrics.requests.collect()[0].samples
    counted = {tuple(sample.labels.values()): sample.value for sample in samples}
    assert counted == {("/predict", "POST", status): 2 for status in ("200", "500", "404")}
    lines = [record.getMessage() for record in caplog.records if record.name == "app.observability"]
    assert lines == [f"POST /predict -> {status}" for status in (200, 200, 500, 500, 404, 404)]


async def test_number_out_of_range_is_told_by_fastapi(tmp_path: Path) -> None:
    publish(tmp_path)
    async with serving(tmp_path) as served:
        refusal = await served.http.post("/predict?top_k=0", content=png(1))
        zeros = await served.http.post("/predict?top_k=02", content=png(1))
    assert (refusal.status_code, refusal.json()["error"]["code"]) == (422, "invalid_parameter")
    assert refusal.json()["error"]["message"] == "top_k: Input should be greater than or equal to 1, got '0'"
    assert len(zeros.json()["predictions"]) == 2
