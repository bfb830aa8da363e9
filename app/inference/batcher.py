"""Continuous batching: whenever the device is free, the engine takes what waits.

An image holds a place from decoding to its answer (`admit`), so that the number under way is bounded.
Nothing that one caller does touches another: a caller who leaves cancels its own future, which is skipped; a batch
that fails is tried again image by image, so that a poisonous image fails alone; the worker survives both.
"""

import asyncio
import math
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from app.errors import DeadlinePassed, InferenceFailed, QueueFull
from app.inference.device import Clock, Device
from app.inference.engines.base import Engine, Images, Infer, Probabilities, batch_sizes, shared_out
from app.inference.room import Room

_SMOOTHING = 0.1  # weight of the newest batch in the running mean of seconds per image


class Inference(NamedTuple):
    """The probabilities float32 [C] of one image, and how long it waited and was computed, in seconds."""

    probabilities: npt.NDArray[np.float32]
    queue_s: float
    inference_s: float


class BatchObserver(Protocol):
    """Told of each batch: its size, and whether the engine failed on it."""

    def __call__(self, size: int, *, failed: bool) -> None: ...


class _Waiting(NamedTuple):
    image: Images
    deadline: float
    queued_at: float
    future: asyncio.Future[Inference]


Answer = tuple[_Waiting, Inference | InferenceFailed]


