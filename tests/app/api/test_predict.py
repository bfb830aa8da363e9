"""From a body to a ranking, through the whole application."""

import asyncio
import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from models import preprocess
from models.manifest import Abstention, Conformal, Decision
from tests.app.conftest import FakeEngine, HeldEngine, png, publish, serving, shades, until

PNG = {"content-type": "image/png"}


def _files(*pictures: bytes) -> list[tuple[str, tuple[str, bytes]]]:
    return [("files", (f"{number}.png", picture)) for number, picture in enumerate(pictures)]


def _outcomes(response: httpx.Response) -> list[Any]:
    """Of each file of a batch: the confidence in 'bright' as a shade, or the code of its error."""
    found = []
    for entry in response.json()["results"]:
        if "error" in entry:
            found.append(entry["error"]["code"])
        else:
            confidences = {p["label"]: p["confidence"] for p in entry["result"]["predictions"]}
            found.append(round(confidences["bright"] * 255))
    return found


async def test_answer_has_the_documented_shape_and_order(tmp_path: Path) -> None:
    publish(tmp_path)
    async with serving(tmp_path) as served:
        response = await served.http.post("/predict", content=png(51), headers=PNG | {"x-request-id": "abc"})
    assert (response.status_code, response.headers["content-type"]) == (200, "application/json")
    body = response.json()
    keys = ["model", "version", "request_id", "predictions", "reliable", "prediction_set", "timing_ms"]
    assert list(body) == keys
    timing = body.pop("timing_ms")
    assert list(timing) == ["decode", "queue", "inference"]
    assert all(0 <= value < 10_000 for value in timing.values())
    assert timing["decode"] > 0
    assert [list(prediction) for prediction in body["predictions"]] == [["label", "class_id", "confidence"]] * 3
    assert body == {
        "model": "cups",
        "version": 1,
        "request_id": "abc",
        "predictions": [
            {"label": "dark", "class_id": 0, "confidence": 0.8},
            {"label": "bright", "class_id": 1, "confidence": 0.2},
            {"label": "never", "class_id": 2, "confidence": 0.0},
        ],
        "reliable": None,
        "prediction_set": None,
    }


async def test_decision_of_the_manifest_is_told(tmp_path: Path) -> None:
    decision = Decision(
        abstention=Abstention(
            threshold=0.75, target_risk=0.1, confidence_level=0.9, coverage=0.5, n=9, dataset="made up"
        ),
        conformal=Conformal(alpha=0.1, quantile=0.7, n=9, dataset="made up"),
    )
    publish(tmp_path, decision=decision)
    async with serving(tmp_path) as served:
        sure, unsure = [
            (await served.http.post("/predict", content=png(shade), headers=PNG)).json() for shade in (0, 153)
        ]
    assert (sure["reliable"], sure["prediction_set"]) == (True, ["dark"])
    assert (unsure["reliable"], unsure["prediction_set"]) == (False, ["bright", "dark"])


async def test_picture_may_come_raw_in_a_form_or_in_json(tmp_path: Path) -> None:
    publish(tmp_path)
    async with serving(tmp_path) as served:
        encoded = base64.b64encode(png(204)).decode()
        answers = [
            await served.http.post("/predict", content=png(204)),
            await served.http.post("/predict", content=png(204), headers={"content-type": "application/octet-stream"}),
            await served.http.post("/predict", files={"file": ("cup.png", png(204), "image/png")}),
            await served.http.post("/predict", json={"image": encoded}),
            await served.http.post("/predict", json={"image": f"data:image/png;base64,{encoded}"}),
        ]
    tops = [answer.json()["predictions"][0] for answer in answers]
    assert tops == [{"label": "bright", "class_id": 1, "confidence": 0.8}] * 5


async def test_concurrent_callers_get_their_own_answers(tmp_path: Path) -> None:
    publish(tmp_path)
    async with serving(tmp_path) as served:
        posts = [served.http.post("/predict?top_k=3", content=png(shade), headers=PNG) for shade in range(0, 256, 4)]
        answers = [answer.json() for answer in await asyncio.gather(*posts)]
    found = [next(p["confidence"] for p in a["predictions"] if p["label"] == "bright") for a in answers]
    assert [round(confidence * 255) for confidence in found] == list(range(0, 256, 4))
    assert len({answer["request_id"] for answer in answers}) == 64


