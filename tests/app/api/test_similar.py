"""`POST /similar` and `GET /indexes`, over the application's own interface."""

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from tests.app.conftest import FakeEngine, Served, png, publish, serving, until
from tests.app.test_indexes import publish as publish_index
from tests.indexes import jpeg


@asynccontextmanager
async def searching(root: Path, engine: Any = FakeEngine, **settings: Any) -> AsyncIterator[Served]:
    async with serving(root, engine, **settings) as served:
        await until(lambda: served.app.state.indexes.live)
        yield served


@pytest.fixture
def root(tmp_path: Path) -> Path:
    publish_index(publish(tmp_path))
    return tmp_path


async def test_the_nearest_pictures_come_first_with_labels_and_thumbnails(root: Path) -> None:
    async with searching(root) as served:
        answer = await served.http.post("/similar?k=2", files={"file": png(204)})
    assert answer.status_code == 200
    body = answer.json()
    assert (body["index"], body["model"], body["version"]) == ("photos", "cups", 1)
    assert body["request_id"] == answer.headers["x-request-id"]
    assert [(each["id"], each["label"]) for each in body["neighbours"]] == [(2, "cup"), (1, None)]
    assert [base64.b64decode(each["thumbnail"]) for each in body["neighbours"]] == [jpeg(2), jpeg(1)]
    query = np.array([0.2, 0.8])
    expected = [1 - 0.8 / np.linalg.norm(query), 1 - 1 / np.linalg.norm(query) / 2**0.5]
    assert [each["distance"] for each in body["neighbours"]] == pytest.approx(expected, abs=1e-5)
    assert list(body["timing_ms"]) == ["decode", "queue", "inference", "search"]
    assert str(root) not in answer.text


async def test_the_search_is_a_stage_of_the_metrics(root: Path) -> None:
    async with searching(root) as served:
        await served.http.post("/similar", files={"file": png(9)})
        told = (await served.http.get("/metrics")).text
    for stage in ("decode", "queue", "inference", "search"):
        assert f'demitasse_stage_seconds_count{{stage="{stage}"}} 1.0' in told


async def test_bodies_are_those_of_predict(root: Path) -> None:
    encoded = base64.b64encode(png(0)).decode()
    async with searching(root) as served:
        for body in (
            {"files": {"file": png(0)}},
            {"content": png(0), "headers": {"content-type": "image/png"}},
            {"json": {"image": encoded}},
        ):
            answer = await served.http.post("/similar?thumbnails=false", **body)
            neighbours = answer.json()["neighbours"]
            assert [each["id"] for each in neighbours] == [0, 1, 2]
            assert [each["thumbnail"] for each in neighbours] == [None, None, None]


async def test_indexes_are_listed_without_their_place(root: Path) -> None:
    async with searching(root) as served:
        answer = await served.http.get("/indexes")
    photos = {"name": "photos", "model": "cups", "version": 1, "kind": "exact", "size": 3, "dimension": 3}
    assert answer.json() == {"indexes": [{**photos, "distance": "cosine"}]}


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ("index=unknown", 404, "unknown_index"),
        ("model=mugs", 404, "unknown_model"),
        ("version=9", 404, "unknown_version"),
        ("label=canary", 404, "unknown_label"),
        ("k=0", 422, "invalid_parameter"),
        ("k=101", 422, "invalid_parameter"),
        ("thumbnails=perhaps", 422, "invalid_parameter"),
        ("index=..%2F..%2Fetc", 404, "unknown_index"),
    ],
)
async def test_what_is_wrong_is_said_in_the_one_shape(root: Path, query: str, status: int, code: str) -> None:
    async with searching(root) as served:
        answer = await served.http.post(f"/similar?{query}", files={"file": png(9)})
    assert answer.status_code == status
    assert answer.json()["error"]["code"] == code
    assert str(root) not in answer.text


async def test_without_an_index_it_answers_404_and_names_none(tmp_path: Path) -> None:
    publish(tmp_path)
    async with serving(tmp_path) as served:
        answer = await served.http.post("/similar", files={"file": png(9)})
        assert (await served.http.get("/indexes")).json() == {"indexes": []}
    assert answer.status_code == 404
    assert answer.json()["error"]["message"] == "no index; live are: none"


async def test_what_is_no_picture_is_said_as_predict_says_it(root: Path) -> None:
    async with searching(root) as served:
        answers = [await served.http.post(path, content=b"GIF89a") for path in ("/similar", "/predict")]
    assert [answer.status_code for answer in answers] == [400, 400]
    assert answers[0].json()["error"]["message"] == answers[1].json()["error"]["message"]


class Failing(FakeEngine):
    def explain(self, images: np.ndarray, class_ids: np.ndarray) -> Any:
        raise RuntimeError(f"/secret/place: {images.shape}")


async def test_an_engine_that_fails_answers_500_and_keeps_its_reasons(root: Path) -> None:
    async with searching(root, Failing) as served:
        answers = [await served.http.post("/similar", files={"file": png(9)}) for _ in range(3)]
        assert (await served.http.post("/predict", files={"file": png(9)})).status_code == 200
    for answer in answers:
        assert (answer.status_code, answer.json()["error"]["code"]) == (500, "inference_failed")
        assert "secret" not in answer.text


async def test_a_full_queue_and_a_missing_key_are_answered_as_by_predict(root: Path) -> None:
    async with searching(root, queue_size=1) as served:
        with served.app.state.registry.get().explainer.admit():
            answer = await served.http.post("/similar", files={"file": png(9)})
    assert (answer.status_code, answer.json()["error"]["code"]) == (429, "queue_full")
    async with serving(root, api_keys="web:" + "0" * 64) as served:
        refused: httpx.Response = await served.http.get("/indexes")
    assert refused.status_code == 401
