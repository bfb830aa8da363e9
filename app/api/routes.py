"""All routes of the service, in the order of the OpenAPI document."""

from fastapi import FastAPI

from app.api import catalogue, explain, health, predict, similar, web
from app.api.protocols import sagemaker, tensorflow_serving, vertex
from app.api.protocols.v2 import routes as v2
from app.settings import Settings


def install(app: FastAPI, settings: Settings) -> None:
    # First, for an operator may name a path that the service has already, such as /predict
    app.include_router(vertex.router(settings.aip_health_route, settings.aip_predict_route))
    app.include_router(predict.router)  # POST /predict, /predict/batch
    app.include_router(explain.router)  # POST /explain
    app.include_router(catalogue.router)  # GET /models, /models/{name}, /models/{name}/versions/{version}
    app.include_router(similar.router)  # POST /similar, GET /indexes
    app.include_router(health.router)  # GET /health/live, /health/ready, /metrics
    app.include_router(tensorflow_serving.router)  # /v1/models/{model}…
    app.include_router(sagemaker.router)  # GET /ping, POST /invocations
    app.state.error_forms[tensorflow_serving.PREFIX] = tensorflow_serving.render
    app.include_router(v2.router)  # GET /v2…, POST /v2/…/infer, /v2/repository/…
    app.state.error_forms[v2.PREFIX] = v2.render
    app.router.routes.extend(web.routes())  # GET /, /web/…
