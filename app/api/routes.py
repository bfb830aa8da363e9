"""All routes of the service, in the order of the OpenAPI document."""

from fastapi import FastAPI

from app.api import catalogue, health, predict
from app.api.protocols import sagemaker, tensorflow_serving, vertex
from app.settings import Settings


def install(app: FastAPI, settings: Settings) -> None:
    # First, for an operator may name a path that the service has already, such as /predict
    app.include_router(vertex.router(settings.aip_health_route, settings.aip_predict_route))
    app.include_router(predict.router)  # POST /predict, /predict/batch
    app.include_router(catalogue.router)  # GET /models, /models/{name}, /models/{name}/versions/{version}
    app.include_router(health.router)  # GET /health/live, /health/ready, /metrics
    app.include_router(tensorflow_serving.router)  # /v1/models/{model}…
    app.include_router(sagemaker.router)  # GET /ping, POST /invocations
    app.state.error_forms[tensorflow_serving.PREFIX] = tensorflow_serving.render
