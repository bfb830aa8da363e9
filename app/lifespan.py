"""What lives as long as the application serves: its models, indexes and keys, and the threads that work for them."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from fastapi import FastAPI

from app.api.access import Access
from app.api.refusal import GATE, Refusals
from app.indexes import Indexes
from app.inference.batcher import Batcher
from app.inference.decode import Decoder
from app.inference.device import Device
from app.inference.engines import EngineFactory
from app.inference.engines.base import Engine
from app.inference.explain import Explainer
from app.inference.pipeline import Pipeline, StageObserver
from app.keys import KeyRing
from app.metrics import Metrics
from app.observability import RequestLog
from app.registry import Registry
from app.repository import open_repository
from app.settings import Settings
from models.indexes import IndexStore
from models.manifest import Manifest

if TYPE_CHECKING:  # OpenTelemetry may not be installed
    from app.spans import Spans

logger = logging.getLogger(__name__)

_LOOK_FOR_SIGNALS_S = 0.2


@dataclass(frozen=True)
class Lifespan:
    """Called with the application, it is the context in which that serves.

    `on_first_load` is told once the models have loaded; with `load_before_serving`, the context begins only then.
    """

    settings: Settings
    load_engine: EngineFactory
    give_up: Callable[[], None]
    device: Device
    metrics: Metrics
    request_log: RequestLog
    access: Access
    key_ring: KeyRing | None
    spans: "Spans | None"
    on_first_load: Callable[[Registry], None] | None
    load_before_serving: bool

    @asynccontextmanager
    async def __call__(self, app: FastAPI) -> AsyncIterator[dict[str, object]]:
        settings = self.settings
        async with AsyncExitStack() as closing:  # the last that was opened is closed first
            repository, fetch, repository_interval_s = open_repository(settings, closing)
            observe = self._observer(closing)
            closing.callback(self.device.close)
            decoder = Decoder(max(1, settings.decode_threads // settings.workers), settings.max_image_pixels)
            closing.callback(decoder.close)
            registry = Registry(
                repository=repository,
                fetch=fetch,
                load_engine=self.load_engine,
                make_batcher=partial(_batcher, settings, self.device, self.metrics),
                make_explainer=partial(_explainer, settings, self.device),
                max_batch_size=settings.max_batch_size,
                default_model=settings.default_model,
                canary_share=settings.canary_share,
            )
            indexes = Indexes(IndexStore(repository), registry)
            closing.callback(indexes.close)
            closing.push_async_callback(registry.close)
            self.metrics.watch_models(registry)
            app.state.registry = registry
            app.state.indexes = indexes
            app.state.pipeline = Pipeline(decoder, observe)
            loaded = asyncio.Event()
            tasks = [
                asyncio.create_task(self._load_and_watch(registry, repository_interval_s, loaded)),
                asyncio.create_task(_watch_indexes(indexes, settings.reload_interval_s, loaded)),
                asyncio.create_task(self.metrics.share_gauges()),
            ]
            closing.push_async_callback(_cancel, tasks)
            closing.callback(self.give_up)
            if self.key_ring is not None:
                await asyncio.to_thread(self.key_ring.refresh)
                tasks.append(asyncio.create_task(self.key_ring.watch(settings.reload_interval_s)))
            while self.load_before_serving and not (loaded.is_set() or app.state.draining):  # a signal ends the wait
                with suppress(TimeoutError):
                    await asyncio.wait_for(loaded.wait(), _LOOK_FOR_SIGNALS_S)
            cross_origin = settings.cors_origins is not None
            yield {GATE: Refusals(app, self.access, self.request_log, cross_origin=cross_origin)}

    async def _load_and_watch(self, registry: Registry, interval_s: float, loaded: asyncio.Event) -> None:
        try:
            await registry.refresh()
        except Exception:
            logger.exception("the model repository could not be read")
        self.give_up()  # what has left the repository meanwhile
        loaded.set()
        if self.on_first_load is not None:
            self.on_first_load(registry)
        await registry.watch(interval_s)

    def _observer(self, closing: AsyncExitStack) -> StageObserver:
        """What is told of each stage: the metrics, and the spans where they are wanted."""
        if self.spans is None:
            return self.metrics.observe_stage
        self.spans.start()
        closing.push_async_callback(self.spans.stop)
        return self.spans.observing(self.metrics.observe_stage)


async def _watch_indexes(indexes: Indexes, interval_s: float, loaded: asyncio.Event) -> None:
    await loaded.wait()  # versions come first: it is they that most requests are for
    await indexes.watch(interval_s)


async def _cancel(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _batcher(settings: Settings, device: Device, metrics: Metrics, engine: Engine, manifest: Manifest) -> Batcher:
    metrics.batch_failures.labels(manifest.name)  # 0 from now on: only then is the first failure seen to be one more
    return Batcher(
        engine,
        device,
        max_batch_size=settings.max_batch_size,
        batch_wait_s=settings.batch_wait_ms / 1000,
        queue_size=settings.queue_size,
        timeout_s=settings.request_timeout_ms / 1000,
        observe=partial(metrics.observe_batch, manifest.name),
        name=manifest.name,
    )


def _explainer(settings: Settings, device: Device, engine: Engine, manifest: Manifest) -> Explainer:
    return Explainer(engine, device, settings.queue_size, manifest.name, settings.request_timeout_ms / 1000)
