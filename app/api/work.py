"""What all protocols have in common in a request: a version, a deadline, limits, and what is computed for it."""

import asyncio
import time
from collections.abc import AsyncIterator, Coroutine, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from fastapi import Request

from app.api import upload
from app.errors import ClientDisconnected, DeadlinePassed, DemitasseError, InvalidParameter
from app.inference.pipeline import Pipeline, Timing
from app.inference.rank import Ranking
from app.registry import LiveVersion, Registry
from app.settings import Settings

GONE = "demitasse.gone"  # in a request's scope: a future that is done once its caller has left

Result = TypeVar("Result")
Picture = bytes | npt.NDArray[np.uint8]
Inferred = tuple[npt.NDArray[np.float32], Timing]


@dataclass(frozen=True)
class Work:
    """One request's. `deadline` is a time of `time.monotonic`; `take` counts the pieces of the body as they arrive."""

    request: Request
    settings: Settings
    pipeline: Pipeline
    live: LiveVersion
    deadline: float
    take: upload.Take

    @contextmanager
    def of(self, model: str | None, version: int | None, label: str | None) -> Iterator["Work"]:
        """The same for another version, which stays open until the end of the block. Raises as `begun`."""
        registry: Registry = self.request.app.state.registry
        live = registry.get(model, version, label)
        live.batcher.check_room()
        with live.batcher.hold():
            yield replace(self, live=live)

    async def body(self) -> bytes:
        """The whole body. Raises `DemitasseError`s where it is over a limit, or its caller leaves."""
        return await upload.read_body(self.request, self.settings.max_body_bytes, self.take)

    async def probabilities(self, pictures: Sequence[Picture]) -> list[npt.NDArray[np.float32]]:
        """float32 [C] of each picture: the bytes of a file, or uint8 pixels [H, W, 3] of the model's own size.

        All or none: the first error that comes ends it, and says which picture it is about. Raises `DemitasseError`s.
        """
        return [found for found, _ in await self._infer(pictures)]

    async def rankings(self, pictures: Sequence[Picture], top_k: int) -> list[tuple[Ranking, Timing]]:
        """The top k of each picture, as `probabilities` takes them, and how long its stages took."""
        manifest = self.live.manifest
        return [(self.pipeline.rank(found, manifest, top_k), timing) for found, timing in await self._infer(pictures)]

    async def _infer(self, pictures: Sequence[Picture]) -> list[Inferred]:
        self._check(pictures)
        with ExitStack() as places:
            for _ in pictures:
                places.enter_context(self.live.batcher.admit())
            return await unless_disconnected(self.request, self._all(pictures))

    def _check(self, pictures: Sequence[Picture]) -> None:
        most = min(self.settings.max_files, self.settings.queue_size)  # more would never find places all at once
        if not 0 < len(pictures) <= most:
            raise InvalidParameter(f"expected 1 to {most} pictures, got {len(pictures)}")
        spec = self.live.manifest.input
        expected = (spec.height, spec.width, 3)
        for picture in pictures:
            if not isinstance(picture, bytes) and (picture.shape != expected or picture.dtype != np.uint8):
                raise InvalidParameter(f"expected pixels uint8 {expected}, got {picture.dtype} {picture.shape}")

    async def _all(self, pictures: Sequence[Picture]) -> list[Inferred]:
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._one(picture, index)) for index, picture in enumerate(pictures)]
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from errors
        return [task.result() for task in tasks]

    async def _one(self, picture: Picture, index: int) -> Inferred:
        try:
            return await self.pipeline.infer(picture, self.live.manifest, self.live.batcher, self.deadline)
        except DemitasseError as error:
            error.message = f"picture {index}: {error.message}"
            raise


@asynccontextmanager
async def begun(
    request: Request,
    model: str | None = None,
    version: int | None = None,
    label: str | None = None,
    *,
    explaining: bool = False,
) -> AsyncIterator[Work]:
    """A request's work, whose version stays open until the end of the block.

    With `explaining`, room among its explanations is meant, whose bodies leave half of the memory for bodies to
    predictions. Raises `DemitasseError`s: before the body is read where the version has no room, which costs next to
    nothing, and `DeadlinePassed` where the block takes longer than a request may.
    """
    state = request.app.state
    settings: Settings = state.settings
    bodies: upload.BodyBudget = state.bodies
    registry: Registry = state.registry
    live = registry.get(model, version, label)
    (live.explainer if explaining else live.batcher).check_room()
    timeout_s = settings.request_timeout_ms / 1000
    deadline = time.monotonic() + timeout_s
    try:
        async with asyncio.timeout(timeout_s):
            with live.batcher.hold(), bodies.account(0.5 if explaining else 1.0) as take:
                yield Work(request, settings, state.pipeline, live, deadline, take)
    except TimeoutError as error:
        raise DeadlinePassed(f"no answer within {settings.request_timeout_ms:g} ms of the request's arrival") from error


async def unless_disconnected(request: Request, work: Coroutine[Any, Any, Result]) -> Result:
    """Do the work, but give it up as soon as the caller has gone. The body must have been read before.

    The work runs in the request's own task, which is cancelled, and takes the cancellation back as `asyncio.timeout`
    does: one more task for each request would cost a few percent of a small network's throughput.
    """
    task = asyncio.current_task()
    if task is None:
        raise RuntimeError("expected to run in a task of asyncio")
    cancelled_before = task.cancelling()
    left = over = False

    def leave(gone: asyncio.Future[Any]) -> None:
        nonlocal left
        if not (over or gone.cancelled()):  # it may be called after the work has ended in the same turn of the loop
            left = True
            task.cancel()

    # A task that only waits for a message takes longer than a callback: it is for servers that have no such future
    known: asyncio.Future[Any] | None = request.scope.get(GONE)
    gone = asyncio.ensure_future(request.receive()) if known is None else known
    gone.add_done_callback(leave)
    try:
        return await work
    except asyncio.CancelledError:
        if left and task.uncancel() <= cancelled_before:
            raise ClientDisconnected("the caller left before the answer") from None
        raise
    finally:
        over = True
        gone.remove_done_callback(leave)
        if known is None:
            gone.cancel()
