"""Bodies that come compressed: `Content-Encoding: gzip` or `deflate` (RFC 9110, section 8.4)."""

import asyncio
import zlib
from collections.abc import AsyncIterator

from app.errors import MalformedBody, UnsupportedEncoding

IDENTITY = b"identity"

_INFLATED = ("gzip", "x-gzip", "deflate")
_EITHER_FORMAT = 32 + zlib.MAX_WBITS  # that of gzip or that of zlib, which HTTP calls deflate
_PIECE_BYTES = 2**18
_MOST_MEMBERS = 1000  # empty ones would take long
_GZIP = b"\x1f"  # with which each of its members begins; there may be several (RFC 1952, section 2.2)


async def decoded(chunks: AsyncIterator[bytes], encoding: str) -> AsyncIterator[bytes]:
    """What the pieces of a body were before they were compressed, in pieces of at most 256 KiB.

    A small body can hold a thousand times as much: whoever reads these pieces counts them, and stops at its limit.
    Raises `UnsupportedEncoding`, or `MalformedBody` where it is damaged, cut short or goes on after its end.
    """
    if encoding not in _INFLATED:
        raise UnsupportedEncoding(f"expected a body with Content-Encoding gzip, deflate or none, got {encoding:.40}")
    inflating, members = zlib.decompressobj(_EITHER_FORMAT), 1
    async for chunk in chunks:
        left, piece = chunk, b""
        while left or len(piece) == _PIECE_BYTES:  # a full piece may be followed by one of what was read already
            try:
                piece = inflating.decompress(left, _PIECE_BYTES)
            except zlib.error as error:
                raise MalformedBody(f"the body is not what its Content-Encoding, {encoding:.40}, says") from error
            left = inflating.unconsumed_tail
            if inflating.unused_data:
                members += 1
                if not inflating.unused_data.startswith(_GZIP) or members > _MOST_MEMBERS:
                    raise MalformedBody(f"the body goes on after the end of what {encoding:.40} holds")
                left, inflating = inflating.unused_data, zlib.decompressobj(_EITHER_FORMAT)
            yield piece
            await asyncio.sleep(0)  # it takes as long as a picture that is decoded: others get their turn
    if not inflating.eof:
        raise MalformedBody(f"the body ends before the end of what {encoding:.40} holds")
