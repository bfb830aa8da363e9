"""HTTP load from one process: connections kept alive, requests prepared before, every answer checked.

Light enough for the machine that serves as well: a request costs one write, and an answer one search in its bytes.
`closed` keeps each connection busy, which finds the throughput. `open_` sends at a rate whether or not answers come,
which finds out what a queue does (a closed loop would wait for it, and so hide it).
"""

import asyncio
import random
import re
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_TOP_LABEL = re.compile(rb'"label": ?"([^"]*)"')
_LAST_ANSWERS_S = 30.0
_CLOSES = re.compile(rb"\r\nconnection: *close", re.IGNORECASE)


@dataclass(frozen=True)
class Request:
    """The bytes of one HTTP request, and the label that its answer has to begin with."""

    raw: bytes
    expected: str


@dataclass(frozen=True)
class Answer:
    """When an answer was complete, in seconds since the load began, what it took, and what it was."""

    at_s: float
    seconds: float
    status: int
    retry_after: bool


@dataclass
class Load:
    """What came of it. `wrong` are answers 200 with another top class than the picture's."""

    seconds: float
    answers: list[Answer] = field(default_factory=list)
    wrong: int = 0
    broken: int = 0  # connections that ended before the answer did
    unsent: int = 0  # arrivals for which no connection was free
    offered: int = 0  # arrivals of an open load, unsent ones too
    behind_s: float = 0.0  # how late the latest of them was

    @property
    def statuses(self) -> dict[int, int]:
        return dict(sorted(Counter(answer.status for answer in self.answers).items()))

    @property
    def rate(self) -> float:
        """Answers 200 a second, while the load lasted."""
        return sum(answer.status == 200 and answer.at_s <= self.seconds for answer in self.answers) / self.seconds

    @property
    def steady_rate(self) -> float:
        """The same of its second half: by then, queues are as full as they get."""
        half = self.seconds / 2
        return sum(answer.status == 200 and half < answer.at_s <= self.seconds for answer in self.answers) / half

    def latency_ms(self, percentile: float, status: int = 200) -> float:
        found = [answer.seconds for answer in self.answers if answer.status == status]
        return float(np.percentile(found, percentile)) * 1000 if found else float("nan")

    def checked(self) -> "Load":
        """The load itself. Raises `RuntimeError` where an answer was wrong: its speed would be worth nothing."""
        if self.wrong:
            raise RuntimeError(f"{self.wrong} answers had another top class than their picture")
        return self

    def summary(self) -> dict[str, Any]:
        return {
            "seconds": round(self.seconds, 2),
            "rate": round(self.rate, 1),
            "p50_ms": round(self.latency_ms(50), 2),
            "p99_ms": round(self.latency_ms(99), 2),
            "statuses": {str(status): count for status, count in self.statuses.items()},
            "wrong": self.wrong,
            "broken": self.broken,
            "unsent": self.unsent,
        }


def multipart(path: str, field_name: str, body: bytes, filename: str = "photo.jpg") -> bytes:
    """A form upload as curl and httpx send it."""
    boundary = b"----demitasse-7d93b1"
    head = b'--%b\r\nContent-Disposition: form-data; name="%b"; filename="%b"\r\nContent-Type: image/jpeg\r\n\r\n' % (
        boundary,
        field_name.encode(),
        filename.encode(),
    )
    content = head + body + b"\r\n--%b--\r\n" % boundary
    return _post(path, b"multipart/form-data; boundary=" + boundary, content)


def raw_body(path: str, body: bytes) -> bytes:
    """The picture itself as the request's body."""
    return _post(path, b"image/jpeg", body)


def _post(path: str, content_type: bytes, content: bytes) -> bytes:
    return b"POST %b HTTP/1.1\r\nHost: bench\r\nContent-Type: %b\r\nContent-Length: %d\r\n\r\n%b" % (
        path.encode(),
        content_type,
        len(content),
        content,
    )


