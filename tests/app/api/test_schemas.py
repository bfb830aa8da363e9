"""The OpenAPI document: what clients are generated from."""

from pathlib import Path
from typing import Any

import pytest

from app.main import create_app
from app.settings import Settings
from tests.app.conftest import FakeEngine


@pytest.fixture
def document(tmp_path: Path) -> dict[str, Any]:
    return create_app(Settings(model_repository=tmp_path), load_engine=FakeEngine).openapi()


def test_operation_ids_are_stable(document: dict[str, Any]) -> None:
    found = {
        f"{method.upper()} {path}": operation["operationId"]
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    }
    assert len(set(found.values())) == len(found)
    found = {route: name for route, name in found.items() if not name.startswith("tfs_")}
    assert found == {
        "POST /predict": "predict",
        "POST /predict/batch": "predict_batch",
        "GET /models": "list_models",
        "POST /explain": "explain",
        "POST /similar": "similar",
        "GET /indexes": "list_indexes",
        "GET /models/{name}": "get_model",
        "GET /models/{name}/versions/{version}": "get_version",
        "GET /health/live": "health_live",
        "GET /health/ready": "health_ready",
        "GET /metrics": "metrics",
        "GET /ping": "sagemaker_ping",
        "POST /invocations": "sagemaker_invocations",
        "GET /v2": "v2_server",
        "GET /v2/health/live": "v2_live",
        "GET /v2/health/ready": "v2_ready",
        "GET /v2/models/{model}": "v2_model",
        "GET /v2/models/{model}/versions/{version}": "v2_version",
        "GET /v2/models/{model}/ready": "v2_model_ready",
        "GET /v2/models/{model}/versions/{version}/ready": "v2_version_ready",
        "POST /v2/models/{model}/infer": "v2_infer",
        "POST /v2/models/{model}/versions/{version}/infer": "v2_infer_version",
        "POST /v2/repository/index": "v2_index",
        "POST /v2/repository/models/{model}/load": "v2_load",
        "POST /v2/repository/models/{model}/unload": "v2_unload",
    }


def test_errors_of_every_route_are_documented_in_the_one_shape(document: dict[str, Any]) -> None:
    statuses = {}
    for path, operations in document["paths"].items():
        if path.startswith(("/v1/", "/v2")):  # in the shapes of other servers
            continue
        for operation in operations.values():
            errors = {status: response for status, response in operation["responses"].items() if status != "200"}
            statuses[path] = " ".join(errors)
            for status, response in errors.items():
                schema = response["content"]["application/json"]["schema"]
                assert schema == {"$ref": "#/components/schemas/ErrorBody"}, (path, status)
                assert response["description"]
    predict = "400 404 413 415 422 429 500 503 504"
    assert statuses == {
        "/predict": predict,
        "/predict/batch": predict,
        "/explain": f"{predict} 406 501",
        "/similar": f"{predict} 501",
        "/indexes": "",
        "/models": "",
        "/models/{name}": "404 422 503",
        "/models/{name}/versions/{version}": "404 422 503",
        "/health/live": "503",
        "/health/ready": "503",
        "/metrics": "",
        "/ping": "503",
        "/invocations": f"{predict} 406",
    }
    assert "HTTPValidationError" not in document["components"]["schemas"]


def test_errors_of_other_protocols_are_documented_in_their_form(document: dict[str, Any]) -> None:
    found = {
        (path.split("/")[1], status, response["content"]["application/json"]["schema"]["$ref"].split("/")[-1])
        for path, operations in document["paths"].items()
        for operation in operations.values()
        for status, response in operation["responses"].items()
        if status != "200" and path.startswith("/v2")
    }
    assert found == {("v2", "default", "InferenceError")}


def test_every_operation_says_what_it_does(document: dict[str, Any]) -> None:
    for operations in document["paths"].values():
        for operation in operations.values():
            assert operation["summary"]
            assert operation["tags"]


def test_bodies_that_are_taken_are_documented(document: dict[str, Any]) -> None:
    single, batch = (
        document["paths"][path]["post"]["requestBody"]["content"] for path in ("/predict", "/predict/batch")
    )
    assert list(single) == ["multipart/form-data", "image/*", "application/octet-stream", "application/json"]
    forms = [document["components"]["schemas"][name] for name in ("PictureForm", "PicturesForm", "PictureJson")]
    assert [form["required"] for form in forms] == [["file"], ["files"], ["image"]]
    assert forms[1]["properties"]["files"]["type"] == "array"
    named = [content["multipart/form-data"]["schema"]["$ref"].split("/")[-1] for content in (single, batch)]
    assert named == ["PictureForm", "PicturesForm"]


def test_figures_of_an_answer_have_examples_that_fit(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    prediction = schemas["PredictionBody"]["properties"]
    assert {name: field["examples"] for name, field in prediction.items()} == {
        "label": ["espresso"],
        "class_id": [967],
        "confidence": [0.93],
    }
    assert all(field["examples"] for field in schemas["TimingBody"]["properties"].values())
    assert list(schemas["PredictBody"]["properties"]) == [
        *("model", "version", "request_id"),
        *("predictions", "reliable", "prediction_set", "timing_ms"),
    ]
