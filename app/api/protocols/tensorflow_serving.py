"""The REST interface of TensorFlow Serving, for its clients as they are.

The signature is that of the SavedModel: `images` uint8 [N, H, W, 3] -> `probabilities` float32 [N, C]; since it has one
output, answers are bare lists. Beyond what TensorFlow Serving takes for it, an image may be a file in base64.
"""

import json
from collections.abc import Callable
from typing import Annotated, Any, Literal, NamedTuple

from fastapi import APIRouter, Depends, Path, Request, Response
from pydantic import BaseModel, Field
from pydantic.json_schema import SkipJsonSchema

from app.api import document
from app.api.protocols.errors import speaking
from app.api.protocols.instances import pictures, read, unnamed
from app.api.work import Work, begun
from app.errors import DemitasseError, InvalidParameter, Unimplemented
from app.registry import LiveVersion, Registry

PREFIX = "/v1/models"

_SIGNATURE = "serving_default"
_STATUSES = {415: 400, 422: 400}  # both are INVALID_ARGUMENT there

Find = Callable[..., "Asked"]
Method = Annotated[Literal["predict", "classify", "regress"], Path(description="regress answers 400")]


class Asked(NamedTuple):
    """Which version a path names, in the order of `Registry.get`."""

    model: str
    version: int | None = None
    label: str | None = None


def _by_model(model: Annotated[str, Path(max_length=64)]) -> Asked:
    return Asked(model)


def _by_version(model: Annotated[str, Path(max_length=64)], version: Annotated[int, Path(ge=1, le=2**31)]) -> Asked:
    return Asked(model, version)


def _by_label(model: Annotated[str, Path(max_length=64)], label: Annotated[str, Path(max_length=32)]) -> Asked:
    return Asked(model, None, label)


def render(error: DemitasseError, request: Request) -> Response:  # noqa: ARG001  the protocol knows no request id
    return _json({"error": error.message}, _STATUSES.get(error.status, error.status))


class ErrorText(BaseModel):
    """Every error of these routes."""

    error: str


class ServingRequest(BaseModel):
    """`predict` wants `instances` or `inputs`, `classify` wants `examples`."""

    signature_name: str = _SIGNATURE
    instances: list[Any] | SkipJsonSchema[None] = Field(
        default=None, min_length=1, description='each {"b64": "<base64>"} or pixels, bare or under one name'
    )
    inputs: Any = Field(default=None, description="a list of the same, bare or under one name")
    examples: list[Any] | SkipJsonSchema[None] = Field(default=None, min_length=1, description="as `instances`")


class ServingAnswer(BaseModel):
    """`predictions` for `instances`, `outputs` for `inputs`, `results` for `examples`."""

    predictions: list[list[float]] | SkipJsonSchema[None] = Field(default=None, description="probabilities")
    outputs: list[list[float]] | SkipJsonSchema[None] = Field(default=None, description="probabilities")
    results: list[list[list[str | float]]] | SkipJsonSchema[None] = Field(
        default=None, description="label and score of every class, best first"
    )


class ServingStatus(BaseModel):
    error_code: str
    error_message: str


class ServingVersionStatus(BaseModel):
    version: str
    state: str = Field(description="AVAILABLE, or END where it was refused")
    status: ServingStatus


class ServingModelStatus(BaseModel):
    model_version_status: list[ServingVersionStatus]


class ServingMetadata(BaseModel):
    model_spec: dict[str, str]
    metadata: dict[str, Any] = Field(description="the signature, as the protocol buffer of that name in JSON")


router = APIRouter(
    prefix=PREFIX,
    tags=["TensorFlow Serving"],
    route_class=speaking(render),
    responses={"default": {"model": ErrorText, "description": "An error, with the status of its canonical code"}},
)

_BODY = document.taking(document.json_of(ServingRequest, {"instances": [{"b64": document.SMALL_PICTURE}]}))