async def test_five_classes_are_told_unless_fewer_or_more_are_asked_for(tmp_path: Path) -> None:
    publish(tmp_path, labels=[{"name": f"class {number}"} for number in range(7)])
    async with serving(tmp_path) as served:
        for query, count in (("", 5), ("?top_k=2", 2), ("?top_k=7", 7)):
            answer = await served.http.post(f"/predict{query}", content=png(1), headers=PNG)
            assert [p["class_id"] for p in answer.json()["predictions"]] == list(range(7))[:count]


async def test_top_k_is_all_of_few_classes_or_what_is_asked(tmp_path: Path) -> None:
    publish(tmp_path, "cups")
    async with serving(tmp_path) as served:
        for query, count in (("", 3), ("?top_k=1", 1), ("?top_k=3", 3)):
            answer = await served.http.post(f"/predict{query}", content=png(1), headers=PNG)
            assert len(answer.json()["predictions"]) == count
        for query, message in (
            ("4", "top_k: cups has 3 classes, got 4"),
            ("0", "top_k: Input should be greater than or equal to 1, got '0'"),
            ("x", "top_k: Input should be a valid integer, unable to parse string as an integer, got 'x'"),
        ):
            refusal = await served.http.post(f"/predict?top_k={query}", content=png(1), headers=PNG)
            assert (refusal.status_code, refusal.json()["error"]["message"]) == (422, message)


async def test_model_and_version_are_chosen_by_the_query(tmp_path: Path) -> None:
    for name, version in (("cups", 1), ("cups", 3), ("mugs", 2)):
        publish(tmp_path, name, version)
    async with serving(tmp_path) as served:
        for query, expected in (
            ("", ("cups", 3)),
            ("?version=1", ("cups", 1)),
            ("?model=mugs", ("mugs", 2)),
            ("?model=cups&version=3", ("cups", 3)),
        ):
            body = (await served.http.post(f"/predict{query}", content=png(1), headers=PNG)).json()
            assert (body["model"], body["version"]) == expected
        for query, status, code in (
            ("?model=jugs", 404, "unknown_model"),
            ("?model=mugs&version=1", 404, "unknown_version"),
            ("?version=0", 422, "invalid_parameter"),
        ):
            for path in ("/predict", "/predict/batch"):
                refusal = await served.http.post(path + query, content=png(1), headers=PNG)
                assert (refusal.status_code, refusal.json()["error"]["code"]) == (status, code)


async def test_full_queue_answers_429_at_once_and_leaves_the_body_unread(tmp_path: Path) -> None:
    publish(tmp_path)
    async with serving(tmp_path, HeldEngine, queue_size=1) as served:
        first = asyncio.create_task(served.http.post("/predict", content=png(1), headers=PNG))
        await until(lambda: served.engine.sizes)
        caller = _Caller(body=None)
        for path in ("/predict", "/predict/batch"):
            sent = await caller.post(served, path)
            error = httpx.Response(200, content=sent[1]["body"]).json()["error"]
            assert sent[0]["status"] == 429
            assert list(error) == ["code", "message", "request_id", "retry_after_s"]
            assert (error["code"], error["retry_after_s"]) == ("queue_full", 1)
            assert dict(sent[0]["headers"])[b"retry-after"] == b"1"
        served.engine.let()
        assert (await first).status_code == 200
        assert (await served.http.post("/predict", content=png(1), headers=PNG)).status_code == 200


@pytest.mark.parametrize("path", ["/predict", "/predict/batch"])
async def test_deadline_answers_504_and_frees_the_place(path: str, tmp_path: Path) -> None:
    publish(tmp_path)
    async with serving(tmp_path, HeldEngine, request_timeout_ms=1) as served:
        field = "file" if path == "/predict" else "files"
        response = await served.http.post(path, files={field: png(1)})
        assert served.batcher.under_way == 0
        served.engine.let()
    assert response.status_code == 504
    assert response.json()["error"]["code"] == "deadline_passed"
    assert response.json()["error"]["message"] == "no answer within 1 ms of the request's arrival"


