"""Continuous batching: who shares a batch, and what never touches anybody else."""

import asyncio
import itertools
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest

from app.errors import DeadlinePassed, InferenceFailed, QueueFull
from app.inference.batcher import Batcher, Inference
from app.inference.device import Device
from app.inference.engines.base import batch_sizes
from tests.app.conftest import FakeEngine, HeldEngine, shades, until


def _picture(shade: int) -> np.ndarray:
    return np.full((2, 2, 3), shade, np.uint8)


def _shade(inference: Inference) -> int:
    return round(float(inference.probabilities[1]) * 255)


async def _ask(batcher: Batcher, shade: int, deadline: float = 1e9) -> int:
    with batcher.admit():
        return _shade(await batcher.submit(_picture(shade), deadline))


def _asking(batcher: Batcher, *shades: int, deadline: float = 1e9) -> list[asyncio.Task[int]]:
    return [asyncio.create_task(_ask(batcher, shade, deadline)) for shade in shades]


@asynccontextmanager
async def _batching(engine: Any, device: Device | None = None, **options: Any) -> AsyncIterator[Batcher]:
    own = device or Device()
    defaults: dict[str, Any] = {
        "max_batch_size": 8,
        "batch_wait_s": 0.0,
        "queue_size": 256,
        "observe": lambda size, failed: None,
        "clock": lambda: 0.0,
    }
    batcher = Batcher(engine, own, **defaults | options)
    try:
        yield batcher
    finally:
        if isinstance(engine, HeldEngine):
            engine.let()
        await batcher.close()
        own.close()