def _add_routes(place: str, find: Find, suffix: str) -> None:
    """Those of one way to name a version."""
    asked_for = Annotated[Asked, Depends(find)]

    @router.post(
        f"{place}:{{method}}",
        operation_id=f"tfs_infer{suffix}",
        summary="Probabilities, or labels and scores",
        response_model=ServingAnswer,
        openapi_extra=_BODY,
    )
    async def infer(request: Request, asked: asked_for, method: Method) -> Response:
        async with begun(request, *asked) as work:
            return _json(await _METHODS[method](work))

    @router.get(
        f"{place}/metadata",
        operation_id=f"tfs_metadata{suffix}",
        summary="The signature",
        response_model=ServingMetadata,
    )
    async def metadata(request: Request, asked: asked_for) -> Response:
        return _json(_metadata(request.app.state.registry.get(*asked)))

    @router.get(
        place,
        operation_id=f"tfs_status{suffix}",
        summary="Which versions are available",
        response_model=ServingModelStatus,
    )
    async def status(request: Request, asked: asked_for) -> Response:
        return _json({"model_version_status": _statuses(request.app.state.registry, asked)})


_add_routes("/{model}", _by_model, "")
_add_routes("/{model}/versions/{version}", _by_version, "_version")
_add_routes("/{model}/labels/{label}", _by_label, "_label")


async def _predict(work: Work) -> dict[str, Any]:
    """Rows: `instances` -> `predictions`. Columns: `inputs` -> `outputs`, where one input makes them the same lists."""
    body = await _checked_document(work)
    if ("instances" in body) == ("inputs" in body):
        raise InvalidParameter("expected one of 'instances' and 'inputs'")
    if "instances" in body:
        asked, answered, instances = "instances", "predictions", body["instances"]
    else:
        asked, answered, instances = "inputs", "outputs", unnamed(body["inputs"])
    return {answered: [row.tolist() for row in await work.probabilities(pictures(instances, asked))]}


async def _classify(work: Work) -> dict[str, Any]:
    """All classes of each example, best first."""
    body = await _checked_document(work)
    if "context" in body:
        raise Unimplemented("'context' has no meaning for pictures")
    labels = work.live.manifest.labels
    rankings = await work.rankings(pictures(body.get("examples"), "examples"), len(labels))
    return {"results": [[[p.label, p.confidence] for p in ranking.predictions] for ranking, _ in rankings]}


async def _regress(work: Work) -> dict[str, Any]:
    raise InvalidParameter(f"{work.live.folder.name} classifies; there is nothing to regress to")


_METHODS = {"predict": _predict, "classify": _classify, "regress": _regress}


async def _checked_document(work: Work) -> dict[str, Any]:
    body = await read(work)
    signature = body.get("signature_name", "")
    if signature not in ("", _SIGNATURE):
        raise InvalidParameter(f"'signature_name': expected '{_SIGNATURE}', got {signature!r:.60}")
    return body


def _statuses(registry: Registry, asked: Asked) -> list[dict[str, Any]]:
    """Of the version asked for, or of all of the model's, the highest first. A version that was refused has ended."""
    refused = {"error_code": "FAILED_PRECONDITION", "error_message": "refused; the service's log says why"}
    found = {folder.version: ("END", refused) for folder in registry.refused if folder.name == asked.model}
    fine = {"error_code": "OK", "error_message": ""}
    found |= {live.folder.version: ("AVAILABLE", fine) for live in registry.live if live.folder.name == asked.model}
    if asked.version is not None or asked.label is not None or not found:
        version = asked.version if asked.version in found else registry.get(*asked).folder.version
        found = {version: found[version]}
    return [
        {"version": str(version), "state": state, "status": status}
        for version, (state, status) in sorted(found.items(), reverse=True)
    ]


def _metadata(live: LiveVersion) -> dict[str, Any]:
    spec = live.manifest.input
    signature = {
        "inputs": {"images": _tensor("images", "DT_UINT8", -1, spec.height, spec.width, 3)},
        "outputs": {"probabilities": _tensor("probabilities", "DT_FLOAT", -1, len(live.manifest.labels))},
        "method_name": "tensorflow/serving/predict",
    }
    return {
        "model_spec": {"name": live.folder.name, "signature_name": "", "version": str(live.folder.version)},
        "metadata": {"signature_def": {"signature_def": {_SIGNATURE: signature}}},
    }


def _tensor(name: str, dtype: str, *shape: int) -> dict[str, Any]:
    """64-bit numbers are strings in the JSON of protocol buffers."""
    dims = [{"size": str(size), "name": ""} for size in shape]
    return {"dtype": dtype, "tensor_shape": {"dim": dims, "unknown_rank": False}, "name": name}


def _json(content: Any, status: int = 200) -> Response:
    return Response(json.dumps(content), status, media_type="application/json")
