"""Metrics named by stage, and logs that carry the request id."""

import asyncio
import json
import logging
import os
import random
import re
import sys
import time
from collections.abc import Iterable
from contextvars import ContextVar
from functools import cache
from typing import Any
from urllib.parse import quote

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest
from prometheus_client.core import InfoMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.errors import ClientDisconnected, TooManyRequests, Unauthorized
from app.registry import Registry
from app.tracing import trace_id_of, trace_id_var

logger = logging.getLogger(__name__)

request_id_var: ContextVar[str | None] = ContextVar("request_id", default=None)

REQUEST_ID_HEADER = b"x-request-id"
KEY_STATE = "key"  # in a request's state: the name of its API key, never the key
_REQUEST_ID = re.compile(rb"[A-Za-z0-9_.:/+=-]{1,128}")
METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))  # callers may invent others
QUIET = "operations"  # tag of the routes that are asked every few seconds by those who run the service
_SECONDS = (0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.0, 2.5, 5.0, 10.0)
_BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


disable_created_metrics()  # a second series for each counter, which Prometheus does not need


METRICS_FOLDER = "PROMETHEUS_MULTIPROC_DIR"  # where it is set, prometheus_client keeps all values in files there
_SHARED_EVERY_S = 1.0
_WARN_EVERY_S = 1.0
_TALLIED = {Unauthorized.status: "no valid API key", TooManyRequests.status: "too many requests"}


class Metrics:
    """One set of metrics, in a registry of its own so that several applications fit into one process.

    Where several processes serve, each value is the sum over them, whichever is asked.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._models: Registry | None = None
        self._gauged: set[tuple[str, str]] = set()
        self.requests = Counter(
            "demitasse_requests", "HTTP requests answered", ("route", "method", "status"), registry=self.registry
        )
        self.key_requests = Counter(
            "demitasse_key_requests", "HTTP requests answered, by API key", ("key", "status"), registry=self.registry
        )
        self.request_seconds = Histogram(
            "demitasse_request_seconds", "From arrival to answer", ("route",), buckets=_SECONDS, registry=self.registry
        )
        self.in_progress = Gauge(
            "demitasse_requests_in_progress",
            "HTTP requests that are being read or answered",
            registry=self.registry,
            multiprocess_mode="livesum",
        )
        self.stage_seconds = Histogram(
            "demitasse_stage_seconds",
            "Time of one image in a stage: decode, queue, inference, rank, search",
            ("stage",),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._stage = cache(self.stage_seconds.labels)  # looking one up takes as long as observing
        self.batch_size = Histogram(
            "demitasse_batch_size_images", "Images in a batch", ("model",), buckets=_BATCH_SIZES, registry=self.registry
        )
        self.batch_failures = Counter(
            "demitasse_batch_failures", "Batches that the engine failed on", ("model",), registry=self.registry
        )

    def observe_stage(self, stage: str, seconds: float, ended_s: float = 0.0) -> None:  # noqa: ARG002  for traces
        self._stage(stage).observe(seconds)

    def observe_batch(self, model: str, size: int, *, failed: bool) -> None:
        self.batch_size.labels(model).observe(size)
        if failed:
            self.batch_failures.labels(model).inc()

    def watch_models(self, models: Registry) -> None:
        self._models = models
        self.registry.register(_LiveVersions(models))
        self.under_way = self._model_gauge("demitasse_under_way_images", "Images admitted and not answered yet")
        self.queued = self._model_gauge("demitasse_queue_images", "Images that wait for the engine")
        self.refused = Gauge(
            "demitasse_refused_versions",
            "Versions in the repository that can't be served",
            registry=self.registry,
            multiprocess_mode="livemax",
        )

    def render(self) -> bytes:
        """The Prometheus text format."""
        self._read_gauges()
        if METRICS_FOLDER not in os.environ:
            return generate_latest(self.registry)
        registry = CollectorRegistry()
        MultiProcessCollector(registry)
        if self._models is not None:
            registry.register(_LiveVersions(self._models))
        return generate_latest(registry)

    async def share_gauges(self) -> None:
        """For ever: what this process holds of the models, told to the others that may be asked for it."""
        while METRICS_FOLDER in os.environ:
            self._read_gauges()
            await asyncio.sleep(_SHARED_EVERY_S)

    def _model_gauge(self, name: str, meaning: str) -> Gauge:
        return Gauge(name, meaning, ("model", "version"), registry=self.registry, multiprocess_mode="livesum")

    def _read_gauges(self) -> None:
        if self._models is None:
            return
        self.refused.set(len(self._models.refused))
        versions = {(live.folder.name, str(live.folder.version)): live.batcher for live in self._models.live}
        for key in self._gauged - versions.keys():
            for gauge in (self.under_way, self.queued):
                gauge.labels(*key).set(0)  # what other processes go on to read
                if METRICS_FOLDER not in os.environ:  # a label can't be removed from what they share
                    gauge.remove(*key)
        for key, batcher in versions.items():
            self.under_way.labels(*key).set(batcher.under_way)
            self.queued.labels(*key).set(batcher.queued)
        self._gauged = set(versions)


class _LiveVersions(Collector):
    """What is live, and what it runs on. prometheus_client shares no information of this kind between processes."""

    def __init__(self, models: Registry) -> None:
        self._models = models

    def collect(self) -> Iterable[Metric]:
        labels = ("model", "version", "engine", "device", "precision")
        info = InfoMetricFamily("demitasse_model", "Live versions", labels=labels)
        for live in self._models.live:
            engine = live.engine
            key = (live.folder.name, str(live.folder.version), engine.name, engine.device, engine.precision)
            info.add_metric(key, {})
        return [info]


class RequestLog:
    """Counts each request and writes one line about it."""

    def __init__(self, metrics: Metrics) -> None:
        self.metrics = metrics
        self._refused = dict.fromkeys(_TALLIED, 0)
        self._warn_again_at = dict.fromkeys(_TALLIED, 0.0)

    def add(self, scope: Scope, status: int, seconds: float) -> None:
        # The route's template, never the path itself: paths are the callers' and without end
        route = getattr(scope.get("route"), "path", "unmatched")
        method = scope["method"] if scope["method"] in METHODS else "other"
        self.metrics.requests.labels(route, method, str(status)).inc()
        self.metrics.request_seconds.labels(route).observe(seconds)
        key = scope["state"].get(KEY_STATE)
        if key is not None:
            self.metrics.key_requests.labels(key, str(status)).inc()
        quiet = QUIET in getattr(scope.get("route"), "tags", ()) or status in _TALLIED
        level = logging.DEBUG if quiet else logging.INFO
        if status in _TALLIED:
            self._warn_of_refusals(status)
        if logger.isEnabledFor(level):
            # As it came over the wire: decoded, it could hold line breaks that look like lines of ours
            path = quote(scope["path"])
            fields = {
                "method": scope["method"],
                "path": path,
                "status": status,
                "duration_ms": round(seconds * 1000, 2),
            }
            if key is not None:
                fields["key"] = key
            logger.log(level, "%s %s -> %d", scope["method"], path, status, extra={"fields": fields})

    def _warn_of_refusals(self, status: int) -> None:
        """One line a second for all of them: under overload, a line for each would add to the load."""
        self._refused[status] += 1
        now = time.monotonic()
        if now >= self._warn_again_at[status]:
            refused = self._refused[status]
            logger.warning("%s: %d requests refused since the last such line", _TALLIED[status], refused)
            self._refused[status] = 0
            self._warn_again_at[status] = now + _WARN_EVERY_S


class ObservabilityMiddleware:
    """Gives each request an id (or keeps the caller's), times it, and tells `log` of it and of its trace."""

    def __init__(self, app: ASGIApp, log: RequestLog) -> None:
        self._app = app
        self._log = log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = request_id_of(scope)
        scope.setdefault("state", {})["request_id"] = request_id
        token = request_id_var.set(request_id)
        trace_id = trace_id_of(scope)
        trace_token = None if trace_id is None else trace_id_var.set(trace_id)
        started = time.perf_counter()
        self._log.metrics.in_progress.inc()
        status = 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (REQUEST_ID_HEADER, request_id.encode())]
            try:
                await send(message)
            except RuntimeError as error:
                # What uvloop raises where the caller has left, and uvicorn has not noticed yet
                if "closed" not in str(error):
                    raise
                status = ClientDisconnected.status

        try:
            await self._app(scope, receive, send_with_id)
        finally:
            self._log.metrics.in_progress.dec()
            self._log.add(scope, status, time.perf_counter() - started)
            request_id_var.reset(token)
            if trace_token is not None:
                trace_id_var.reset(trace_token)


