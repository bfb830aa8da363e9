"""The gate in uvicorn's protocol, over a real socket: who is turned away, and what becomes of the connection."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import uvicorn
from starlette.requests import Request
from starlette.responses import Response
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from app import protocol
from app.api.refusal import GATE
from app.api.work import GONE
from app.protocol import GatedProtocol

Read = Callable[..., Awaitable[tuple[int, dict[bytes, bytes], bytes]]]

_ROOM = b"GET /room HTTP/1.1\r\nhost: x\r\n\r\n"
_NO_ROOM = b"POST /full HTTP/1.1\r\nhost: x\r\ncontent-length: 6\r\n\r\n"


class _Site:
    """Answers what the gate lets pass, once it may; the gate turns `/full` away."""

    def __init__(self) -> None:
        self.passed: list[str] = []
        self.answer = b"come in"
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.passed.append(scope["path"])
        if scope["path"] == "/early":  # without its body
            await Response(b"no room", 429)(scope, receive, send)
            return
        await self.may_answer.wait()
        body = await Request(scope, receive).body() if scope["path"] == "/echo" else self.answer
        await Response(body)(scope, receive, send)

    def gate(self, scope: Any) -> Response | None:
        return Response(b"no room", 429, {"retry-after": "1"}) if scope["path"] == "/full" else None


@asynccontextmanager
async def _connected(site: _Site, keep_alive_s: float = 5) -> AsyncIterator[tuple[asyncio.StreamWriter, Read]]:
    config = uvicorn.Config(site, http=GatedProtocol, ws="none", log_config=None, timeout_keep_alive=keep_alive_s)
    server = uvicorn.Server(config)
    config.load()
    shared = {GATE: site.gate}
    loop = asyncio.get_running_loop()
    listening = await loop.create_server(
        lambda: GatedProtocol(config=config, server_state=server.server_state, app_state=shared), "127.0.0.1"
    )
    async with listening:
        reader, writer = await asyncio.open_connection(*listening.sockets[0].getsockname())

        async def read(*, body: bool = True) -> tuple[int, dict[bytes, bytes], bytes]:
            head = await reader.readuntil(b"\r\n\r\n")
            status, *lines = head.rstrip().split(b"\r\n")
            headers = dict(line.split(b": ", 1) for line in lines)
            length = int(headers[b"content-length"]) if body else 0
            return int(status.split()[1]), headers, await reader.readexactly(length)

        try:
            yield writer, read
        finally:
            writer.close()
            async with asyncio.timeout(10):
                while server.server_state.connections:
                    await asyncio.sleep(0.001)


async def test_refused_request_never_reaches_the_application_and_its_body_is_skipped() -> None:
    site = _Site()
    async with _connected(site) as (writer, read):
        writer.write(_NO_ROOM)
        status, headers, body = await read()  # before any of the body is sent
        assert (status, headers[b"retry-after"], body) == (429, b"1", b"no room")
        assert b"connection" not in headers
        writer.write(b"abc")
        writer.write(b"def" + _ROOM)
        assert (await read())[::2] == (200, b"come in")
    assert site.passed == ["/room"]


async def test_requests_in_a_row_are_answered_in_their_order() -> None:
    site = _Site()
    site.may_answer.clear()
    full = _NO_ROOM + b"abcdef"
    async with _connected(site) as (writer, read):
        writer.write(_ROOM + full * 500)
        while not site.passed:
            await asyncio.sleep(0.001)
        site.may_answer.set()
        statuses = [(await read())[0] for _ in range(501)]
    # Those that waited behind the first one go through the application, which has its own way to refuse them
    assert (statuses[0], set(statuses[1:])) == (200, {200, 429})


async def test_connection_is_closed_where_the_caller_wants_it() -> None:
    async with _connected(_Site()) as (writer, read):
        writer.write(b"POST /full HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
        status, headers, _ = await read()
        assert (status, headers[b"connection"]) == (429, b"close")
        with pytest.raises(asyncio.IncompleteReadError):
            await read()


async def test_refusal_of_a_head_request_tells_the_length_of_a_body_and_sends_none() -> None:
    async with _connected(_Site()) as (writer, read):
        writer.write(b"HEAD /full HTTP/1.1\r\nhost: x\r\n\r\n")
        status, headers, _ = await read(body=False)
        assert (status, headers[b"content-length"]) == (429, b"7")
        writer.write(_ROOM)
        assert (await read())[::2] == (200, b"come in")


async def test_caller_that_asks_before_it_sends_is_answered_by_the_application() -> None:
    site = _Site()
    async with _connected(site) as (writer, read):
        writer.write(_NO_ROOM.replace(b"\r\n\r\n", b"\r\nexpect: 100-continue\r\n\r\n"))
        assert (await read())[0] == 200
    assert site.passed == ["/full"]


@pytest.mark.parametrize(
    ("begun", "piece"),
    [
        (b"GET /room HTTP/1.1\r\n", b"name: value\r\n"),
        (b"GET /room HTTP/1.1\r\nname: ", b"value"),
        (b"GET /room?", b"query"),
    ],
)
async def test_head_without_end_is_refused_and_the_connection_closed(begun: bytes, piece: bytes) -> None:
    site = _Site()
    async with _connected(site) as (writer, _):
        writer.write(begun)
        await writer.drain()
        with pytest.raises(ConnectionError):
            for _ in range(2**13):  # many times the limit, and what the sockets hold
                writer.write(piece * 2**9)
                await writer.drain()
                await asyncio.sleep(0)
            pytest.fail("all of it was taken")
    assert site.passed == []


async def test_head_that_takes_too_long_is_refused(monkeypatch) -> None:
    monkeypatch.setattr(GatedProtocol, "head_timeout_s", 0.05)
    site = _Site()
    async with _connected(site) as (writer, read):
        writer.write(_ROOM)
        assert (await read())[::2] == (200, b"come in")
        writer.write(_ROOM[:10])
        status, headers, body = await read()
        assert (status, headers[b"connection"]) == (400, b"close")
        assert body == b"The head of the request did not end within 0.05 s."
    assert site.passed == ["/room"]


async def test_head_in_two_pieces_stops_the_clock(monkeypatch) -> None:
    monkeypatch.setattr(GatedProtocol, "head_timeout_s", 0.3)
    site = _Site()
    site.may_answer.clear()
    async with _connected(site) as (writer, read):
        writer.write(_ROOM[:10])
        await asyncio.sleep(0.01)
        writer.write(_ROOM[10:])
        await asyncio.sleep(0.4)
        site.may_answer.set()
        assert (await read())[::2] == (200, b"come in")


async def test_large_head_and_body_in_pieces_are_no_endless_head() -> None:
    site = _Site()
    head = b"GET /room HTTP/1.1\r\nname: " + b"v" * 2**15 + b"\r\ncontent-length: 200000\r\n\r\n"
    request = head + b"b" * 200_000
    async with _connected(site) as (writer, read):
        for _ in range(2):
            for start in range(0, len(request), 1000):
                writer.write(request[start : start + 1000])
                await asyncio.sleep(0)
            assert (await read())[::2] == (200, b"come in")
    assert site.passed == ["/room"] * 2


@pytest.mark.parametrize(
    ("sent", "answers", "then"),
    [
        (_NO_ROOM, 1, b"abcdef"),
        (_NO_ROOM, 1, b"abc"),  # and never the rest
        (_ROOM, 1, b"\r\n"),
        (b"", 0, b""),
        (b"", 0, b"\r\n"),
    ],
)
async def test_idle_connection_is_closed_whatever_came_before(sent: bytes, answers: int, then: bytes) -> None:
    async with _connected(_Site(), keep_alive_s=0.1) as (writer, read):
        writer.write(sent)
        for _ in range(answers):
            await read()
        writer.write(then)
        with pytest.raises(asyncio.IncompleteReadError):  # or this would wait for ever
            await read()


@pytest.mark.parametrize("to", [b"h2c", b"websocket"])
async def test_offer_of_another_protocol_is_passed_over_and_its_body_read(to: bytes) -> None:
    """Java's HttpClient makes one with its first request; a body of its own must never be a request of another's."""
    offer = b"POST /echo HTTP/1.1\r\nconnection: Upgrade\r\nupgrade: %s\r\ncontent-length: %d\r\n\r\n"
    offer %= (to, len(_ROOM))
    site = _Site()
    async with _connected(site) as (writer, read):
        writer.write((offer + _ROOM) * 500 + offer)
        bodies = [(await read())[2] for _ in range(500)]
        writer.write(_ROOM + _ROOM)
        assert [*bodies, (await read())[2], (await read())[2]] == [_ROOM] * 501 + [b"come in"]
    assert site.passed == ["/echo"] * 501 + ["/room"]


async def test_caller_that_does_not_read_its_answer_is_left(monkeypatch) -> None:
    monkeypatch.setattr(GatedProtocol, "read_timeout_s", 0.1)
    site = _Site()
    site.answer = bytes(2**24)  # more than the sockets hold
    async with _connected(site) as (writer, read):
        writer.transport.pause_reading()
        writer.write(_ROOM)
        await asyncio.sleep(0.3)
        writer.transport.resume_reading()
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await read()


def test_caller_that_reads_slowly_is_waited_for() -> None:
    timers: list[Callable[[], None]] = []
    unread, left = [100], []

    def call_later(_: float, then: Callable[..., None], *arguments: Any) -> Any:
        timers.append(partial(then, *arguments))
        return SimpleNamespace(cancel=lambda: None)

    config = uvicorn.Config(_Site(), http=GatedProtocol, ws="none", log_config=None)
    config.load()
    loop: Any = SimpleNamespace(call_later=call_later, create_future=lambda: None)
    made = GatedProtocol(config, uvicorn.Server(config).server_state, {}, loop)
    transport: Any = SimpleNamespace(
        get_extra_info=lambda _: None, get_write_buffer_size=lambda: unread[0], abort=lambda: left.append(True)
    )
    made.connection_made(transport)
    made.pause_writing()
    for unread[0] in (90, 80):
        timers[-1]()
        assert not left
    timers[-1]()
    assert left


async def test_request_is_told_that_its_caller_has_left_and_no_earlier() -> None:
    scopes: list[Any] = []

    class Keeping(_Site):
        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            scopes.append(scope)
            await super().__call__(scope, receive, send)

    async with _connected(Keeping()) as (writer, read):
        for _ in range(2):
            writer.write(_ROOM)
            assert (await read())[0] == 200
            assert not scopes[-1][GONE].done()
        writer.close()
        await asyncio.wait_for(asyncio.shield(scopes[-1][GONE]), 10)
    assert len(scopes) == 2


async def test_caller_that_leaves_after_a_large_body_is_noticed_while_it_waits_for_its_answer() -> None:
    told: asyncio.Queue[Any] = asyncio.Queue()
    size = 200_000  # uvicorn reads nothing more once it holds 64 KiB

    class Waiting(_Site):
        async def __call__(self, scope: Any, receive: Any, _send: Any) -> None:
            told.put_nowait("begun")
            told.put_nowait(len(await Request(scope, receive).body()))
            await scope[GONE]
            told.put_nowait("gone")

    async with _connected(Waiting()) as (writer, _):
        writer.write(b"POST /body HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % size)
        assert await asyncio.wait_for(told.get(), 10) == "begun"
        await asyncio.sleep(0.05)  # it waits for the body by now
        writer.write(b"x" * size)
        assert await asyncio.wait_for(told.get(), 10) == size
        writer.transport.abort()
        assert await asyncio.wait_for(told.get(), 10) == "gone"


async def test_tunnel_to_elsewhere_is_refused() -> None:
    site = _Site()
    async with _connected(site) as (writer, read):
        writer.write(b"CONNECT example.com:80 HTTP/1.1\r\nhost: x\r\n\r\n" + _ROOM)
        assert (await read())[0] == 400
    assert site.passed == []


async def test_head_and_body_of_an_answer_are_sent_at_once() -> None:
    sent: list[bytes] = []

    class Recording(GatedProtocol):
        def connection_made(self, transport: Any) -> None:
            write = transport.write
            transport.write = lambda data: (sent.append(bytes(data)), write(data))
            super().connection_made(transport)

    site = _Site()
    config = uvicorn.Config(site, http=Recording, ws="none", log_config=None)
    config.load()
    state = uvicorn.Server(config).server_state
    made = Recording(config=config, server_state=state, app_state={})

    class Transport(asyncio.Transport):
        closed = False

        def write(self, data: bytes | bytearray | memoryview) -> None:
            """Recorded above."""

        def is_closing(self) -> bool:
            return self.closed

        def close(self) -> None:
            self.closed = True

    made.connection_made(Transport())
    made.data_received(_ROOM)
    while not sent:
        await asyncio.sleep(0)
    (answer,) = sent
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert answer.endswith(b"\r\n\r\ncome in")
    made.connection_lost(None)


@pytest.mark.parametrize("path", [b"/full", b"/early"])
async def test_answer_reaches_a_caller_that_still_sends_on_a_connection_that_is_to_be_closed(path: bytes) -> None:
    """Closed at once, with a body unread, the kernel would take the answer back: the caller gets a reset."""
    head = b"POST %b HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 1000000\r\n\r\n" % path
    async with _connected(_Site()) as (writer, read):
        writer.write(head + bytes(100_000))
        for _ in range(9):
            await asyncio.sleep(0.02)
            writer.write(bytes(100_000))
            await writer.drain()
        status, headers, body = await read()
        assert (status, headers[b"connection"], body) == (429, b"close", b"no room")
        with pytest.raises(asyncio.IncompleteReadError):
            await read()


async def test_body_behind_an_answer_that_closes_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one of a second request in the same packet, which the first one's end cuts off."""
    kept: list[int] = []
    on_body = HttpToolsProtocol.on_body

    def noting(self: HttpToolsProtocol, body: bytes) -> None:
        kept.append(len(body))
        on_body(self, body)

    monkeypatch.setattr(HttpToolsProtocol, "on_body", noting)
    site = _Site()
    async with _connected(site) as (writer, read):
        writer.write(b"GET /room HTTP/1.0\r\nconnection: keep-alive\r\n\r\n")
        writer.write(b"POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999\r\n\r\n")
        assert (await read())[0] == 200
        for _ in range(50):
            writer.write(bytes(100_000))
            await writer.drain()
    assert sum(kept) < 300_000
    assert site.passed == ["/room"]


@pytest.mark.parametrize(("idle_s", "most_s", "pause_s"), [(0.1, 30.0, 0.5), (0.2, 0.3, 0.0)])
async def test_rest_of_a_body_is_not_waited_for_without_end(
    monkeypatch: pytest.MonkeyPatch, idle_s: float, most_s: float, pause_s: float
) -> None:
    """Nothing comes for a while, or a little now and then for ever."""
    monkeypatch.setattr(protocol, "_LINGER_IDLE_S", idle_s)
    monkeypatch.setattr(protocol, "_LINGER_S", most_s)
    async with _connected(_Site()) as (writer, read):
        writer.write(b"POST /full HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 1000000\r\n\r\n")
        assert (await read())[0] == 429
        await asyncio.sleep(pause_s)
        sent = 0
        with pytest.raises(ConnectionError):
            while True:
                writer.write(b"x")
                await writer.drain()
                await asyncio.sleep(0.01)
                sent += 1
        assert (sent < 5) is (pause_s > 0)
