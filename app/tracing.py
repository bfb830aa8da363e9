"""Which trace a request belongs to, by its header `traceparent` (W3C), and whether spans of it are wanted."""

import os
import re
from contextvars import ContextVar

from starlette.types import Scope

trace_id_var: ContextVar[str | None] = ContextVar("trace_id", default=None)

TRACEPARENT, TRACESTATE = b"traceparent", b"tracestate"
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_NO_VERSION = b"ff"
_FORMAT = re.compile(
    rb"(?P<version>[0-9a-f]{2})-(?P<trace>[0-9a-f]{32})-(?P<span>[0-9a-f]{16})-[0-9a-f]{2}(?P<more>-.*)?"
)


def traceparent_of(scope: Scope) -> bytes | None:
    """The header's value; None where the request has no valid one, or several.

    Versions to come may add fields at the end, https://www.w3.org/TR/trace-context/#versioning-of-traceparent.
    """
    values = [value for name, value in scope["headers"] if name == TRACEPARENT]
    if len(values) != 1 or (match := _FORMAT.fullmatch(values[0].strip(b" \t"))) is None:
        return None
    version, trace, span, more = match.group("version", "trace", "span", "more")
    if version == _NO_VERSION or (version == b"00" and more is not None):
        return None
    if trace.strip(b"0") == b"" or span.strip(b"0") == b"":
        return None
    return bytes(match.group())


def trace_id_of(scope: Scope) -> str | None:
    """32 hexadecimal digits, of a valid `traceparent`."""
    value = traceparent_of(scope)
    return None if value is None else str(value.split(b"-")[1], "ascii")


def spans_wanted() -> bool:
    """OpenTelemetry's own variables name a collector, and do not switch it off."""
    off = os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    other = os.environ.get("OTEL_TRACES_EXPORTER") not in (None, "", "otlp")
    return any(os.environ.get(name) for name in _ENDPOINTS) and not off and not other
