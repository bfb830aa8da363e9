"""`GET /health/live`, `GET /health/ready` and `GET /metrics`: for those who run the service."""

from fastapi import APIRouter, Request, Response
from fastapi.responses import PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST

from app.api.schemas import HealthBody, error_responses
from app.errors import Draining, EngineStuck, NotReady
from app.observability import QUIET

router = APIRouter(tags=[QUIET])


@router.get(
    "/health/live",
    operation_id="health_live",
    summary="The process answers, and its engine does not hang",
    responses=error_responses(503),
)
async def health_live(request: Request) -> HealthBody:
    check_live(request)
    return HealthBody(status="live")


def check_live(request: Request) -> None:
    """Raises `EngineStuck` where a batch has been computing for too long."""
    state = request.app.state
    if state.device.busy_s > state.settings.engine_timeout_s:
        raise EngineStuck(
            f"a batch has been computing for {state.device.busy_s:.0f} s; this process has to be replaced"
        )


@router.get(
    "/health/ready",
    operation_id="health_ready",
    summary="At least the default model answers",
    responses=error_responses(503),
)
async def health_ready(request: Request) -> HealthBody:
    check_ready(request)
    return HealthBody(status="ready")


def check_ready(request: Request) -> None:
    """Raises `Draining`, or `NotReady` where the default model does not answer."""
    check_serving(request)
    if not request.app.state.registry.ready:
        raise NotReady("the default model is not live (yet)")


def check_serving(request: Request) -> None:
    """Raises `Draining` where no new work should come."""
    if request.app.state.draining:
        raise Draining("the service is shutting down")


async def healthy(request: Request) -> Response:
    """For platforms with one route for both: 200 and no body where the service is live and ready."""
    check_live(request)
    check_ready(request)
    return Response()


@router.get("/metrics", operation_id="metrics", summary="Prometheus metrics", response_class=PlainTextResponse)
async def metrics(request: Request) -> Response:
    return Response(request.app.state.metrics.render(), media_type=CONTENT_TYPE_LATEST)
