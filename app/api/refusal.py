"""A request without a valid key, or without a place in the queue, is refused once its headers have been read.

Under overload most requests are refused, and what that costs is taken from those that are answered. Here it costs no
task, no layer of ASGI and no body. The key is checked first, so that a caller without one learns nothing else.
"""

import time

from fastapi import FastAPI, Request, Response
from starlette.types import Scope

from app.api import explain, predict
from app.api.access import Access
from app.api.browsers import secured
from app.api.direct import plain_query
from app.api.error_handlers import respond
from app.errors import DemitasseError, QueueFull
from app.observability import RequestLog, identifying_headers, request_id_of, request_id_var
from app.registry import Registry
from app.tracing import trace_id_of, trace_id_var

GATE = "gate"  # under which name the lifespan shares it with the server's protocol

_ROUTES = {getattr(route, "path", ""): route for route in (*predict.router.routes, *explain.router.routes)}


class Refusals:
    """Asks the registry of `app`. With `cross_origin`, pages of other origins are left to `app`, for their headers."""

    def __init__(self, app: FastAPI, access: Access, log: RequestLog, *, cross_origin: bool = False) -> None:
        self._app = app
        self._access = access
        self._log = log
        self._cross_origin = cross_origin

    def __call__(self, scope: Scope) -> Response | None:
        """The whole answer to a request that is refused; None for one that the application is to answer."""
        if self._cross_origin and any(name == b"origin" for name, _ in scope["headers"]):
            return None
        started = time.perf_counter()
        try:
            self._access.check(scope)
            self._check_room(scope)
        except DemitasseError as error:
            return self._answer(error, scope, started)
        return None

    def _check_room(self, scope: Scope) -> None:
        """Raises `QueueFull`. Whatever else is wrong with the request is left to the application to answer."""
        route = _ROUTES.get(scope["path"])
        if route is None or scope["method"] != "POST" or self._app.state.draining:
            return
        query = plain_query(scope["query_string"])
        if query is None:
            return
        registry: Registry = self._app.state.registry
        model, version, _ = query
        if version is None and registry.canary_share:
            return  # who answers is drawn by the application; two draws, of which either may refuse, change the shares
        try:
            live = registry.get(model, version)
            (live.explainer if route in explain.router.routes else live.batcher).check_room()
        except QueueFull:
            scope["route"] = route
            raise
        except DemitasseError:
            return

    def _answer(self, error: DemitasseError, scope: Scope, started: float) -> Response:
        scope["app"] = self._app  # as in the application: its errors have forms by path
        scope["state"]["request_id"] = request_id = request_id_of(scope)
        response = respond(error, Request(scope))
        headers = [*response.raw_headers, *identifying_headers(scope, request_id)]
        response.raw_headers = secured(headers, scope["path"])
        token, trace_token = request_id_var.set(request_id), trace_id_var.set(trace_id_of(scope))
        self._log.add(scope, response.status_code, time.perf_counter() - started)
        request_id_var.reset(token)
        trace_id_var.reset(trace_token)
        return response
