"""Vertex AI's two routes, wherever its environment puts them."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from models.manifest import InputSpec
from tests.app.conftest import png, publish, serving

HEALTH, PREDICT = "/v1/endpoints/1/deployedModels/2", "/v1/endpoints/1/deployedModels/2:predict"


def b64(shade: int) -> dict[str, str]:
    return {"b64": base64.b64encode(png(shade)).decode()}


async def test_without_its_environment_there_are_no_such_routes(tmp_path: Path) -> None:
    publish(tmp_path)
    async with serving(tmp_path) as served:
        assert (await served.http.get(HEALTH)).status_code == 404
        assert (await served.http.post(PREDICT, json={})).status_code == 404


async def test_health_route_tells_readiness(tmp_path: Path) -> None:
    publish(tmp_path)
    async with serving(tmp_path, aip_health_route=HEALTH) as served:
        assert (await served.http.get(HEALTH)).status_code == 200
        served.app.state.draining = True
        assert (await served.http.get(HEALTH)).status_code == 503


@pytest.mark.parametrize("route", [PREDICT, "/predict", "/invocations"])
async def test_instances_are_answered_in_order_each_with_a_result(route: str, tmp_path: Path) -> None:
    publish(tmp_path)
    pixels = [[[255] * 3] * 2] * 2
    body = {"instances": [b64(51), {"image": b64(204)}, pixels], "parameters": {"top_k": 2}}
    async with serving(tmp_path, aip_predict_route=route) as served:
        answer = await served.http.post(route, json=body)
    assert (answer.status_code, list(answer.json())) == (200, ["predictions"])
    found = answer.json()["predictions"]
    assert list(found[0]) == ["predictions", "reliable", "prediction_set", "timing_ms", "model", "version"]
    assert {(result["model"], result["version"]) for result in found} == {("cups", 1)}
    assert [len(result["predictions"]) for result in found] == [2, 2, 2]
    assert [(r["predictions"][0]["label"], r["predictions"][0]["confidence"]) for r in found] == [
        ("dark", 0.8),
        ("bright", 0.8),
        ("bright", 1.0),
    ]


@pytest.mark.parametrize(
    ("parameters", "classes"), [(None, 3), ({}, 3), ({"top_k": 1}, 1), ({"top_k": 2.0}, 2), ({"top_k": None}, 3)]
)
async def test_parameters_may_be_missing_null_or_floating_point(parameters: Any, classes: int, tmp_path: Path) -> None:
    publish(tmp_path)
    async with serving(tmp_path, aip_predict_route=PREDICT) as served:
        answer = await served.http.post(PREDICT, json={"instances": [b64(1)], "parameters": parameters})
    assert len(answer.json()["predictions"][0]["predictions"]) == classes


async def test_parameters_name_the_version_as_a_query_does_elsewhere(tmp_path: Path) -> None:
    for name, version in (("cups", 1), ("cups", 2), ("mugs", 1)):
        publish(tmp_path, name, version)
    (tmp_path / "cups" / "labels.json").write_text('{"stable": 1}')
    async with serving(tmp_path, aip_predict_route=PREDICT) as served:

        async def ask(parameters: Any, query: str = "") -> Any:
            answer = await served.http.post(
                f"{PREDICT}?{query}", json={"instances": [b64(1)] * 2, "parameters": parameters}
            )
            if answer.is_error:
                return answer.json()["error"]["code"]
            (found,) = {(result["model"], result["version"]) for result in answer.json()["predictions"]}
            return found

        assert await ask({}) == ("cups", 1)
        assert await ask({"version": 2.0}) == ("cups", 2)
        assert await ask({"model": "mugs"}) == ("mugs", 1)
        assert await ask({"model": "cups", "label": "stable"}, "version=2") == "invalid_parameter"
        assert await ask({"label": "stable"}, "model=cups") == ("cups", 1)
        assert await ask({"model": "plates"}) == "unknown_model"
        assert await ask({"label": "canary"}) == "unknown_label"
        assert all(live.batcher.under_way == 0 for live in served.app.state.registry.live)


@pytest.mark.parametrize("route", [PREDICT, "/predict"])
async def test_body_of_raw_predict_is_answered_as_by_predict(route: str, tmp_path: Path) -> None:
    publish(tmp_path)
    async with serving(tmp_path, aip_predict_route=route) as served:
        answer = await served.http.post(route, content=png(204), headers={"content-type": "image/png"})
    assert (answer.json()["model"], answer.json()["predictions"][0]["label"]) == ("cups", "bright")


async def test_path_of_another_protocol_speaks_that_one(tmp_path: Path) -> None:
    publish(tmp_path)
    paths = {"aip_health_route": "/v1/models/cups", "aip_predict_route": "/v1/models/cups:predict"}
    async with serving(tmp_path, **paths) as served:
        health = await served.http.get("/v1/models/cups")
        answer = await served.http.post("/v1/models/cups:predict", json={"instances": [b64(255)]})
    assert health.json()["model_version_status"][0]["state"] == "AVAILABLE"
    assert answer.json() == {"predictions": [[0.0, 1.0, 0.0]]}


async def test_pixels_of_a_larger_model_are_taken_where_the_parameters_name_it(tmp_path: Path) -> None:
    publish(tmp_path)
    publish(tmp_path, "murals", input=InputSpec(height=64, width=64, resize="stretch"))
    async with serving(tmp_path, aip_predict_route=PREDICT, default_model="cups") as served:
        body = {"instances": [[[[51, 51, 51]] * 64] * 64], "parameters": {"model": "murals"}}
        answer = await served.http.post(PREDICT, json=body)
        assert (answer.status_code, answer.json()["predictions"][0]["model"]) == (200, "murals")
        answer = await served.http.post(PREDICT, json=body | {"instances": body["instances"] * 100})
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "malformed_body")


@pytest.mark.parametrize(
    ("body", "status", "code", "words"),
    [
        ({}, 422, "invalid_parameter", "'instances': expected a list"),
        ([], 422, "invalid_parameter", "expected a JSON object"),
        ({"instances": []}, 422, "invalid_parameter", "'instances'"),
        ({"instances": [b64(1), {"b64": "§"}]}, 400, "malformed_body", "instances[1]: 'b64' is not base64"),
        ({"instances": [b64(1), {"b64": ""}]}, 400, "unreadable_image", "picture 1: "),
        ({"instances": [b64(1)] * 4}, 422, "invalid_parameter", "expected 1 to 3 pictures, got 4"),
        ({"instances": [b64(1)], "parameters": 3}, 422, "invalid_parameter", "'parameters'"),
        ({"instances": [b64(1)], "parameters": {"topk": 3}}, 422, "invalid_parameter", "topk: Extra inputs"),
        *(
            ({"instances": [b64(1)], "parameters": {"top_k": bad}}, 422, "invalid_parameter", "'parameters': top_k: ")
            for bad in (0, -1, 1.5, True, "3", [3], 1e400)
        ),
        ({"instances": [b64(1)], "parameters": {"top_k": 4}}, 422, "invalid_parameter", "3 classes"),
        ({"instances": [b64(1)], "parameters": {"model": "\ud800"}}, 404, "unknown_model", "no model '?'"),
        ({"instances": [b64(1)], "parameters": {"label": "\ud800"}}, 404, "unknown_label", "no label '?'"),
    ],
)
async def test_errors_have_the_one_shape(body: Any, status: int, code: str, words: str, tmp_path: Path) -> None:
    publish(tmp_path)
    content = json.dumps(body)
    async with serving(tmp_path, aip_predict_route=PREDICT, max_files=3) as served:
        answer = await served.http.post(PREDICT, content=content, headers={"content-type": "application/json"})
        assert served.batcher.under_way == 0
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert words in answer.json()["error"]["message"]
