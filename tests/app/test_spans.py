"""Spans of requests and their stages, as an exporter in memory gets them."""

import asyncio
import itertools
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from app.keys import hashed, line_of
from app.main import create_app
from app.settings import Settings
from app.spans import Spans
from app.tracing import trace_id_var
from tests.app.conftest import FakeEngine, Served, client, png, publish

ROOT = Path(__file__).parents[2]
TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
STAGES = ["decode", "queue", "inference", "rank"]


@asynccontextmanager
async def _traced(root: Path, **settings: Any) -> AsyncIterator[tuple[Served, InMemorySpanExporter]]:
    publish(root)
    exporter, loaded = InMemorySpanExporter(), asyncio.Event()
    app = create_app(
        Settings(model_repository=root, decode_threads=1, **settings),
        load_engine=FakeEngine,
        on_first_load=lambda _: loaded.set(),
        spans=Spans(lambda: SimpleSpanProcessor(exporter)),
    )
    async with app.router.lifespan_context(app), client(app) as http:
        await loaded.wait()
        yield Served(app, http, None, None), exporter


def _by_name(exporter: InMemorySpanExporter) -> dict[str, ReadableSpan]:
    return {span.name: span for span in exporter.get_finished_spans()}


async def test_each_stage_is_a_span_below_the_one_that_goes_on_with_the_callers_trace(tmp_path: Path) -> None:
    async with _traced(tmp_path, api_keys=line_of("web", hashed(b"k"))) as (served, exporter):
        headers = {"traceparent": f"00-{TRACE}-{SPAN}-01", "tracestate": "a=1", "x-request-id": "abc", "x-api-key": "k"}
        answer = await served.http.post("/predict?top_k=1", content=png(1), headers=headers)
    assert answer.status_code == 200
    spans = _by_name(exporter)
    assert [span.name for span in exporter.get_finished_spans()] == [*STAGES, "POST /predict"]
    request = spans["POST /predict"]
    assert (request.kind, request.parent.span_id) == (SpanKind.SERVER, int(SPAN, 16))
    assert request.context.trace_state.to_header() == "a=1"
    assert answer.headers.get_list("traceparent") == [f"00-{TRACE}-{request.context.span_id:016x}-01"]
    assert {span.context.trace_id for span in spans.values()} == {int(TRACE, 16)}
    assert {spans[stage].parent.span_id for stage in STAGES} == {request.context.span_id}
    assert dict(request.attributes) == {
        "http.request.method": "POST",
        "http.route": "/predict",
        "http.response.status_code": 200,
        "url.path": "/predict",
        "url.scheme": "http",
        "demitasse.key": "web",
        "demitasse.request_id": "abc",
    }
    assert request.resource.attributes["service.name"] == "demitasse"


async def test_stages_lie_one_after_the_other_within_their_request(tmp_path: Path) -> None:
    async with _traced(tmp_path) as (served, exporter):
        timing = (await served.http.post("/predict", content=png(1))).json()["timing_ms"]
    spans = _by_name(exporter)
    times = [(spans[stage].start_time, spans[stage].end_time) for stage in STAGES]
    request = spans["POST /predict"]
    slack_ns = 1_000_000  # the stages are timed by another clock
    assert request.start_time - slack_ns <= times[0][0]
    assert all(before[1] <= after[0] + slack_ns for before, after in itertools.pairwise(times))
    assert times[-1][1] <= request.end_time + slack_ns
    for stage, told_ms in timing.items():
        assert (spans[stage].end_time - spans[stage].start_time) / 1e6 == pytest.approx(told_ms, abs=0.002)


