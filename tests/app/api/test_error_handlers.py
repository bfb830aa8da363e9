"""One shape for every error of every route."""

import asyncio
import logging
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.exceptions import HTTPException

from app.api.error_handlers import LastResort
from tests.app.conftest import HeldEngine, Served, png, publish, serving, until

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


def _checked(response: httpx.Response, status: int, code: str) -> str:
    """The message of an error that has the one shape."""
    assert response.status_code == status
    assert response.headers["content-type"] == "application/json"
    assert list(response.json()) == ["error"]
    error = response.json()["error"]
    assert list(error) == ["code", "message", "request_id"]
    assert error["code"] == code
    assert error["request_id"] == response.headers["x-request-id"]
    assert isinstance(error["message"], str)
    return str(error["message"])


def _operations(served: Served) -> dict[str, set[str]]:
    """Of the routes whose errors have the one shape: other protocols have their own."""
    others = tuple(f"{start}/" for start in served.app.state.error_forms)
    paths = served.app.openapi()["paths"].items()
    documented = {path: {m.upper() for m in methods} for path, methods in paths if not path.startswith(others)}
    return documented | {"/docs": {"GET", "HEAD"}, "/openapi.json": {"GET", "HEAD"}}


async def test_wrong_method_on_any_route_answers_405_with_the_right_ones(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        for path, allowed in _operations(served).items():
            concrete = path.replace("{name}", "cups").replace("{version}", "1")
            for method in (*METHODS, "BREW"):
                if method not in allowed:
                    response = await served.http.request(method, concrete)
                    if path.startswith(tuple(served.app.state.error_forms)):  # held by the protocols' own tests
                        assert response.status_code == 405
                        message = response.json()["error"]
                    else:
                        message = _checked(response, 405, "method_not_allowed")
                    assert message.startswith(f"{method} is not allowed on {concrete}; allowed: ")
                    assert set(response.headers["allow"].split(", ")) == allowed


@pytest.mark.parametrize(
    "path", ["/nope", "/predict/nope", "/models/a/b", "/models/a/versions/1/x", "/..%2fetc", "/predict//"]
)
async def test_unknown_path_answers_404(path: str, tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        for method in METHODS:
            message = _checked(await served.http.request(method, path), 404, "not_found")
            assert message.endswith("; /docs lists them")


@pytest.mark.parametrize(
    ("method", "path", "message"),
    [
        ("POST", "/predict?version=x&top_k=0", "version: Input should be a valid integer, unable to parse string"),
        ("POST", "/predict?top_k=1&top_k=2", "top_k: expected once, came 2 times"),
        ("POST", "/predict/batch?model=cups&model=jugs", "model: expected once, came 2 times"),
        ("POST", "/invocations?label=a&label=a", "label: expected once, came 2 times"),
        ("POST", "/predict?version=-3", "version: Input should be greater than or equal to 1, got '-3'"),
        ("POST", "/predict/batch?top_k=1.5", "top_k: Input should be a valid integer, unable to parse string"),
        ("POST", f"/predict?top_k={'9' * 5000}", "top_k: Unable to parse input string as an integer, exceeded maximum"),
        ("GET", "/models/cups/versions/x", "version: Input should be a valid integer, unable to parse string"),
    ],
)
async def test_bad_parameter_answers_422_by_name_and_value(
    method: str, path: str, message: str, tmp_path: Path
) -> None:
    publish(tmp_path)
    async with serving(tmp_path) as served:
        found = _checked(await served.http.request(method, path), 422, "invalid_parameter")
    assert found.startswith(message)
    assert len(found) < 300


async def test_both_bad_parameters_are_told_at_once(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        message = _checked(await served.http.post("/predict?version=x&top_k=0"), 422, "invalid_parameter")
    assert message.split("; ")[1] == "top_k: Input should be greater than or equal to 1, got '0'"


async def test_unexpected_exception_answers_500_and_is_told_to_the_log_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(*_: object) -> None:
        raise ZeroDivisionError("secret of the house")

    publish(tmp_path)
    async with serving(tmp_path) as served:
        served.app.state.pipeline.classify = broken
        response = await served.http.post("/predict", files={"file": png(1)})
        message = _checked(response, 500, "internal_error")
        assert message == "the service failed on this request; its log has the request id"
        assert served.batcher.under_way == 0
    assert caplog.text.count("ZeroDivisionError: secret of the house") == 1
    assert "Traceback (most recent call last)" in caplog.text


@pytest.mark.parametrize(("raised", "status", "code"), [(418, 400, "malformed_body"), (507, 500, "internal_error")])
async def test_exception_of_the_framework_takes_the_one_shape(
    raised: int, status: int, code: str, tmp_path: Path
) -> None:
    async with serving(tmp_path) as served:

        async def raising() -> None:
            raise HTTPException(raised, "of the framework")

        served.app.add_api_route("/raising", raising)
        message = _checked(await served.http.get("/raising"), status, code)
        assert message == ("of the framework" if status == 400 else "the service failed on this request")


async def test_failure_of_ours_is_logged_with_its_cause(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with serving(tmp_path) as served:

        async def raising() -> None:
            raise HTTPException(500, "of the framework")

        served.app.add_api_route("/raising", raising)
        await served.http.get("/raising")
    errors = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert errors == ["internal_error: the service failed on this request"]


async def test_failure_in_the_middle_of_an_answer_is_left_to_the_server() -> None:
    sent: list[Any] = []

    async def breaking(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise ZeroDivisionError

    async def send(message: Any) -> None:
        sent.append(message)

    with pytest.raises(ZeroDivisionError):
        await LastResort(breaking)({"type": "http", "state": {"request_id": "abc"}}, None, send)  # type: ignore[arg-type]
    assert [message["status"] for message in sent] == [200]


@pytest.mark.parametrize(
    ("path", "body"),
    [("/predict", {"files": {"file": png(7)}}), ("/predict/batch", {"files": [("files", png(7)), ("files", png(8))]})],
)
async def test_request_that_is_cut_off_at_the_end_of_a_drain_is_told(
    tmp_path: Path, path: str, body: dict[str, Any]
) -> None:
    publish(tmp_path)
    async with serving(tmp_path, HeldEngine) as served:
        asked = asyncio.create_task(served.http.post(path, **body))
        await until(lambda: served.engine.sizes)
        served.app.state.draining = True
        asked.cancel()  # here the application runs in the caller's task, which the server would cancel
        message = _checked(await asked, 503, "draining")
        served.engine.let()
    assert message == "the service stops, and could not finish this in time"


async def test_request_that_is_cancelled_otherwise_is_not_answered(tmp_path: Path) -> None:
    publish(tmp_path)
    async with serving(tmp_path, HeldEngine) as served:
        asked = asyncio.create_task(served.http.post("/predict", files={"file": png(7)}))
        await until(lambda: served.engine.sizes)
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
        served.engine.let()