class _Choosy(FakeEngine):
    """Does to a batch with the shade 13 in it what it is told to."""

    def __init__(self, reaction: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> None:
        super().__init__()
        self.reaction = reaction

    def infer(self, images: np.ndarray) -> np.ndarray:
        found = super().infer(images)
        poisonous = images[:, 0, 0, 0] == 13
        return self.reaction(found, poisonous) if poisonous.any() else found


def _raises(found: np.ndarray, poisonous: np.ndarray) -> np.ndarray:
    raise RuntimeError("out of memory")


def _gives_nan(found: np.ndarray, poisonous: np.ndarray) -> np.ndarray:
    found[poisonous] = np.nan
    return found


def _loses_a_row(found: np.ndarray, poisonous: np.ndarray) -> np.ndarray:
    return found[~poisonous]


async def test_answers_never_cross_callers() -> None:
    engine = FakeEngine()
    async with _batching(engine) as batcher:
        assert await asyncio.gather(*_asking(batcher, *range(64))) == list(range(64))
    assert engine.sizes == [8] * 8


@pytest.mark.parametrize(
    ("most", "sizes"), [(1, (1,)), (2, (1, 2)), (6, (1, 2, 4, 6)), (8, (1, 2, 4, 8)), (9, (1, 2, 4, 8, 9))]
)
def test_batch_sizes_are_powers_of_two_and_the_largest(most: int, sizes: tuple[int, ...]) -> None:
    assert batch_sizes(most) == sizes


@pytest.mark.parametrize(
    ("waiting", "sizes"), [(1, [1]), (3, [2, 1]), (5, [4, 1]), (6, [6]), (11, [6, 4, 1]), (13, [6, 6, 1])]
)
async def test_engine_sees_warmed_sizes_only(waiting: int, sizes: list[int]) -> None:
    engine = FakeEngine()
    async with _batching(engine, max_batch_size=6) as batcher:
        assert await asyncio.gather(*_asking(batcher, *range(waiting))) == list(range(waiting))
    assert engine.sizes == sizes


async def test_free_engine_takes_what_waits() -> None:
    engine = HeldEngine()
    async with _batching(engine) as batcher:
        first = _asking(batcher, 1)
        await until(lambda: engine.sizes == [1])
        rest = _asking(batcher, 2, 3, 4, 5)
        await until(lambda: batcher.queued == 4)
        engine.let()
        assert await asyncio.gather(*first, *rest) == [1, 2, 3, 4, 5]
    assert engine.sizes == [1, 4]


async def test_batch_wait_lets_a_batch_fill() -> None:
    engine = FakeEngine()
    async with _batching(engine, max_batch_size=4, batch_wait_s=20.0) as batcher:
        asked: list[asyncio.Task[int]] = []
        for shade in (1, 2, 3):
            asked += _asking(batcher, shade)
            for _ in range(10):  # turns of the loop, in which the worker would take what it wants
                await asyncio.sleep(0)
            assert batcher.queued == shade
        await asyncio.gather(*asked, *_asking(batcher, 4))
    assert engine.sizes == [4]


async def test_batch_wait_ends_where_no_more_images_come() -> None:
    engine = FakeEngine()
    async with _batching(engine, max_batch_size=4, batch_wait_s=0.001) as batcher:
        assert await asyncio.gather(*_asking(batcher, 1, 2)) == [1, 2]
    assert engine.sizes == [2]


async def test_caller_that_leaves_the_queue_costs_no_inference_and_no_memory() -> None:
    engine = HeldEngine()
    async with _batching(engine) as batcher:
        running = _asking(batcher, 1)
        await until(lambda: engine.sizes == [1])
        leaving, staying = _asking(batcher, 2, 3)
        await until(lambda: batcher.queued == 2)

        leaving.cancel()
        await asyncio.wait([leaving])
        assert (batcher.queued, batcher.under_way) == (1, 2)  # although the engine is still busy

        engine.let()
        assert await asyncio.gather(*running, staying) == [1, 3]
    assert engine.sizes == [1, 1]


async def test_caller_that_leaves_while_its_batch_is_made_up_is_skipped() -> None:
    engine = HeldEngine()
    async with _batching(engine) as batcher:
        running = _asking(batcher, 1)
        await until(lambda: engine.sizes == [1])
        leaving = [*_asking(batcher, 2), *_asking(batcher, 3, deadline=-1.0)]
        await until(lambda: batcher.queued == 2)
        for caller in leaving:
            caller.cancel()
        assert batcher._take(1) == []  # before the event loop gets to tell them
        engine.let()
        await asyncio.gather(*running)


async def test_caller_that_leaves_a_running_batch_leaves_its_mates_their_answers() -> None:
    engine = HeldEngine()
    async with _batching(engine) as batcher:
        mates = _asking(batcher, 1, 2, 3, 4)
        await until(lambda: engine.sizes == [4])
        mates[1].cancel()
        engine.let()
        answers = await asyncio.gather(*mates, return_exceptions=True)
        assert await _ask(batcher, 5) == 5
    assert [answers[0], *answers[2:]] == [1, 3, 4]
    assert isinstance(answers[1], asyncio.CancelledError)


async def test_late_images_are_dropped_before_they_cost_inference() -> None:
    now = [0.0]
    engine = HeldEngine()
    async with _batching(engine, clock=lambda: now[0]) as batcher:
        running = _asking(batcher, 1, deadline=100.0)
        await until(lambda: engine.sizes == [1])
        late, just_late = *_asking(batcher, 2, deadline=5.0), *_asking(batcher, 4, deadline=6.0)
        in_time = _asking(batcher, 3, deadline=6.5)
        await until(lambda: batcher.queued == 3)
        now[0] = 6.0
        engine.let()
        assert await asyncio.gather(*running, *in_time) == [1, 3]
        with pytest.raises(DeadlinePassed, match=r"^the deadline passed 1000 ms ago, in the queue$"):
            await late
        with pytest.raises(DeadlinePassed, match=r"^the deadline passed 0 ms ago, in the queue$"):
            await just_late
    assert engine.sizes == [1, 1]


async def test_answer_tells_how_long_it_waited_and_was_computed() -> None:
    now = [10.0]

    class Slower(HeldEngine):
        def infer(self, images: np.ndarray) -> np.ndarray:
            found = super().infer(images)
            now[0] += 3.0 * len(self.sizes)
            return found

    engine = Slower()
    async with _batching(engine, clock=lambda: now[0]) as batcher:
        running = _asking(batcher, 1)
        await until(lambda: engine.sizes == [1])
        waiting = asyncio.create_task(batcher.submit(_picture(2), 1e9))
        await until(lambda: batcher.queued == 1)
        engine.let()
        answer = await waiting
        await asyncio.gather(*running)
    assert (answer.queue_s, answer.inference_s) == (3.0, 6.0)
    assert answer.probabilities.shape == (3,)


@pytest.mark.parametrize("reaction", [_raises, _gives_nan, _loses_a_row])
async def test_poisonous_image_fails_alone(reaction: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> None:
    engine = _Choosy(reaction)
    observed: list[tuple[int, bool]] = []
    async with _batching(engine, observe=lambda size, failed: observed.append((size, failed))) as batcher:
        answers = await asyncio.gather(*_asking(batcher, 12, 13, 14, 15), return_exceptions=True)
        assert [answers[0], *answers[2:]] == [12, 14, 15]
        assert isinstance(answers[1], InferenceFailed)
        assert str(answers[1]) == "the model failed on this image"
        assert isinstance(answers[1].__cause__, RuntimeError if reaction is _raises else ValueError)
    assert observed == [(4, True), (1, False), (1, True), (1, False), (1, False)]


async def test_caller_that_left_a_failed_batch_is_not_tried_again() -> None:
    class Failing(HeldEngine):
        def infer(self, images: np.ndarray) -> np.ndarray:
            super().infer(images)
            raise RuntimeError("no")

    engine = Failing()
    async with _batching(engine) as batcher:
        asked = _asking(batcher, 1, 2)
        await until(lambda: engine.sizes == [2])
        asked[0].cancel()
        engine.let()
        await asyncio.wait(asked)
        assert isinstance(asked[1].exception(), InferenceFailed)
    assert engine.sizes == [2, 1]


async def test_worker_survives_an_engine_that_fails_every_time_and_then_recovers() -> None:
    engine = _Choosy(_raises)
    async with _batching(engine) as batcher:
        for _ in range(5):
            failures = await asyncio.gather(*_asking(batcher, 13, 13, 13), return_exceptions=True)
            assert [type(failure) for failure in failures] == [InferenceFailed] * 3
        engine.reaction = lambda found, poisonous: found
        assert await _ask(batcher, 13) == 13


async def test_failure_of_our_own_fails_its_batch_alone_and_at_once() -> None:
    def observe(size: int, *, failed: bool) -> None:
        if size == 2:
            raise OSError("no room for metrics")

    async with _batching(FakeEngine(), observe=observe) as batcher:
        found = await asyncio.gather(*_asking(batcher, 1, 2), return_exceptions=True)
        assert [type(one) for one in found] == [InferenceFailed] * 2
        assert isinstance(found[0].__cause__, OSError)
        assert await _ask(batcher, 3) == 3


async def test_outputs_that_the_engine_reuses_are_copied() -> None:
    class Reusing(FakeEngine):
        memory = np.zeros((8, 3), np.float32)

        def infer(self, images: np.ndarray) -> np.ndarray:
            self.memory[: len(images)] = shades(images)
            return self.memory[: len(images)]

    async with _batching(Reusing()) as batcher:
        first = await batcher.submit(_picture(100), 1e9)
        second = await batcher.submit(_picture(200), 1e9)
    assert (_shade(first), _shade(second)) == (100, 200)


async def test_device_has_its_next_batch_before_the_answers_to_the_last_are_written() -> None:
    """Writing them takes as long as computing, for small networks: one must not wait for the other."""
    engine = HeldEngine()
    seen: list[int] = []

    async def ask_and_write(batcher: Batcher, shade: int) -> None:
        await _ask(batcher, shade)
        seen.append(len(device_given))

    device = Device()
    device_given: list[int] = []
    run = device.run

    def noted(infer: Any, images: Any) -> Any:
        device_given.append(len(images))
        return run(infer, images)

    device.run = noted  # type: ignore[method-assign]
    async with _batching(engine, device, max_batch_size=2) as batcher:
        callers = [asyncio.create_task(ask_and_write(batcher, shade)) for shade in range(6)]
        for batches in range(1, 4):
            await until(lambda batches=batches: len(engine.sizes) == batches)  # type: ignore[misc]
            engine.let(1)
        await asyncio.gather(*callers)
    assert (device_given, seen) == ([2, 2, 2], [2, 2, 3, 3, 3, 3])


async def test_full_queue_refuses_at_once_and_says_when_to_come_back() -> None:
    now = [0.0]

    class Slow(HeldEngine):
        def infer(self, images: np.ndarray) -> np.ndarray:
            now[0] += 30.0
            return super().infer(images)

    engine = Slow()
    async with _batching(engine, queue_size=2, clock=lambda: now[0]) as batcher:
        asked = _asking(batcher, 1, 2)
        await until(lambda: engine.sizes == [2])
        with pytest.raises(QueueFull, match=r"^2 images are under way, the limit is 2$") as full, batcher.admit():
            pass
        assert full.value.retry_after_s == 1  # nothing has been measured yet
        engine.let(1)
        await asyncio.gather(*asked)

        asked = _asking(batcher, 3, 4)
        await until(lambda: batcher.under_way == 2)
        with pytest.raises(QueueFull) as full, batcher.admit():
            pass
        # 15 s an image, which counts for a tenth as yet, times 2 images
        assert full.value.retry_after_s == 3
        engine.let()
        assert await asyncio.gather(*asked) == [3, 4]


async def test_engine_that_fails_once_on_a_batch_answers_all_of_it() -> None:
    class Once(FakeEngine):
        failed = False

        def infer(self, images: np.ndarray) -> np.ndarray:
            if not self.failed:
                self.failed = True
                raise RuntimeError("for a moment")
            return super().infer(images)

    engine = Once()
    async with _batching(engine) as batcher:
        assert await asyncio.gather(*_asking(batcher, 1, 2, 3, 4)) == [1, 2, 3, 4]
    assert engine.sizes == [1, 1, 1, 1]


async def test_device_that_can_not_begin_fails_its_batch_and_leaves_the_lane(monkeypatch: pytest.MonkeyPatch) -> None:
    device = Device()

    def run(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    async with _batching(FakeEngine(), device) as batcher:
        with monkeypatch.context() as patch:
            patch.setattr(device, "run", run)
            for answer in await asyncio.gather(*_asking(batcher, 1, 2), return_exceptions=True):
                assert isinstance(answer, InferenceFailed)
        assert await asyncio.gather(*_asking(batcher, 3, 4)) == [3, 4]


async def test_places_are_fewer_once_a_deadline_has_passed_in_the_queue() -> None:
    now = [1.0]
    engine = HeldEngine()
    async with _batching(engine, queue_size=9, timeout_s=10.0, clock=lambda: now[0]) as batcher:
        first = _asking(batcher, 1, 2, deadline=11.0)
        await until(lambda: engine.sizes == [2])
        late, last = _asking(batcher, 3, deadline=11.0), _asking(batcher, 4, deadline=20.0)
        await until(lambda: batcher.queued == 2)
        now[0] = 11.0
        engine.let(1)

        with pytest.raises(DeadlinePassed):
            await late[0]
        assert await asyncio.gather(*first) == [1, 2]
        # two in ten seconds, less a fifth, are one
        with pytest.raises(QueueFull, match=r"^1 images are under way, the limit is 1$"), batcher.admit():
            pass
        engine.let()
        assert await last[0] == 4
        now[0] = 20.0
        assert await asyncio.gather(*_asking(batcher, 5, 6)) == [5, 6]


async def test_place_is_given_back_after_answer_error_and_cancellation() -> None:
    engine = _Choosy(_raises)
    async with _batching(engine, queue_size=1) as batcher:
        assert await _ask(batcher, 1) == 1
        with pytest.raises(InferenceFailed):
            await _ask(batcher, 13)
        with pytest.raises(DeadlinePassed):
            await _ask(batcher, 2, deadline=-1.0)
        leaving = _asking(batcher, 3)[0]
        await asyncio.sleep(0)
        assert batcher.under_way == 1
        leaving.cancel()
        await asyncio.wait([leaving])
        assert batcher.under_way == 0
        assert await _ask(batcher, 4) == 4


async def test_models_on_one_device_take_turns() -> None:
    order: list[str] = []
    leave = threading.Event()

    class Named(FakeEngine):
        def infer(self, images: np.ndarray) -> np.ndarray:
            order.append(self.name)
            leave.wait(20)
            return shades(images)

    busy, other = Named(), Named()
    busy.name, other.name = "busy", "other"
    device = Device()
    async with (
        _batching(busy, device, max_batch_size=4, name="busy") as a,
        _batching(other, device, name="other") as b,
    ):
        crowd = _asking(a, *range(100))
        await until(lambda: order == ["busy"])
        single = _asking(b, 200)
        await until(lambda: b.queued == 1)
        leave.set()
        assert await asyncio.gather(*crowd, *single) == [*range(100), 200]
    assert order[:4] == ["busy", "other", "busy", "busy"]


async def test_device_stays_busy_with_a_batch_that_everybody_has_left() -> None:
    now = [10.0]
    engine, device = HeldEngine(), Device(clock=lambda: now[0])
    async with _batching(engine, device) as batcher:
        caller = _asking(batcher, 1)[0]
        await until(lambda: engine.sizes == [1])
        caller.cancel()
        await asyncio.wait([caller])
        await batcher.close()  # as where the version is taken away, or the service stops
        now[0] = 40.0
        assert device.busy_s == 30
        engine.let()
        await until(lambda: device.busy_s == 0)


async def test_close_answers_what_is_under_way_and_then_stops() -> None:
    engine = HeldEngine()
    async with _batching(engine, max_batch_size=1) as batcher:
        asked = _asking(batcher, 1, 2, 3)
        await until(lambda: engine.sizes == [1])
        closing = asyncio.create_task(batcher.close())
        engine.let(1)
        await until(lambda: engine.sizes == [1, 1])
        assert not closing.done()
        engine.let()
        assert await asyncio.gather(*asked) == [1, 2, 3]
        await closing
        assert batcher._worker.cancelled()


async def test_nothing_is_left_of_a_thousand_requests() -> None:
    engine = _Choosy(_raises)
    async with _batching(engine, queue_size=10) as batcher:
        tasks_before = asyncio.all_tasks()
        for start in range(0, 1000, 10):
            asked = _asking(batcher, *(shade % 20 for shade in range(start, start + 10)))
            await asyncio.sleep(0)
            asked[5].cancel()
            outcomes = await asyncio.gather(*asked, return_exceptions=True)
            assert isinstance(outcomes[5], asyncio.CancelledError)
        assert (batcher.under_way, batcher.queued) == (0, 0)
        assert asyncio.all_tasks() == tasks_before
        assert {len(kept) for kept in vars(batcher).values() if isinstance(kept, dict | list | set)} == {0}


async def test_what_a_batch_leaves_over_does_not_wait_again() -> None:
    # When seven got a place and when they came to wait, and all that comes later
    readings = itertools.chain([0.0] * 14, itertools.repeat(7200.0))
    engine = FakeEngine()
    async with _batching(engine, batch_wait_s=3600.0, clock=lambda: next(readings)) as batcher:
        assert await asyncio.gather(*_asking(batcher, *range(7))) == list(range(7))
    assert engine.sizes == [4, 2, 1]


class _TwoLanes(HeldEngine):
    """Its lanes compute as it does, and note what they saw."""

    def __init__(self) -> None:
        super().__init__()
        first, second = HeldEngine(), HeldEngine()
        self.halves = (first, second)
        self.lanes = (first.infer, second.infer)

    def let(self, batches: int = 1000) -> None:
        for engine in self.halves:
            engine.let(batches)
        super().let(batches)

    @property
    def seen(self) -> tuple[list[int], list[int], list[int]]:
        """Sizes of the batches that the whole engine and its two lanes computed."""
        return self.sizes, self.halves[0].sizes, self.halves[1].sizes


async def test_lanes_share_what_waits_and_compute_side_by_side() -> None:
    engine = _TwoLanes()
    async with _batching(engine, Device(lanes=2)) as batcher:
        asked = _asking(batcher, *range(8))
        await until(lambda: engine.seen == ([], [4], [4]))
        more = _asking(batcher, *range(8, 20))
        await until(lambda: batcher.queued == 12)
        engine.halves[1].let(1)
        # The lane that is free first takes what waits, as much as is a lane's part of the largest batch
        await until(lambda: engine.seen == ([], [4], [4, 4]))
        engine.let()
        assert await asyncio.gather(*asked, *more) == list(range(20))
    assert engine.sizes == []


async def test_lanes_count_in_how_long_a_refused_caller_is_to_wait() -> None:
    now = [0.0]
    engine = _TwoLanes()
    async with _batching(engine, Device(lanes=2), queue_size=2, clock=lambda: now[0]) as batcher:
        asked = _asking(batcher, 1, 2)
        await until(lambda: engine.seen == ([], [1], [1]))  # what waits is shared out, however little it is
        now[0] = 40.0
        engine.let(1)
        await asyncio.gather(*asked)
        asked = _asking(batcher, 3, 4)
        await until(lambda: batcher.under_way == 2)
        with pytest.raises(QueueFull) as full:
            batcher.check_room()
        # 20 s an image, counted twice for a tenth: 2 s, then 2 s + 0.1 (20 s - 2 s) = 3.8 s; times 2 images
        assert full.value.retry_after_s == 8
        engine.let()
        assert await asyncio.gather(*asked) == [3, 4]


async def test_batch_that_was_waited_for_is_not_shared_out() -> None:
    engine = _TwoLanes()
    async with _batching(engine, Device(lanes=2), batch_wait_s=20.0) as batcher:
        asked = _asking(batcher, *range(4))
        await until(lambda: sum(map(len, engine.seen)) == 1)
        assert sorted(engine.seen) == [[], [], [4]]
        engine.let()
        assert await asyncio.gather(*asked) == list(range(4))


async def test_image_that_comes_alone_is_computed_with_all_of_the_device() -> None:
    engine = _TwoLanes()
    async with _batching(engine, Device(lanes=2)) as batcher:
        asked = _asking(batcher, 1)
        await until(lambda: engine.seen == ([1], [], []))
        asked += _asking(batcher, 2)  # who comes while that is being computed gets what is left
        await until(lambda: sum(map(len, engine.seen)) == 2)
        assert engine.sizes == [1]
        engine.let()
        assert await asyncio.gather(*asked) == [1, 2]


async def test_engine_without_lanes_has_one_caller_at_a_time_beside_one_that_has_them() -> None:
    class Alone(FakeEngine):
        within = most_within = 0

        def infer(self, images: np.ndarray) -> np.ndarray:
            self.within += 1
            self.most_within = max(self.most_within, self.within)
            threading.Event().wait(0.002)  # long enough for another thread to come in
            self.within -= 1
            return super().infer(images)

    small, large = Alone(), _TwoLanes()
    device = Device(lanes=2)
    async with _batching(small, device, name="small") as a, _batching(large, device, name="large") as b:
        assert await asyncio.gather(*_asking(a, *range(40))) == list(range(40))
        assert (small.most_within, small.sizes) == (1, [8] * 5)
        crowd = _asking(b, *range(8))
        await until(lambda: large.seen == ([], [4], [4]))
        large.halves[0].let(1)
        assert await asyncio.gather(*_asking(a, *range(40))) == list(range(40))  # in the lane that is free
        assert (small.most_within, b.queued) == (1, 0)
        large.let()
        assert await asyncio.gather(*crowd) == list(range(8))


async def test_clock_that_jumps_ahead_ends_what_waits_and_nothing_that_comes_later() -> None:
    now = [0.0]
    engine = HeldEngine()
    async with _batching(engine, clock=lambda: now[0]) as batcher:
        running = _asking(batcher, 1, deadline=10.0)
        await until(lambda: engine.sizes == [1])
        waiting = _asking(batcher, 2, deadline=10.0)
        await until(lambda: batcher.queued == 1)
        now[0] = 1e6
        engine.let()
        assert await asyncio.gather(*running) == [1]
        with pytest.raises(DeadlinePassed):
            await waiting[0]
        assert await _ask(batcher, 3, deadline=now[0] + 10.0) == 3
        assert (batcher.queued, batcher.under_way) == (0, 0)
