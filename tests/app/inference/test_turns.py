"""Whose turn it is, and that no place is lost on the way."""

import asyncio
import random
from contextlib import AsyncExitStack

import pytest

from app.inference.turns import Turns


class _Queue:
    """Callers of one place, which somebody holds until it is `free`."""

    def __init__(self) -> None:
        self.turns = Turns(1)
        self.order: list[str] = []
        self.free = AsyncExitStack()

    async def _use(self, name: str) -> None:
        async with self.turns.take(name[0]):
            self.order.append(name)
            await asyncio.sleep(0)

    async def ask(self, *names: str) -> dict[str, asyncio.Task[None]]:
        await self.free.enter_async_context(self.turns.take("held"))
        tasks = {name: asyncio.create_task(self._use(name)) for name in names}
        await asyncio.sleep(0)
        assert self.order == []
        return tasks


async def test_each_key_has_its_turn_and_within_a_key_the_first_goes_first() -> None:
    queue = _Queue()
    tasks = await queue.ask("a1", "a2", "a3", "b1")
    await queue.free.aclose()
    await asyncio.gather(*tasks.values())
    assert queue.order == ["a1", "b1", "a2", "a3"]
    assert queue.turns.free == 1


async def test_key_that_has_just_had_a_place_waits_for_one_that_has_not() -> None:
    queue = _Queue()
    async with queue.turns.take("a"):
        pass
    tasks = await queue.ask("a1", "a2", "b1", "c1")  # as where one model has asked ahead of the others
    await queue.free.aclose()
    await asyncio.gather(*tasks.values())
    assert queue.order == ["b1", "c1", "a1", "a2"]


async def test_caller_who_leaves_the_queue_gives_no_place_away() -> None:
    queue = _Queue()
    tasks = await queue.ask("a1", "a2", "b1")
    for leaving in ("a1", "b1"):
        tasks[leaving].cancel()
    await asyncio.wait((tasks["a1"], tasks["b1"]))
    await asyncio.sleep(0)
    assert queue.order == []  # the place is still held
    await queue.free.aclose()
    await tasks["a2"]
    assert queue.order == ["a2"]
    assert queue.turns.free == 1


@pytest.mark.parametrize(("names", "order"), [(("a1", "a2"), ["a2"]), (("a1",), [])])
async def test_caller_cancelled_as_its_place_comes_hands_it_on(names: tuple[str, ...], order: list[str]) -> None:
    queue = _Queue()
    tasks = await queue.ask(*names)
    await queue.free.aclose()
    tasks["a1"].cancel()  # the place is its own by now, and it has not been told
    await asyncio.wait(tasks.values())
    assert tasks["a1"].cancelled()
    assert queue.order == order
    assert queue.turns.free == 1


async def test_failure_gives_the_place_back() -> None:
    turns = Turns(1)
    with pytest.raises(ZeroDivisionError):
        async with turns.take("a"):
            raise ZeroDivisionError
    assert turns.free == 1


async def test_no_place_is_lost_or_taken_twice_whoever_leaves_when() -> None:
    turns = Turns(3)
    inside = most = finished = 0

    async def use(key: str, steps: int) -> None:
        nonlocal inside, most, finished
        async with turns.take(key):
            inside += 1
            most = max(most, inside)
            try:
                for _ in range(steps):
                    await asyncio.sleep(0)
            finally:
                inside -= 1
        finished += 1

    chance = random.Random(0)  # noqa: S311  no secret hangs on it
    tasks = [asyncio.create_task(use(chance.choice("abc"), chance.randrange(4))) for _ in range(300)]
    left = chance.sample(tasks, 150)
    for task in left:
        await asyncio.sleep(0)
        task.cancel()
    await asyncio.wait(tasks)
    assert finished == sum(not task.cancelled() for task in tasks) >= 150
    assert any(task.cancelled() for task in tasks)
    assert (inside, most, turns.free, turns._waiting) == (0, 3, 3, {})
