"""The end of listening, over real sockets: callers who have connected are answered, and no more come in."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvicorn
from starlette.responses import Response

from app import listeners


@asynccontextmanager
async def _listening() -> AsyncIterator[uvicorn.Server]:
    async def site(scope: Any, receive: Any, send: Any) -> None:
        await Response(b"come in")(scope, receive, send)

    running = uvicorn.Server(uvicorn.Config(site, port=0, lifespan="off", ws="none", log_config=None))
    running.config.load()
    running.lifespan = running.config.lifespan_class(running.config)
    await running.startup()
    yield running
    await running.shutdown()


async def _answer(caller: socket.socket) -> bytes:
    caller.setblocking(False)
    reader, writer = await asyncio.open_connection(sock=caller)
    writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
    head = await reader.readuntil(b"\r\n\r\n")
    body = await reader.readexactly(7)
    writer.close()
    return head.split(b"\r\n")[0] + b" " + body


async def test_who_waits_to_be_let_in_is_answered_and_who_comes_later_is_refused() -> None:
    async with _listening() as server:
        address = server.servers[0].sockets[0].getsockname()
        # The event loop has no turn meanwhile: the kernel has let them in, and nobody else
        callers = [socket.create_connection(address) for _ in range(3)]
        closing = asyncio.create_task(listeners.close(server))
        answers = await asyncio.gather(*map(_answer, callers))
        await closing
        assert answers == [b"HTTP/1.1 200 OK come in"] * 3
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address)


async def test_caller_who_has_left_by_then_holds_up_nobody() -> None:
    async with _listening() as server:
        address = server.servers[0].sockets[0].getsockname()
        gone, stays = (socket.create_connection(address) for _ in range(2))
        gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # resets the connection
        gone.close()
        closing = asyncio.create_task(listeners.close(server))
        assert await _answer(stays) == b"HTTP/1.1 200 OK come in"
        await closing
