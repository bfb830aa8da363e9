"""TensorFlow Serving's clients find what they expect: routes, rows and columns, errors."""

import asyncio
import base64
import shutil
from pathlib import Path
from typing import Any

import httpx
import pytest

from models.repository import ModelRepository
from tests.app.conftest import LABELS, HeldEngine, Served, png, publish, serving, until

PIXELS = [[[102] * 3] * 2] * 2


def b64(shade: int) -> dict[str, str]:
    return {"b64": base64.b64encode(png(shade)).decode()}


async def post(served: Served, body: Any, path: str = "/v1/models/cups:predict") -> httpx.Response:
    return await served.http.post(path, json=body)


def _bright(rows: list[list[float]]) -> list[int]:
    """The shade of each picture, by its probability of being bright."""
    assert all(len(row) == len(LABELS) for row in rows)
    return [round(row[1] * 255) for row in rows]


@pytest.mark.parametrize(
    ("body", "answered", "found"),
    [
        ({"instances": [b64(51), b64(255), b64(0)]}, "predictions", [51, 255, 0]),
        ({"instances": [{"images": b64(51)}], "signature_name": "serving_default"}, "predictions", [51]),
        ({"instances": [PIXELS, b64(51)]}, "predictions", [102, 51]),
        ({"instances": [{"images": PIXELS}], "signature_name": ""}, "predictions", [102]),
        ({"inputs": [b64(51), b64(204)]}, "outputs", [51, 204]),
        ({"inputs": {"images": [b64(51), PIXELS]}}, "outputs", [51, 102]),
        ({"inputs": [PIXELS, PIXELS]}, "outputs", [102, 102]),
    ],
)
async def test_rows_and_columns_are_answered_with_bare_lists_in_order(
    body: Any, answered: str, found: list[int], tmp_path: Path
) -> None:
    publish(tmp_path)
    async with serving(tmp_path) as served:
        answer = await post(served, body)
    assert answer.status_code == 200
    assert list(answer.json()) == [answered]
    assert _bright(answer.json()[answered]) == found


async def test_content_type_does_not_matter(tmp_path: Path) -> None:
    publish(tmp_path)
    async with serving(tmp_path) as served:
        as_curl_does = {"content-type": "application/x-www-form-urlencoded"}
        content = b'{"instances": [[[[1, 1, 1], [1, 1, 1]], [[1, 1, 1], [1, 1, 1]]]]}'
        answer = await served.http.post("/v1/models/cups:predict", content=content, headers=as_curl_does)
    assert _bright(answer.json()["predictions"]) == [1]


async def test_classify_gives_labels_and_scores_best_first(tmp_path: Path) -> None:
    publish(tmp_path)
    async with serving(tmp_path) as served:
        answer = await post(served, {"examples": [{"images": b64(204)}, b64(51)]}, "/v1/models/cups:classify")
    (bright, *_), (dark, *_) = answer.json()["results"]
    assert [label for label, _ in answer.json()["results"][0]] == ["bright", "dark", "never"]
    assert (bright, dark) == (["bright", pytest.approx(0.8)], ["dark", pytest.approx(0.8)])


async def test_version_and_label_choose_who_answers(tmp_path: Path) -> None:
    publish(tmp_path)
    publish(tmp_path, version=2, labels=[{"name": "only"}, {"name": "two"}])
    ModelRepository(tmp_path).set_label("cups", "stable", 1)
    ModelRepository(tmp_path).set_label("cups", "canary", 2)
    async with serving(tmp_path) as served:
        classes = {}
        for place in ("", "/versions/1", "/versions/2", "/labels/stable", "/labels/canary"):
            answer = await post(served, {"instances": [b64(0)]}, f"/v1/models/cups{place}:predict")
            classes[place] = len(answer.json()["predictions"][0])
    assert classes == {"": 3, "/versions/1": 3, "/versions/2": 2, "/labels/stable": 3, "/labels/canary": 2}


