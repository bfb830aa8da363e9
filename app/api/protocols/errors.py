"""Routes whose errors are in a protocol's own form, whatever they are."""

import logging
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute

from app.api.error_handlers import Render, invalid
from app.errors import DemitasseError, InternalError

logger = logging.getLogger(__name__)


def speaking(render: Render) -> type[APIRoute]:
    """The class of such routes, for `APIRouter(route_class=...)`. `render` makes the answer of an error.

    What is our fault is logged here, and the error's headers are set here, as the service's own routes do.
    """

    class Route(APIRoute):
        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            handle = super().get_route_handler()

            async def handler(request: Request) -> Response:
                try:
                    return await handle(request)
                except DemitasseError as error:
                    return _answer(error, request, render)
                except RequestValidationError as error:
                    return _answer(invalid(error), request, render)
                except Exception as error:
                    failure = InternalError("the service failed on this request; its log has the request id")
                    failure.__cause__ = error
                    return _answer(failure, request, render)

            return handler

    return Route


def _answer(error: DemitasseError, request: Request, render: Render) -> Response:
    if isinstance(error, InternalError):
        logger.error("%s: %s", error.code, error, exc_info=error)
    response = render(error, request)
    response.headers.update(error.headers)
    return response
