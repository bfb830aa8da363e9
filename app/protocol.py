"""uvicorn's HTTP/1.1 with a gate: a request that is turned away there never becomes a task."""

import asyncio
from collections.abc import Callable
from typing import Any

import httptools
from starlette.responses import Response
from starlette.types import Scope
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from app.api.refusal import GATE
from app.api.work import GONE

Gate = Callable[[Scope], Response | None]

_MOST_HEAD_BYTES = 2**16  # and what is received at a time besides: httptools and uvicorn have no limit
_HEAD_TIMEOUT_S = 30.0  # from its first byte
_READ_TIMEOUT_S = 30.0  # without taking any of an answer
_LINGER_S, _LINGER_IDLE_S = 30.0, 2.0  # for the rest of a body whose answer has been sent; without any of it


class GatedProtocol(HttpToolsProtocol):
    """What comes of a refused request's body is thrown away, and the connection stays open for the next one."""

    head_timeout_s = _HEAD_TIMEOUT_S
    read_timeout_s = _READ_TIMEOUT_S
    _unfinished_head: list[tuple[bytes, bytes]] | None = None  # its headers so far
    _head_bytes = 0
    _head_timer: asyncio.TimerHandle | None = None
    _read_timer: asyncio.TimerHandle | None = None
    _body_to_come = False  # of the request that was begun last

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.parser = _Parser(self)
        self._gone: asyncio.Future[None] = self.loop.create_future()

    def data_received(self, data: bytes) -> None:
        """A head that does not end is refused: it would fill the memory, and joining its pieces hold up everybody."""
        head = self._unfinished_head
        if self._gathering.lingering:
            self._gathering.linger_on()
        super().data_received(data)
        if self._unfinished_head is None:
            # The rest of a refused body, or an empty line, has stopped the clock of an idle connection
            idle = self.cycle is None or (self.cycle.response_complete and not self.pipeline)
            if idle and self.timeout_keep_alive_task is None:
                self._expect_something()
            return
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(
                self.head_timeout_s, self._refuse_head, f"did not end within {self.head_timeout_s:g} s"
            )
        if self._unfinished_head is head:
            self._head_bytes += len(data)
            if self._head_bytes > _MOST_HEAD_BYTES:
                self._refuse_head(f"has more than {_MOST_HEAD_BYTES} bytes")

    def _refuse_head(self, why: str) -> None:
        self._end_of_head()
        if not self.transport.is_closing():
            self.send_400_response(f"The head of the request {why}.")

    def _end_of_head(self) -> None:
        self._unfinished_head = None
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _expect_something(self) -> None:
        """Close the connection unless something comes."""
        self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope[GONE] = self._gone  # type: ignore[literal-required]  # servers may add keys of their own
        self._unfinished_head, self._head_bytes = self.headers, 0

    def on_headers_complete(self) -> None:
        self._end_of_head()
        self._body_to_come = True
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """What comes while the connection lingers is for nobody, whichever request it belongs to."""
        if not self._gathering.lingering:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """Read on, unless the next request waits already: else the end of the connection would not be seen."""
        super().on_message_complete()
        self._body_to_come = False
        if self._gathering.lingering:
            self._gathering.end()
        elif not self.pipeline:
            self.flow.resume_reading()

    def _should_upgrade(self) -> bool:
        """Of requests for another protocol: uvicorn leaves them alone then, and the parser reads them again."""
        return True

    def head_without_upgrade(self) -> bytes:
        """The head that has just been read, for this protocol alone. Raises `HttpParserError` for a tunnel's."""
        if self.scope["method"] == "CONNECT":
            raise httptools.HttpParserError("there is no way from here to anywhere else")
        lines = [b"%s %s HTTP/%s" % (self.scope["method"].encode(), self.url, self.scope["http_version"].encode())]
        lines += (b"%s: %s" % header for header in self.headers if header[0] != b"upgrade")
        return b"\r\n".join((*lines, b"\r\n"))

    def pause_writing(self) -> None:
        """Who does not read its answer is left: it would keep a task, and hold up the end of the service."""
        super().pause_writing()
        self._wait_for_reader()

    def _wait_for_reader(self) -> None:
        unread = self.transport.get_write_buffer_size()
        self._read_timer = self.loop.call_later(self.read_timeout_s, self._leave_unless_read, unread)

    def _leave_unless_read(self, unread: int) -> None:
        if self.transport.get_write_buffer_size() < unread:
            self._wait_for_reader()
        else:
            self.transport.abort()

    def resume_writing(self) -> None:
        self._stop_waiting_for_reader()
        super().resume_writing()

    def _stop_waiting_for_reader(self) -> None:
        if self._read_timer is not None:
            self._read_timer.cancel()
            self._read_timer = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # uvicorn's own type
        self._gathering = _Gathering(transport, self.loop, lambda: self._body_to_come)
        super().connection_made(self._gathering)  # type: ignore[arg-type]  # hands on all the rest
        self._expect_something()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_of_head()
        self._stop_waiting_for_reader()
        self._unset_keepalive_if_required()
        self._gathering.end()
        super().connection_lost(exc)
        if not self._gone.done():
            self._gone.set_result(None)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        if self._gathering.is_closing():  # by the answer before it, in the same packet
            return
        refusal = self._refusal(cycle)
        if refusal is None:
            super()._start_asgi_task(cycle, app)
            return
        cycle.response_started = cycle.response_complete = True
        content = [STATUS_LINE[refusal.status_code]]
        for name, value in (*cycle.default_headers, *refusal.raw_headers):
            content += (name, b": ", value, b"\r\n")
        if not cycle.keep_alive:
            content.append(b"connection: close\r\n")
        body = b"" if cycle.scope["method"] == "HEAD" else bytes(refusal.body)  # whose length is told all the same
        self.transport.write(b"".join((*content, b"\r\n", body)))
        if not cycle.keep_alive:
            self.transport.close()
        cycle.on_response()

    def _refusal(self, cycle: RequestResponseCycle) -> Response | None:
        gate: Gate | None = self.app_state.get(GATE)
        if gate is None:
            return None
        # The application waits for who does not read its answers, and for who asks before sending a body
        if self.pipeline or self.flow.write_paused or cycle.waiting_for_100_continue:
            return None
        return gate(cycle.scope)  # type: ignore[arg-type]  # two names for a scope


