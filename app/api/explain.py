"""`POST /explain`: where in the picture the evidence for a class lies."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request, Response

from app.api import upload
from app.api.accept import preferred
from app.api.predict import ERRORS, IMAGE_BODY, LabelQuery, ModelQuery, VersionQuery, each_once, timing_of
from app.api.schemas import ExplainBody, RegionBody, TimingBody, error_responses
from app.api.work import Work, begun, unless_disconnected
from app.errors import InvalidParameter, Unimplemented
from app.inference.engines.base import TOP_CLASS
from app.inference.explain import Explained, Heatmap, positive
from app.inference.pipeline import Timing
from models.preprocess import Box

METHOD = "grad-cam"

router = APIRouter(tags=["predict"], dependencies=[Depends(each_once)])

ClassQuery = Annotated[
    int | None, Query(ge=0, le=2**31 - 1, description="place of the label in the manifest, from 0; default: the top")
]

Answered = Literal["application/json", "image/png"]
_ANSWERS: tuple[Answered, ...] = ("application/json", "image/png")
_PICTURE: dict[int | str, dict[str, Any]] = {
    200: {"content": {"image/png": {"schema": {"type": "string", "format": "binary"}}}}
}


@router.post(
    "/explain",
    operation_id="explain",
    summary="Show where in a picture the evidence for a class lies",
    response_model=ExplainBody,
    responses=_PICTURE | ERRORS | error_responses(406, 501),
    openapi_extra=IMAGE_BODY,
)
async def explain(
    request: Request,
    model: ModelQuery = None,
    version: VersionQuery = None,
    class_id: ClassQuery = None,
    label: LabelQuery = None,
) -> Response:
    """As `/predict` takes the picture. With `Accept: image/png` it comes back, the heat map laid over it."""
    answered = preferred(request, _ANSWERS)
    async with begun(request, model, version, label, explaining=True) as work:
        chosen = _checked(class_id, work)
        data = await upload.read_image(request, work.settings.max_body_bytes, work.take)
        with work.live.explainer.admit():
            content = await unless_disconnected(request, _explained(data, chosen, answered, work))
    return Response(content, media_type=answered)


async def _explained(data: bytes, class_id: int, answered: Answered, work: Work) -> bytes:
    live, pipeline = work.live, work.pipeline
    explained, region, timing = await pipeline.explain(data, live.manifest, live.explainer, class_id, work.deadline)
    if explained.heatmap is None:
        raise Unimplemented(
            f"{live.folder.name} version {live.folder.version} was exported before there were heat maps; "
            "`python -m training export` publishes it again with them"
        )
    heat = positive(explained.heatmap)
    if answered == "image/png":
        return await pipeline.overlay(data, heat, region, live.manifest)
    class_id = int(explained.probabilities.argmax()) if class_id == TOP_CLASS else class_id
    return _body(explained, class_id, heat, region, timing, work).model_dump_json().encode()


def _body(explained: Explained, class_id: int, heat: Heatmap, region: Box, timing: Timing, work: Work) -> ExplainBody:
    live = work.live
    return ExplainBody(
        model=live.folder.name,
        version=live.folder.version,
        request_id=work.request.state.request_id,
        class_id=class_id,
        label=live.manifest.labels[class_id].name,
        confidence=round(min(max(float(explained.probabilities[class_id]), 0.0), 1.0), 6),
        method=METHOD,
        heatmap=[[round(value, 4) for value in row] for row in heat.tolist()],
        region=RegionBody(**{side: round(place, 6) for side, place in region._asdict().items()}),
        timing_ms=TimingBody(**timing_of(timing)),
    )


def _checked(class_id: int | None, work: Work) -> int:
    """The class to explain. Raises `InvalidParameter` where the model has none of that number."""
    classes = len(work.live.manifest.labels)
    if class_id is not None and class_id >= classes:
        raise InvalidParameter(f"class_id: {work.live.folder.name} has the classes 0 to {classes - 1}, got {class_id}")
    return TOP_CLASS if class_id is None else class_id
