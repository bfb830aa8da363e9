"""Each request has an id, is counted and timed, and is one line of a log that carries the id."""

import json
import logging
import random
import re
import sys
import time
from contextvars import ContextVar
from typing import Any
from urllib.parse import quote

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.errors import ClientDisconnected, TooManyRequests, Unauthorized
from app.metrics import Metrics
from app.tracing import TRACEPARENT, trace_id_of, trace_id_var, traceparent_of

logger = logging.getLogger(__name__)

request_id_var: ContextVar[str | None] = ContextVar("request_id", default=None)

REQUEST_ID_HEADER = b"x-request-id"
KEY_STATE = "key"  # in a request's state: the name of its API key, never the key
_REQUEST_ID = re.compile(rb"[A-Za-z0-9_.:/+=-]{1,128}")
METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))  # callers may invent others
QUIET = "operations"  # tag of the routes that are asked every few seconds by those who run the service
_WARN_EVERY_S = 1.0
_TALLIED = {Unauthorized.status: "no valid API key", TooManyRequests.status: "too many requests"}


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
        self.metrics.observe_request(route, method, status, seconds)
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
        trace_token = trace_id_var.set(trace_id_of(scope) or trace_id_var.get())
        own_headers = identifying_headers(scope, request_id)
        started = time.perf_counter()
        self._log.metrics.in_progress.inc()
        status = 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), *own_headers]
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
            trace_id_var.reset(trace_token)


def identifying_headers(scope: Scope, request_id: str) -> list[tuple[bytes, bytes]]:
    """Of every answer: by which id it stands in the log, and to which trace it belongs, where its caller said one."""
    traceparent = traceparent_of(scope)
    return [(REQUEST_ID_HEADER, request_id.encode()), *([] if traceparent is None else [(TRACEPARENT, traceparent)])]


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
    for name in ("app", "models"):
        logging.getLogger(name).setLevel(level.upper())
    # Others' lines say little that ours don't: uvicorn's, TensorFlow's, and Azure's, which has two for each request
    root.setLevel(max(logging.getLogger("app").level, logging.WARNING))
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
