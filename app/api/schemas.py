"""The bodies that go out, and their examples in the OpenAPI document."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic.json_schema import SkipJsonSchema

from models.manifest import Manifest


class _Body(BaseModel):
    model_config = ConfigDict(frozen=True)


class PredictionBody(_Body):
    label: str = Field(examples=["espresso"])
    class_id: int = Field(description="place of the label in the manifest, from 0", examples=[967])
    confidence: float = Field(ge=0.0, le=1.0, description="calibrated probability", examples=[0.93])


class TimingBody(_Body):
    """Milliseconds that the picture spent in each stage."""

    decode: float = Field(examples=[1.8])
    queue: float = Field(examples=[0.4])
    inference: float = Field(examples=[6.1])


class ResultBody(_Body):
    predictions: list[PredictionBody] = Field(description="the top k, best first")
    reliable: bool | None = Field(
        description="whether the first passes the abstention threshold; null where the manifest has none"
    )
    prediction_set: list[str] | None = Field(
        description="labels of the conformal set, best first: it holds the true one at the manifest's rate, and is "
        "empty where even the first is less likely than that rate allows; null where the manifest has no quantile"
    )
    timing_ms: TimingBody


class ServedBody(_Body):
    """What answered."""

    model: str = Field(examples=["imagenet"])
    version: int = Field(examples=[1])
    request_id: str


class PredictBody(ResultBody, ServedBody):
    """One picture's answer. pydantic orders the fields of the last base first."""


class RegionBody(_Body):
    """Sides of a part of the picture, as fractions of its width and height."""

    left: float = Field(ge=0.0, le=1.0, examples=[0.06])
    top: float = Field(ge=0.0, le=1.0, examples=[0.0])
    right: float = Field(ge=0.0, le=1.0, examples=[0.94])
    bottom: float = Field(ge=0.0, le=1.0, examples=[1.0])


class ExplainBody(ServedBody):
    class_id: int = Field(description="of the class that is explained", examples=[967])
    label: str = Field(examples=["espresso"])
    confidence: float = Field(ge=0.0, le=1.0, description="calibrated probability of that class", examples=[0.93])
    method: str = Field(examples=["grad-cam"])
    heatmap: list[list[float]] = Field(
        description="rows of numbers from 0 to 1: how much of the evidence for the class lies there, against most; "
        "all 0 where there is none",
        examples=[[[0.0, 0.31], [0.12, 1.0]]],
    )
    region: RegionBody = Field(
        description="what the model saw of the picture, as people see it; the heat map covers it"
    )
    timing_ms: TimingBody


def _without_default(schema: dict[str, Any]) -> None:
    """For a field that is left out, and never null."""
    del schema["default"]


class ErrorDetail(_Body):
    code: str = Field(description="for programs; see app/errors.py", examples=["unknown_model"])
    message: str = Field(description="for people: what was expected and what came")
    request_id: str
    retry_after_s: int | SkipJsonSchema[None] = Field(
        default=None,
        description="with 429: seconds to wait, as in `Retry-After`",
        json_schema_extra=_without_default,
    )


class ErrorBody(_Body):
    """Every error of every route."""

    error: ErrorDetail


class FileResultBody(_Body):
    """One file of a batch: its result, or its error; the other key is left out."""

    filename: str | None
    result: ResultBody | SkipJsonSchema[None] = None
    error: ErrorDetail | SkipJsonSchema[None] = None


class PredictBatchBody(ServedBody):
    results: list[FileResultBody] = Field(description="one for each file, in order")


class VersionBody(_Body):
    """A live version, and what it runs on."""

    version: int
    engine: str = Field(examples=["openvino"])
    device: str = Field(examples=["CPU"])
    precision: str = Field(examples=["bf16"])
    description: str
    classes: int


class ModelBody(_Body):
    name: str
    default_version: int = Field(description="the one that answers where a request names none: stable, or the highest")
    labels: dict[str, int] = Field(description="of live versions", examples=[{"stable": 1, "canary": 2}])
    versions: list[VersionBody]


class ModelsBody(_Body):
    default_model: str | None
    models: list[ModelBody]


class VersionDetailBody(_Body):
    serving: VersionBody
    manifest: Manifest


class NeighbourBody(_Body):
    """A picture of the index."""

    id: int = Field(description="its number in the index, from 0", examples=[17])
    label: str | None = Field(description="null where the picture has none", examples=["cup"])
    distance: float = Field(description="cosine distance of the embeddings, 0 to 2", examples=[0.31])
    thumbnail: str | None = Field(description="JPEG in base64; null where none was asked for or the index has none")


class SearchTimingBody(TimingBody):
    search: float = Field(examples=[0.4])


class SimilarBody(ServedBody):
    index: str = Field(examples=["photos"])
    neighbours: list[NeighbourBody] = Field(description="the nearest first")
    timing_ms: SearchTimingBody


class IndexBody(_Body):
    """A live index."""

    name: str = Field(examples=["photos"])
    model: str
    version: int = Field(description="of the model, whose embeddings it holds")
    kind: str = Field(examples=["hnsw"])
    size: int = Field(description="pictures")
    dimension: int = Field(description="of the embeddings")
    distance: str = Field(examples=["cosine"])


class IndexesBody(_Body):
    indexes: list[IndexBody]


class HealthBody(_Body):
    status: Annotated[str, Field(examples=["ready"])]


def error_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """OpenAPI's `responses` for these statuses, all of the one shape.

    By name: as a `model`, FastAPI would make one of its own for each status of each route, which slows every start.
    """
    return {
        status: {
            "description": _MEANING[status],
            "content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{ErrorBody.__name__}"}}},
        }
        for status in statuses
    }


_MEANING = {
    400: "The picture or the body can't be read",
    401: "No API key, or one that is not known",
    404: "Unknown model or version",
    406: "The caller takes no type that is answered",
    413: "The body or the picture is over its limit",
    415: "Not a picture, or of a content type that is not taken",
    422: "A parameter or field is missing or out of range",
    429: "The queue is full, or the key's rate used up; `Retry-After` says when to come back",
    500: "The service failed; its log has the request id",
    501: "The version lacks what is asked for, or it is not installed here",
    503: "Not ready, or draining",
    504: "The deadline passed",
}
