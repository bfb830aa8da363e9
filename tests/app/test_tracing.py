"""The header `traceparent`: what counts as one, and where its trace turns up."""

import json
import logging
from pathlib import Path

import pytest

from app.observability import configure_logging
from app.tracing import spans_wanted, trace_id_of, trace_id_var
from tests.app.conftest import serving

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
VALID = f"00-{TRACE}-{SPAN}-01"


def _trace_id(*values: str) -> str | None:
    return trace_id_of({"headers": [(b"traceparent", value.encode("latin-1")) for value in values]})


@pytest.mark.parametrize("value", [VALID, f"00-{TRACE}-{SPAN}-00", f" {VALID}\t", f"cc-{TRACE}-{SPAN}-01-what-is-new"])
def test_valid_one_names_its_trace(value: str) -> None:
    assert _trace_id(value) == TRACE


@pytest.mark.parametrize(
    "value",
    [
        "",
        TRACE,
        VALID.upper(),
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01-more",
        f"cc-{TRACE}-{SPAN}-01.more",
        f"00-{TRACE}0-{SPAN}-01",
        f"00-{TRACE[:-1]}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-1",
        f"00-{TRACE[:-1]}g-{SPAN}-01",
        f"00_{TRACE}_{SPAN}_01",
        f"{VALID}\n",
        f"{VALID}é",
        f"{VALID},{VALID}",
    ],
)
def test_malformed_one_is_ignored(value: str) -> None:
    assert _trace_id(value) is None


def test_several_are_none() -> None:
    assert (_trace_id(VALID, VALID), _trace_id()) == (None, None)


async def test_trace_is_in_the_lines_of_its_request_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("info", "json")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    async with serving(tmp_path) as served:
        with_trace = await served.http.get("/models", headers={"traceparent": VALID, "tracestate": "a=1"})
        without = await served.http.get("/models")
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line.get("trace_id") for line in lines if line["logger"] == "app.observability"] == [TRACE, None]
    assert trace_id_var.get() is None
    assert with_trace.headers.keys() - without.headers.keys() == {"traceparent"}
    assert with_trace.headers["traceparent"] == VALID
    assert not {"traceparent", "tracestate", "traceresponse"} & without.headers.keys()


@pytest.mark.parametrize(
    ("variables", "wanted"),
    [
        ({}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, False),
        ({"OTEL_SERVICE_NAME": "cups"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://collector:4318/v1/traces"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318", "OTEL_SDK_DISABLED": "True"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318", "OTEL_SDK_DISABLED": " true"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318", "OTEL_TRACES_EXPORTER": "none"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318", "OTEL_TRACES_EXPORTER": "otlp"}, True),
    ],
)
def test_spans_are_made_where_otels_own_variables_ask_for_them(
    variables: dict[str, str], wanted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert spans_wanted() is wanted