async def test_every_file_of_a_batch_has_its_stages_below_the_one_request(tmp_path: Path) -> None:
    async with _traced(tmp_path) as (served, exporter):
        files = [("files", png(1)), ("files", png(2)), ("files", b"none")]
        assert (await served.http.post("/predict/batch", files=files)).status_code == 200
    names = [span.name for span in exporter.get_finished_spans()]
    assert sorted(names) == sorted([*STAGES * 2, "POST /predict/batch"])  # a stage that failed is not timed
    request = _by_name(exporter)["POST /predict/batch"]
    parents = {span.parent.span_id for span in exporter.get_finished_spans() if span is not request}
    assert parents == {request.context.span_id}


@pytest.mark.parametrize(
    "traceparent", [None, "00-nonsense", f"00-{'0' * 32}-{SPAN}-01", f"00-{TRACE.upper()}-{SPAN}-01"]
)
async def test_request_without_a_valid_trace_begins_one_that_its_log_lines_have(
    traceparent: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str | None] = []
    monkeypatch.setattr("app.observability.RequestLog.add", lambda *_: seen.append(trace_id_var.get()))
    async with _traced(tmp_path) as (served, exporter):
        headers = {} if traceparent is None else {"traceparent": traceparent}
        for _ in range(2):
            await served.http.post("/predict", content=png(1), headers=headers)
    requests = [span for span in exporter.get_finished_spans() if span.name == "POST /predict"]
    assert [span.parent for span in requests] == [None, None]
    assert seen == [f"{span.context.trace_id:032x}" for span in requests]
    assert len(set(seen)) == 2
    assert trace_id_var.get() is None


async def test_caller_that_does_not_sample_is_followed(tmp_path: Path) -> None:
    async with _traced(tmp_path) as (served, exporter):
        await served.http.post("/predict", content=png(1), headers={"traceparent": f"00-{TRACE}-{SPAN}-00"})
    assert exporter.get_finished_spans() == ()


async def test_names_are_few_whatever_is_asked_and_failures_of_ours_are_errors(tmp_path: Path) -> None:
    async def broken(*_: object) -> None:
        raise ZeroDivisionError

    async with _traced(tmp_path) as (served, exporter):
        await served.http.get("/nope/1")
        await served.http.request("BREW", "/nope/2")
        await served.http.get("/models/cups")
        served.app.state.pipeline.classify = broken
        await served.http.post("/predict", content=png(1))
        for quiet in ("/health/live", "/health/ready", "/metrics"):
            await served.http.get(quiet)
    found = [
        (span.name, span.attributes["http.response.status_code"], span.status.status_code)
        for span in exporter.get_finished_spans()
    ]
    assert found == [
        ("GET", 404, StatusCode.UNSET),
        ("_OTHER", 404, StatusCode.UNSET),
        ("GET /models/{name}", 200, StatusCode.UNSET),
        ("POST /predict", 500, StatusCode.ERROR),
    ]


async def test_collector_that_hangs_does_not_hold_up_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.spans._STOP_S", 0.01)
    hanging = threading.Event()
    spans = Spans(lambda: SimpleSpanProcessor(InMemorySpanExporter()))
    monkeypatch.setattr(spans._provider, "shutdown", hanging.wait)
    await spans.stop()
    hanging.set()


def test_name_of_the_service_is_that_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "cups")
    assert Spans()._provider.resource.attributes["service.name"] == "cups"
    monkeypatch.delenv("OTEL_SERVICE_NAME")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "service.name=mugs,service.version=1")
    assert Spans()._provider.resource.attributes["service.name"] == "mugs"


def test_nothing_of_it_is_imported_unless_asked_for() -> None:
    code = "import sys, app.__main__; from app.main import create_app; print(sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "'app.main'" in done.stdout
    assert not any(f"'opentelemetry.{part}" in done.stdout for part in ("sdk", "exporter"))
    assert "'limits" not in done.stdout


def test_service_without_the_extra_says_so_and_serves(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setitem(sys.modules, "app.spans", None)
    create_app(Settings(), load_engine=FakeEngine)
    (message,) = caplog.messages
    assert message.startswith("OTEL_* asks for traces, which need the extra `otel`: ")
