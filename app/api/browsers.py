"""What browsers are told of each answer: which pages may read it, and what they must not do with it."""

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api import web
from app.observability import REQUEST_ID_HEADER

Headers = list[tuple[bytes, bytes]]

_CDN = "https://cdn.jsdelivr.net"  # from where FastAPI's page at /docs takes its script
_DOCS_POLICY = (
    "default-src 'none'; connect-src 'self'; "
    f"script-src 'unsafe-inline' {_CDN}; style-src 'unsafe-inline' {_CDN}; "
    "img-src data: https://fastapi.tiangolo.com; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
# Its files are all that it takes, and this service all that it calls. A key may be typed there: no script of others
_PAGE_POLICY = "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
_API: Headers = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cache-control", b"no-store"),
]


def _with_policy(policy: str) -> Headers:
    return [*_API[:2], (b"content-security-policy", policy.encode()), _API[3]]


_PAGES = {"/docs": _with_policy(_DOCS_POLICY), **dict.fromkeys(web.FILES, _with_policy(_PAGE_POLICY))}


def secured(headers: Headers, path: str) -> Headers:
    """The headers of an answer, and those for browsers that it does not have already."""
    known = {name for name, _ in headers}
    return [*headers, *(header for header in _PAGES.get(path, _API) if header[0] not in known)]


class SecurityHeaders:
    """ASGI middleware that secures each answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = scope["path"]

        async def send_secured(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = secured(list(message.get("headers", ())), path)
            await send(message)

        await self._app(scope, receive, send_secured)


def open_to(origins: str, app: ASGIApp) -> CORSMiddleware:
    """`app`, whose answers pages of these origins may read (CORS_ORIGINS). What a browser asks first needs no key."""
    return CORSMiddleware(
        app,
        allow_origins=origins.split(","),
        allow_methods=("GET", "HEAD", "POST"),
        allow_headers=("*",),
        expose_headers=(REQUEST_ID_HEADER.decode(), "retry-after", "inference-header-content-length"),
    )
