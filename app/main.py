"""The application, put together from its parts; `lifespan.py` is their life from start to stop."""

import logging
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from fastapi.telemetry import TelemetryConfig
from starlette.types import ASGIApp, Receive, Scope, Send

from app import keys
from app.api import access, browsers, document, error_handlers, routes
from app.api.access import Access, AccessMiddleware
from app.api.direct import PREDICT_PATH, DirectPredict
from app.api.upload import BodyBudget
from app.inference import engines
from app.inference.device import Device
from app.inference.engines import EngineFactory
from app.lifespan import Lifespan
from app.metrics import Metrics
from app.observability import ObservabilityMiddleware, RequestLog
from app.registry import Registry
from app.settings import Settings
from app.tracing import spans_wanted

if TYPE_CHECKING:  # OpenTelemetry may not be installed
    from app.spans import Spans

logger = logging.getLogger(__name__)

# FastAPI's own telemetry would miss what goes around it, and report the rest twice
_NO_SPANS_OF_ITS_OWN: TelemetryConfig = {"tracing": False, "metrics": False, "logs": False, "auto_configure": False}


def create_app(
    settings: Settings,
    *,
    load_engine: EngineFactory | None = None,
    lanes: int = 1,
    give_up: Callable[[], None] = lambda: None,
    on_first_load: Callable[[Registry], None] | None = None,
    load_before_serving: bool = False,
    spans: "Spans | None" = None,
) -> FastAPI:
    """The ASGI application. Models load once its lifespan begins; `on_first_load` is told when they have.

    `load_engine`, its number of `lanes` and what makes it `give_up` what nobody has asked it for yet stand in for the
    engine of the settings. `load_before_serving` takes no connection until the models have loaded, for a process beside
    which others answer. `spans` stands in for what OTEL_* asks for. Raises `EngineError` where the engine can't be had,
    and `KeysError` where API_KEYS can't be read.
    """
    if load_engine is None:
        load_engine, lanes, give_up = engines.chosen(settings)
    key_ring = keys.ring(settings)
    guard = Access(key_ring, settings.rate_limit_per_minute, settings.metrics_port, settings.aip_health_route)
    spans = spans or _spans()
    metrics = Metrics()
    request_log = RequestLog(metrics)
    device = Device(lanes)
    lifespan = Lifespan(
        settings=settings,
        load_engine=load_engine,
        give_up=give_up,
        device=device,
        metrics=metrics,
        request_log=request_log,
        access=guard,
        key_ring=key_ring,
        spans=spans,
        on_first_load=on_first_load,
        load_before_serving=load_before_serving,
    )

    def front(inner: ASGIApp) -> ASGIApp:
        """What is around each request, the innermost first."""
        inner = AccessMiddleware(inner, guard)
        if settings.cors_origins is not None:
            inner = browsers.open_to(settings.cors_origins, inner)
        inner = ObservabilityMiddleware(browsers.SecurityHeaders(error_handlers.LastResort(inner)), request_log)
        return inner if spans is None else spans.around(inner)

    app = _Application(
        front,
        keys_required=key_ring is not None,
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
    """FastAPI inside of `front`: the short way to a prediction goes around what FastAPI does for each request."""

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
        if "security" not in made:  # FastAPI makes the document once, and keeps it
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


def _version() -> str:
    try:
        return version("demitasse")
    except PackageNotFoundError:
        return "0"
