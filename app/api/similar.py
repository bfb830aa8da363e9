"""`POST /similar` and `GET /indexes`: pictures of an index that are like the one that comes."""

import base64
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response

from app.api import upload
from app.api.predict import ERRORS, IMAGE_BODY, LabelQuery, each_once, timing_of
from app.api.schemas import IndexBody, IndexesBody, NeighbourBody, SearchTimingBody, SimilarBody, error_responses
from app.api.work import Work, begun, unless_disconnected
from app.indexes import Indexes, LiveIndex, Neighbour
from app.inference.engines.base import TOP_CLASS
from app.inference.pipeline import Timing

DEFAULT_K, MOST_K = 10, 100

router = APIRouter(tags=["similar"], dependencies=[Depends(each_once)])

IndexQuery = Annotated[
    str | None, Query(max_length=64, description="index to search; default: one of the model, the first by name")
]
OfModelQuery = Annotated[str | None, Query(max_length=64, description="model of the index; default: the index's own")]
OfVersionQuery = Annotated[
    int | None, Query(ge=1, le=2**31, description="version of the index; default: the index's own")
]
KQuery = Annotated[int, Query(ge=1, le=MOST_K, description="how many pictures to return, at most all")]
ThumbnailsQuery = Annotated[bool, Query(description="whether to return small copies of the pictures")]


@router.post(
    "/similar",
    operation_id="similar",
    summary="Find pictures that are like one",
    response_model=SimilarBody,
    responses=ERRORS | error_responses(501),
    openapi_extra=IMAGE_BODY,
)
async def similar(
    request: Request,
    index: IndexQuery = None,
    k: KQuery = DEFAULT_K,
    thumbnails: ThumbnailsQuery = True,
    model: OfModelQuery = None,
    version: OfVersionQuery = None,
    label: LabelQuery = None,
) -> Response:
    """The nearest by the embedding that the index's version computes of the picture. Bodies are those of `/predict`."""
    indexes: Indexes = request.app.state.indexes
    chosen, live = indexes.get(index, model, version, label)
    async with begun(request, live.folder.name, live.folder.version, explaining=True) as work:
        data = await upload.read_image(request, work.settings.max_body_bytes, work.take)
        with work.live.explainer.admit():
            searching = _search(work, indexes, chosen, data, k, thumbnails=thumbnails)
            found, timing, search_s = await unless_disconnected(request, searching)
    body = SimilarBody(
        index=chosen.manifest.name,
        model=live.folder.name,
        version=live.folder.version,
        request_id=request.state.request_id,
        neighbours=[_neighbour(each) for each in found],
        timing_ms=SearchTimingBody(**timing_of(timing), search=round(search_s * 1000, 3)),
    )
    return Response(body.model_dump_json(), media_type="application/json")


@router.get("/indexes", operation_id="list_indexes", summary="All live indexes")
async def list_indexes(request: Request) -> IndexesBody:
    indexes: Indexes = request.app.state.indexes
    return IndexesBody(
        indexes=[
            IndexBody(
                name=live.manifest.name,
                model=live.manifest.model,
                version=live.manifest.version,
                kind=live.manifest.kind,
                size=live.manifest.size,
                dimension=live.manifest.dimension,
                distance=live.manifest.distance,
            )
            for live in indexes.live
        ]
    )


async def _search(
    work: Work, indexes: Indexes, index: LiveIndex, data: bytes, k: int, *, thumbnails: bool
) -> tuple[list[Neighbour], Timing, float]:
    live = work.live
    explained, _, timing = await work.pipeline.explain(data, live.manifest, live.explainer, TOP_CLASS, work.deadline)
    with work.pipeline.stage("search") as searching:
        found = await indexes.search(index, explained.embedding, k, thumbnails=thumbnails)
    return found, timing, searching.seconds


def _neighbour(found: Neighbour) -> NeighbourBody:
    thumbnail = None if found.thumbnail is None else base64.b64encode(found.thumbnail).decode()
    return NeighbourBody(id=found.id, label=found.label, distance=round(found.distance, 6), thumbnail=thumbnail)