class _Parser(httptools.HttpRequestParser):
    """Lets offers of another protocol, such as HTTP/2, pass, as RFC 9110, section 7.8, allows.

    httptools stops behind the head of such a request: its body would be lost, or taken for the request after it.
    """

    def __init__(self, protocol: GatedProtocol) -> None:
        super().__init__(protocol)
        self.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn has it
        self._protocol = protocol

    def feed_data(self, data: Any) -> None:
        while True:
            try:
                super().feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                data = memoryview(data)[upgrade.args[0] :]
                super().feed_data(self._protocol.head_without_upgrade())
            else:
                return


class _Gathering:
    """A transport that sends what is written in one turn of the loop at once: head and body of an answer.

    Two writes would be two packets and two system calls, each of which wakes the other side.

    It lingers where it is to be closed while a body is `to_come`: only its own side is closed, and the body is thrown
    away until it ends. Closed with something unread, the kernel would reset the connection, and the answer would be
    lost to a caller that still sends (RFC 9112, section 9.6).
    """

    def __init__(
        self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop, to_come: Callable[[], bool]
    ) -> None:
        self._transport, self._loop, self._to_come = transport, loop, to_come
        self._gathered: list[bytes] = []
        self._timer: asyncio.TimerHandle | None = None  # while it lingers
        self._linger_until = 0.0

    @property
    def lingering(self) -> bool:
        return self._timer is not None

    def write(self, data: bytes) -> None:
        if self.lingering:
            return
        if not self._gathered:
            self._loop.call_soon(self._flush)
        self._gathered.append(data)

    def close(self) -> None:
        if self.lingering:
            return
        self._flush()
        if self._transport.is_closing() or not (self._to_come() and self._transport.can_write_eof()):
            self.end()
            return
        self._transport.write_eof()
        self._transport.resume_reading()
        self._linger_until = self._loop.time() + _LINGER_S
        self._timer = self._loop.call_later(_LINGER_IDLE_S, self._transport.close)

    def linger_on(self) -> None:
        """Some of the body has come."""
        if self._timer is not None and self._loop.time() < self._linger_until:
            self._timer.cancel()
            self._timer = self._loop.call_later(_LINGER_IDLE_S, self._transport.close)

    def end(self) -> None:
        """Close it whatever is to come."""
        if self._timer is not None:
            self._timer.cancel()
        self._transport.close()

    def is_closing(self) -> bool:
        return self.lingering or self._transport.is_closing()

    def _flush(self) -> None:
        data = b"".join(self._gathered)
        self._gathered.clear()
        if data and not self._transport.is_closing():
            self._transport.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)
