"""All routes of the service, in the order of the OpenAPI document."""

from fastapi import FastAPI

from app.api import catalogue, health, predict


def install(app: FastAPI) -> None:
    app.include_router(predict.router)  # POST /predict, /predict/batch
    app.include_router(catalogue.router)  # GET /models, /models/{name}, /models/{name}/versions/{version}
    app.include_router(health.router)  # GET /health/live, /health/ready, /metrics