class _Caller:
    """Speaks ASGI by hand, to send no body (None: reading it fails the test) or to leave when it is told."""

    def __init__(self, body: bytes | None, more: bool = False) -> None:
        self.messages = iter([] if body is None else [{"type": "http.request", "body": body, "more_body": more}])
        self.unread = body is None
        self.leaving = asyncio.Event()

    async def receive(self) -> dict[str, Any]:
        assert not self.unread, "the body was asked for"
        for message in self.messages:
            return message
        await self.leaving.wait()
        return {"type": "http.disconnect"}

    async def post(self, served: Any, path: str, content_type: str = "image/png") -> list[Any]:
        sent: list[Any] = []
        headers = [(b"content-type", content_type.encode())]
        scope = {"type": "http", "method": "POST", "path": path, "query_string": b"", "headers": headers}

        async def send(message: Any) -> None:
            sent.append(message)

        await served.app(scope, self.receive, send)
        return sent


def _form(*pictures: bytes) -> bytes:
    head = b'--edge\r\nContent-Disposition: form-data; name="files"\r\n\r\n'
    return b"".join(head + picture + b"\r\n" for picture in pictures) + b"--edge--\r\n"


@pytest.mark.parametrize(
    ("path", "content_type", "body", "queued"),
    [
        ("/predict", "image/png", png(7), 1),
        ("/predict/batch", "multipart/form-data; boundary=edge", _form(png(7), png(8), png(9)), 3),
    ],
)
async def test_caller_that_leaves_while_queued_frees_its_places_and_costs_no_inference(
    path: str, content_type: str, body: bytes, queued: int, tmp_path: Path
) -> None:
    publish(tmp_path)
    async with serving(tmp_path, HeldEngine) as served:
        running = asyncio.create_task(served.http.post("/predict", content=png(1), headers=PNG))
        await until(lambda: served.engine.sizes == [1])
        caller = _Caller(body)
        leaving = asyncio.create_task(caller.post(served, path, content_type))
        await until(lambda: served.batcher.queued == queued)
        assert served.batcher.under_way == 1 + queued

        caller.leaving.set()
        sent = await leaving
        assert sent[0]["status"] == 499
        assert (served.batcher.under_way, served.batcher.queued) == (1, 0)
        served.engine.let()
        assert (await running).status_code == 200
        assert served.engine.sizes == [1]


async def test_caller_that_leaves_while_it_sends_gives_back_what_it_held(tmp_path: Path) -> None:
    publish(tmp_path)
    async with serving(tmp_path) as served:
        caller = _Caller(png(1)[:9], more=True)
        leaving = asyncio.create_task(caller.post(served, "/predict"))
        await until(lambda: served.app.state.bodies.used_bytes == 9)
        assert served.batcher.under_way == 0  # no place is taken before there is an image
        caller.leaving.set()
        assert (await leaving)[0]["status"] == 499
        assert served.app.state.bodies.used_bytes == 0


async def test_batch_gives_one_result_or_error_for_each_file_in_order(tmp_path: Path) -> None:
    publish(tmp_path)
    pictures = [png(40), b"", png(80), b"%PDF", png(120)[:40], png(1, (9, 9)), png(160)]
    async with serving(tmp_path, max_image_pixels=80) as served:
        response = await served.http.post(
            "/predict/batch?top_k=2", files=_files(*pictures), headers={"x-request-id": "abc"}
        )
    assert response.status_code == 200
    assert list(response.json()) == ["model", "version", "request_id", "results"]
    bad = ("unreadable_image", "unsupported_media_type", "unreadable_image", "too_many_pixels")
    assert _outcomes(response) == [40, bad[0], 80, bad[1], bad[2], bad[3], 160]
    first, second = response.json()["results"][:2]
    assert list(first) == ["filename", "result"]
    assert list(first["result"]) == ["predictions", "reliable", "prediction_set", "timing_ms"]
    assert len(first["result"]["predictions"]) == 2
    assert second == {
        "filename": "1.png",
        "error": {"code": "unreadable_image", "message": "the picture is empty: 0 bytes came", "request_id": "abc"},
    }


