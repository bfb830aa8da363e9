"""The load generator: it sends what it is told, counts what comes back, and checks each answer."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from benchmarks import load

RIGHT = load.Request(load.raw_body("/predict?model=cups", b"cup"), "espresso")
REFUSED = b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 1\r\nContent-Length: 2\r\n\r\n{}"


def _answer(label: str, more: bytes = b"") -> bytes:
    body = b'{"predictions":[{"label":"%b"},{"label":"cup"}]}' % label.encode()
    return b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n%b\r\n%b" % (len(body), more, body)


@asynccontextmanager
async def _server(answer: Callable[[bytes], bytes | None]) -> AsyncIterator[int]:
    """Answers each request by its bytes; None ends the connection instead."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                given = answer(head + await reader.readexactly(length))
                if given is None:
                    break
                for part in (given[:20], given[20:]):  # as slow networks cut it
                    writer.write(part)
                    await writer.drain()
                    await asyncio.sleep(0)
                if b"connection: close" in given:
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the caller has gone
        finally:
            writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1") as server:
        yield server.sockets[0].getsockname()[1]


async def test_closed_load_sends_the_next_request_when_the_last_is_answered() -> None:
    seen: set[bytes] = set()

    def answer(request: bytes) -> bytes:
        seen.add(request)
        return _answer("espresso")

    async with _server(answer) as port:
        found = await load.closed(port, [RIGHT], 3, 0.2)
    assert seen == {RIGHT.raw}
    assert found.statuses.keys() == {200}
    assert len(found.answers) > 10
    assert (found.wrong, found.broken, found.unsent) == (0, 0, 0)
    assert found.rate == pytest.approx(len(found.answers) / found.seconds)
    assert all(0 < answer.seconds < answer.at_s <= found.seconds for answer in found.answers)


async def test_answers_with_another_label_are_counted_as_wrong() -> None:
    async with _server(lambda _: _answer("cup")) as port:
        found = await load.closed(port, [RIGHT], 1, 0.1)
    assert found.wrong == len(found.answers) > 0


def test_load_with_a_wrong_answer_is_none() -> None:
    right = load.Load(1.0)
    assert right.checked() is right
    with pytest.raises(RuntimeError, match=r"^2 answers had another top class than their picture$"):
        load.Load(1.0, wrong=2).checked()


async def test_refusals_are_no_answers_and_their_retry_after_is_noted() -> None:
    async with _server(lambda _: REFUSED) as port:
        found = await load.closed(port, [RIGHT], 1, 0.1)
    assert (found.statuses.keys(), found.rate, found.wrong) == ({429}, 0.0, 0)
    assert all(answer.retry_after for answer in found.answers)


async def test_connection_that_ends_before_the_answer_is_broken_and_another_takes_its_place() -> None:
    async with _server(lambda _: None) as port:
        found = await load.closed(port, [RIGHT], 1, 0.1)
        alone = await load.closed(port, [RIGHT], 1, 0.1, reconnect=False)
    assert (found.answers, alone.answers) == ([], [])
    assert (found.broken > 1, alone.broken) == (True, 1)


async def test_connection_that_the_service_closes_after_an_answer_is_not_broken() -> None:
    async with _server(lambda _: _answer("espresso", b"connection: close\r\n")) as port:
        found = await load.closed(port, [RIGHT], 2, 0.2)
    assert (len(found.answers) > 4, found.wrong, found.broken) == (True, 0, 0)


async def test_open_load_arrives_at_its_rate_whether_or_not_answers_come() -> None:
    arrived = 0

    def answer(_: bytes) -> bytes:
        nonlocal arrived
        arrived += 1
        return REFUSED if arrived % 2 else _answer("espresso")

    async with _server(answer) as port:
        found = await load.open_(port, [RIGHT], 500.0, 1.0, connections=64)
    assert found.unsent + len(found.answers) == pytest.approx(500, rel=0.25)  # Poisson: 22 is one standard deviation
    assert abs(found.statuses[200] - found.statuses[429]) <= 1
    assert found.broken == 0


async def test_arrivals_without_a_free_connection_are_counted_and_not_put_off() -> None:
    leave = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await leave.wait()
        writer.write(_answer("espresso"))
        writer.close()

    async def let_later() -> None:
        await asyncio.sleep(2.0)
        leave.set()

    async with await asyncio.start_server(serve, "127.0.0.1") as server:
        letting = asyncio.create_task(let_later())
        found = await load.open_(server.sockets[0].getsockname()[1], [RIGHT], 500.0, 0.2, connections=5)
        await letting
    assert len(found.answers) == 5
    assert found.unsent == pytest.approx(95, rel=0.4)
    assert found.rate == 0.0  # none of them while the load lasted


def test_latencies_are_those_of_one_status() -> None:
    answers = [load.Answer(1.0, 0.001 * number, 200, False) for number in range(1, 102)]
    found = load.Load(2.0, [*answers, load.Answer(1.0, 9.0, 429, True)])
    assert [found.latency_ms(50), found.latency_ms(99), found.latency_ms(50, 429)] == pytest.approx([51, 100, 9000])
    assert found.latency_ms(50, 504) != found.latency_ms(50, 504)  # there is none: not a number
    assert found.summary()["statuses"] == {"200": 101, "429": 1}


def test_steady_rate_is_that_of_the_second_half() -> None:
    at = [0.5, 1.0, 1.5, 1.9, 2.0, 2.1]
    found = load.Load(2.0, [load.Answer(when, 0.1, 200, False) for when in at] + [load.Answer(1.7, 0.1, 429, True)])
    assert (found.rate, found.steady_rate) == (2.5, 3.0)


def test_form_is_one_that_the_service_reads() -> None:
    raw = load.multipart("/predict", "file", b"\x00\r\n--cup")
    head, _, content = raw.partition(b"\r\n\r\n")
    assert b"Content-Length: %d" % len(content) in head
    assert b'name="file"; filename="photo.jpg"' in content
    assert b"\r\n\r\n\x00\r\n--cup\r\n--" in content
