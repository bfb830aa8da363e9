"""Continuous batching: whenever the device is free, the engine takes what waits.

An image holds a place from decoding to its answer (`admit`), so that the number under way is bounded.
Nothing that one caller does touches another: a caller who leaves cancels its own future, which is skipped; a batch
that fails is tried again image by image, so that a poisonous image fails alone; the worker survives both.
"""

import asyncio
import math
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from app.errors import DeadlinePassed, InferenceFailed, QueueFull
from app.inference.engines.base import Engine, Images

Clock = Callable[[], float]

_SMOOTHING = 0.1  # weight of the newest batch in the running mean of seconds per image


@dataclass(frozen=True)
class Inference:
    """The probabilities float32 [C] of one image, and how long it waited and was computed, in seconds."""

    probabilities: npt.NDArray[np.float32]
    queue_s: float
    inference_s: float


class BatchObserver(Protocol):
    """Told of each batch: its size, and whether the engine failed on it."""

    def __call__(self, size: int, *, failed: bool) -> None: ...


class Device:
    """What engines compute on: one batch at a time, models taking turns in the order in which they ask."""

    def __init__(self) -> None:
        self.turn = asyncio.Lock()
        self.thread = ThreadPoolExecutor(1, thread_name_prefix="inference")

    def close(self) -> None:
        self.thread.shutdown(wait=False, cancel_futures=True)


@dataclass(frozen=True)
class _Waiting:
    image: Images
    deadline: float
    queued_at: float
    future: asyncio.Future[Inference]


def batch_sizes(max_batch_size: int) -> tuple[int, ...]:
    """The sizes that engines see: powers of two up to the largest, and that one."""
    powers = [2**i for i in range(max_batch_size.bit_length()) if 2**i < max_batch_size]
    return (*powers, max_batch_size)


class Batcher:
    """The queue of one model version. Needs a running event loop."""

    def __init__(
        self,
        engine: Engine,
        device: Device,
        *,
        max_batch_size: int,
        batch_wait_s: float,
        queue_size: int,
        observe: BatchObserver,
        clock: Clock = time.monotonic,
    ) -> None:
        self._engine = engine
        self._device = device
        self._sizes = batch_sizes(max_batch_size)
        self._batch_wait_s = batch_wait_s
        self._queue_size = queue_size
        self._observe = observe
        self._clock = clock
        self._waiting: dict[asyncio.Future[Inference], _Waiting] = {}  # in the order of arrival
        self._changed = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._seconds_per_image = 0.0
        self.under_way = 0
        self._held = 0
        self._worker = asyncio.create_task(self._work(), name="batcher")

    @property
    def queued(self) -> int:
        """Images that wait for the engine."""
        return len(self._waiting)

    def check_room(self) -> None:
        """Raises `QueueFull` where there is no place for an image."""
        if self.under_way >= self._queue_size:
            retry_after_s = max(1, math.ceil(self.under_way * self._seconds_per_image))
            raise QueueFull(f"{self.under_way} images are under way, the limit is {self._queue_size}", retry_after_s)

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Keep the version from closing, for a request whose images are yet to come."""
        self._held += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._held -= 1
            if self._held == 0:
                self._idle.set()

    @contextmanager
    def admit(self) -> Iterator[None]:
        """Hold a place for one image. Raises `QueueFull` at once where there is none."""
        self.check_room()
        with self.hold():
            self.under_way += 1
            try:
                yield
            finally:
                self.under_way -= 1

    async def submit(self, image: Images, deadline: float) -> Inference:
        """Wait for the probabilities of uint8 [H, W, 3]. `deadline` is a time of the batcher's clock.

        Raises `DeadlinePassed` where the deadline came first, `InferenceFailed` where the engine failed on this image.
        """
        future: asyncio.Future[Inference] = asyncio.get_running_loop().create_future()
        self._waiting[future] = _Waiting(image, deadline, self._clock(), future)
        self._changed.set()
        try:
            return await future
        finally:
            # A caller who leaves takes its image along, or an engine that hangs would let them pile up
            self._waiting.pop(future, None)

    async def close(self) -> None:
        """Answer all that is under way, then stop."""
        await self._idle.wait()
        self._worker.cancel()
        await asyncio.gather(self._worker, return_exceptions=True)

    async def _work(self) -> None:
        while True:
            await self._until(1)
            if self._batch_wait_s:
                await self._until_full()
            async with self._device.turn:
                if batch := self._take():
                    await self._answer(batch)

    async def _until(self, count: int) -> None:
        while len(self._waiting) < count:
            self._changed.clear()
            await self._changed.wait()

    async def _until_full(self) -> None:
        """Wait for a full batch, as long as the first in the queue has not waited for it before."""
        first = next(iter(self._waiting.values()))
        try:
            async with asyncio.timeout(max(0.0, first.queued_at + self._batch_wait_s - self._clock())):
                await self._until(self._sizes[-1])
        except TimeoutError:
            pass

    def _take(self) -> list[_Waiting]:
        """The longest waiting, as many as fill one of the sizes; late and abandoned ones are dropped."""
        now = self._clock()
        alive: list[_Waiting] = []
        for item in self._waiting.values():
            if item.future.done():
                continue
            if item.deadline <= now:
                late = (now - item.deadline) * 1000
                item.future.set_exception(DeadlinePassed(f"the deadline passed {late:.0f} ms ago, in the queue"))
            else:
                alive.append(item)
        size = max((size for size in self._sizes if size <= len(alive)), default=0)
        self._waiting = {item.future: item for item in alive[size:]}
        return alive[:size]

    async def _answer(self, batch: Sequence[_Waiting]) -> None:
        started = self._clock()
        try:
            probabilities = await self._infer(batch)
        except Exception as error:
            self._observe(len(batch), failed=True)
            if len(batch) == 1:
                failure = InferenceFailed("the model failed on this image")
                failure.__cause__ = error
                _settle(batch[0].future, failure)
                return
            for item in batch:
                if not item.future.done():
                    await self._answer([item])
            return
        seconds = self._clock() - started
        self._observe(len(batch), failed=False)
        self._seconds_per_image += _SMOOTHING * (seconds / len(batch) - self._seconds_per_image)
        for item, row in zip(batch, probabilities, strict=True):
            _settle(item.future, Inference(row, started - item.queued_at, seconds))

    async def _infer(self, batch: Sequence[_Waiting]) -> npt.NDArray[np.float32]:
        images = np.stack([item.image for item in batch])
        loop = asyncio.get_running_loop()
        probabilities = await loop.run_in_executor(self._device.thread, self._engine.infer, images)
        if probabilities.shape[0] != len(batch) or not np.isfinite(probabilities).all():
            raise ValueError(f"the engine gave {probabilities.shape} for {len(batch)} images, or numbers not finite")
        # Engines may reuse the memory of their outputs for the next batch
        return np.array(probabilities)


def _settle(future: asyncio.Future[Inference], outcome: Inference | Exception) -> None:
    if future.done():  # its caller has left
        return
    if isinstance(outcome, Exception):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)
