"""How long the device has been computing, by which a hanging engine is noticed."""

import asyncio

import numpy as np
import pytest

from app.inference.device import Device
from tests.app.conftest import HeldEngine, until


class _HeldAndFailing(HeldEngine):
    def infer(self, images: np.ndarray) -> np.ndarray:
        super().infer(images)
        raise RuntimeError("no")


@pytest.mark.parametrize("engine", [HeldEngine(), _HeldAndFailing()])
async def test_busy_seconds_are_those_of_the_batch_that_is_being_computed(engine: HeldEngine) -> None:
    now = [10.0]
    device = Device(clock=lambda: now[0])
    assert device.busy_s == 0
    computing = device.run(engine.infer, [np.zeros((2, 2, 3), np.uint8)])
    await until(lambda: engine.sizes == [1])
    now[0] = 12.5
    assert device.busy_s == 2.5
    engine.let()
    await asyncio.gather(computing, return_exceptions=True)
    assert device.busy_s == 0
    device.close()


async def test_busy_seconds_are_those_of_the_oldest_of_several_batches() -> None:
    now = [10.0]
    device = Device(lanes=2, clock=lambda: now[0])
    first, second = HeldEngine(), HeldEngine()
    computing = []
    for engine in (first, second):
        computing.append(device.run(engine.infer, [np.zeros((2, 2, 3), np.uint8)]))
        await until(lambda engine=engine: engine.sizes == [1])  # type: ignore[misc]  # mypy has no type for it
        now[0] += 5.0
    assert device.busy_s == 10.0
    first.let()
    await computing[0]
    assert device.busy_s == 5.0
    second.let()
    await computing[1]
    device.close()
