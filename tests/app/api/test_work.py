"""Several pictures of one request: all are answered, or the first error is told and no place stays taken."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi import Request

from app.api.work import GONE, Work, begun, unless_disconnected
from app.errors import ClientDisconnected, DeadlinePassed, DemitasseError, InvalidParameter, QueueFull
from app.inference.engines import EngineFactory
from tests.app.conftest import FakeEngine, HeldEngine, Served, png, publish, serving, until


def _pixels(shade: int, shape: tuple[int, ...] = (2, 2, 3)) -> Any:
    return np.full(shape, shade, np.uint8)


class _Caller:
    """Sends a body, then stays until it is told to leave."""

    def __init__(self, body: bytes = b"") -> None:
        self.leaving = asyncio.Event()
        self._body: list[bytes] = [body]

    async def receive(self) -> dict[str, Any]:
        if self._body:
            return {"type": "http.request", "body": self._body.pop(), "more_body": False}
        await self.leaving.wait()
        return {"type": "http.disconnect"}


@asynccontextmanager
async def _working(
    root: Path, engine: EngineFactory = FakeEngine, caller: _Caller | None = None, **settings: Any
) -> AsyncIterator[tuple[Served, Work]]:
    publish(root)
    async with serving(root, engine, **settings) as served:
        scope = {"type": "http", "method": "POST", "headers": [], "app": served.app}
        request = Request(scope, (caller or _Caller()).receive)
        async with begun(request) as work:
            await work.body()
            yield served, work
        assert (served.batcher.under_way, served.app.state.bodies.used_bytes) == (0, 0)


async def _read(server: str) -> tuple[Request, Callable[[], None]]:
    """A request whose body has been read, and what makes its caller leave: our server has a future for it."""
    caller, scope = _Caller(), {"type": "http"}
    await caller.receive()
    if server == "another":
        return Request(scope, caller.receive), caller.leaving.set
    gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    return Request(scope | {GONE: gone}, caller.receive), partial(gone.set_result, None)


async def test_files_and_pixels_are_answered_in_order(tmp_path: Path) -> None:
    shades = [0, 51, 102, 255, 204]
    async with _working(tmp_path) as (_, work):
        pictures = [_pixels(shade) if shade % 2 else png(shade) for shade in shades]
        found = await work.probabilities(pictures)
    assert [round(float(one[1]) * 255) for one in found] == shades


@pytest.mark.parametrize(
    ("pictures", "message"),
    [
        ([], "expected 1 to 3 pictures, got 0"),
        ([b""] * 4, "expected 1 to 3 pictures, got 4"),
        ([_pixels(1), _pixels(1, (2, 3, 3))], "expected pixels uint8 (2, 2, 3), got uint8 (2, 3, 3)"),
        ([_pixels(1).astype(np.float32)], "expected pixels uint8 (2, 2, 3), got float32 (2, 2, 3)"),
        ([png(1), b"%PDF"], "picture 1: "),
        ([png(1), png(1)[:40], png(2)], "picture 1: "),
    ],
)
async def test_one_bad_picture_fails_the_request_and_is_named(
    pictures: list[Any], message: str, tmp_path: Path
) -> None:
    async with _working(tmp_path, max_files=3) as (_, work):
        with pytest.raises(DemitasseError) as error:
            await work.probabilities(pictures)
    assert error.value.message.startswith(message)


async def test_request_with_more_pictures_than_free_places_is_refused_as_a_whole(tmp_path: Path) -> None:
    async with _working(tmp_path, queue_size=2) as (served, work):
        with served.batcher.admit(), pytest.raises(QueueFull):
            await work.probabilities([_pixels(1)] * 2)
        assert served.batcher.under_way == 0
        assert len(await work.probabilities([_pixels(1)] * 2)) == 2


async def test_request_that_can_never_have_its_places_is_not_told_to_come_again(tmp_path: Path) -> None:
    async with _working(tmp_path, queue_size=2) as (_, work):
        with pytest.raises(InvalidParameter, match="expected 1 to 2 pictures, got 3"):
            await work.probabilities([_pixels(1)] * 3)


async def test_caller_that_leaves_frees_all_its_places(tmp_path: Path) -> None:
    caller = _Caller()
    with pytest.raises(ClientDisconnected):
        async with _working(tmp_path, HeldEngine, caller) as (served, work):
            asking = asyncio.create_task(until(lambda: served.engine.sizes))
            asking.add_done_callback(lambda _: caller.leaving.set())
            try:
                await work.probabilities([_pixels(shade) for shade in range(4)])
            finally:
                assert served.batcher.under_way == 0
                served.engine.let()


async def test_deadline_holds_for_the_whole_block(tmp_path: Path) -> None:
    with pytest.raises(DeadlinePassed, match="no answer within 50 ms"):
        async with _working(tmp_path, HeldEngine, request_timeout_ms=50) as (served, work):
            try:
                await work.probabilities([_pixels(1)])
            finally:
                served.engine.let()


@pytest.mark.parametrize("server", ["ours", "another"])
async def test_caller_that_leaves_is_told_apart_from_a_request_that_is_cancelled(server: str) -> None:
    request, leave = await _read(server)
    task = asyncio.current_task()
    assert task is not None
    leave()
    with pytest.raises(ClientDisconnected):
        await unless_disconnected(request, asyncio.sleep(20))
    assert task.cancelling() == 0  # or the deadline around it would take the next one for its own

    request, _ = await _read(server)
    with pytest.raises(asyncio.CancelledError):
        task.cancel()
        await unless_disconnected(request, asyncio.sleep(20))
    assert task.uncancel() == 0


@pytest.mark.parametrize("server", ["ours", "another"])
async def test_caller_that_leaves_while_its_answer_comes_has_nothing_cancelled_later(server: str) -> None:
    request, leave = await _read(server)
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[int] = loop.create_future()

    async def work() -> int:
        return await answer

    def answer_then_leave() -> None:  # the answer is there in the turn of the loop in which the caller is found gone
        if server == "ours":
            answer.set_result(7)
        else:
            loop.call_soon(answer.set_result, 7)
        leave()

    loop.call_later(0.01, answer_then_leave)
    assert await unless_disconnected(request, work()) == 7
    for _ in range(5):
        await asyncio.sleep(0)
