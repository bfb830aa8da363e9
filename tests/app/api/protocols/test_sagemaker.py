"""SageMaker's two routes: health without a body, and /predict under another name."""

import base64
from pathlib import Path
from typing import Any

import pytest

from tests.app.conftest import png, publish, serving

ATTRIBUTES = "X-Amzn-SageMaker-Custom-Attributes"


async def test_ping_is_200_without_a_body_where_ready_and_503_else(tmp_path: Path) -> None:
    publish(tmp_path)
    async with serving(tmp_path, engine_timeout_s=1) as served:
        well = await served.http.get("/ping")
        served.app.state.device._since[0] = -1e9  # a batch that has been computing for ages
        hanging = await served.http.get("/ping")
        served.app.state.device._since.clear()
        served.app.state.draining = True
        draining = await served.http.get("/ping")
    assert (well.status_code, well.content) == (200, b"")
    assert [(x.status_code, x.json()["error"]["code"]) for x in (hanging, draining)] == [
        (503, "engine_stuck"),
        (503, "draining"),
    ]
    async with serving(tmp_path / "empty") as served:
        assert (await served.http.get("/ping")).status_code == 503


@pytest.mark.parametrize(
    "sent",
    [
        {"files": {"file": png(204)}},
        {"json": {"image": base64.b64encode(png(204)).decode()}},
        *({"content": png(204), "headers": {"content-type": kind}} for kind in ("image/png", "application/x-image")),
    ],
)
async def test_invocation_is_answered_as_predict_answers(sent: dict[str, Any], tmp_path: Path) -> None:
    publish(tmp_path)
    async with serving(tmp_path) as served:
        theirs, ours = [(await served.http.post(path, **sent)).json() for path in ("/invocations", "/predict")]
    different = ("request_id", "timing_ms")
    assert theirs.keys() == ours.keys()
    assert [theirs[key] for key in theirs if key not in different] == [
        ours[key] for key in ours if key not in different
    ]
    assert theirs["predictions"][0]["label"] == "bright"


@pytest.mark.parametrize(
    ("query", "attributes", "answered"),
    [
        ("", "", ("cups", 2, 3)),
        ("", "top_k=1", ("cups", 2, 1)),
        ("", "trace=abc, top_k=2,model=mugs", ("mugs", 1, 2)),
        ("", "version=1", ("cups", 1, 3)),
        ("?top_k=1", "top_k=2,model=mugs", ("mugs", 1, 1)),
        ("", "Trace ID: 77", ("cups", 2, 3)),
    ],
)
async def test_custom_attributes_say_what_a_query_would(
    query: str, attributes: str, answered: tuple[str, int, int], tmp_path: Path
) -> None:
    publish(tmp_path)
    publish(tmp_path, version=2)
    publish(tmp_path, "mugs")
    async with serving(tmp_path) as served:
        headers = {"content-type": "image/png", ATTRIBUTES: attributes}
        body = (await served.http.post(f"/invocations{query}", content=png(1), headers=headers)).json()
    assert (body["model"], body["version"], len(body["predictions"])) == answered


@pytest.mark.parametrize(
    ("headers", "status", "code", "words"),
    [
        ({ATTRIBUTES: "top_k=0"}, 422, "invalid_parameter", "top_k: Input should be greater than or equal to 1"),
        ({ATTRIBUTES: "top_k=many"}, 422, "invalid_parameter", "top_k: Input should be a valid integer"),
        ({ATTRIBUTES: "top_k=4"}, 422, "invalid_parameter", "top_k: cups has 3 classes"),
        ({ATTRIBUTES: "top_k=1,top_k=2"}, 422, "invalid_parameter", "top_k: expected once, came 2 times"),
        ({ATTRIBUTES: "model=jugs"}, 404, "unknown_model", "no model 'jugs'"),
        ({"accept": "application/json;q=0"}, 406, "not_acceptable", "answers are application/json"),
        ({"accept": "text/csv"}, 406, "not_acceptable", "the request accepts text/csv"),
        ({"content-type": "text/csv"}, 415, "unsupported_media_type", "text/csv"),
    ],
)
async def test_errors_have_the_one_shape(
    headers: dict[str, str], status: int, code: str, words: str, tmp_path: Path
) -> None:
    publish(tmp_path)
    async with serving(tmp_path) as served:
        answer = await served.http.post(
            "/invocations", content=png(1), headers={"content-type": "image/png", **headers}
        )
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert words in answer.json()["error"]["message"]


@pytest.mark.parametrize("accept", ["*/*", "application/json", "text/csv, application/json;q=0.5", "application/*", ""])
async def test_whoever_takes_json_gets_it(accept: str, tmp_path: Path) -> None:
    publish(tmp_path)
    async with serving(tmp_path) as served:
        answer = await served.http.post("/invocations", content=png(1), headers={"accept": accept})
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
