"""All routes of the service, in the order of the OpenAPI document."""

from fastapi import FastAPI

from app.api import catalogue, health, predict
from app.api.protocols.v2 import routes as v2


def install(app: FastAPI) -> None:
    app.include_router(predict.router)  # POST /predict, /predict/batch
    app.include_router(catalogue.router)  # GET /models, /models/{name}, /models/{name}/versions/{version}
    app.include_router(health.router)  # GET /health/live, /health/ready, /metrics
    app.include_router(v2.router)  # GET /v2…, POST /v2/…/infer, /v2/repository/…
    app.state.error_forms[v2.PREFIX] = v2.render