class _Holds:
    """A context that any number of blocks may be in at once; `none` is set where none is."""

    def __init__(self) -> None:
        self.count = 0
        self.none = asyncio.Event()
        self.none.set()

    def __enter__(self) -> None:
        self.count += 1
        self.none.clear()

    def __exit__(self, *_: object) -> None:
        self.count -= 1
        if self.count == 0:
            self.none.set()


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
        timeout_s: float = math.inf,
        name: str = "",
        clock: Clock = time.monotonic,
    ) -> None:
        """`timeout_s` is how long after its arrival a request's deadline comes.

        Batchers of the same `name` take turns at the device together, as the versions of one model do.
        """
        self._engine = engine
        self._name = name
        self._device = device
        self._sizes = batch_sizes(shared_out(max_batch_size, len(engine.lanes)))
        self._batch_wait_s = batch_wait_s
        self._observe = observe
        self._clock = clock
        self._waiting: dict[asyncio.Future[Inference], _Waiting] = {}  # in the order of arrival
        self._changed = asyncio.Event()
        self._seconds_per_image = 0.0
        self._room = Room(queue_size, timeout_s, clock)
        self._holds = _Holds()
        self._computing: set[asyncio.Task[list[Answer]]] = set()
        self._worker = asyncio.create_task(self._work(), name="batcher")

    @property
    def queued(self) -> int:
        """Images that wait for the engine."""
        return len(self._waiting)

    @property
    def under_way(self) -> int:
        """Images that hold a place."""
        return self._room.under_way

    def check_room(self) -> None:
        """Raises `QueueFull` where there is no place for an image."""
        if self._room.full:
            retry_after_s = max(1, math.ceil(self.under_way * self._seconds_per_image))
            raise QueueFull(f"{self.under_way} images are under way, the limit is {self._room.limit}", retry_after_s)

    def hold(self) -> AbstractContextManager[None]:
        """Keep the version from closing, for a request whose images are yet to come."""
        return self._holds

    def admit(self) -> AbstractContextManager[None]:
        """Hold a place for one image. Raises `QueueFull` at once where there is none."""
        self.check_room()
        return self._room.admit()

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
        while self._holds.count or self._room.under_way:
            await self._holds.none.wait()
            await self._room.none.wait()
        tasks = (self._worker, *self._computing)  # what is still being computed is for callers who have left
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _work(self) -> None:
        while True:
            await self._until(1)
            if self._batch_wait_s:
                await self._until_full()
            if self._computing and not self._engine.lanes:
                await asyncio.wait(self._computing)
            lane = await self._device.turns.acquire(self._name)
            infer, batch = self._next(lane)
            if not batch:
                self._device.turns.release(lane)
                continue
            task = asyncio.create_task(self._answers(infer, batch, self._clock(), self._begun(infer, batch)))
            self._computing.add(task)
            task.add_done_callback(partial(self._computed, lane, batch))

    def _next(self, lane: int) -> tuple[Infer, list[_Waiting]]:
        """The engine's function for this lane, and the batch it computes. An image alone gets the whole engine."""
        if not self._engine.lanes:
            return self._engine.infer, self._take(len(self._waiting))
        free = 1 + self._device.turns.free
        if free == self._device.lanes and len(self._waiting) == 1:
            return self._engine.infer, self._take(1)
        # A lane's share of what waits; a batch that was waited for is not shared out
        return self._engine.lanes[lane], self._take(math.ceil(len(self._waiting) / (1 if self._batch_wait_s else free)))

    def _computed(self, lane: int, batch: Sequence[_Waiting], task: "asyncio.Task[list[Answer]]") -> None:
        self._computing.discard(task)
        self._device.turns.release(lane)
        if task.cancelled():
            return
        if (error := task.exception()) is not None:  # ours: the engine's are among the answers
            answers: list[Answer] = [(item, _failure("the service failed on this image", error)) for item in batch]
        else:
            answers = task.result()
        # After `_work`, which has just been woken: the device gets its next batch before callers write their answers,
        # which takes as long as computing
        asyncio.get_running_loop().call_soon(_settle, answers)

    async def _until(self, count: int) -> None:
        while len(self._waiting) < count:
            self._changed.clear()
            await self._changed.wait()

    async def _until_full(self) -> None:
        """Wait for a full batch, until the first in the queue has waited `batch_wait_s` in all."""
        first = next(iter(self._waiting.values()))
        try:
            async with asyncio.timeout(max(0.0, first.queued_at + self._batch_wait_s - self._clock())):
                await self._until(self._sizes[-1])
        except TimeoutError:
            pass

    def _take(self, most: int) -> list[_Waiting]:
        """Take the longest waiting, at most `most` and as many as make up one of the batch sizes; drop late ones."""
        now = self._clock()
        most = min(self._sizes[-1], most)
        alive: list[_Waiting] = []
        gone: list[_Waiting] = []
        for item in self._waiting.values():
            if len(alive) == most:
                break
            if item.future.done():
                gone.append(item)
            elif item.deadline <= now:
                gone.append(item)
                late = (now - item.deadline) * 1000
                item.future.set_exception(DeadlinePassed(f"the deadline passed {late:.0f} ms ago, in the queue"))
            else:
                alive.append(item)
        size = max((size for size in self._sizes if size <= len(alive)), default=0)
        for item in (*gone, *alive[:size]):
            del self._waiting[item.future]
        return alive[:size]

    def _begun(self, infer: Infer, batch: Sequence[_Waiting]) -> asyncio.Future[Probabilities]:
        try:
            return self._device.run(infer, [item.image for item in batch])
        except RuntimeError as error:  # no thread can be started, as where processes are limited
            failed: asyncio.Future[Probabilities] = asyncio.get_running_loop().create_future()
            failed.set_exception(error)
            return failed

    async def _answers(
        self, infer: Infer, batch: Sequence[_Waiting], started: float, computing: asyncio.Future[Probabilities]
    ) -> list[Answer]:
        try:
            probabilities = _checked(await computing, len(batch))
        except Exception as error:
            self._observe(len(batch), failed=True)
            if len(batch) == 1:
                return [(batch[0], _failure("the model failed on this image", error))]
            one_by_one = [
                await self._answers(infer, [item], self._clock(), self._begun(infer, [item]))
                for item in batch
                if not item.future.done()
            ]
            return [answer for answers in one_by_one for answer in answers]
        seconds = self._clock() - started
        self._observe(len(batch), failed=False)
        per_image = seconds / len(batch) / max(1, len(self._engine.lanes))
        self._seconds_per_image += _SMOOTHING * (per_image - self._seconds_per_image)
        return [
            (item, Inference(row, started - item.queued_at, seconds))
            for item, row in zip(batch, probabilities, strict=True)
        ]


def _checked(probabilities: Probabilities, count: int) -> Probabilities:
    if probabilities.shape[0] != count or not np.isfinite(probabilities).all():
        raise ValueError(f"the engine gave {probabilities.shape} for {count} images, or numbers not finite")
    return np.array(probabilities)  # engines may reuse the memory of their outputs for the next batch


def _failure(message: str, cause: BaseException) -> InferenceFailed:
    failure = InferenceFailed(message)
    failure.__cause__ = cause
    return failure


def _settle(answers: Sequence[Answer]) -> None:
    for item, outcome in answers:
        if item.future.done():  # its caller has left
            continue
        if isinstance(outcome, InferenceFailed):
            item.future.set_exception(outcome)
        else:
            item.future.set_result(outcome)
