"""`/v2…`: health, metadata, the repository's index and inference."""

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request, Response

from app.api import document, upload
from app.api.health import check_live, check_ready, check_serving
from app.api.protocols.errors import speaking
from app.api.protocols.v2 import signature
from app.api.protocols.v2.answer import answer
from app.api.protocols.v2.bodies import (
    IndexRequest,
    InferenceError,
    InferRequest,
    InferResponse,
    ModelIndex,
    ModelMetadata,
    ModelReady,
    ServerLive,
    ServerMetadata,
    ServerReady,
)
from app.api.protocols.v2.request import HEADER_LENGTH, parse, read
from app.api.work import begun
from app.errors import DemitasseError, InvalidParameter
from app.observability import QUIET
from app.registry import Registry

PREFIX = "/v2"
EXTENSIONS = ["binary_tensor_data", "classification"]

_SMALL_BYTES = 2**16  # read on the spot: the way to a thread and back takes longer
_MOST_INDEX_BYTES = 2**16

Name = Annotated[str, Path(max_length=64)]
Version = Annotated[str, Path(max_length=32, description="number or label")]


def render(error: DemitasseError, _: Request) -> Response:
    """The protocol knows 400 for all that is wrong with a request but its address, its size and its time."""
    status = 400 if error.status in (415, 422) else error.status
    return Response(InferenceError(error=error.message).model_dump_json(), status, media_type="application/json")


router = APIRouter(
    prefix=PREFIX,
    tags=["open inference protocol"],
    route_class=speaking(render),
    responses={"default": {"model": InferenceError, "description": "Whatever is wrong"}},
)

_EXAMPLE = {
    "inputs": [{"name": signature.FILES, "shape": [1], "datatype": "BYTES", "data": [document.SMALL_PICTURE]}],
    "outputs": [{"name": signature.PROBABILITIES, "parameters": {"classification": 2}}],
}
_HEADER_LENGTH = {
    "name": HEADER_LENGTH,
    "in": "header",
    "required": False,
    "description": "bytes of JSON that a binary body begins with; 0: it is one bare file",
    "schema": {"type": "integer", "minimum": 0},
}
_INFERENCE: dict[str, Any] = {
    "response_model": InferResponse,
    "responses": {200: {"content": document.binary("application/octet-stream")}},  # where outputs are wanted in binary
    "openapi_extra": {"parameters": [_HEADER_LENGTH]}
    | document.taking(document.json_of(InferRequest, _EXAMPLE), document.binary("application/octet-stream")),
}
_INDEX_BODY = document.taking(document.json_of(IndexRequest, {"ready": True}), required=False)


@router.get("", operation_id="v2_server", summary="What this server is")
async def server_metadata(request: Request) -> ServerMetadata:
    return ServerMetadata(name="demitasse", version=request.app.version, extensions=EXTENSIONS)


@router.get(
    "/health/live", tags=[QUIET], operation_id="v2_live", summary="The process answers, and its engine does not hang"
)
async def server_live(request: Request) -> ServerLive:
    check_live(request)
    return ServerLive(live=True)


@router.get("/health/ready", tags=[QUIET], operation_id="v2_ready", summary="At least the default model answers")
async def server_ready(request: Request) -> ServerReady:
    check_ready(request)
    return ServerReady(ready=True)


@router.get("/models/{model}", operation_id="v2_model", summary="The tensors of a model")
async def model_metadata(request: Request, model: Name) -> ModelMetadata:
    return _metadata(request, model)


@router.get("/models/{model}/versions/{version}", operation_id="v2_version", summary="The tensors of a version")
async def version_metadata(request: Request, model: Name, version: Version) -> ModelMetadata:
    return _metadata(request, model, version)


@router.get("/models/{model}/ready", tags=[QUIET], operation_id="v2_model_ready", summary="A model answers")
async def model_ready(request: Request, model: Name) -> ModelReady:
    return _ready(request, model)


@router.get(
    "/models/{model}/versions/{version}/ready",
    tags=[QUIET],
    operation_id="v2_version_ready",
    summary="A version answers",
)
async def version_ready(request: Request, model: Name, version: Version) -> ModelReady:
    return _ready(request, model, version)


@router.post("/models/{model}/infer", operation_id="v2_infer", summary="Classify pictures", **_INFERENCE)
async def infer(request: Request, model: Name) -> Response:
    return await _infer(request, model)


@router.post(
    "/models/{model}/versions/{version}/infer",
    operation_id="v2_infer_version",
    summary="Classify pictures by one version",
    **_INFERENCE,
)
async def infer_version(request: Request, model: Name, version: Version) -> Response:
    return await _infer(request, model, version)


@router.post(
    "/repository/index",
    operation_id="v2_index",
    summary="What is in the repository, and whether it answers",
    openapi_extra=_INDEX_BODY,
)
async def repository_index(request: Request) -> list[ModelIndex]:
    body = await upload.read_body(request, _MOST_INDEX_BYTES)
    asked = parse(IndexRequest, body) if body else IndexRequest()
    registry: Registry = request.app.state.registry
    live = {(version.folder.name, version.folder.version) for version in registry.live}
    refused = set() if asked.ready else {(folder.name, folder.version) for folder in registry.refused} - live
    return [
        # Why it was refused stands in the log: it may name files of this machine
        ModelIndex(name=name, version=str(number), state="UNAVAILABLE", reason="refused; the service's log says why")
        if (name, number) in refused
        else ModelIndex(name=name, version=str(number), state="READY", reason="")
        for name, number in sorted(live | refused)
    ]


@router.post("/repository/models/{model}/load", operation_id="v2_load", summary="Refused: the folders decide")
@router.post("/repository/models/{model}/unload", operation_id="v2_unload", summary="Refused: the folders decide")
async def repository_control(model: Name) -> Response:
    raise InvalidParameter(
        f"'{model}' can't be loaded or unloaded by request: versions come and go with their folders in the repository"
    )


def _metadata(request: Request, name: str, version: str | None = None) -> ModelMetadata:
    registry: Registry = request.app.state.registry
    live = registry.get(name, *_which(version))
    if version is None:  # what answers most requests, and not what the canary's share of them would draw
        live = registry.get(name, registry.default_version(name))
    return ModelMetadata(
        name=name,
        versions=[str(other.folder.version) for other in registry.live if other.folder.name == name],
        platform=signature.PLATFORM,
        inputs=signature.inputs(live.manifest),
        outputs=signature.outputs(live.manifest),
    )


def _ready(request: Request, name: str, version: str | None = None) -> ModelReady:
    registry: Registry = request.app.state.registry
    registry.get(name, *_which(version))
    check_serving(request)
    return ModelReady(name=name, ready=True)


async def _infer(request: Request, name: str, version: str | None = None) -> Response:
    async with begun(request, name, *_which(version)) as work:
        body = await work.body()
        header_length, manifest = request.headers.get(HEADER_LENGTH), work.live.manifest
        if len(body) <= _SMALL_BYTES:
            asked = read(body, header_length, manifest)
        else:
            asked = await asyncio.to_thread(read, body, header_length, manifest)
        probabilities = await work.probabilities(asked.pictures)
    return answer(asked, probabilities, work.live)


def _which(version: str | None) -> tuple[int | None, str | None]:
    """The number or the label that a version in a path is."""
    if version is None:
        return None, None
    if version.isascii() and version.isdecimal():
        return int(version), None
    return None, version
