"""`GET /health/live`, `GET /health/ready` and `GET /metrics`: for those who run the service."""

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST

from app.api.schemas import HealthBody, error_responses
from app.errors import Draining, EngineStuck, NotReady

router = APIRouter(tags=["operations"])


@router.get(
    "/health/live",
    operation_id="health_live",
    summary="The process answers, and its engine does not hang",
    responses=error_responses(503),
)
async def health_live(request: Request) -> HealthBody:
    state = request.app.state
    if state.device.busy_s > state.settings.engine_timeout_s:
        raise EngineStuck(
            f"a batch has been computing for {state.device.busy_s:.0f} s; this process has to be replaced"
        )
    return HealthBody(status="live")


@router.get(
    "/health/ready",
    operation_id="health_ready",
    summary="At least the default model answers",
    responses=error_responses(503),
)
async def health_ready(request: Request) -> HealthBody:
    state = request.app.state
    if state.draining:
        raise Draining("the service is shutting down")
    if not state.registry.ready:
        raise NotReady("the default model is not live (yet)")
    return HealthBody(status="ready")


@router.get("/metrics", operation_id="metrics", summary="Prometheus metrics", response_class=Response)
async def metrics(request: Request) -> Response:
    return Response(request.app.state.metrics.render(), media_type=CONTENT_TYPE_LATEST)
