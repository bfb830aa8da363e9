"""Who may call: where API keys are on, every route needs one, except for the open routes below and the page.

Each request is checked once, before its body is read: by the gate of `refusal.py`, or by the middleware where it did
not pass the gate.
"""

import math
import time
from collections.abc import Iterable
from typing import Any

from fastapi import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from app.api.error_handlers import respond
from app.api.schemas import error_responses
from app.api.web import is_page
from app.errors import DemitasseError, NotFound, RateLimited, Unauthorized
from app.keys import KeyRing
from app.observability import KEY_STATE

# By their whole path: all others need a key
OPEN_ROUTES = frozenset(("/health/live", "/health/ready", "/ping", "/v2/health/live", "/v2/health/ready"))
METRICS_ROUTE = "/metrics"
KEY_HEADER = b"x-api-key"

_BEARER = 'Bearer realm="demitasse"'
_EXPECTED = "expected an API key, as 'X-API-Key: KEY' or 'Authorization: Bearer KEY'"
_WINDOW_S = 60


class Access:
    """Without a `ring`, anybody may call. With a `metrics_port`, metrics are there, without a key, and nowhere else.

    `health_route` is one more open route: where a platform asks for health.
    """

    def __init__(
        self,
        ring: KeyRing | None,
        rate_per_minute: int = 0,
        metrics_port: int | None = None,
        health_route: str | None = None,
    ) -> None:
        self._ring = ring
        self._health_route = health_route
        self._metrics_port = metrics_port
        self._rate = _Rate(rate_per_minute) if ring is not None and rate_per_minute else None

    def check(self, scope: Scope) -> None:
        """Note in the request's state whose key it came with. A request that has been checked is not checked again.

        Raises `Unauthorized`, `RateLimited`, or `NotFound` for what its port does not have.
        """
        path, state = scope["path"], scope["state"]
        if self._metrics_port is not None and self._is_for_metrics(scope):
            return
        if self._ring is None or path in OPEN_ROUTES or KEY_STATE in state:
            return
        if is_page(path, scope["method"]):  # the page asks people for the key, and sends it with its own requests
            return
        if path == self._health_route and scope["method"] == "GET":  # a POST there, as of a prediction, needs a key
            return
        name = self._ring.name_of(_key_of(scope["headers"]))
        if name is None:
            raise Unauthorized("the API key that came is not known", f'{_BEARER}, error="invalid_token"')
        state[KEY_STATE] = name
        if self._rate is not None:
            self._rate.take(name)

    def _is_for_metrics(self, scope: Scope) -> bool:
        """Whether it came to the second port, for what is there. Raises `NotFound` for anything else."""
        path, server = scope["path"], scope.get("server")
        here = server is not None and server[1] == self._metrics_port
        if here != (path == METRICS_ROUTE) and not (here and path in OPEN_ROUTES):
            raise NotFound(f"no route {path} on this port; metrics have one of their own")
        return here


class AccessMiddleware:
    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            try:
                self._access.check(scope)
            except DemitasseError as error:
                await respond(error, Request(scope))(scope, receive, send)
                return
        await self._app(scope, receive, send)


class _Rate:
    """Requests of each key in the last minute, as this process has seen them."""

    def __init__(self, per_minute: int) -> None:
        # Importing them takes 90 ms, for what few services need
        from limits import RateLimitItemPerMinute
        from limits.storage import MemoryStorage
        from limits.strategies import MovingWindowRateLimiter

        self._limiter = MovingWindowRateLimiter(MemoryStorage())
        self._item = RateLimitItemPerMinute(per_minute)

    def take(self, name: str) -> None:
        """Raises `RateLimited` where the key has had its requests."""
        if self._limiter.hit(self._item, name):
            return
        free_at = self._limiter.get_window_stats(self._item, name).reset_time
        retry_after_s = min(max(1, math.ceil(free_at - time.time())), _WINDOW_S)
        raise RateLimited(f"the key '{name}' may make {self._item.amount} requests a minute", retry_after_s)


def _key_of(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """The one key of a request. X-API-Key goes first: Authorization may be for a proxy. Raises `Unauthorized`."""
    keys: list[bytes] = []
    tokens: list[bytes] = []
    for name, value in headers:
        if name == KEY_HEADER:
            keys.append(value.strip(b" \t"))
        elif name == b"authorization":
            scheme, _, token = value.strip(b" \t").partition(b" ")
            if scheme.lower() == b"bearer":
                tokens.append(token.strip(b" \t"))
    found = keys or tokens
    if len(found) > 1:
        raise Unauthorized(f"{_EXPECTED}; {len(found)} came", _BEARER)
    if not found or not found[0]:
        raise Unauthorized(f"{_EXPECTED}; none came", _BEARER)
    return found[0]


def declare(document: dict[str, Any], *, required: bool) -> None:
    """Put into the OpenAPI document how keys are sent, and to which routes; and what is answered without them.

    Where they are not `required` they are optional: one generated client fits services with and without keys. Routes of
    others' protocols have said how any error looks.
    """
    schemes = document.setdefault("components", {}).setdefault("securitySchemes", {})
    schemes["ApiKey"] = {"type": "apiKey", "in": "header", "name": "X-API-Key"}
    schemes["Bearer"] = {"type": "http", "scheme": "bearer"}
    document["security"] = [{"ApiKey": []}, {"Bearer": []}, *([] if required else [{}])]
    for path, operations in document["paths"].items():
        for operation in operations.values():
            if path in OPEN_ROUTES:
                operation["security"] = []
            elif required and "default" not in operation["responses"]:
                for status in (401, 429):
                    operation["responses"].setdefault(str(status), error_responses(status)[status])
