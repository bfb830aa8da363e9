"""What a SageMaker endpoint asks of its container: `GET /ping` and `POST /invocations`.

An invocation is `POST /predict` under another name. Callers of InvokeEndpoint have no query; what would stand there may
be said in the request's custom attributes, as `top_k=3,model=cifar10`. Attributes of other names are left alone.
"""

from typing import Annotated

from fastapi import APIRouter, Depends, Header, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError

from app.api import health, predict
from app.api.accept import preferred
from app.api.predict import LabelQuery, ModelQuery, TopKQuery, VersionQuery, each_once
from app.api.schemas import PredictBody, error_responses
from app.errors import InvalidParameter
from app.observability import QUIET

router = APIRouter()


class Attributes(BaseModel):
    """The custom attributes that mean something here."""

    model: ModelQuery = None
    version: VersionQuery = None
    top_k: TopKQuery = None
    label: LabelQuery = None


@router.get(
    "/ping",
    operation_id="sagemaker_ping",
    summary="SageMaker: the service is live and ready",
    tags=[QUIET],
    response_class=Response,
    responses=error_responses(503),
)
async def ping(request: Request) -> Response:
    return await health.healthy(request)


@router.post(
    "/invocations",
    operation_id="sagemaker_invocations",
    summary="SageMaker: classify one picture",
    tags=["SageMaker"],
    response_model=PredictBody,
    responses=predict.ERRORS | error_responses(406),
    openapi_extra=predict.IMAGE_BODY,
    dependencies=[Depends(each_once)],
)
async def invocations(
    request: Request,
    model: ModelQuery = None,
    version: VersionQuery = None,
    top_k: TopKQuery = None,
    label: LabelQuery = None,
    custom_attributes: Annotated[str, Header(alias="X-Amzn-SageMaker-Custom-Attributes")] = "",
) -> Response:
    """As `/predict`; what the query leaves open may be in `X-Amzn-SageMaker-Custom-Attributes`."""
    preferred(request, ("application/json",))
    asked = _attributes(custom_attributes)
    return await predict.predict(
        request, model or asked.model, version or asked.version, top_k or asked.top_k, label or asked.label
    )


def _attributes(header: str) -> Attributes:
    pairs = [(name.strip(), value.strip()) for name, _, value in (pair.partition("=") for pair in header.split(","))]
    names = [name for name, _ in pairs]
    for name in Attributes.model_fields:
        if names.count(name) > 1:
            raise InvalidParameter(f"{name}: expected once, came {names.count(name)} times")
    try:
        return Attributes.model_validate(dict(pairs))
    except ValidationError as error:
        problems = [{**problem, "loc": ("header", *problem["loc"])} for problem in error.errors()]
        raise RequestValidationError(problems) from error
