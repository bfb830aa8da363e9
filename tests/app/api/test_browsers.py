"""The headers that browsers go by, and pages of other origins."""

import asyncio
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.api import browsers
from app.keys import hashed, line_of
from tests.app.conftest import HeldEngine, png, publish, serving, until

KEYS = line_of("web", hashed(b"k"))
PAGE = {"origin": "https://app.example"}


async def test_every_answer_has_them_whatever_it_is(tmp_path: Path) -> None:
    async def broken(*_: object) -> None:
        raise ZeroDivisionError

    publish(tmp_path)
    async with serving(tmp_path, api_keys=KEYS) as served:
        key = {"x-api-key": "k"}
        answers = [
            await served.http.post("/predict", content=png(1), headers=key),
            await served.http.post("/predict/batch", headers=key),
            await served.http.get("/nope", headers=key),
            await served.http.delete("/predict", headers=key),
            await served.http.get("/models"),
            await served.http.get("/health/live"),
            await served.http.get("/metrics", headers=key),
        ]
        served.app.state.pipeline.classify = broken
        answers.append(await served.http.post("/predict", content=png(1), headers=key))
    assert [answer.status_code for answer in answers] == [200, 415, 404, 405, 401, 200, 200, 500]
    for answer in answers:
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
        assert answer.headers["cache-control"] == "no-store"
        assert "access-control-allow-origin" not in answer.headers


def _allowed(policy: str, directive: str) -> set[str]:
    sources = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    return set(sources[directive].split())


async def test_policy_of_the_docs_lets_in_what_the_page_takes(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        page = await served.http.get("/docs")
    policy = page.headers["content-security-policy"]
    found = {
        "script-src": re.findall(r'<script src="(https://[^/]+)', page.text),
        "style-src": re.findall(r'<link type="text/css" rel="stylesheet" href="(https://[^/]+)', page.text),
        "img-src": re.findall(r'<link rel="shortcut icon" href="(https://[^/]+)', page.text),
    }
    for directive, hosts in found.items():
        assert hosts
        assert set(hosts) <= _allowed(policy, directive)
    assert "<script>" in page.text
    assert "'unsafe-inline'" in _allowed(policy, "script-src")
    assert "'self'" in _allowed(policy, "connect-src")  # /openapi.json, and what is tried out
    assert _allowed(policy, "default-src") == {"'none'"}


def test_answer_that_has_a_header_of_its_own_keeps_it() -> None:
    own = [(b"cache-control", b"max-age=60"), (b"content-security-policy", b"default-src 'self'")]
    headers = browsers.secured(own, "/")
    assert headers[:2] == own
    assert sorted(name for name, _ in headers) == sorted(name for name, _ in browsers.secured([], "/"))


async def _preflight(http: httpx.AsyncClient, headers: Iterable[str] = ("x-api-key", "content-type")) -> httpx.Response:
    asking = {"access-control-request-method": "POST", "access-control-request-headers": ", ".join(headers)}
    return await http.options("/predict", headers={**PAGE, **asking})


async def test_pages_of_other_origins_may_not_call_unless_they_are_named(tmp_path: Path) -> None:
    publish(tmp_path)
    async with serving(tmp_path) as served:
        assert (await _preflight(served.http)).status_code == 405
    async with serving(tmp_path, cors_origins="https://other.example") as served:
        assert "access-control-allow-origin" not in (await _preflight(served.http)).headers
        answer = await served.http.post("/predict", content=png(1), headers=PAGE)
        assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize("origins", ["https://app.example", "https://other.example,https://app.example", "*"])
async def test_page_of_a_named_origin_is_let_ask_without_a_key_and_call_with_one(origins: str, tmp_path: Path) -> None:
    publish(tmp_path)
    async with serving(tmp_path, api_keys=KEYS, cors_origins=origins) as served:
        preflight = await _preflight(served.http)
        refused = await served.http.post("/predict", content=png(1), headers=PAGE)
        answer = await served.http.post("/predict", content=png(1), headers={**PAGE, "x-api-key": "k"})
    assert [preflight.status_code, refused.status_code, answer.status_code] == [200, 401, 200]
    for response in (preflight, refused, answer):  # a page that may not read a 401 would not know what it is
        assert response.headers["access-control-allow-origin"] in (PAGE["origin"], "*")
        assert "access-control-allow-credentials" not in response.headers
    assert "x-api-key" in preflight.headers["access-control-allow-headers"]
    assert "x-request-id" in answer.headers["access-control-expose-headers"]


def _scope(**headers: str) -> dict[str, Any]:
    pairs = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return {
        "type": "http",
        "method": "POST",
        "path": "/predict",
        "query_string": b"",
        "headers": pairs,
        "state": {},
    }


async def test_gate_leaves_pages_of_other_origins_to_the_application(tmp_path: Path) -> None:
    publish(tmp_path)
    async with serving(tmp_path, HeldEngine, queue_size=1, cors_origins="*") as served:
        running = asyncio.create_task(served.http.post("/predict", content=png(1)))
        await until(lambda: served.engine.sizes)
        assert served.gate(_scope()).status_code == 429
        assert served.gate(_scope(origin="https://app.example")) is None
        full = await served.http.post("/predict", content=png(1), headers=PAGE)
        assert (full.status_code, full.headers["access-control-allow-origin"]) == (429, "*")
        assert "retry-after" in full.headers["access-control-expose-headers"]
        served.engine.let()
        await running