def request_id_of(scope: Scope) -> str:
    """The caller's, where it sent one that is fit for logs, or a new one."""
    for name, value in scope["headers"]:
        if name == REQUEST_ID_HEADER and _REQUEST_ID.fullmatch(value):
            return str(value, "ascii")
    return f"{random.getrandbits(128):032x}"  # to tell requests apart, not to be hard to guess


def configure_logging(level: str, log_format: str) -> None:
    """Log to standard output, as JSON unless a terminal reads it."""
    as_text = log_format == "text" or (log_format == "auto" and sys.stdout.isatty())
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(_TextFormatter() if as_text else _JsonFormatter())
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    # uvicorn's own lines say little that ours don't, and TensorFlow's (through absl) are of no use to who serves
    for name in ("uvicorn", "absl"):
        logging.getLogger(name).setLevel(max(root.level, logging.WARNING))
    # It warns of every malformed body; we tell that to its sender
    logging.getLogger("python_multipart").setLevel(logging.ERROR)


class _JsonFormatter(logging.Formatter):
    converter = staticmethod(time.gmtime)

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S") + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if request_id := request_id_var.get():
            line["request_id"] = request_id
        if trace_id := trace_id_var.get():
            line["trace_id"] = trace_id
        line.update(getattr(record, "fields", {}))
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


class _TextFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        fields = getattr(record, "fields", {})
        parts = [self.formatTime(record, "%H:%M:%S"), record.levelname.lower().ljust(7), record.getMessage()]
        if "duration_ms" in fields:
            parts.append(f"{fields['duration_ms']} ms")
        if request_id := request_id_var.get():
            parts.append(f"[{request_id}]")
        text = " ".join(parts)
        return f"{text}\n{self.formatException(record.exc_info)}" if record.exc_info else text
