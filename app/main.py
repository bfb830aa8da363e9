"""The application: its parts put together, and their life from start to stop."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager, suppress
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from fastapi.telemetry import TelemetryConfig
from starlette.types import ASGIApp, Receive, Scope, Send

from app import keys
from app.api import access, browsers, document, error_handlers, routes
from app.api.access import Access, AccessMiddleware
from app.api.direct import PREDICT_PATH, DirectPredict
from app.api.refusal import GATE, Refusals
from app.api.upload import BodyBudget
from app.cores import available_cores
from app.indexes import Indexes
from app.inference import engines
from app.inference.batcher import Batcher, Device
from app.inference.decode import Decoder
from app.inference.engines import EngineFactory
from app.inference.engines.base import Engine
from app.inference.explain import Explainer
from app.inference.pipeline import Pipeline, StageObserver
from app.observability import Metrics, ObservabilityMiddleware, RequestLog
from app.registry import Registry
from app.repository import open_repository
from app.settings import Settings
from app.tracing import spans_wanted
from models.indexes import IndexStore
from models.manifest import Manifest

if TYPE_CHECKING:  # OpenTelemetry may not be installed
    from app.spans import Spans

logger = logging.getLogger(__name__)

_LOOK_FOR_SIGNALS_S = 0.2

# FastAPI would not see what goes around it, and tell the rest twice
_NO_SPANS_OF_ITS_OWN: TelemetryConfig = {"tracing": False, "metrics": False, "logs": False, "auto_configure": False}


def create_app(
    settings: Settings,
    *,
    load_engine: EngineFactory | None = None,
    on_first_load: Callable[[Registry], None] | None = None,
    load_before_serving: bool = False,
    spans: "Spans | None" = None,
) -> FastAPI:
    """The ASGI application. Models load once its lifespan begins; `on_first_load` is told when they have.

    `load_engine` stands in for the engine of the settings. `load_before_serving` takes no connection until the models
    have loaded, for a process beside which others answer. `spans` stands in for what OTEL_* asks for. Raises
    `EngineError` where the engine can't be had, and `KeysError` where API_KEYS can't be read.
    """
    cores = max(1, available_cores() // settings.workers)
    lanes = 1
    if load_engine is None:
        engine = engines.choose(settings.engine)
        load_engine = engines.factory(engine, settings.precision, cores)
        lanes = engines.lanes(engine, cores)
    ring = keys.ring(settings)
    guard = Access(ring, settings.rate_limit_per_minute, settings.metrics_port, settings.aip_health_route)
    spans = spans or _spans()
    metrics = Metrics()
    request_log = RequestLog(metrics)
    device = Device(lanes)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, object]]:
        decoder = Decoder(max(1, settings.decode_threads // settings.workers), settings.max_image_pixels)
        closing = ExitStack()
        repository, fetch, interval_s = open_repository(settings, closing)
        registry = Registry(
            repository=repository,
            fetch=fetch,
            load_engine=load_engine,
            make_batcher=partial(_batcher, settings, device, metrics),
            make_explainer=partial(_explainer, settings, device),
            max_batch_size=settings.max_batch_size,
            default_model=settings.default_model,
            canary_share=settings.canary_share,
        )
        indexes = Indexes(IndexStore(repository), registry)
        observe: StageObserver = metrics.observe_stage
        if spans is not None:
            spans.start()
            observe = spans.observing(observe)
        metrics.watch_models(registry)
        app.state.registry = registry
        app.state.indexes = indexes
        app.state.pipeline = Pipeline(decoder, observe)
        loaded = asyncio.Event()
        tasks = [
            asyncio.create_task(_load_and_watch(registry, interval_s, loaded, on_first_load)),
            asyncio.create_task(_watch_indexes(indexes, settings.reload_interval_s, loaded)),
            asyncio.create_task(metrics.share_gauges()),
        ]
        if ring is not None:
            await asyncio.to_thread(ring.refresh)
            tasks.append(asyncio.create_task(ring.watch(settings.reload_interval_s)))
        while load_before_serving and not (loaded.is_set() or app.state.draining):  # a signal ends the wait
            with suppress(TimeoutError):
                await asyncio.wait_for(loaded.wait(), _LOOK_FOR_SIGNALS_S)
        try:
            yield {GATE: Refusals(app, guard, request_log, cross_origin=settings.cors_origins is not None)}
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await registry.close()
            indexes.close()
            decoder.close()
            device.close()
            if spans is not None:
                await spans.stop()
            closing.close()

    def front(inner: ASGIApp) -> ASGIApp:
        """What is around each request, the innermost first."""
        inner = AccessMiddleware(inner, guard)
        if settings.cors_origins is not None:
            inner = browsers.open_to(settings.cors_origins, inner)
        inner = ObservabilityMiddleware(browsers.SecurityHeaders(error_handlers.LastResort(inner)), request_log)
        return inner if spans is None else spans.around(inner)

    app = _Application(
        front,
        keys_required=ring is not None,
        direct=settings.aip_predict_route != PREDICT_PATH,  # where it is, more than pictures are taken there
        title="Demitasse",
        summary="Image classification with confidences that can be trusted",
        version=_version(),
        lifespan=lifespan,
        redoc_url=None,
        telemetry=_NO_SPANS_OF_ITS_OWN,
        redirect_slashes=False,  # a redirect would echo the Host header, and go to http behind a TLS proxy
    )
    app.state.settings = settings
    app.state.metrics = metrics
    app.state.device = device
    app.state.bodies = BodyBudget(settings.max_bodies_bytes)
    app.state.draining = False
    error_handlers.install(app)
    routes.install(app, settings)
    return app


class _Application(FastAPI):
    """What FastAPI puts around each request comes after the short way to a prediction, not before it."""

    def __init__(
        self, front: Callable[[ASGIApp], ASGIApp], *, keys_required: bool, direct: bool, **options: Any
    ) -> None:
        super().__init__(**options)
        self.add_middleware(error_handlers.LastResort)  # inside, where FastAPI's own would answer in another shape
        routed = super().__call__
        self._front = front(DirectPredict(routed) if direct else routed)
        self._keys_required = keys_required

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["app"] = self
        await self._front(scope, receive, send)

    def openapi(self) -> dict[str, Any]:
        made = super().openapi()
        if "security" not in made:  # it is kept, and made once
            access.declare(made, required=self._keys_required)
            document.complete(made)
        return made


def _spans() -> "Spans | None":
    if not spans_wanted():
        return None
    try:
        from app.spans import Spans
    except ImportError as error:
        logger.warning("OTEL_* asks for traces, which need the extra `otel`: %s", error)
        return None
    return Spans()


async def _load_and_watch(
    registry: Registry,
    interval_s: float,
    loaded: asyncio.Event,
    on_first_load: Callable[[Registry], None] | None,
) -> None:
    try:
        await registry.refresh()
    except Exception:
        logger.exception("the model repository could not be read")
    loaded.set()
    if on_first_load is not None:
        on_first_load(registry)
    await registry.watch(interval_s)


async def _watch_indexes(indexes: Indexes, interval_s: float, loaded: asyncio.Event) -> None:
    await loaded.wait()  # versions come first: it is they that most requests are for
    await indexes.watch(interval_s)


def _batcher(settings: Settings, device: Device, metrics: Metrics, engine: Engine, manifest: Manifest) -> Batcher:
    return Batcher(
        engine,
        device,
        max_batch_size=settings.max_batch_size,
        batch_wait_s=settings.batch_wait_ms / 1000,
        queue_size=settings.queue_size,
        observe=partial(metrics.observe_batch, manifest.name),
        name=manifest.name,
    )


def _explainer(settings: Settings, device: Device, engine: Engine, manifest: Manifest) -> Explainer:
    return Explainer(engine, device, settings.queue_size, manifest.name)


def _version() -> str:
    try:
        return version("demitasse")
    except PackageNotFoundError:
        return "0"
