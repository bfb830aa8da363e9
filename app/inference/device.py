"""What engines compute on: threads of its own, and the lanes for which models take turns."""

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np

from app.inference.engines.base import Images
from app.inference.turns import Turns
from app.priority import stand_back

Clock = Callable[[], float]
Result = TypeVar("Result")


class Device:
    """Computes one batch in each lane at a time. Whoever has one to compute takes a lane from `turns` first.

    Explanations, which come out one by one, take turns for one lane: a flood of them leaves the others to batches.
    """

    def __init__(self, lanes: int = 1, clock: Clock = time.monotonic) -> None:
        self.lanes = lanes
        self.turns = Turns(lanes)
        self.explaining = Turns(1)
        self._threads = ThreadPoolExecutor(lanes, "inference", stand_back)
        self._clock = clock
        self._since: dict[int, float] = {}  # by thread

    @property
    def busy_s(self) -> float:
        """How long the oldest of the batches that are being computed has taken so far; 0 where there is none."""
        started = list(self._since.values())
        return self._clock() - min(started) if started else 0.0

    def run(self, compute: Callable[[Images], Result], images: Sequence[Images]) -> asyncio.Future[Result]:
        """Begin to compute, in a thread. The caller holds a lane, so that one is free."""
        return asyncio.get_running_loop().run_in_executor(self._threads, self._timed, compute, images)

    def _timed(self, compute: Callable[[Images], Result], images: Sequence[Images]) -> Result:
        """In the thread itself: an engine that hangs does so long after everybody has stopped waiting for it."""
        thread = threading.get_ident()
        self._since[thread] = self._clock()
        try:
            return compute(np.stack(images))
        finally:
            del self._since[thread]

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
