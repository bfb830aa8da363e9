"""The application: its parts put together, and their life from start to stop."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from importlib.metadata import PackageNotFoundError, version

from fastapi import FastAPI

from app.api import error_handlers, routes
from app.api.upload import BodyBudget
from app.inference import engines
from app.inference.batcher import Batcher, Device, batch_sizes
from app.inference.decode import Decoder
from app.inference.engines import EngineFactory
from app.inference.engines.base import Engine
from app.inference.pipeline import Pipeline
from app.observability import Metrics, ObservabilityMiddleware
from app.registry import Registry
from app.settings import Settings
from models.manifest import Manifest
from models.repository import ModelRepository

logger = logging.getLogger(__name__)


def create_app(
    settings: Settings,
    *,
    load_engine: EngineFactory | None = None,
    on_first_load: Callable[[Registry], None] | None = None,
) -> FastAPI:
    """The ASGI application. Models load once its lifespan begins; `on_first_load` is told when they have.

    `load_engine` stands in for the engine of the settings. Raises `EngineError` where that can't be had.
    """
    load_engine = load_engine or engines.factory(engines.choose(settings.engine), settings.precision)
    metrics = Metrics()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        device = Device()
        decoder = Decoder(settings.decode_threads, settings.max_image_pixels)
        registry = Registry(
            repository=ModelRepository(settings.model_repository),
            load_engine=load_engine,
            make_batcher=partial(_batcher, settings, device, metrics),
            batch_sizes=batch_sizes(settings.max_batch_size),
            default_model=settings.default_model,
        )
        metrics.watch_models(registry)
        app.state.registry = registry
        app.state.pipeline = Pipeline(decoder, metrics.observe_stage)
        loading = asyncio.create_task(_load_and_watch(registry, settings.reload_interval_s, on_first_load))
        try:
            yield
        finally:
            loading.cancel()
            await asyncio.gather(loading, return_exceptions=True)
            await registry.close()
            decoder.close()
            device.close()

    app = FastAPI(
        title="Demitasse",
        summary="Image classification with confidences that can be trusted",
        version=_version(),
        lifespan=lifespan,
        redoc_url=None,
        redirect_slashes=False,  # a redirect would echo the Host header, and go to http behind a TLS proxy
    )
    app.state.settings = settings
    app.state.metrics = metrics
    app.state.bodies = BodyBudget(settings.max_bodies_bytes)
    app.state.draining = False
    error_handlers.install(app)
    routes.install(app)
    # The last one added is the outermost: an unexpected error becomes an answer first, and is counted then
    app.add_middleware(error_handlers.LastResort)
    app.add_middleware(ObservabilityMiddleware, metrics=metrics)
    return app


async def _load_and_watch(
    registry: Registry, interval_s: float, on_first_load: Callable[[Registry], None] | None
) -> None:
    try:
        await registry.refresh()
    except Exception:
        logger.exception("the model repository could not be read")
    if on_first_load is not None:
        on_first_load(registry)
    await registry.watch(interval_s)


def _batcher(settings: Settings, device: Device, metrics: Metrics, engine: Engine, manifest: Manifest) -> Batcher:
    return Batcher(
        engine,
        device,
        max_batch_size=settings.max_batch_size,
        batch_wait_s=settings.batch_wait_ms / 1000,
        queue_size=settings.queue_size,
        observe=partial(metrics.observe_batch, manifest.name),
    )


def _version() -> str:
    try:
        return version("demitasse")
    except PackageNotFoundError:
        return "0"
