"""`GET /`: the page of `app/web/`, for people. Each file is a route of its own; no path is looked up on disk."""

import hashlib
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

from fastapi import Request, Response
from starlette.routing import Route

_FOLDER = Path(__file__).parent.parent / "web"
_INDEX = "index.html"
_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".webp": "image/webp",
}
_METHODS = ("GET", "HEAD")

# Where each file is served; others in the folder are not
FILES = {
    "/" if path.name == _INDEX else f"/web/{path.relative_to(_FOLDER).as_posix()}": path
    for path in sorted(_FOLDER.rglob("*"))
    if path.suffix in _TYPES
}


@dataclass(frozen=True)
class _Asset:
    content: bytes
    media_type: str
    etag: str


def is_page(path: str, method: str) -> bool:
    """Whether that is a request for the page or one of its files, which hold nothing that is worth a key."""
    return path in FILES and method in _METHODS


def routes() -> list[Route]:
    """No part of the OpenAPI document, which is for programs."""
    return [Route(path, partial(_serve, path), methods=_METHODS, include_in_schema=False) for path in FILES]


async def _serve(path: str, request: Request) -> Response:
    asset = _read(path)
    # Kept by browsers, and asked for again each time: a new release shows at once
    headers = {"etag": asset.etag, "cache-control": "no-cache"}
    if _is_known(asset.etag, request.headers.get("if-none-match", "")):
        return Response(status_code=304, headers=headers)
    if request.method == "HEAD":
        headers["content-length"] = str(len(asset.content))
    content = b"" if request.method == "HEAD" else asset.content
    return Response(content, headers=headers, media_type=asset.media_type)


@cache
def _read(path: str) -> _Asset:
    file = FILES[path]
    content = file.read_bytes()
    return _Asset(content, _TYPES[file.suffix], f'"{hashlib.sha256(content).hexdigest()[:32]}"')


def _is_known(etag: str, condition: str) -> bool:
    """If-None-Match compares weakly (RFC 9110, 13.1.2): a proxy that compresses marks our tag as weak."""
    return any(known.strip().removeprefix("W/") in (etag, "*") for known in condition.split(","))
