"""deploy/azure: Azure's own loaders and models take the files, and what they say fits the service."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from app.settings import Settings
from tests.deploy.conftest import DEPLOY
from tests.deploy.facts import routes, settings

KINDS = {
    "ml-endpoint.yml": "azure-ml-endpoint",
    "ml-deployment.yml": "azure-ml-deployment",
    "container-app.yml": "container-app",
}


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", KINDS)
def test_azure_takes_the_file(name: str, filled, ask_vendor) -> None:
    assert ask_vendor(KINDS[name], filled(f"azure/{name}")) == []


@pytest.mark.parametrize(
    ("name", "word", "wrong"),
    [
        ("ml-endpoint.yml", "auth_mode", "auth_mod"),
        ("ml-deployment.yml", "failure_threshold", "failure_treshold"),
        ("container-app.yml", "failureThreshold", "failureTreshold"),
    ],
)
def test_azure_does_not_take_a_word_it_does_not_know(name: str, word: str, wrong: str, filled, ask_vendor) -> None:
    path = filled(f"azure/{name}")
    path.write_text(path.read_text().replace(word, wrong))
    assert wrong in str(ask_vendor(KINDS[name], path))


# Azure ML


@pytest.fixture
def deployment() -> Any:
    return read(DEPLOY / "azure" / "ml-deployment.yml")


def test_deployment_is_of_the_endpoint(deployment) -> None:
    assert deployment["endpoint_name"] == read(DEPLOY / "azure" / "ml-endpoint.yml")["name"]


def test_azure_ml_is_sent_to_routes_of_the_service(deployment) -> None:
    given = deployment["environment"]["inference_config"]
    paths = {name: route["path"] for name, route in given.items()}
    assert paths == {
        "liveness_route": "/health/live",
        "readiness_route": "/health/ready",
        "scoring_route": "/predict",
    }
    assert {paths["liveness_route"], paths["readiness_route"]} <= routes("GET")
    assert paths["scoring_route"] in routes("POST")
    assert {route["port"] for route in given.values()} == {8080}


def test_azure_ml_sends_no_more_at_a_time_than_the_queue_takes_and_enough_for_whole_batches(deployment) -> None:
    at_a_time = deployment["request_settings"]["max_concurrent_requests_per_instance"]
    assert 2 * Settings().max_batch_size <= at_a_time <= Settings().queue_size


def test_azure_ml_waits_longer_than_the_service_does(deployment) -> None:
    assert deployment["request_settings"]["request_timeout_ms"] > Settings().request_timeout_ms


# Container Apps


@pytest.fixture
def app() -> Any:
    return read(DEPLOY / "azure" / "container-app.yml")["properties"]


def test_container_app_is_asked_at_routes_of_the_service(app) -> None:
    (container,) = app["template"]["containers"]
    paths = {probe["type"]: probe["httpGet"]["path"] for probe in container["probes"]}
    assert paths == {"Startup": "/health/ready", "Readiness": "/health/ready", "Liveness": "/health/live"}
    assert set(paths.values()) <= routes("GET")
    ports = {probe["httpGet"]["port"] for probe in container["probes"]}
    assert ports == {app["configuration"]["ingress"]["targetPort"]} == {8080}


def test_container_app_has_two_minutes_to_load_within_what_azure_allows(app) -> None:
    (startup,) = [probe for probe in app["template"]["containers"][0]["probes"] if probe["type"] == "Startup"]
    assert startup["failureThreshold"] <= 10  # Azure's most
    assert startup["periodSeconds"] * startup["failureThreshold"] >= 120


def test_container_app_takes_keys_from_a_secret(app) -> None:
    (container,) = app["template"]["containers"]
    variables = {entry["name"]: entry for entry in container["env"]}
    assert variables.keys() <= settings()
    assert variables["REQUIRE_AUTH"]["value"] == "true"
    assert variables["API_KEYS"]["secretRef"] in [secret["name"] for secret in app["configuration"]["secrets"]]


def test_container_app_has_time_to_drain(app) -> None:
    assert app["template"]["terminationGracePeriodSeconds"] > Settings().drain_delay_s + Settings().drain_timeout_s


def test_container_app_scales_before_its_queue_is_full(app) -> None:
    (rule,) = app["template"]["scale"]["rules"]
    assert int(rule["http"]["metadata"]["concurrentRequests"]) < Settings().queue_size
