"""The OpenAPI document's names and examples: what it shows is what the application says."""

import json
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from app.main import create_app
from app.settings import Settings
from tests.app.api.examples import PATH, VERTEX, VERTEX_HEALTH, record
from tests.app.conftest import FakeEngine

WITHOUT_JSON = {"metrics", "sagemaker_ping", "vertex_health"}
NEVER_ANSWERS = {"v2_load", "v2_unload"}


@pytest.fixture
def document() -> dict[str, Any]:
    settings = Settings(aip_predict_route=VERTEX, aip_health_route=VERTEX_HEALTH, api_keys=f"web:{64 * '0'}")
    return create_app(settings, load_engine=FakeEngine).openapi()


def _operations(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {each["operationId"]: each for path in document["paths"].values() for each in path.values()}


def _media(answer: dict[str, Any]) -> dict[str, Any]:
    return dict(answer.get("content", {}).get("application/json", {}))


async def test_examples_are_what_the_application_says() -> None:
    """`python -m tests.app.api.examples` writes them anew."""
    assert json.loads(PATH.read_bytes()) == await record()


def test_every_answer_in_json_has_an_example(document: dict[str, Any]) -> None:
    missing = [
        (name, status)
        for name, operation in _operations(document).items()
        for status, answer in operation["responses"].items()
        if not _media(answer).get("examples")
    ]
    allowed = {(name, "200") for name in WITHOUT_JSON | NEVER_ANSWERS}
    allowed |= {(name, "default") for name in ("v2_server", "v2_live", "v2_ready")}  # nothing can be wrong with these
    assert set(missing) - allowed == set()


def test_examples_fit_their_schemas(document: dict[str, Any]) -> None:
    checked = 0
    for name, operation in _operations(document).items():
        bodies = [_media(operation.get("requestBody", {}))]
        for media in (*bodies, *map(_media, operation["responses"].values())):
            shown = [example["value"] for example in media.get("examples", {}).values()]
            for example in [*shown, *([media["example"]] if "example" in media else [])]:
                schema = media["schema"] | {"components": document["components"]}
                problems = [error.message for error in Draft202012Validator(schema).iter_errors(example)]
                assert problems == [], name
                checked += 1
    assert checked > 100


def test_parameters_are_never_null(document: dict[str, Any]) -> None:
    parameters = [one for operation in _operations(document).values() for one in operation.get("parameters", ())]
    assert {one["schema"]["type"] for one in parameters} == {"string", "integer", "boolean"}


def test_bodies_have_names_of_their_own(document: dict[str, Any]) -> None:
    named = {
        media["schema"]["$ref"].split("/")[-1]
        for operation in _operations(document).values()
        for kind, media in operation.get("requestBody", {}).get("content", {}).items()
        if kind in ("application/json", "multipart/form-data")
    }
    assert named == {
        *("PictureForm", "PicturesForm", "PictureJson", "InstancesBody"),
        *("InferRequest", "IndexRequest", "ServingRequest"),
    }
    assert named <= set(document["components"]["schemas"])
