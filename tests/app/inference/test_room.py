"""Places: as many as given, and no more than are answered in time."""

import asyncio
import contextlib
from collections import deque

import pytest

from app.errors import ClientDisconnected, DeadlinePassed, InferenceFailed
from app.inference.room import Room


class _Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def _end(room: Room, place: contextlib.AbstractContextManager[None], error: BaseException | None = None) -> None:
    place.__exit__(None if error is None else type(error), error, None)


async def test_places_are_taken_and_given_back_whatever_ends_the_block() -> None:
    room = Room(2)
    for error in (None, InferenceFailed("no"), ClientDisconnected("gone"), asyncio.CancelledError()):
        first, second = room.admit(), room.admit()
        first.__enter__()
        assert (room.under_way, room.full, room.none.is_set()) == (1, False, False)
        second.__enter__()
        assert (room.under_way, room.full) == (2, True)
        _end(room, first, error)
        assert (room.under_way, room.full, room.none.is_set()) == (1, False, False)
        _end(room, second)
        assert (room.under_way, room.limit, room.none.is_set()) == (0, 2, True)


@pytest.mark.parametrize("error", [DeadlinePassed("late"), asyncio.CancelledError()])
async def test_once_one_is_late_there_are_places_for_what_was_answered_in_that_time(error: BaseException) -> None:
    clock = _Clock()
    room = Room(100, 10.0, clock)
    places = [room.admit() for _ in range(100)]
    for place in places:
        place.__enter__()
    for place in places[:50]:
        clock.now += 0.2
        _end(room, place)
    assert room.limit == 100

    _end(room, places[50], error)

    assert (room.limit, room.under_way, room.full) == (40, 49, True)
    for place in places[51:61]:
        _end(room, place, error)
    assert (room.under_way, room.full) == (39, False)
    # and all places again once none has been taken for a while
    for place in places[61:]:
        _end(room, place, error)
    for waited_s, limit in ((0.9, 40), (1.1, 100)):
        clock.now += waited_s
        with room.admit():
            assert (room.limit, room.under_way) == (limit, 1)
        room.limit = 40


@pytest.mark.parametrize(
    ("error", "after_s"),
    [(ClientDisconnected("gone"), 9.0), (asyncio.CancelledError(), 4.9), (DeadlinePassed("slow body"), 1.0)],
)
async def test_who_leaves_or_came_late_says_nothing_of_the_queue(error: BaseException, after_s: float) -> None:
    clock = _Clock()
    room = Room(3, 10.0, clock)
    first, second = room.admit(), room.admit()
    first.__enter__()
    second.__enter__()
    clock.now = after_s

    _end(room, first, error)

    assert room.limit == 3


async def test_one_place_is_left_where_nothing_is_answered() -> None:
    clock = _Clock()
    room = Room(3, 10.0, clock)
    places = [room.admit() for _ in range(3)]
    for place in places:
        place.__enter__()
    clock.now = 10.0

    _end(room, places[0], DeadlinePassed("late"))
    _end(room, places[1], DeadlinePassed("late"))

    assert (room.limit, room.full) == (1, True)


@pytest.mark.parametrize(("batch", "seconds"), [(1, 0.3), (1, 4.0), (4, 1.3), (8, 2.0)])
async def test_flood_of_a_slow_engine_is_answered_at_the_rate_of_the_engine(batch: int, seconds: float) -> None:
    """Ten times as much as the engine computes, for 20 deadlines: first come, first served, late ones dropped."""
    clock, timeout_s, step_s = _Clock(), 10.0, 0.05
    room = Room(128, timeout_s, clock)
    waiting: deque[tuple[float, contextlib.AbstractContextManager[None]]] = deque()
    computing: list[tuple[float, contextlib.AbstractContextManager[None]]] = []
    done_at, due, answered, late = 0.0, 0.0, [], []

    while clock.now < 20 * timeout_s:
        clock.now += step_s
        if computing and clock.now >= done_at:
            for deadline, place in computing:
                (answered if clock.now <= deadline else late).append(clock.now)
                _end(room, place, None if clock.now <= deadline else asyncio.CancelledError())
            computing = []
        while waiting and waiting[0][0] <= clock.now:
            late.append(clock.now)
            _end(room, waiting.popleft()[1], DeadlinePassed("late"))
        if not computing:
            computing = [waiting.popleft() for _ in range(min(batch, len(waiting)))]
            done_at = clock.now + seconds
        due += 10 * batch / seconds * step_s
        while due >= 1:
            due -= 1
            if not room.full:
                place = room.admit()
                place.__enter__()
                waiting.append((clock.now + timeout_s, place))

    steady = [at for at in answered if at > 3 * timeout_s]
    assert len(steady) > 0.9 * 17 * timeout_s * batch / (seconds + step_s)
    assert len([at for at in late if at > 3 * timeout_s]) < 0.02 * len(steady)
