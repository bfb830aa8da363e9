"""The gate: what it turns away looks like any other refusal, and all else it leaves alone."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from app.observability import configure_logging
from models.repository import ModelRepository
from tests.app.conftest import HeldEngine, Served, png, publish, serving, until

PNG = {"content-type": "image/png"}


def _scope(path: str = "/predict", query: bytes = b"", method: str = "POST", **headers: str) -> dict[str, Any]:
    return {
        "type": "http",
        "method": method,
        "path": path,
        "query_string": query,
        "headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()],
        "state": {},
    }


async def _full(served: Served, path: str = "/predict") -> "asyncio.Task[Any]":
    running = asyncio.create_task(served.http.post(path, content=png(1), headers=PNG))
    await until(lambda: served.engine.sizes)
    return running


@pytest.mark.parametrize("path", ["/predict", "/predict/batch"])
async def test_refusal_is_the_applications_own_in_every_byte(path: str, tmp_path: Path) -> None:
    publish(tmp_path)
    async with serving(tmp_path, HeldEngine, queue_size=1) as served:
        running = await _full(served)
        response = served.gate(_scope(path, x_request_id="abc"))
        theirs = await served.http.post(path, content=png(1), headers={**PNG, "x-request-id": "abc"})
        served.engine.let()
        await running
    assert (theirs.status_code, theirs.headers["retry-after"]) == (429, "1")
    assert (response.status_code, bytes(response.body)) == (429, theirs.content)
    assert dict(response.raw_headers) == {key.lower(): value for key, value in theirs.headers.raw}


async def test_refusals_are_counted_and_get_an_id_of_their_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    publish(tmp_path)
    configure_logging("info", "json")
    async with serving(tmp_path, HeldEngine, queue_size=1) as served:
        running = await _full(served)
        refused = [served.gate(_scope()) for _ in range(3)]
        served.engine.let()
        await running
        counted = {
            (sample.labels["route"], sample.labels["status"]): sample.value
            for sample in served.app.state.metrics.requests.collect()[0].samples
        }
    ids = {json.loads(response.body)["error"]["request_id"] for response in refused}
    assert len(ids) == 3
    assert counted[("/predict", "429")] == 3
    assert "too many requests: 1 requests refused" in capsys.readouterr().out


@pytest.mark.parametrize(
    "scope",
    [
        _scope(method="GET"),
        _scope("/models"),
        _scope("/predict/"),
        _scope(query=b"top_k=0"),
        _scope(query=b"model=mugs"),  # which has room
        _scope(query=b"model=jugs"),
        _scope(query=b"version=9"),
    ],
)
async def test_what_is_not_refused_is_left_alone(scope: dict[str, Any], tmp_path: Path) -> None:
    publish(tmp_path)
    publish(tmp_path, "mugs")
    async with serving(tmp_path, HeldEngine, queue_size=1, default_model="cups") as served:
        running = await _full(served)
        assert served.gate(_scope()) is not None
        before = dict(scope)
        assert served.gate(scope) is None
        assert scope == before
        served.app.state.draining = True
        assert served.gate(_scope()) is None
        served.engine.let()
        await running
        served.app.state.draining = False
        assert served.gate(_scope()) is None


async def test_requests_of_which_a_canary_may_answer_are_not_drawn_for_twice(tmp_path: Path) -> None:
    for version in (1, 2):
        publish(tmp_path, version=version)
    for label, version in (("stable", 1), ("canary", 2)):
        ModelRepository(tmp_path).set_label("cups", label, version)
    async with serving(tmp_path, HeldEngine, queue_size=1, canary_share=0.5) as served:
        served.app.state.registry.draw = lambda: 0.9  # not the canary
        served.engine = served.app.state.registry.get().engine
        running = await _full(served)
        assert served.gate(_scope()) is None
        assert served.gate(_scope(query=b"version=1")) is not None
        served.engine.let()
        await running


async def test_service_without_models_refuses_nothing(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        assert served.gate(_scope()) is None


async def test_explanations_are_refused_for_want_of_places_of_their_own(tmp_path: Path) -> None:
    publish(tmp_path)
    async with serving(tmp_path, queue_size=1) as served:
        with served.app.state.registry.get().explainer.admit():
            assert served.gate(_scope()) is None
            response = served.gate(_scope("/explain", x_request_id="abc"))
            theirs = await served.http.post("/explain?class_id=1", content=b"", headers={"x-request-id": "abc"})
        with served.batcher.admit():
            assert served.gate(_scope("/explain")) is None
            # No picture came with it, but it has a place
            assert (await served.http.post("/explain", content=b"")).status_code == 400
    assert (response.status_code, bytes(response.body)) == (429, theirs.content)
    assert dict(response.raw_headers)[b"retry-after"] == b"1"
