"""Pictures to pixels, in worker threads: Pillow releases the interpreter while it decodes and resizes.

Models take turns at the threads, so that a long queue before one of them is no queue before another. Thumbnails are
decoded on the spot: the way to a thread and back takes longer.
"""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from typing import Any, TypeVar, TypeVarTuple

import numpy as np
import numpy.typing as npt

from app.errors import DemitasseError, TooManyPixels, UnreadableImage, UnsupportedMediaType
from app.inference.engines.base import Images
from app.inference.overlay import overlay
from app.inference.turns import Turns
from app.priority import stand_back
from models import preprocess
from models.manifest import InputSpec
from models.preprocess import Box

Result = TypeVar("Result")
Given = TypeVarTuple("Given")

# A header of JPEG or PNG is read in microseconds; other formats may take their memory while they are opened
_THUMBNAIL_FORMATS = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")
_THUMBNAIL_BYTES = 8192
_THUMBNAIL_PIXELS = 128 * 128

_OURS: dict[type[BaseException] | None, type[DemitasseError]] = {
    preprocess.UnreadableImage: UnreadableImage,
    preprocess.UnsupportedImage: UnsupportedMediaType,
    preprocess.TooManyPixels: TooManyPixels,
}


class Decoder:
    def __init__(self, threads: int, max_pixels: int) -> None:
        self._pool = ThreadPoolExecutor(threads, "decode", stand_back)
        self._turns = Turns(2 * threads)  # so many that a thread which is done finds the next picture waiting
        self._explaining = Turns(1)
        self._max_pixels = max_pixels

    async def decode(self, data: bytes, spec: InputSpec, model: str = "") -> Images:
        """uint8 [H, W, 3] as the spec says. A caller who leaves before its turn costs nothing.

        Raises `UnreadableImage`, `UnsupportedMediaType` or `TooManyPixels`.
        """
        with in_our_words:
            if len(data) <= _THUMBNAIL_BYTES and data.startswith(_THUMBNAIL_FORMATS):
                image = preprocess.open_image(data, self._max_pixels)
                if image.width * image.height <= _THUMBNAIL_PIXELS:
                    return preprocess.to_pixels(image, spec)
            return await self._in_turn((self._turns,), model, preprocess.load_image, data, spec, self._max_pixels)

    async def look(self, data: bytes, spec: InputSpec, model: str = "") -> tuple[Images, Box]:
        """As `decode`, and the part of the upright picture that this is."""
        with in_our_words:
            return await self._to_explain(model, _look, data, spec, self._max_pixels)

    async def overlay(self, data: bytes, heat: npt.NDArray[np.float32], region: Box, model: str = "") -> bytes:
        """PNG of the upright picture with heat float32 [h, w], from 0 to 1, over its `region`. Raises as `decode`."""
        with in_our_words:
            return await self._to_explain(model, overlay, data, heat, region, self._max_pixels)

    async def _to_explain(self, model: str, work: Callable[[*Given], Result], *given: *Given) -> Result:
        """One at a time, which leaves the other threads to predictions."""
        return await self._in_turn((self._explaining, self._turns), model, work, *given)

    async def _in_turn(
        self, queues: Sequence[Turns], model: str, work: Callable[[*Given], Result], *given: *Given
    ) -> Result:
        with ExitStack() as held:
            for turns in queues:
                held.callback(turns.release, await turns.acquire(model))
            submitted = self._pool.submit(work, *given)
            working = asyncio.wrap_future(submitted)
            # Held until the thread is free, which a caller who leaves does not change
            working.add_done_callback(partial(_done, held.pop_all().close))
        try:
            return await asyncio.shield(working)
        except asyncio.CancelledError:
            submitted.cancel()  # where no thread has begun it
            raise

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)


def _done(release: Callable[[], None], working: "asyncio.Future[Any]") -> None:
    release()
    if not working.cancelled():
        working.exception()  # which nobody else may ask for


def _look(data: bytes, spec: InputSpec, max_pixels: int) -> tuple[Images, Box]:
    image = preprocess.open_image(data, max_pixels)
    return preprocess.to_pixels(image, spec), preprocess.seen(image, spec)


class _InOurWords:
    """What `models.preprocess` raises in the block, as the errors that all answers are made of."""

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        ours = _OURS.get(kind)
        if ours is not None:
            raise ours(str(error)) from error


in_our_words = _InOurWords()
