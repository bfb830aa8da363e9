"""From a picture to its heat map, through the whole application."""

import asyncio
import io
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from app.inference.engines.base import Explanation
from models.manifest import InputSpec
from tests.app.conftest import ExplainingEngine, HeldEngine, png, publish, serving, until
from tests.app.test_indexes import publish as publish_index

PNG = {"content-type": "image/png"}
CROP = InputSpec(height=2, width=2, crop_fraction=0.5)


async def _explain(root: Path, query: str = "", picture: bytes = b"", **headers: str) -> httpx.Response:
    async with serving(root, ExplainingEngine) as served:
        return await served.http.post(f"/explain{query}", content=picture or png(51), headers=PNG | headers)


async def test_answer_has_the_documented_shape(tmp_path: Path) -> None:
    publish(tmp_path, input=CROP)
    response = await _explain(tmp_path, "?class_id=2", png(51, (8, 4)), **{"x-request-id": "abc"})
    assert (response.status_code, response.headers["content-type"]) == (200, "application/json")
    body = response.json()
    timing = body.pop("timing_ms")
    assert list(timing) == ["decode", "queue", "inference"]
    assert min(timing["decode"], timing["inference"]) > 0
    assert body == {
        "model": "cups",
        "version": 1,
        "request_id": "abc",
        "class_id": 2,
        "label": "never",
        "confidence": 0.0,
        "method": "grad-cam",
        "heatmap": [[1.0, 0.0], [0.0, 0.5]],
        "region": {"left": 0.375, "top": 0.25, "right": 0.625, "bottom": 0.75},
    }


async def test_without_a_class_the_top_one_is_explained(tmp_path: Path) -> None:
    publish(tmp_path)
    body = (await _explain(tmp_path)).json()
    assert (body["class_id"], body["label"], body["confidence"]) == (0, "dark", 0.8)
    assert body["heatmap"] == [[0.0, 0.0], [0.0, 1.0]]
    assert body["region"] == {"left": 0.0, "top": 0.0, "right": 1.0, "bottom": 1.0}


async def test_picture_comes_back_under_its_heat_map(tmp_path: Path) -> None:
    publish(tmp_path)
    response = await _explain(tmp_path, "?class_id=2", png(51, (60, 40)), accept="image/png")
    assert (response.status_code, response.headers["content-type"]) == (200, "image/png")
    image = np.asarray(Image.open(io.BytesIO(response.content)))
    assert image.shape == (40, 60, 3)
    np.testing.assert_array_equal(image[0, -1], 51)
    np.testing.assert_allclose(image[0, 0], [(51 + 252) / 2, (51 + 255) / 2, (51 + 164) / 2], atol=0.5)


async def test_caller_that_takes_neither_is_told_what_there_is(tmp_path: Path) -> None:
    publish(tmp_path)
    response = await _explain(tmp_path, accept="text/html")
    assert (response.status_code, response.json()["error"]["code"]) == (406, "not_acceptable")
    assert "application/json or image/png" in response.json()["error"]["message"]


@pytest.mark.parametrize(
    ("query", "status", "message"),
    [
        ("?class_id=3", 422, "class_id: cups has the classes 0 to 2, got 3"),
        ("?class_id=-1", 422, "class_id"),
        ("?class_id=99999999999", 422, "class_id"),
        ("?class_id=dark", 422, "class_id"),
        ("?model=jugs", 404, "no model 'jugs'"),
        ("?version=9", 404, "no version 9"),
    ],
)
async def test_what_is_wrong_with_the_query_is_said(query: str, status: int, message: str, tmp_path: Path) -> None:
    publish(tmp_path)
    response = await _explain(tmp_path, query)
    assert response.status_code == status
    assert message in response.json()["error"]["message"]


@pytest.mark.parametrize("accept", ["application/json", "image/png"])
@pytest.mark.parametrize(("picture", "status"), [(b"no picture", 415), (png(1)[:40], 400)], ids=["none", "cut"])
async def test_picture_that_cannot_be_read_is_refused(picture: bytes, status: int, accept: str, tmp_path: Path) -> None:
    publish(tmp_path)
    assert (await _explain(tmp_path, picture=picture, accept=accept)).status_code == status


