"""`POST /predict` and `POST /predict/batch`: from a body to a ranking."""

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import BaseModel, Field
from pydantic_core import to_json

from app.api import document, upload
from app.api.error_handlers import detail
from app.api.schemas import (
    FileResultBody,
    PredictBatchBody,
    PredictBody,
    ResultBody,
    error_responses,
)
from app.api.work import Work, begun, unless_disconnected
from app.errors import DemitasseError, InternalError, InvalidParameter
from app.inference.pipeline import Timing
from app.inference.rank import Ranking
from app.registry import LiveVersion

DEFAULT_TOP_K = 5


def each_once(request: Request) -> None:
    """A dependency of routes with parameters in the query. Raises `InvalidParameter` where one came several times."""
    names = [name for name, _ in request.query_params.multi_items()]
    for name in names:
        if names.count(name) > 1:
            raise InvalidParameter(f"{name:.40}: expected once, came {names.count(name)} times")


router = APIRouter(tags=["predict"], dependencies=[Depends(each_once)])

ModelQuery = Annotated[
    str | None, Query(max_length=64, description="model to ask; default: the service's default model")
]
VersionQuery = Annotated[int | None, Query(ge=1, le=2**31, description="version to ask; default: the highest live one")]
LabelQuery = Annotated[
    str | None,
    Query(max_length=32, description="label of the version to ask, such as stable or canary"),
]
TopKQuery = Annotated[
    int | None,
    Query(ge=1, description=f"how many classes to return, at most all; default: {DEFAULT_TOP_K}"),
]

ERRORS = error_responses(400, 404, 413, 415, 422, 429, 500, 503, 504)


class PictureJson(BaseModel):
    image: str = Field(description="base64, or a data: URL", json_schema_extra={"format": "byte"})


IMAGE_BODY = document.taking(
    document.form("PictureForm", upload.IMAGE_FIELD),
    document.binary("image/*", "application/octet-stream"),
    document.json_of(PictureJson, {upload.JSON_FIELD: document.SMALL_PICTURE}),
)
_FILES_BODY = document.taking(document.form("PicturesForm", upload.BATCH_FIELD, several=True))


@router.post(
    "/predict",
    operation_id="predict",
    summary="Classify one picture",
    response_model=PredictBody,
    responses=ERRORS,
    openapi_extra=IMAGE_BODY,
)
async def predict(
    request: Request,
    model: ModelQuery = None,
    version: VersionQuery = None,
    top_k: TopKQuery = None,
    label: LabelQuery = None,
) -> Response:
    """JPEG, PNG, WebP, GIF, BMP or TIFF, as multipart field `file`, as the raw body, or as base64 in JSON."""
    async with begun(request, model, version, label) as work:
        live = work.live
        k = checked_top_k(top_k, live)
        data = await upload.read_image(request, work.settings.max_body_bytes, work.take)
        with live.batcher.admit():
            classifying = work.pipeline.classify(data, live.manifest, live.batcher, k, work.deadline)
            ranking, timing = await unless_disconnected(request, classifying)
    body = {
        "model": live.folder.name,
        "version": live.folder.version,
        "request_id": request.state.request_id,
        **result_of(ranking, timing),
    }
    # As it is, a `PredictBody`: checking what was made here takes longer than a small picture's ranking
    return Response(to_json(body), media_type="application/json")


@router.post(
    "/predict/batch",
    operation_id="predict_batch",
    summary="Classify several pictures",
    response_model=PredictBatchBody,
    responses=ERRORS,
    openapi_extra=_FILES_BODY,
)
async def predict_batch(
    request: Request,
    model: ModelQuery = None,
    version: VersionQuery = None,
    top_k: TopKQuery = None,
    label: LabelQuery = None,
) -> Response:
    """Several multipart fields `files`: one result or one error for each, in order. A bad file spoils no other."""
    request_id = request.state.request_id

    async def classify(part: upload.Part, work: Work, k: int) -> FileResultBody:
        live = work.live
        try:
            with live.batcher.admit():
                data = bytes(part.data)
                ranking, timing = await work.pipeline.classify(data, live.manifest, live.batcher, k, work.deadline)
        except Exception as error:  # whatever it is, it is this file's alone
            return FileResultBody(filename=part.filename, error=detail(_as_ours(error), request_id))
        return FileResultBody(filename=part.filename, result=ResultBody(**result_of(ranking, timing)))

    async def classify_all(parts: list[upload.Part], work: Work, k: int) -> list[FileResultBody]:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(classify(part, work, k)) for part in parts]
        return [task.result() for task in tasks]

    async with begun(request, model, version, label) as work:
        live = work.live
        k = checked_top_k(top_k, live)
        settings = work.settings
        parts = await upload.read_files(request, settings.max_body_bytes, settings.max_files, work.take)
        results = await unless_disconnected(request, classify_all(parts, work, k))
    body = PredictBatchBody(model=live.folder.name, version=live.folder.version, request_id=request_id, results=results)
    return Response(body.model_dump_json(exclude_unset=True), media_type="application/json")


def checked_top_k(top_k: int | None, live: LiveVersion) -> int:
    """How many classes to answer with. Raises `InvalidParameter` where that is more than the model has."""
    classes = len(live.manifest.labels)
    if top_k is None:
        return min(DEFAULT_TOP_K, classes)
    if top_k > classes:
        raise InvalidParameter(f"top_k: {live.folder.name} has {classes} classes, got {top_k}")
    return top_k


def _as_ours(error: Exception) -> DemitasseError:
    if isinstance(error, DemitasseError):
        return error
    failure = InternalError("the service failed on this file; its log has the request id")
    failure.__cause__ = error
    return failure


def result_of(ranking: Ranking, timing: Timing) -> dict[str, Any]:
    """The fields of a `ResultBody`."""
    return {
        "predictions": [
            {"label": p.label, "class_id": p.class_id, "confidence": round(min(max(p.confidence, 0.0), 1.0), 6)}
            for p in ranking.predictions
        ],
        "reliable": ranking.reliable,
        "prediction_set": ranking.prediction_set,
        "timing_ms": timing_of(timing),
    }


def timing_of(timing: Timing) -> dict[str, float]:
    """The fields of a `TimingBody`."""
    return {
        "decode": round(timing.decode_s * 1000, 3),
        "queue": round(timing.queue_s * 1000, 3),
        "inference": round(timing.inference_s * 1000, 3),
    }
