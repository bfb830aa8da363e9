"""`GET /models…`: what is live, and the manifests."""

from typing import Annotated

from fastapi import APIRouter, Path, Request

from app.api.schemas import ModelBody, ModelsBody, VersionBody, VersionDetailBody, error_responses
from app.errors import NotReady
from app.registry import LiveVersion, Registry

router = APIRouter(tags=["models"])

Name = Annotated[str, Path(max_length=64)]


@router.get("/models", operation_id="list_models", summary="All live models and versions")
async def list_models(request: Request) -> ModelsBody:
    registry: Registry = request.app.state.registry
    names = sorted({live.folder.name for live in registry.live})
    try:
        default_model = registry.get().folder.name
    except NotReady:
        default_model = None
    return ModelsBody(default_model=default_model, models=[_model(registry, name) for name in names])


@router.get(
    "/models/{name}",
    operation_id="get_model",
    summary="The live versions of a model",
    responses=error_responses(404, 422, 503),
)
async def get_model(request: Request, name: Name) -> ModelBody:
    registry: Registry = request.app.state.registry
    registry.get(name)  # raises where it does not answer
    return _model(registry, name)


@router.get(
    "/models/{name}/versions/{version}",
    operation_id="get_version",
    summary="A live version: its manifest and what it runs on",
    responses=error_responses(404, 422, 503),
)
async def get_version(request: Request, name: Name, version: Annotated[int, Path(ge=1, le=2**31)]) -> VersionDetailBody:
    live = request.app.state.registry.get(name, version)
    return VersionDetailBody(serving=_version(live), manifest=live.manifest)


def _model(registry: Registry, name: str) -> ModelBody:
    versions = [live for live in registry.live if live.folder.name == name]
    return ModelBody(
        name=name,
        default_version=registry.default_version(name),
        labels=registry.labels(name),
        versions=[_version(live) for live in versions],
    )


def _version(live: LiveVersion) -> VersionBody:
    return VersionBody(
        version=live.folder.version,
        engine=live.engine.name,
        device=live.engine.device,
        precision=live.engine.precision,
        description=live.manifest.description,
        classes=len(live.manifest.labels),
    )