class _FromBefore(ExplainingEngine):
    def explain(self, images: np.ndarray, class_ids: np.ndarray) -> Explanation:
        found = super().explain(images, class_ids)
        return Explanation(found.probabilities, found.embedding, None)


async def test_version_from_before_heat_maps_is_to_be_exported_again(tmp_path: Path) -> None:
    publish(tmp_path)
    async with serving(tmp_path, _FromBefore) as served:
        response = await served.http.post("/explain", content=png(51), headers=PNG)
    assert (response.status_code, response.json()["error"]["code"]) == (501, "unimplemented")
    assert "cups version 1 was exported before there were heat maps" in response.json()["error"]["message"]


class _Held(HeldEngine, ExplainingEngine):
    def explain(self, images: np.ndarray, class_ids: np.ndarray) -> Explanation:
        self.infer(images)
        return ExplainingEngine.explain(self, images, class_ids)


async def _asked(served: Any, path: str = "/explain") -> "asyncio.Task[httpx.Response]":
    task: asyncio.Task[httpx.Response] = asyncio.create_task(served.http.post(path, content=png(1), headers=PNG))
    return task


async def test_explanations_have_places_of_their_own_and_leave_those_of_predictions(tmp_path: Path) -> None:
    publish(tmp_path)
    async with serving(tmp_path, _Held, queue_size=1) as served:
        explainer = served.app.state.registry.get().explainer
        explained = await _asked(served)
        await until(lambda: explainer.under_way == 1)
        refused = await served.http.post("/explain", content=png(1), headers=PNG)
        predicted = await _asked(served, "/predict")
        await until(lambda: served.batcher.under_way == 1)
        served.engine.let()
        assert [(await task).status_code for task in (explained, predicted)] == [200, 200]
        assert explainer.under_way == 0
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "queue_full")
    assert "retry-after" in refused.headers


@pytest.mark.parametrize("path", ["/explain", "/similar"])
async def test_pictures_to_explain_leave_half_of_the_bodies_memory_to_predictions(path: str, tmp_path: Path) -> None:
    publish_index(publish(tmp_path))
    picture = png(51)
    async with serving(tmp_path, ExplainingEngine, max_bodies_bytes=2 * len(picture) - 1) as served:
        await until(lambda: served.app.state.indexes.live)
        refused = await served.http.post(path, content=picture, headers=PNG)
        predicted = await served.http.post("/predict", content=picture, headers=PNG)
        assert served.app.state.bodies.used_bytes == 0
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "queue_full")
    assert predicted.status_code == 200


async def test_explanation_that_takes_too_long_passes_its_deadline(tmp_path: Path) -> None:
    publish(tmp_path)
    async with serving(tmp_path, _Held, request_timeout_ms=50) as served:
        response = await served.http.post("/explain", content=png(1), headers=PNG)
        served.engine.let()
    assert (response.status_code, response.json()["error"]["code"]) == (504, "deadline_passed")


async def test_version_that_leaves_answers_what_it_explains(tmp_path: Path) -> None:
    folder = publish(tmp_path)
    publish(tmp_path, "mugs")
    async with serving(tmp_path, _Held, default_model="mugs") as served:
        registry = served.app.state.registry
        engine = registry.get("cups").engine
        task = await _asked(served, "/explain?model=cups")
        await until(lambda: engine.sizes)
        folder.path.rename(tmp_path / "gone")
        await registry.refresh()
        assert (await served.http.post("/explain?model=cups", content=png(1), headers=PNG)).status_code == 404
        engine.let()
        assert (await task).status_code == 200


async def test_openapi_has_both_types_of_the_answer(tmp_path: Path) -> None:
    publish(tmp_path)
    async with serving(tmp_path) as served:
        operation = (await served.http.get("/openapi.json")).json()["paths"]["/explain"]["post"]
    assert operation["operationId"] == "explain"
    assert set(operation["responses"]["200"]["content"]) == {"application/json", "image/png"}
    assert operation["responses"]["200"]["content"]["application/json"]["schema"]["$ref"].endswith("/ExplainBody")
    assert {"400", "404", "406", "413", "415", "422", "429", "500", "501", "503", "504"} <= set(operation["responses"])
    assert "multipart/form-data" in operation["requestBody"]["content"]
