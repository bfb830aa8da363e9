"""The protocol over HTTP: what is live, what answers, and errors in its form whatever they are."""

import asyncio
import base64
import gzip
import json
import threading
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from app.main import create_app
from app.settings import Settings
from models.manifest import Manifest
from models.repository import VersionFolder
from tests.app.conftest import FakeEngine, HeldEngine, client, png, publish, rewrite_manifest, serving, until

INFER = "/v2/models/cups/infer"


def _request(*pictures: bytes, **more: Any) -> dict[str, Any]:
    data = [base64.b64encode(picture).decode() for picture in pictures]
    return {"inputs": [{"name": "image", "shape": [len(data)], "datatype": "BYTES", "data": data}], **more}


def _pixels(*shades: int) -> dict[str, Any]:
    values = np.concatenate([np.full((1, 2, 2, 3), shade, np.uint8) for shade in shades])
    return {"inputs": [{"name": "images", "shape": values.shape, "datatype": "UINT8", "data": values.tolist()}]}


def _shades(answer: httpx.Response) -> list[int]:
    """Of the pictures, as the fake engine read them."""
    assert answer.status_code == 200, answer.text
    found = answer.json()["outputs"][0]
    return [round(row[1] * 255) for row in np.array(found["data"]).reshape(found["shape"]).tolist()]


def _refused(answer: httpx.Response, status: int, words: str) -> None:
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/json"
    assert list(answer.json()) == ["error"]
    assert words in answer.json()["error"]
    assert answer.headers["x-request-id"]


async def test_server_says_what_it_is_and_that_it_lives(tmp_path: Path) -> None:
    publish(tmp_path)
    async with serving(tmp_path) as served:
        server, live, ready = [
            (await served.http.get(path)).json() for path in ("/v2", "/v2/health/live", "/v2/health/ready")
        ]
    assert server["name"] == "demitasse"
    assert server["version"]
    assert set(server["extensions"]) == {"binary_tensor_data", "classification"}
    assert (live, ready) == ({"live": True}, {"ready": True})


async def test_model_tells_its_tensors(tmp_path: Path) -> None:
    publish(tmp_path, version=2)
    publish(tmp_path, version=10)
    async with serving(tmp_path) as served:
        by_name = await served.http.get("/v2/models/cups")
        by_version = await served.http.get("/v2/models/cups/versions/2")
    assert by_name.json() == by_version.json()
    assert by_name.json() == {
        "name": "cups",
        "versions": ["2", "10"],
        "platform": "tensorflow_savedmodel",
        "inputs": [
            {"name": "image", "datatype": "BYTES", "shape": [-1]},
            {"name": "images", "datatype": "UINT8", "shape": [-1, 2, 2, 3]},
        ],
        "outputs": [
            {"name": "probabilities", "datatype": "FP32", "shape": [-1, 3]},
            {"name": "label", "datatype": "BYTES", "shape": [-1]},
        ],
    }


async def test_files_and_pixels_are_answered_in_order(tmp_path: Path) -> None:
    publish(tmp_path)
    async with serving(tmp_path) as served:
        files = await served.http.post(INFER, json=_request(png(0), png(102), png(255), id="mine"))
        pixels = await served.http.post(INFER, json=_pixels(5, 250))
        bare = await served.http.post(INFER, content=png(255), headers={"Inference-Header-Content-Length": "0"})
    assert _shades(files) == [0, 102, 255]
    assert (files.json()["id"], files.json()["model_name"], files.json()["model_version"]) == ("mine", "cups", "1")
    assert _shades(pixels) == [5, 250]
    assert bare.content.endswith(b"\x06\0\0\0bright")


async def test_large_body_is_read_as_well(tmp_path: Path) -> None:
    publish(tmp_path)
    noise = png(204) + np.random.default_rng(0).bytes(200_000)  # behind its end, where decoders don't look
    async with serving(tmp_path) as served:
        assert _shades(await served.http.post(INFER, json=_request(noise))) == [204]


