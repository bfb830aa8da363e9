"""Request ids, log lines, and which metrics a request is counted in."""

import json
import logging
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from app.metrics import Metrics
from app.observability import (
    ObservabilityMiddleware,
    RequestLog,
    configure_logging,
    request_id_var,
)
from tests.app.conftest import Served, png, publish, serving


@pytest.fixture(autouse=True)
def _no_lines_of_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.getLogger("httpx"), "disabled", True)


async def test_request_id_of_the_caller_is_kept(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        for kept in ("abc", "4bf92f35-77b3/4da6:a+b=c_d.e", "x" * 128):
            response = await served.http.get("/nope", headers={"x-request-id": kept})
            assert response.headers.get_list("x-request-id") == [kept]
            assert response.json()["error"]["request_id"] == kept


async def test_request_without_an_id_gets_one_of_its_own(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        ids = [(await served.http.get("/health/live")).headers["x-request-id"] for _ in range(3)]
    assert len(set(ids)) == 3
    assert all(re.fullmatch("[0-9a-f]{32}", made) for made in ids)


@pytest.mark.parametrize(
    "malicious",
    [b"", b"a b", b"a\nb", b"a\r\nSet-Cookie: x", b"abc\n", b"x" * 129, b"x" * 2**20, "ü".encode(), b'"', b"\0"],
)
async def test_malicious_request_id_is_replaced(malicious: bytes, tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        found = (await served.http.get("/health/live", headers=[(b"x-request-id", malicious)])).headers
    assert re.fullmatch("[0-9a-f]{32}", found["x-request-id"])
    assert "set-cookie" not in found


async def test_other_protocols_pass_untouched() -> None:
    passed: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        passed.append(scope)

    await ObservabilityMiddleware(app, RequestLog(Metrics()))({"type": "lifespan"}, None, None)  # type: ignore[arg-type]
    assert passed == [{"type": "lifespan"}]


def _counted(served: Served) -> dict[tuple[str, str, str], float]:
    return {
        (sample.labels["route"], sample.labels["method"], sample.labels["status"]): sample.value
        for sample in served.app.state.metrics.requests.collect()[0].samples
    }


async def test_metrics_count_by_route_however_many_paths_and_methods_there_are(tmp_path: Path) -> None:
    publish(tmp_path)
    async with serving(tmp_path) as served:
        for number in range(20):
            await served.http.get(f"/nope/{number}")
            await served.http.get(f"/models/{number}")
            await served.http.request(f"BREW{number}", "/predict")
        await served.http.get("/models/cups/versions/1")
        assert _counted(served) == {
            ("unmatched", "GET", "404"): 20,
            ("/models/{name}", "GET", "404"): 20,
            ("/predict", "other", "405"): 20,
            ("/models/{name}/versions/{version}", "GET", "200"): 1,
        }


def _lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


async def test_each_request_is_one_json_line_with_its_id(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    publish(tmp_path)
    configure_logging("info", "auto")
    async with serving(tmp_path) as served:
        await served.http.post("/predict?top_k=1", content=png(1), headers={"x-request-id": "abc"})
        for probed in ("/health/live", "/v2/health/ready", "/v2/models/cups/ready"):
            await served.http.get(probed)  # quiet, as probes come every few seconds
    lines = [line for line in _lines(capsys) if line["logger"] == "app.observability"]
    assert len(lines) == 1
    line = lines[0]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line.pop("time"))
    assert line.pop("duration_ms") > 0
    assert line == {
        "level": "info",
        "logger": "app.observability",
        "message": "POST /predict -> 200",
        "request_id": "abc",
        "method": "POST",
        "path": "/predict",
        "status": 200,
    }


async def test_probes_are_logged_where_debugging_is_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logging("debug", "json")
    async with serving(tmp_path) as served:
        await served.http.get("/health/live")
        await served.http.get("/metrics")
    logged = [line["path"] for line in _lines(capsys) if line["logger"] == "app.observability"]
    assert logged == ["/health/live", "/metrics"]


@pytest.mark.parametrize("log_format", ["json", "text"])
async def test_path_cannot_forge_a_line_of_the_log(
    log_format: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logging("info", log_format)
    async with serving(tmp_path) as served:
        await served.http.get("/x%0A12:00:00 info all is well%1b[2J%E2%80%A8")
    (out,) = (line for line in capsys.readouterr().out.splitlines() if "holds no versions" not in line)
    assert "GET /x%0A12%3A00%3A00%20info%20all%20is%20well%1B%5B2J%E2%80%A8 -> 404" in out


async def test_exception_is_one_json_line_with_its_traceback_and_request_id(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async def broken(*_: object) -> None:
        raise ZeroDivisionError("größer")

    publish(tmp_path)
    configure_logging("error", "json")
    async with serving(tmp_path) as served:
        served.app.state.pipeline.classify = broken
        await served.http.post("/predict", content=png(1), headers={"x-request-id": "abc"})
    (line,) = _lines(capsys)
    assert (line["level"], line["message"], line["request_id"]) == ("error", "unexpected error", "abc")
    assert line["exception"].startswith("Traceback (most recent call last):\n")
    assert line["exception"].endswith("\nZeroDivisionError: größer")


def test_text_is_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("info", "text")
    token = request_id_var.set("abc")
    logging.getLogger("app.any").info("%s served", "cup", extra={"fields": {"duration_ms": 1.25}})
    logging.getLogger("app.any").debug("not asked for")
    request_id_var.reset(token)
    try:
        raise ValueError("spilt")
    except ValueError:
        logging.getLogger("app.any").exception("oh")
    lines = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"\d\d:\d\d:\d\d info    cup served 1\.25 ms \[abc\]", lines[0])
    assert re.fullmatch(r"\d\d:\d\d:\d\d error   oh", lines[1])
    assert lines[-1] == "ValueError: spilt"


@pytest.mark.parametrize(
    ("terminal", "log_format", "as_json"), [(True, "auto", False), (False, "auto", True), (True, "json", True)]
)
def test_json_unless_a_terminal_reads_it(
    terminal: bool, log_format: str, as_json: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal)
    configure_logging("info", log_format)
    logging.getLogger("app.any").info("hello")
    assert capsys.readouterr().out.startswith("{") is as_json


def test_other_libraries_are_heard_where_something_is_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("debug", "json")
    logging.getLogger("models.storage").debug("copied")
    for name in ("uvicorn.error", "azure.core.pipeline.policies.http_logging_policy"):
        logging.getLogger(name).info("Request URL")
        logging.getLogger(name).warning("no answer")
    assert [line["message"] for line in _lines(capsys)] == ["copied", "no answer", "no answer"]


def test_malformed_bodies_are_no_warnings_of_the_log(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("debug", "json")
    logging.getLogger("python_multipart.multipart").warning("Found invalid character")
    assert capsys.readouterr().out == ""
