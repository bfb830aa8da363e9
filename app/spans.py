"""OpenTelemetry: a span for each request, which goes on with its caller's trace, and below it one for each stage.

Imported only where OTEL_* asks for it, and the extra `otel` is installed.
"""

import asyncio
import threading
import time
from collections.abc import Callable

from opentelemetry import context, trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.access import METRICS_ROUTE, OPEN_ROUTES
from app.inference.pipeline import StageObserver
from app.observability import KEY_STATE, METHODS
from app.tracing import TRACEPARENT, TRACESTATE, trace_id_of, trace_id_var

_PROPAGATOR = TraceContextTextMapPropagator()
_UNTRACED = {*OPEN_ROUTES, METRICS_ROUTE}  # asked every few seconds
_STOP_S = 2.0  # for what is yet to be sent: a collector that is gone must not hold up the end of the service


def _otlp() -> SpanProcessor:
    return BatchSpanProcessor(OTLPSpanExporter())


class Spans:
    """Spans go to the collector of OTEL_EXPORTER_OTLP_ENDPOINT, by HTTP, or to what `make_processor` makes."""

    def __init__(self, make_processor: Callable[[], SpanProcessor] = _otlp) -> None:
        self._make_processor = make_processor
        self._provider = TracerProvider(resource=_resource(), shutdown_on_exit=False)
        self._tracer = self._provider.get_tracer("demitasse")

    def start(self) -> None:
        """Begin to send; before that, and without it, spans go nowhere."""
        self._provider.add_span_processor(self._make_processor())

    async def stop(self) -> None:
        """Send what is left, as long as that does not take too long."""
        stopping = threading.Thread(target=self._provider.shutdown, daemon=True)
        stopping.start()
        await asyncio.to_thread(stopping.join, _STOP_S)

    def observing(self, observe: StageObserver) -> StageObserver:
        """Tells `observe` of each stage, and makes a span of it, below that of the request at hand."""

        def both(stage: str, seconds: float, ended_s: float = 0.0) -> None:
            observe(stage, seconds, ended_s)
            end_ns = time.time_ns() - int(ended_s * 1e9)
            self._tracer.start_span(stage, start_time=end_ns - int(seconds * 1e9)).end(end_ns)

        return both

    def around(self, app: ASGIApp) -> ASGIApp:
        """ASGI middleware, but for probes and metrics, which come every few seconds and say nothing."""

        async def traced(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http" or scope["path"] in _UNTRACED:
                await app(scope, receive, send)
                return
            status = 0
            parent = _parent(scope)
            span = self._tracer.start_span(_method(scope), parent, SpanKind.SERVER)

            async def watch(message: Message) -> None:
                nonlocal status
                if message["type"] == "http.response.start":
                    status = message["status"]
                    others = [header for header in message["headers"] if header[0] != TRACEPARENT]
                    message["headers"] = [*others, (TRACEPARENT, _traceparent(span))]
                await send(message)

            token = context.attach(trace.set_span_in_context(span, parent))
            trace_token = trace_id_var.set(trace.format_trace_id(span.get_span_context().trace_id))
            try:
                await app(scope, receive, watch)
            finally:
                _describe(span, scope, status)
                span.end()
                trace_id_var.reset(trace_token)
                context.detach(token)

        return traced


def _parent(scope: Scope) -> Context:
    """The caller's span, where it sent a valid one; else that of nobody, whatever is going on here."""
    if trace_id_of(scope) is None:
        return Context()
    names = (TRACEPARENT, TRACESTATE)
    carrier = {str(name, "ascii"): str(value, "latin-1") for name, value in scope["headers"] if name in names}
    return _PROPAGATOR.extract(carrier, Context())


def _traceparent(span: Span) -> bytes:
    carrier: dict[str, str] = {}
    _PROPAGATOR.inject(carrier, trace.set_span_in_context(span, Context()))
    return carrier[str(TRACEPARENT, "ascii")].encode()


def _method(scope: Scope) -> str:
    return scope["method"] if scope["method"] in METHODS else "_OTHER"


def _describe(span: Span, scope: Scope, status: int) -> None:
    """By OpenTelemetry's conventions for HTTP: names and values that are few, whatever callers send."""
    attributes = {"http.request.method": _method(scope), "url.path": scope["path"], "url.scheme": scope["scheme"]}
    if (route := getattr(scope.get("route"), "path", None)) is not None:
        span.update_name(f"{_method(scope)} {route}")
        attributes["http.route"] = route
    if (key := scope["state"].get(KEY_STATE)) is not None:
        attributes["demitasse.key"] = key
    span.set_attributes({**attributes, "demitasse.request_id": scope["state"]["request_id"]})
    span.set_attribute("http.response.status_code", status)
    if status >= 500 or status == 0:
        span.set_status(StatusCode.ERROR)


def _resource() -> Resource:
    """What OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES say of this service; its name, where they do not."""
    told = Resource.create()
    if str(told.attributes[SERVICE_NAME]).startswith("unknown_service"):
        return told.merge(Resource({SERVICE_NAME: "demitasse"}))
    return told