async def test_path_names_a_version_by_number_or_label(tmp_path: Path) -> None:
    publish(tmp_path, version=1)
    publish(tmp_path, version=2)
    (tmp_path / "cups" / "labels.json").write_text(json.dumps({"stable": 1}))
    async with serving(tmp_path) as served:
        answers = [
            await served.http.post(f"/v2/models/cups{version}/infer", json=_pixels(1))
            for version in ("", "/versions/2", "/versions/stable")
        ]
        ready = await served.http.get("/v2/models/cups/versions/stable/ready")
    assert [answer.json()["model_version"] for answer in answers] == ["1", "2", "1"]
    assert ready.json() == {"name": "cups", "ready": True}


async def test_unknown_names_answer_404(tmp_path: Path) -> None:
    publish(tmp_path)
    async with serving(tmp_path) as served:
        for path in ("jugs", "jugs/ready", "jugs/versions/1"):
            _refused(await served.http.get(f"/v2/models/{path}"), 404, "no model 'jugs'; live are: cups")
        _refused(await served.http.get("/v2/models/cups/versions/7/ready"), 404, "no version 7")
        _refused(await served.http.get("/v2/models/cups/versions/canary"), 404, "no label 'canary'")
        _refused(await served.http.post("/v2/models/jugs/infer", json=_pixels(1)), 404, "no model 'jugs'")
        _refused(await served.http.get(f"/v2/models/cups/versions/{'9' * 5000}"), 400, "at most 32 characters")


async def test_address_or_method_that_is_none_is_refused_in_the_same_form(tmp_path: Path) -> None:
    publish(tmp_path)
    async with serving(tmp_path) as served:
        _refused(await served.http.get("/v2/nope"), 404, "no route /v2/nope")
        wrong = await served.http.get(INFER)
        _refused(wrong, 405, "GET is not allowed")
        assert wrong.headers["allow"] == "POST"
        assert set((await served.http.get("/v2x")).json()["error"]) == {"code", "message", "request_id"}


async def test_bad_requests_answer_400_and_harm_nothing(tmp_path: Path) -> None:
    publish(tmp_path)
    async with serving(tmp_path, max_files=3) as served:
        for body, words in (
            (_request(b"no picture"), "picture 0: "),
            (_request(png(1), png(1)[:50]), "picture 1: "),
            (_request(*[png(1)] * 4), "expected 1 to 3 pictures, got 4"),
            (_request(), "expected 1 to 3 pictures, got 0"),
            (_request(png(1)) | {"outputs": [{"name": "logits"}]}, "got 'logits'"),
            ({"instances": []}, "inputs: Field required"),
        ):
            _refused(await served.http.post(INFER, json=body), 400, words)
        assert _shades(await served.http.post(INFER, json=_pixels(7))) == [7]
        assert (served.batcher.under_way, served.app.state.bodies.used_bytes) == (0, 0)


async def test_compressed_body_is_read_and_another_encoding_refused(tmp_path: Path) -> None:
    publish(tmp_path)
    async with serving(tmp_path) as served:
        body = gzip.compress(json.dumps(_request(png(1))).encode())
        assert _shades(await served.http.post(INFER, content=body, headers={"Content-Encoding": "gzip"})) == [1]
        answer = await served.http.post(INFER, content=body, headers={"Content-Encoding": "br"})
        _refused(answer, 400, "expected a body with Content-Encoding gzip, deflate or none, got br")


async def test_body_over_the_limit_answers_413(tmp_path: Path) -> None:
    publish(tmp_path)
    async with serving(tmp_path, max_body_bytes=1000) as served:
        _refused(await served.http.post(INFER, content=b"x" * 1001), 413, "the limit is 1,000")
        _refused(await served.http.post("/v2/repository/index", content=b"x" * 100_000), 413, "the limit is 65,536")


async def test_full_queue_answers_429_with_retry_after(tmp_path: Path) -> None:
    publish(tmp_path)
    async with serving(tmp_path, HeldEngine, queue_size=1) as served:
        first = asyncio.create_task(served.http.post(INFER, json=_pixels(1)))
        await until(lambda: served.engine.sizes)
        refused = await served.http.post(INFER, json=_pixels(2))
        served.engine.let()
        assert _shades(await first) == [1]
    _refused(refused, 429, "the limit is 1")
    assert int(refused.headers["retry-after"]) >= 1


