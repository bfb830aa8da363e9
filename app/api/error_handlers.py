"""The one shape of errors: `{"error": {"code", "message", "request_id", "retry_after_s"?}}`.

Protocols of others have their own, on paths of their own: `app.state.error_forms` has them by the path's beginning.
"""

import asyncio
import logging
from collections.abc import Callable

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.schemas import ErrorBody, ErrorDetail
from app.errors import (
    DemitasseError,
    Draining,
    InternalError,
    InvalidParameter,
    MalformedBody,
    MethodNotAllowed,
    NotFound,
    TooManyRequests,
)

logger = logging.getLogger(__name__)

Render = Callable[[DemitasseError, Request], Response]


def install(app: FastAPI) -> None:
    forms: dict[str, Render] = {}
    app.state.error_forms = forms
    app.add_exception_handler(DemitasseError, _ours)
    app.add_exception_handler(RequestValidationError, _validation)
    app.add_exception_handler(HTTPException, _framework)


def detail(error: DemitasseError, request_id: str) -> ErrorDetail:
    """The body of an error, alone or as one entry of a batch. What is our fault is logged, not told."""
    if isinstance(error, InternalError):
        logger.error("%s: %s", error.code, error, exc_info=error)
    more = {"retry_after_s": error.retry_after_s} if isinstance(error, TooManyRequests) else {}
    message = error.message.encode(errors="replace").decode()  # JSON may name what has no place in UTF-8
    return ErrorDetail(code=error.code, message=message, request_id=request_id, **more)


def respond(error: DemitasseError, request: Request) -> Response:
    """The answer of an error in the form of its path, with the error's headers."""
    path = request.scope["path"]
    forms: dict[str, Render] = request.app.state.error_forms
    render = next((render for start, render in forms.items() if f"{path}/".startswith(f"{start}/")), _own)
    response = render(error, request)
    response.headers.update(error.headers)
    return response


def _own(error: DemitasseError, request: Request) -> Response:
    body = ErrorBody(error=detail(error, request.state.request_id))
    content = body.model_dump_json(exclude_unset=True)
    return Response(content, error.status, media_type="application/json")


async def _ours(request: Request, error: Exception) -> Response:
    if not isinstance(error, DemitasseError):
        raise error
    return respond(error, request)


async def _validation(request: Request, error: Exception) -> Response:
    if not isinstance(error, RequestValidationError):
        raise error
    return respond(invalid(error), request)


def invalid(error: RequestValidationError) -> InvalidParameter:
    """FastAPI's findings as one of our errors."""
    problems = []
    for problem in error.errors():
        name = ".".join(str(part) for part in problem["loc"][1:])
        problems.append(f"{name}: {problem['msg']}, got {problem.get('input')!r:.80}")
    return InvalidParameter("; ".join(problems))


async def _framework(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    response = respond(_named(error, request.method, request.url.path), request)
    response.headers.update(error.headers or {})
    return response


def _named(error: HTTPException, method: str, path: str) -> DemitasseError:
    if error.status_code == 404:
        return NotFound(f"no route {path}; /docs lists them")
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "")
        return MethodNotAllowed(f"{method} is not allowed on {path}; allowed: {allowed}")
    if error.status_code < 500:
        return MalformedBody(str(error.detail))
    return InternalError("the service failed on this request")


class LastResort:
    """Turns an exception that nothing else knew into a 500 of the one shape; its traceback goes to the log alone.

    A request that is cut off at the end of a drain, which the server does by cancelling it, is answered 503.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def watch(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, watch)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if scope["type"] != "http" or started or task is None or not scope["app"].state.draining:
                raise
            task.uncancel()
            await respond(Draining("the service stops, and could not finish this in time"), Request(scope))(
                scope, receive, send
            )
        except Exception:
            if scope["type"] != "http" or started:
                raise
            logger.exception("unexpected error")
            body = ErrorBody(
                error=ErrorDetail(
                    code=InternalError.code,
                    message="the service failed on this request; its log has the request id",
                    request_id=scope["state"]["request_id"],
                )
            )
            response = Response(body.model_dump_json(exclude_unset=True), 500, media_type="application/json")
            await response(scope, receive, send)