class _Connection(asyncio.Protocol):
    """One request at a time; tells its owner when the answer is complete, or that it never will be."""

    def __init__(self, finished: "Callable[[_Connection, int, bytes], None]") -> None:
        self._finished = finished
        self._received = bytearray()
        self._end: int | None = None
        self._transport: asyncio.Transport | None = None
        self._ended = asyncio.Event()
        self.request: Request | None = None
        self.sent_at = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass of it

    def send(self, request: Request) -> None:
        self.request = request
        self.sent_at = time.perf_counter()
        if self._transport is not None:
            self._transport.write(request.raw)

    def data_received(self, data: bytes) -> None:
        self._received += data
        if self._end is None:
            head = self._received.find(b"\r\n\r\n")
            if head < 0:
                return
            length = _LENGTH.search(self._received, 0, head + 2)
            self._end = head + 4 + (int(length[1]) if length else 0)
        if len(self._received) >= self._end:
            answer = bytes(self._received)
            self._received.clear()
            self._end = None
            self._finished(self, int(answer[9:12]), answer)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  the signature is asyncio's
        self._transport = None
        self._ended.set()
        if self.request is not None:
            self._finished(self, 0, b"")

    @property
    def usable(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    async def close(self) -> None:
        self.request = None
        if self._transport is not None:
            self._transport.close()
        await self._ended.wait()


class _Generator:
    def __init__(self, port: int, requests: Sequence[Request], seed: int) -> None:
        self._port = port
        self._random = random.Random(seed)  # noqa: S311  which picture comes next is no secret
        self._requests = requests
        self.load = Load(0.0)
        self.began = time.perf_counter()
        self.counting = True
        self._connections: list[_Connection] = []

    def next_request(self) -> Request:
        return self._random.choice(self._requests)

    async def connect(self, finished: Callable[[_Connection, int, bytes], None]) -> _Connection:
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(lambda: _Connection(finished), "127.0.0.1", self._port)
        self._connections.append(connection)
        return connection

    async def finish(self) -> None:
        """Wait for what is under way, or a service would go on to compute it while the next load is measured."""
        give_up = time.perf_counter() + _LAST_ANSWERS_S
        while any(one.request is not None for one in self._connections) and time.perf_counter() < give_up:
            await asyncio.sleep(0.01)
        self.counting = False
        await asyncio.gather(*(connection.close() for connection in self._connections))

    def record(self, connection: _Connection, status: int, answer: bytes) -> None:
        request = connection.request
        connection.request = None
        if not self.counting or request is None:
            return
        if status == 0:
            self.load.broken += 1
            return
        now = time.perf_counter()
        if status == 200:
            label = _TOP_LABEL.search(answer)
            self.load.wrong += label is None or label[1].decode() != request.expected
        head = answer[: answer.find(b"\r\n\r\n")].lower()
        self.load.answers.append(
            Answer(now - self.began, now - connection.sent_at, status, status == 429 and b"\r\nretry-after:" in head)
        )


async def closed(
    port: int, requests: Sequence[Request], clients: int, seconds: float, *, reconnect: bool = True, seed: int = 0
) -> Load:
    """`clients` connections, each sending its next request when the last one is answered."""
    generator = _Generator(port, requests, seed)
    waiting: set[asyncio.Task[None]] = set()

    def finished(connection: _Connection, status: int, answer: bytes) -> None:
        generator.record(connection, status, answer)
        if not generator.counting:
            return
        if connection.usable and not _CLOSES.search(answer, 0, answer.find(b"\r\n\r\n")):
            connection.send(generator.next_request())
        elif reconnect:
            task = asyncio.ensure_future(begin())
            waiting.add(task)
            task.add_done_callback(waiting.discard)

    async def begin() -> None:
        try:
            connection = await generator.connect(finished)
        except OSError:
            generator.load.broken += 1
            await asyncio.sleep(0.05)
            return
        connection.send(generator.next_request())

    await asyncio.gather(*(begin() for _ in range(clients)))
    await asyncio.sleep(seconds)
    generator.counting = False
    generator.load.seconds = time.perf_counter() - generator.began
    await asyncio.gather(*waiting)
    await generator.finish()
    return generator.load


async def open_(
    port: int, requests: Sequence[Request], rate: float, seconds: float, *, connections: int, seed: int = 0
) -> Load:
    """Arrivals at `rate` a second (a Poisson process) over at most `connections`; then waits for what is under way."""
    generator = _Generator(port, requests, seed)
    idle: deque[_Connection] = deque()
    busy = 0

    def finished(connection: _Connection, status: int, answer: bytes) -> None:
        nonlocal busy
        busy -= 1
        generator.record(connection, status, answer)
        if connection.usable and not _CLOSES.search(answer, 0, answer.find(b"\r\n\r\n")):
            idle.append(connection)

    async def arrive() -> None:
        nonlocal busy
        while idle:
            connection = idle.popleft()
            if connection.usable:
                break
        else:
            try:
                connection = await generator.connect(finished)
            except OSError:
                busy -= 1
                generator.load.broken += 1
                return
        connection.send(generator.next_request())

    timing = random.Random(seed + 1)  # noqa: S311  nor is when
    tasks: set[asyncio.Task[None]] = set()
    at = 0.0
    while at < seconds:
        at += timing.expovariate(rate)
        ahead = generator.began + at - time.perf_counter()
        await asyncio.sleep(ahead if ahead > 0.001 else 0)
        generator.load.offered += 1
        generator.load.behind_s = max(generator.load.behind_s, -ahead)
        if busy >= connections:
            generator.load.unsent += 1
            continue
        busy += 1
        task = asyncio.ensure_future(arrive())
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    generator.load.seconds = time.perf_counter() - generator.began
    await asyncio.gather(*tasks)
    await generator.finish()
    return generator.load