async def test_late_answer_is_504(tmp_path: Path) -> None:
    publish(tmp_path)
    async with serving(tmp_path, HeldEngine, request_timeout_ms=50) as served:
        _refused(await served.http.post(INFER, json=_pixels(1)), 504, "no answer within 50 ms")
        served.engine.let()


class _Failing(FakeEngine):
    def infer(self, images: np.ndarray) -> np.ndarray:
        if (images == 13).all():
            raise RuntimeError("secret")
        return super().infer(images)


async def test_our_failure_is_500_and_keeps_its_cause_to_itself(tmp_path: Path) -> None:
    publish(tmp_path)
    async with serving(tmp_path, _Failing) as served:
        answer = await served.http.post(INFER, json=_pixels(13))
        assert answer.status_code == 500
        assert list(answer.json()) == ["error"]
        assert "secret" not in answer.text


async def test_unforeseen_failure_is_500_in_the_same_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("secret")

    publish(tmp_path)
    monkeypatch.setattr("app.api.protocols.v2.routes.answer", fail)
    async with serving(tmp_path) as served:
        answer = await served.http.post(INFER, json=_pixels(1))
        _refused(answer, 500, "the service failed on this request; its log has the request id")
        assert "secret" not in answer.text


async def test_before_the_models_have_loaded_everything_answers_503(tmp_path: Path) -> None:
    leave = threading.Event()

    def load(folder: VersionFolder, manifest: Manifest) -> FakeEngine:
        assert leave.wait(20)
        return FakeEngine()

    publish(tmp_path)
    app = create_app(Settings(model_repository=tmp_path), load_engine=load)
    async with app.router.lifespan_context(app), client(app) as http:
        for path in ("health/ready", "models/cups", "models/cups/ready"):
            _refused(await http.get(f"/v2/{path}"), 503, "(yet)")
        _refused(await http.post(INFER, json=_pixels(1)), 503, "(yet)")
        assert (await http.get("/v2/health/live")).json() == {"live": True}
        leave.set()


async def test_draining_service_and_its_models_are_not_ready(tmp_path: Path) -> None:
    publish(tmp_path)
    async with serving(tmp_path) as served:
        served.app.state.draining = True
        for path in ("/v2/health/ready", "/v2/models/cups/ready"):
            _refused(await served.http.get(path), 503, "shutting down")


async def test_index_lists_what_answers_and_what_was_refused(tmp_path: Path) -> None:
    publish(tmp_path, version=9)
    rewrite_manifest(publish(tmp_path, version=10), schema_version=2)
    publish(tmp_path, "mugs")
    ready = [
        {"name": "cups", "version": "9", "state": "READY", "reason": ""},
        {"name": "mugs", "version": "1", "state": "READY", "reason": ""},
    ]
    refused = {"name": "cups", "version": "10", "state": "UNAVAILABLE", "reason": "refused; the service's log says why"}
    async with serving(tmp_path) as served:
        index = "/v2/repository/index"
        assert (await served.http.post(index)).json() == [ready[0], refused, ready[1]]
        assert (await served.http.post(index, json={"ready": False})).json() == [ready[0], refused, ready[1]]
        assert (await served.http.post(index, json={"ready": True})).json() == ready
        _refused(await served.http.post(index, content=b"{"), 400, "Invalid JSON")


@pytest.mark.parametrize("verb", ["load", "unload"])
async def test_models_can_not_be_loaded_by_request(tmp_path: Path, verb: str) -> None:
    publish(tmp_path)
    async with serving(tmp_path) as served:
        answer = await served.http.post(f"/v2/repository/models/cups/{verb}", json={})
        _refused(answer, 400, "versions come and go with their folders in the repository")
        assert _shades(await served.http.post(INFER, json=_pixels(3))) == [3]
