"""Explanations take turns with batches, and survive their callers."""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest

from app.errors import DeadlinePassed, InferenceFailed, QueueFull, Unimplemented
from app.inference.batcher import Batcher
from app.inference.device import Device
from app.inference.engines.base import TOP_CLASS, EngineError, Explanation, Unexplained
from app.inference.explain import Explainer, positive
from tests.app.conftest import ExplainingEngine, until

NEVER = float("inf")


def _image(shade: int) -> np.ndarray:
    return np.full((2, 2, 3), shade, np.uint8)


class _Held(ExplainingEngine):
    """Explains once for each time that it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.at_once = self.most_at_once = 0
        self._leave = threading.Semaphore(0)

    def explain(self, images: np.ndarray, class_ids: np.ndarray) -> Explanation:
        self.at_once += 1
        self.most_at_once = max(self.at_once, self.most_at_once)
        assert self._leave.acquire(timeout=20)
        self.at_once -= 1
        return super().explain(images, class_ids)

    def let(self, times: int = 1) -> None:
        self._leave.release(times)


@asynccontextmanager
async def _explainer(engine: Any, lanes: int = 1, **options: Any) -> AsyncIterator[tuple[Explainer, Device]]:
    device = Device(lanes)
    try:
        yield Explainer(engine, device, **options), device
    finally:
        device.close()


async def test_explanation_is_that_of_the_picture_and_of_the_class() -> None:
    async with _explainer(ExplainingEngine()) as (explainer, device):
        found = await explainer.explain(_image(51), 2, NEVER)
        top = await explainer.explain(_image(51), TOP_CLASS, NEVER)
        assert device.turns.free == 1
    np.testing.assert_allclose(found.probabilities, [0.8, 0.2, 0])
    np.testing.assert_allclose(found.embedding, [0.2, 0.8])
    assert found.heatmap is not None
    assert found.heatmap.shape == (2, 2)
    assert (found.heatmap[0, 0], top.heatmap[0, 0]) == (2, TOP_CLASS)  # type: ignore[index]
    assert found.queue_s >= 0
    assert found.inference_s > 0


async def test_one_is_explained_at_a_time_whatever_the_lanes() -> None:
    engine = _Held()
    async with _explainer(engine, lanes=2) as (explainer, device):
        tasks = [asyncio.create_task(explainer.explain(_image(shade), 0, NEVER)) for shade in (0, 51, 102)]
        await until(lambda: engine.at_once)
        assert device.turns.free == 1  # the other lane is for other versions' batches
        engine.let(3)
        found = await asyncio.gather(*tasks)
    assert engine.most_at_once == 1
    np.testing.assert_allclose([each.probabilities[1] for each in found], [0, 0.2, 0.4])


async def test_caller_who_leaves_costs_nothing_before_its_turn_and_keeps_the_lane_until_the_engine_is_done() -> None:
    engine = _Held()
    async with _explainer(engine) as (explainer, device):
        first, second = (asyncio.create_task(explainer.explain(_image(0), 0, NEVER)) for _ in range(2))
        await until(lambda: engine.at_once)
        first.cancel()
        second.cancel()
        await asyncio.gather(first, second, return_exceptions=True)
        assert (device.turns.free, engine.at_once) == (0, 1)
        engine.let(2)
        await explainer.explain(_image(0), 0, NEVER)
        assert (device.turns.free, engine.explained) == (1, 2)


async def test_late_explanation_is_refused_before_it_costs_inference() -> None:
    engine = ExplainingEngine()
    async with _explainer(engine, clock=lambda: 7.0) as (explainer, device):
        with pytest.raises(DeadlinePassed, match="passed 1000 ms ago, in the queue"):
            await explainer.explain(_image(0), 0, 6.0)
        with pytest.raises(DeadlinePassed, match="passed 0 ms ago, in the queue"):
            await explainer.explain(_image(0), 0, 7.0)
        assert (engine.explained, device.turns.free) == (0, 1)
        await explainer.explain(_image(0), 0, 7.1)


async def test_batches_of_the_same_model_get_their_turn_between_explanations() -> None:
    engine, order = _Held(), []
    async with _explainer(engine, name="cups") as (explainer, device):
        batcher = Batcher(
            engine,
            device,
            max_batch_size=2,
            batch_wait_s=0,
            queue_size=9,
            observe=lambda size, failed: None,
            name="cups",
        )

        async def note(what: str, work: Any) -> None:
            await work
            order.append(what)

        async with asyncio.TaskGroup() as group:
            for _ in range(3):
                group.create_task(note("explanation", explainer.explain(_image(0), 0, NEVER)))
            await until(lambda: engine.at_once)
            group.create_task(note("batch", batcher.submit(_image(0), NEVER)))
            await until(lambda: batcher.queued)
            engine.let(3)
        await batcher.close()
    assert order.index("batch") < 2


@pytest.mark.parametrize("failure", [EngineError("gone"), OSError()])
async def test_failure_is_the_callers_alone_and_frees_the_lane(
    failure: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = ExplainingEngine()
    async with _explainer(engine) as (explainer, device):
        with monkeypatch.context() as patched:

            def fail(images: np.ndarray, class_ids: np.ndarray) -> Explanation:
                raise failure

            patched.setattr(engine, "explain", fail)
            with pytest.raises(InferenceFailed):
                await explainer.explain(_image(0), 0, NEVER)
        await explainer.explain(_image(0), 0, NEVER)
        assert device.turns.free == 1


async def test_numbers_that_are_none_are_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = ExplainingEngine()
    found = engine.explain(_image(0)[None], np.array([0]))
    broken = Explanation(found.probabilities, found.embedding, np.full((1, 2, 2), np.nan, np.float32))
    monkeypatch.setattr(engine, "explain", lambda images, class_ids: broken)
    async with _explainer(engine) as (explainer, _):
        with pytest.raises(InferenceFailed, match="the model failed to explain"):
            await explainer.explain(_image(0), 0, NEVER)


def test_positive_evidence_is_divided_by_the_most() -> None:
    np.testing.assert_allclose(positive(np.array([[-3, 1], [4, 0]], np.float32)), [[0, 0.25], [1, 0]])
    np.testing.assert_array_equal(positive(np.array([[-3, -1]], np.float32)), [[0, 0]])


async def test_places_are_as_many_as_given_and_given_back() -> None:
    refused = pytest.raises(QueueFull, match="2 pictures are being explained, the limit is 2")
    async with _explainer(ExplainingEngine(), most=2) as (explainer, _):
        with explainer.admit(), explainer.admit(), refused, explainer.admit():
            pytest.fail("a third one was let in")
        with explainer.admit(), explainer.admit():
            pass


class _Loading(ExplainingEngine):
    """Loads what explains once it is let, and fails as often as it has reasons to."""

    def __init__(self, *failures: Exception) -> None:
        super().__init__()
        self.leave = threading.Event()
        self.failures = list(failures)
        self.loaded = 0

    def load_explanations(self) -> None:
        self.loaded += 1
        assert self.leave.wait(20)
        if self.failures:
            raise self.failures.pop(0)


async def test_what_explains_is_loaded_once_beside_the_device_whoever_leaves_meanwhile() -> None:
    engine = _Loading()
    async with _explainer(engine) as (explainer, device):
        first, second = (asyncio.create_task(explainer.explain(_image(51), 0, NEVER)) for _ in range(2))
        await until(lambda: engine.loaded)
        assert device.turns.free == 1
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        engine.leave.set()
        await second
        await explainer.explain(_image(51), 0, NEVER)
    assert engine.loaded == 1


async def test_version_that_explains_nothing_is_asked_once() -> None:
    engine, now = _Loading(Unexplained()), [0.0]
    engine.leave.set()
    async with _explainer(engine, clock=lambda: now[0]) as (explainer, device):
        for now[0] in (0.0, 1.0, 1e9):
            with pytest.raises(Unimplemented, match="exported without"):
                await explainer.explain(_image(51), TOP_CLASS, NEVER)
        assert device.turns.free == 1
    assert engine.loaded == 1


async def test_loading_that_failed_is_tried_again_after_a_while_and_not_before() -> None:
    engine, now = _Loading(EngineError("gone"), MemoryError()), [0.0]
    engine.leave.set()
    async with _explainer(engine, clock=lambda: now[0]) as (explainer, _):
        for now[0], loaded in ((0.0, 1), (59.0, 1), (60.0, 2), (119.0, 2)):
            with pytest.raises(InferenceFailed, match="could not be loaded"):
                await explainer.explain(_image(51), 0, NEVER)
            assert engine.loaded == loaded
        now[0] = 120.0
        await explainer.explain(_image(51), 0, NEVER)
    assert engine.loaded == 3


async def test_explanations_of_all_versions_together_leave_a_lane_to_batches() -> None:
    engines = _Held(), _Held()
    device = Device(2)
    tasks = [
        asyncio.create_task(Explainer(engine, device, name=name).explain(_image(0), 0, NEVER))
        for engine, name in zip(engines, "ab", strict=True)
    ]
    await until(lambda: engines[0].at_once)
    assert (device.turns.free, engines[1].at_once) == (1, 0)
    for engine in engines:
        engine.let()
    await asyncio.gather(*tasks)
    device.close()


async def test_who_is_refused_is_told_how_long_all_that_comes_before_takes() -> None:
    now = 0.0
    async with _explainer(ExplainingEngine(), most=2, clock=lambda: now) as (explainer, _):
        with explainer.admit():
            now = 3.0
        with explainer.admit(), explainer.admit(), pytest.raises(QueueFull) as refused:
            explainer.check_room()
    assert refused.value.retry_after_s == 6