async def test_batch_with_a_failure_that_nobody_foresaw_answers_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(data: bytes, *others: Any) -> np.ndarray:
        if data == b"poison":
            raise ZeroDivisionError("secret of the house")
        return preprocess_load(data, *others)

    preprocess_load = preprocess.load_image
    monkeypatch.setattr(preprocess, "load_image", load)
    publish(tmp_path)
    async with serving(tmp_path) as served:
        response = await served.http.post("/predict/batch", files=_files(png(40), b"poison", png(80)))
    assert _outcomes(response) == [40, "internal_error", 80]
    assert "secret" not in response.text


async def test_batch_with_a_picture_that_the_model_fails_on_answers_the_others(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Choosy(FakeEngine):
        def infer(self, images: np.ndarray) -> np.ndarray:
            if (images == 13).any():
                raise RuntimeError("secret of the house")
            return shades(images)

    publish(tmp_path)
    async with serving(tmp_path, Choosy) as served:
        response = await served.http.post("/predict/batch", files=_files(png(12), png(13), png(14)))
        alone = await served.http.post("/predict", content=png(13), headers=PNG)
    assert _outcomes(response) == [12, "inference_failed", 14]
    assert (alone.status_code, alone.json()["error"]["code"]) == (500, "inference_failed")
    assert "secret" not in response.text + alone.text
    assert caplog.text.count("RuntimeError: secret of the house") == 2


async def test_batch_is_refused_whole_only_where_its_form_is_wrong(tmp_path: Path) -> None:
    publish(tmp_path)
    async with serving(tmp_path, max_files=2) as served:
        post: Callable[..., Any] = served.http.post
        assert _outcomes(await post("/predict/batch", files=_files(png(1), png(2)))) == [1, 2]
        refusals = [
            await post("/predict/batch", files=_files(png(1), png(2), png(3))),
            await post("/predict/batch", files={"file": png(1)}),
            await post("/predict/batch", content=png(1), headers=PNG),
        ]
    assert [refusal.json()["error"]["message"] for refusal in refusals[:2]] == [
        "expected at most 2 files, got 3",
        "expected multipart fields named 'files', got 'file'",
    ]
    assert [refusal.status_code for refusal in refusals] == [422, 422, 415]


async def test_batch_of_n_files_takes_n_places(tmp_path: Path) -> None:
    publish(tmp_path)
    async with serving(tmp_path, queue_size=2) as served:
        assert _outcomes(await served.http.post("/predict/batch", files=_files(png(1), png(2)))) == [1, 2]
        response = await served.http.post("/predict/batch", files=_files(png(1), png(2), png(3)))
        assert _outcomes(response) == [1, 2, "queue_full"]
        assert response.json()["results"][2]["error"]["retry_after_s"] == 1
        assert served.batcher.under_way == 0


async def test_body_over_the_limit_is_refused_and_frees_the_place(tmp_path: Path) -> None:
    publish(tmp_path)
    async with serving(tmp_path, max_body_bytes=100) as served:
        for path in ("/predict", "/predict/batch"):
            refusal = await served.http.post(path, files={"files": b"x" * 101})
            assert (refusal.status_code, refusal.json()["error"]["code"]) == (413, "body_too_large")
        assert served.batcher.under_way == 0


async def test_request_on_a_version_that_is_withdrawn_is_still_answered(tmp_path: Path) -> None:
    publish(tmp_path)
    old = publish(tmp_path)
    async with serving(tmp_path, HeldEngine) as served:
        under_way = asyncio.create_task(served.http.post("/predict/batch", files=_files(png(1), png(2))))
        await until(lambda: served.engine.sizes)
        old.path.rename(tmp_path / "aside")
        await served.app.state.registry.refresh()
        assert served.app.state.registry.get().folder.version == 1
        served.engine.let()
        response = await under_way
    assert (response.json()["version"], _outcomes(response)) == (2, [1, 2])


async def test_draining_service_still_answers_requests(tmp_path: Path) -> None:
    publish(tmp_path)
    async with serving(tmp_path) as served:
        served.app.state.draining = True
        assert (await served.http.post("/predict", content=png(1), headers=PNG)).status_code == 200


async def test_service_without_a_model_answers_503(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        refusal = await served.http.post("/predict", content=png(1), headers=PNG)
    assert (refusal.status_code, refusal.json()["error"]["code"]) == (503, "not_ready")
