"""What has no place is refused once its headers have been read.

Under overload most requests are refused, and what that costs is taken from those that are answered. Here it costs no
task, no layer of ASGI and no body.
"""

import time

from fastapi import FastAPI, Request, Response
from starlette.types import Scope

from app.api import predict
from app.api.direct import plain_query
from app.api.error_handlers import respond
from app.errors import DemitasseError, QueueFull
from app.observability import REQUEST_ID_HEADER, RequestLog, request_id_of
from app.registry import Registry

GATE = "gate"  # under which name the lifespan shares it with the server's protocol

_ROUTES = {getattr(route, "path", ""): route for route in predict.router.routes}


class Refusals:
    """Made for `app`, whose registry it asks."""

    def __init__(self, app: FastAPI, log: RequestLog) -> None:
        self._app = app
        self._log = log

    def __call__(self, scope: Scope) -> Response | None:
        """The whole answer to a request that has no place; None for any that is to be looked at more closely."""
        route = _ROUTES.get(scope["path"])
        if route is None or scope["method"] != "POST" or self._app.state.draining:
            return None
        query = plain_query(scope["query_string"])
        if query is None:
            return None
        started = time.perf_counter()
        registry: Registry = self._app.state.registry
        try:
            registry.get(*query[:2]).batcher.check_room()
        except QueueFull as error:
            scope["route"] = route
            scope["state"]["request_id"] = request_id = request_id_of(scope)
            response = respond(error, Request(scope))
            response.raw_headers.append((REQUEST_ID_HEADER, request_id.encode()))
            self._log.add(scope, response.status_code, time.perf_counter() - started)
            return response
        except DemitasseError:  # an answer of another kind, which the application gives
            return None
        return None
