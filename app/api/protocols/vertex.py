"""What Vertex AI asks of its container, on the routes that it names in AIP_HEALTH_ROUTE and AIP_PREDICT_ROUTE.

A prediction is `{"instances": [...], "parameters": {"top_k": 3}}` -> `{"predictions": [...]}` in the same order. Any
other kind of body, which rawPredict hands on as it came, is answered as by `POST /predict`.
"""

from contextlib import nullcontext
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, Strict, ValidationError
from pydantic.json_schema import SkipJsonSchema

from app.api import document, health, predict, upload
from app.api.predict import LabelQuery, ModelQuery, TopKQuery, VersionQuery, each_once
from app.api.protocols.instances import pictures, read
from app.api.schemas import PredictBody, ResultBody, error_responses
from app.api.work import begun
from app.errors import InvalidParameter
from app.observability import QUIET

_OTHER_PROTOCOLS = ("/v1/models/", "/v2/")  # whose paths an operator may name, and then means their protocol


def _whole(number: Any) -> Any:
    return int(number) if isinstance(number, float) and number.is_integer() else number


# Vertex AI's clients send numbers as floating point
Number = Annotated[int, Strict(), Field(ge=1, le=2**31), BeforeValidator(_whole)]


class Parameters(BaseModel):
    """As in a query."""

    model_config = ConfigDict(extra="forbid")

    model: str | SkipJsonSchema[None] = Field(default=None, max_length=64)
    version: Number | SkipJsonSchema[None] = None
    label: str | SkipJsonSchema[None] = Field(default=None, max_length=32)
    top_k: Number | SkipJsonSchema[None] = None


class InstancesBody(BaseModel):
    instances: list[Any] = Field(min_length=1, description='each {"b64": "<base64>"} or pixels, bare or under one name')
    parameters: Parameters | None = None


class VersionResultBody(ResultBody):
    """With the version that answered: Vertex AI's own names tell nothing of it."""

    model: str
    version: int


class PredictionsBody(BaseModel):
    predictions: list[VersionResultBody]


_EXAMPLE = {"instances": [{"b64": document.SMALL_PICTURE}], "parameters": {"top_k": 2}}
_BODY = document.taking(
    document.json_of(InstancesBody, _EXAMPLE), document.binary("image/*", "application/octet-stream")
)


def router(health_route: str | None, predict_route: str | None) -> APIRouter:
    """The routes that are named and speak no other protocol."""
    routes = APIRouter()
    if health_route is not None and not health_route.startswith(_OTHER_PROTOCOLS):
        routes.add_api_route(
            health_route,
            health.healthy,
            operation_id="vertex_health",
            summary="Vertex AI: the service is live and ready",
            tags=[QUIET],
            response_class=Response,
            responses=error_responses(503),
        )
    if predict_route is not None and not predict_route.startswith(_OTHER_PROTOCOLS):
        routes.add_api_route(
            predict_route,
            predict_instances,
            methods=["POST"],
            operation_id="vertex_predict",
            summary="Vertex AI: classify pictures",
            tags=["Vertex AI"],
            response_model=PredictionsBody | PredictBody,
            responses=predict.ERRORS,
            openapi_extra=_BODY,
            dependencies=[Depends(each_once)],
        )
    return routes


async def predict_instances(
    request: Request,
    model: ModelQuery = None,
    version: VersionQuery = None,
    top_k: TopKQuery = None,
    label: LabelQuery = None,
) -> Response:
    if upload.media_type_of(request) != "application/json":
        return await predict.predict(request, model, version, top_k, label)
    async with begun(request, model, version, label) as work:
        body = await read(work)
        wanted = _parameters(body.get("parameters"))
        # Of what Vertex AI hands on nothing but the body comes from the caller
        asked = (wanted.model or model, wanted.version or version, wanted.label or label)
        with nullcontext(work) if asked == (model, version, label) else work.of(*asked) as work_of_it:
            k = predict.checked_top_k(wanted.top_k or top_k, work_of_it.live)
            rankings = await work_of_it.rankings(pictures(body.get("instances"), "instances"), k)
            live = work_of_it.live
    answer = PredictionsBody(
        predictions=[
            VersionResultBody(model=live.folder.name, version=live.folder.version, **predict.result_of(*found))
            for found in rankings
        ]
    )
    return Response(answer.model_dump_json(), media_type="application/json")


def _parameters(given: Any) -> Parameters:
    """Of a document, which may have none. Raises `InvalidParameter`."""
    try:
        return Parameters.model_validate({} if given is None else given)
    except ValidationError as error:
        problem = error.errors()[0]
        name = f"{problem['loc'][0]}: " if problem["loc"] else ""
        raise InvalidParameter(f"'parameters': {name}{problem['msg']}, got {problem['input']!r:.40}") from error
