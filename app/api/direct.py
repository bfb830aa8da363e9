"""The short way to `POST /predict`, around what FastAPI does before a route is called.

Matching, dependencies and four layers of context managers take longer than a small network. A request whose query is
plain needs none of them; any other one takes FastAPI's way, which leads to the same function, and says what is wrong
with a query.
"""

import re
from functools import lru_cache

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from app.api import predict
from app.api.error_handlers import respond
from app.errors import DemitasseError

PREDICT_PATH = "/predict"

_PLAIN = re.compile(
    rb"(?:model=(?P<model>[A-Za-z0-9_-]{1,64})"
    rb"|version=(?P<version>[1-9][0-9]{0,8})"
    rb"|top_k=(?P<top_k>[1-9][0-9]{0,8}))"
)
_ROUTE = next(route for route in predict.router.routes if getattr(route, "endpoint", None) is predict.predict)


class DirectPredict:
    """ASGI middleware around FastAPI's application; metrics, logs and the last resort are around both."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST" or scope["path"] != PREDICT_PATH:
            await self._app(scope, receive, send)
            return
        query = plain_query(scope["query_string"])
        if query is None:
            await self._app(scope, receive, send)
            return
        scope["route"] = _ROUTE
        request = Request(scope, receive)
        model, version, top_k = query
        try:
            response = await predict.predict(request, model, version, top_k)
        except DemitasseError as error:
            response = respond(error, request)
        await response(scope, receive, send)


@lru_cache(maxsize=64)  # callers have few, and each is asked for twice
def plain_query(query: bytes) -> tuple[str | None, int | None, int | None] | None:
    """Model, version and top_k; None where the query has anything else, a key twice, or needs decoding."""
    found: dict[str, bytes] = {}
    for pair in query.split(b"&") if query else ():
        match = _PLAIN.fullmatch(pair)
        if match is None or match.lastgroup is None or match.lastgroup in found:
            return None
        found[match.lastgroup] = match[match.lastgroup]
    model, version, top_k = found.get("model"), found.get("version"), found.get("top_k")
    return (
        None if model is None else model.decode(),
        None if version is None else int(version),
        None if top_k is None else int(top_k),
    )
