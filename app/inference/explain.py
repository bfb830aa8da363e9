"""Explanations of one version: one picture at a time, in turn with the batches that share its device."""

import asyncio
import math
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from app.errors import DeadlinePassed, InferenceFailed, QueueFull, Unimplemented
from app.inference.device import Clock, Device
from app.inference.engines.base import Engine, Explanation, Images, Unexplained
from app.inference.room import Room
from app.priority import stand_back

Heatmap = npt.NDArray[np.float32]

_LOAD_AGAIN_AFTER_S = 60.0


@dataclass(frozen=True)
class Explained:
    """Of one picture: probabilities float32 [C], embedding float32 [D], the engine's heat map float32 [h, w].

    `heatmap` is None where the version has none. `queue_s` and `inference_s` are the seconds that it waited and took.
    """

    probabilities: npt.NDArray[np.float32]
    embedding: npt.NDArray[np.float32]
    heatmap: Heatmap | None
    queue_s: float
    inference_s: float


class Explainer:
    """What a version's engine explains, for callers who may leave at any time. Needs a running event loop."""

    def __init__(
        self,
        engine: Engine,
        device: Device,
        most: int = 1,
        name: str = "",
        timeout_s: float = math.inf,
        clock: Clock = time.monotonic,
    ) -> None:
        """`most` is that of pictures under way, whose deadlines come `timeout_s` after their requests' arrival.

        Explainers and batchers of the same `name` take turns at the device.
        """
        self._engine = engine
        self._device = device
        self._room = Room(most, timeout_s, clock)
        self._name = name
        self._clock = clock
        self._seconds_per_image = 0.0  # decoding and all else, by the last one
        self._loading: asyncio.Future[None] | None = None
        self._load_at = math.inf

    @property
    def under_way(self) -> int:
        """Pictures that hold a place."""
        return self._room.under_way

    def check_room(self) -> None:
        """Raises `QueueFull` where there is no place for a picture."""
        if self._room.full:
            retry_after_s = max(1, math.ceil(self.under_way * self._seconds_per_image))
            raise QueueFull(
                f"{self.under_way} pictures are being explained, the limit is {self._room.limit}", retry_after_s
            )

    @contextmanager
    def admit(self) -> Iterator[None]:
        """Hold a place for one picture. Raises `QueueFull` at once where there is none.

        They are places of their own: explanations come out one by one, and those of a flood would leave none for
        predictions.
        """
        self.check_room()
        with self._room.admit():
            place, started = self.under_way, self._clock()
            yield
            self._seconds_per_image = (self._clock() - started) / place

    async def explain(self, image: Images, class_id: int, deadline: float) -> Explained:
        """Explain uint8 [H, W, 3] for a class, or for `TOP_CLASS`. `deadline` is a time of the explainer's clock.

        Raises `DeadlinePassed` where the deadline came first, `Unimplemented` where the version has nothing that
        explains it, `InferenceFailed` where the engine failed.
        """
        queued_at = self._clock()
        await self._loaded()
        with ExitStack() as held:
            for turns in (self._device.explaining, self._device.turns):
                held.callback(turns.release, await turns.acquire(self._name))
            started = self._clock()
            if started >= deadline:
                raise DeadlinePassed(f"the deadline passed {(started - deadline) * 1000:.0f} ms ago, in the queue")
            explain = partial(self._engine.explain, class_ids=np.array([class_id], np.int32))
            computing = self._device.run(explain, [image])
            # Held until the engine is done, which a caller who leaves does not change
            computing.add_done_callback(partial(_computed, held.pop_all().close))
        try:
            found = await asyncio.shield(computing)
            _check(found)
        except Exception as error:
            raise InferenceFailed("the model failed to explain this image") from error
        heatmap = None if found.heatmap is None else found.heatmap[0]
        took_s = self._clock() - started
        return Explained(found.probabilities[0], found.embedding[0], heatmap, started - queued_at, took_s)

    async def _loaded(self) -> None:
        """Have the engine load what explains, beside the device, where others compute meanwhile.

        What failed is not tried again for a while: it takes as long each time, and may have had a passing reason.
        """
        if self._loading is None or self._clock() >= self._load_at:
            self._load_at = math.inf
            self._loading = asyncio.ensure_future(asyncio.to_thread(self._load))
            self._loading.add_done_callback(self._note)
        try:
            await asyncio.shield(self._loading)  # others wait for it, too
        except Unexplained as error:
            raise Unimplemented(str(error)) from error
        except Exception as error:
            raise InferenceFailed("what explains the model's answers could not be loaded") from error

    def _load(self) -> None:
        stand_back()
        self._engine.load_explanations()

    def _note(self, loading: "asyncio.Future[None]") -> None:
        error = None if loading.cancelled() else loading.exception()
        if error is not None and not isinstance(error, Unexplained):
            self._load_at = self._clock() + _LOAD_AGAIN_AFTER_S


def positive(heatmap: Heatmap) -> Heatmap:
    """The evidence for the class alone, float32 [h, w] from 0 to 1, which is where most lies; all 0 without any."""
    evidence = np.maximum(heatmap, 0)
    most = evidence.max()
    return evidence / most if most > 0 else evidence


def _computed(release: Callable[[], None], computing: "asyncio.Future[Explanation]") -> None:
    release()
    if not computing.cancelled():
        computing.exception()  # which nobody else may ask for


def _check(found: Explanation) -> None:
    arrays = [array for array in (found.probabilities, found.embedding, found.heatmap) if array is not None]
    if not all(len(array) == 1 and np.isfinite(array).all() for array in arrays):
        raise ValueError(f"the engine gave {[array.shape for array in arrays]} for one image, or numbers not finite")
