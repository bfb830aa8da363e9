"""What Vertex AI asks of its container, on the routes that it names in AIP_HEALTH_ROUTE and AIP_PREDICT_ROUTE.

A prediction is `{"instances": [...], "parameters": {"top_k": 3}}` -> `{"predictions": [...]}` in the same order. Any
other kind of body, which rawPredict hands on as it came, is answered as by `POST /predict`.
"""

from typing import Any

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel, Field
from pydantic.json_schema import SkipJsonSchema

from app.api import document, health, predict, upload
from app.api.predict import LabelQuery, ModelQuery, TopKQuery, VersionQuery, each_once
from app.api.protocols.instances import pictures, read
from app.api.schemas import PredictBody, ResultBody, error_responses
from app.api.work import begun
from app.errors import InvalidParameter
from app.observability import QUIET

_PARAMETERS = ("top_k",)
_OTHER_PROTOCOLS = ("/v1/models/", "/v2/")  # whose paths an operator may name, and then means their protocol


class Parameters(BaseModel):
    top_k: int | SkipJsonSchema[None] = Field(default=None, ge=1)


class InstancesBody(BaseModel):
    instances: list[Any] = Field(min_length=1, description='each {"b64": "<base64>"} or pixels, bare or under one name')
    parameters: Parameters | None = None


class PredictionsBody(BaseModel):
    predictions: list[ResultBody]


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
        wanted = _top_k(body.get("parameters"))
        k = predict.checked_top_k(wanted if wanted is not None else top_k, work.live)
        rankings = await work.rankings(pictures(body.get("instances"), "instances"), k)
    answer = PredictionsBody(predictions=[ResultBody(**predict.result_of(*found)) for found in rankings])
    return Response(answer.model_dump_json(), media_type="application/json")


def _top_k(parameters: Any) -> int | None:
    """Of a document's parameters, which may be missing or null. Raises `InvalidParameter`."""
    if parameters is None:
        return None
    if not isinstance(parameters, dict) or not set(parameters) <= set(_PARAMETERS):
        raise InvalidParameter(f"'parameters': expected an object with 'top_k' or nothing, got {parameters!r:.100}")
    top_k = parameters.get("top_k")
    if isinstance(top_k, float) and top_k.is_integer():  # its clients send numbers as floating point
        top_k = int(top_k)
    if top_k is not None and (type(top_k) is not int or top_k < 1):
        raise InvalidParameter(f"'parameters': expected a top_k of 1 or more, got {top_k!r:.40}")
    return top_k
