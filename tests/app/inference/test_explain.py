"""Explanations take turns with batches, one at a time of each version."""

import asyncio
import math
import threading
from typing import Any

import numpy as np
import pytest

from app.errors import DeadlinePassed, InferenceFailed
from app.inference.batcher import Device
from app.inference.engines.base import Explanation
from app.inference.explain import Explainer
from tests.app.conftest import FakeEngine, until

IMAGE = np.full((2, 2, 3), 51, np.uint8)


class Held(FakeEngine):
    def __init__(self) -> None:
        super().__init__()
        self.leave = threading.Semaphore(0)
        self.at_once = self.most_at_once = self.calls = 0

    def explain(self, images: np.ndarray, class_ids: np.ndarray) -> Explanation:
        self.calls += 1
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        assert self.leave.acquire(timeout=20)
        self.at_once -= 1
        return super().explain(images, class_ids)


async def test_one_at_a_time_of_a_version_whatever_the_lanes() -> None:
    engine, device = Held(), Device(lanes=4)
    explainer = Explainer(engine, device)
    tasks = [asyncio.create_task(explainer.explain(IMAGE, -1, math.inf)) for _ in range(5)]
    await until(lambda: engine.calls)
    engine.leave.release(5)
    found = await asyncio.gather(*tasks)
    assert engine.most_at_once == 1
    np.testing.assert_allclose([each.embedding for each in found], [[0.8, 0.2, 0]] * 5, atol=1e-6)
    assert [each.heatmap for each in found] == [None] * 5
    device.close()


async def test_a_caller_who_leaves_while_it_is_computed_gives_its_lane_back_when_that_ends() -> None:
    engine, device = Held(), Device()
    explainer = Explainer(engine, device)
    first = asyncio.create_task(explainer.explain(IMAGE, -1, math.inf))
    await until(lambda: engine.calls)
    first.cancel()
    waiting = asyncio.create_task(explainer.explain(IMAGE, -1, math.inf))
    with pytest.raises(asyncio.CancelledError):
        await first
    assert (device.turns.free, engine.calls) == (0, 1)
    waiting.cancel()  # who only waits leaves at once
    with pytest.raises(asyncio.CancelledError):
        await waiting
    engine.leave.release(2)
    assert (await explainer.explain(IMAGE, -1, math.inf)).embedding.shape == (3,)
    assert device.turns.free == 1
    device.close()


async def test_one_that_is_late_is_not_computed_and_one_that_fails_fails_alone() -> None:
    class Failing(FakeEngine):
        def explain(self, images: np.ndarray, class_ids: np.ndarray) -> Any:
            if images.max() == 255:
                raise RuntimeError("poison")
            return super().explain(images * np.uint8(1), class_ids)

    device = Device()
    explainer = Explainer(Failing(), device, clock=lambda: 10.0)
    with pytest.raises(DeadlinePassed, match="1500 ms ago"):
        await explainer.explain(IMAGE, -1, 8.5)
    with pytest.raises(InferenceFailed):
        await explainer.explain(np.full_like(IMAGE, 255), -1, math.inf)
    assert (await explainer.explain(IMAGE, -1, math.inf)).probabilities.shape == (3,)
    device.close()
