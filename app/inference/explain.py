"""What lies behind the answer to one image: its embedding and heat map, computed in turn with batches."""

import asyncio
import time
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from app.errors import DeadlinePassed, InferenceFailed
from app.inference.batcher import Clock, Device
from app.inference.engines.base import Engine, Explanation, Images, Probabilities


@dataclass(frozen=True)
class Explained:
    """Of one image: probabilities float32 [C], embedding float32 [D], heatmap float32 [h, w] where there is one."""

    probabilities: npt.NDArray[np.float32]
    embedding: npt.NDArray[np.float32]
    heatmap: npt.NDArray[np.float32] | None
    queue_s: float
    inference_s: float


class Explainer:
    """One image at a time of one version, in a lane of the device. Needs a running event loop."""

    def __init__(self, engine: Engine, device: Device, name: str = "", clock: Clock = time.monotonic) -> None:
        self._engine = engine
        self._device = device
        self._name = name
        self._clock = clock
        self._turn = asyncio.Lock()

    async def explain(self, image: Images, class_id: int, deadline: float) -> Explained:
        """Explain uint8 [H, W, 3] for a class, or for `TOP_CLASS`. `deadline` is a time of the clock.

        Raises `DeadlinePassed` where the deadline came first, `InferenceFailed` where the engine failed.
        """
        queued_at = self._clock()
        await self._turn.acquire()
        try:
            lane = await self._device.turns.acquire(self._name)
        except BaseException:
            self._turn.release()
            raise
        started = self._clock()
        found: list[Explanation] = []

        def compute(images: Images) -> Probabilities:
            found.append(self._engine.explain(images, np.array([class_id], np.int32)))
            return found[0].probabilities

        def done(computing: asyncio.Future[Probabilities]) -> None:  # whoever waits for it, or has left
            self._device.turns.release(lane)
            self._turn.release()
            if not computing.cancelled():
                computing.exception()

        late = started - deadline
        if late >= 0:
            self._device.turns.release(lane)
            self._turn.release()
            raise DeadlinePassed(f"the deadline passed {late * 1000:.0f} ms ago, in the queue")
        computing = self._device.run(compute, [image])
        computing.add_done_callback(done)
        try:
            await asyncio.shield(computing)
        except Exception as error:
            raise InferenceFailed("the model failed on this image") from error
        (explanation,) = found
        if not np.isfinite(explanation.embedding).all():
            raise InferenceFailed("the model gave numbers that are not finite for this image")
        return Explained(
            np.array(explanation.probabilities[0]),
            np.array(explanation.embedding[0]),
            None if explanation.heatmap is None else np.array(explanation.heatmap[0]),
            started - queued_at,
            self._clock() - started,
        )