async def test_status_tells_of_all_versions_and_of_those_that_were_refused(tmp_path: Path) -> None:
    for version in (1, 2, 10):
        publish(tmp_path, version=version)
    (tmp_path / "cups" / "2" / "saved_model.pb").write_bytes(b"changed")
    ModelRepository(tmp_path).set_label("cups", "stable", 1)
    async with serving(tmp_path) as served:
        answers = [(await served.http.get(f"/v1/models/cups{x}")).json() for x in ("", "/versions/2", "/labels/stable")]
    fine = {"state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    ended = {"error_code": "FAILED_PRECONDITION", "error_message": "refused; the service's log says why"}
    ten, two, one = (
        {"version": "10", **fine},
        {"version": "2", "state": "END", "status": ended},
        {"version": "1", **fine},
    )
    assert answers == [{"model_version_status": found} for found in ([ten, two, one], [two], [one])]


async def test_metadata_is_the_signature_of_the_saved_model(tmp_path: Path) -> None:
    publish(tmp_path)
    async with serving(tmp_path) as served:
        metadata = (await served.http.get("/v1/models/cups/metadata")).json()
        assert (await served.http.get("/v1/models/cups/versions/1/metadata")).json() == metadata
    assert metadata["model_spec"] == {"name": "cups", "signature_name": "", "version": "1"}
    signature = metadata["metadata"]["signature_def"]["signature_def"]["serving_default"]
    assert signature["method_name"] == "tensorflow/serving/predict"
    tensors = {**signature["inputs"], **signature["outputs"]}
    shapes = {name: [dim["size"] for dim in tensor["tensor_shape"]["dim"]] for name, tensor in tensors.items()}
    assert shapes == {"images": ["-1", "2", "2", "3"], "probabilities": ["-1", "3"]}
    assert [tensor["dtype"] for tensor in tensors.values()] == ["DT_UINT8", "DT_FLOAT"]


ERRORS: dict[str, tuple[str, Any, int, str]] = {
    "unknown model": ("/v1/models/mugs:predict", {"instances": [b64(1)]}, 404, "no model 'mugs'"),
    "unknown version": ("/v1/models/cups/versions/9:predict", {"instances": [b64(1)]}, 404, "no version 9"),
    "unknown label": ("/v1/models/cups/labels/new:predict", {"instances": [b64(1)]}, 404, "no label 'new'"),
    "version that is none": ("/v1/models/cups/versions/x:predict", {}, 400, "version: Input should be a valid integer"),
    "method that is none": ("/v1/models/cups:explain", {}, 400, "method: Input should be 'predict'"),
    "regress": ("/v1/models/cups:regress", {"examples": [b64(1)]}, 400, "classifies"),
    "context": ("/v1/models/cups:classify", {"examples": [b64(1)], "context": {}}, 501, "'context'"),
    "other signature": ("/v1/models/cups:predict", {"signature_name": "explain", "instances": []}, 400, "'explain'"),
    "signature that is no text": ("/v1/models/cups:predict", {"signature_name": 1}, 400, "'signature_name'"),
    "neither form": ("/v1/models/cups:predict", {}, 400, "expected one of 'instances' and 'inputs'"),
    "both forms": ("/v1/models/cups:predict", {"instances": [], "inputs": []}, 400, "expected one of"),
    "no examples": ("/v1/models/cups:classify", {"instances": [b64(1)]}, 400, "'examples': expected a list"),
    "no object": ("/v1/models/cups:predict", [b64(1)], 400, "expected a JSON object, got a list of 1"),
    "bad image": (
        "/v1/models/cups:predict",
        {"instances": [b64(1), {"b64": base64.b64encode(png(1)[:30]).decode()}]},
        400,
        "picture 1: ",
    ),
    "not an image": ("/v1/models/cups:predict", {"instances": [{"b64": "JVBERi0="}]}, 400, "picture 0: "),
    "pixels of another size": ("/v1/models/cups:predict", {"instances": [[[[1, 2, 3]]]]}, 400, "(2, 2, 3)"),
    "unknown path": ("/v1/models/cups/nope:predict", {}, 404, "/docs lists them"),
    "wrong method of HTTP": ("/v1/models/cups", {}, 405, "allowed: GET"),
}


@pytest.mark.parametrize("case", ERRORS)
async def test_errors_are_one_text_with_a_status_of_theirs(case: str, tmp_path: Path) -> None:
    path, body, status, words = ERRORS[case]
    publish(tmp_path)
    async with serving(tmp_path) as served:
        answer = await post(served, body, path)
        assert served.batcher.under_way == 0
    assert (answer.status_code, list(answer.json())) == (status, ["error"])
    assert words in answer.json()["error"]
    assert answer.headers["content-type"] == "application/json"


async def test_pixels_are_taken_for_one_batch_and_files_for_more(tmp_path: Path) -> None:
    publish(tmp_path)
    async with serving(tmp_path, max_batch_size=2, max_files=4) as served:
        files, batch, more = [
            await post(served, {"instances": instances}) for instances in ([b64(1)] * 4, [PIXELS] * 2, [PIXELS] * 8)
        ]
    assert (files.status_code, batch.status_code, more.status_code) == (200, 200, 400)
    assert more.json()["error"].startswith("the JSON body has more than ")


async def test_body_that_is_no_json_or_too_large_is_refused(tmp_path: Path) -> None:
    publish(tmp_path)
    async with serving(tmp_path, max_body_bytes=100) as served:
        broken, large = [
            await served.http.post("/v1/models/cups:predict", content=content) for content in (b"{", b" " * 101)
        ]
    assert (broken.status_code, large.status_code) == (400, 413)
    assert "the JSON body can't be parsed" in broken.json()["error"]
    assert "the limit is 100" in large.json()["error"]


async def test_status_of_unknown_model_answers_404_and_of_a_service_without_models_503(tmp_path: Path) -> None:
    publish(tmp_path)
    async with serving(tmp_path) as served:
        unknown = await served.http.get("/v1/models/mugs")
        shutil.rmtree(tmp_path / "cups")
        assert (unknown.status_code, list(unknown.json())) == (404, ["error"])
        served.app.state.registry._complete = False
        early = await post(served, {"instances": [b64(1)]})
        assert (early.status_code, early.json()) == (503, {"error": "the models are not loaded (yet)"})


async def test_full_queue_answers_429_with_retry_after_and_a_late_answer_504(tmp_path: Path) -> None:
    publish(tmp_path)
    async with serving(tmp_path, HeldEngine, queue_size=1, request_timeout_ms=200) as served:
        held = asyncio.create_task(post(served, {"instances": [b64(1)]}))
        await until(lambda: served.engine.sizes)
        refused, late = await post(served, {"instances": [b64(1)]}), await held
        served.engine.let()
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
    assert refused.json() == {"error": "1 images are under way, the limit is 1"}
    assert (late.status_code, late.json()) == (504, {"error": "no answer within 200 ms of the request's arrival"})
