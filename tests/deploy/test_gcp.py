"""deploy/gcp: the discovery documents of Google's interfaces take the files, and what they say fits the service."""

import json
from typing import Any

import pytest
import yaml

from app.settings import Settings
from tests.deploy.conftest import DEPLOY
from tests.deploy.facts import routes, settings

KINDS = {
    "cloud-run.yml": "cloud-run",
    "vertex-model.json": "vertex-upload",
    "vertex-endpoint.json": "vertex-endpoint",
    "vertex-deployment.json": "vertex-deploy",
}


@pytest.mark.parametrize("name", KINDS)
def test_google_takes_the_file(name: str, filled, ask_vendor) -> None:
    assert ask_vendor(KINDS[name], filled(f"gcp/{name}")) == []


@pytest.mark.parametrize(
    ("name", "word", "wrong"),
    [
        ("cloud-run.yml", "containerConcurrency", "containerConcurency"),
        ("vertex-model.json", "failureThreshold", "failureTreshold"),
        ("vertex-endpoint.json", "dedicatedEndpointEnabled", "dedicatedEndpoint"),
        ("vertex-deployment.json", "machineType", "machineTyp"),
    ],
)
def test_google_does_not_take_a_word_it_does_not_know(name: str, word: str, wrong: str, filled, ask_vendor) -> None:
    path = filled(f"gcp/{name}")
    path.write_text(path.read_text().replace(word, wrong))
    assert wrong in str(ask_vendor(KINDS[name], path))


# Cloud Run


@pytest.fixture
def revision() -> Any:
    return yaml.safe_load((DEPLOY / "gcp" / "cloud-run.yml").read_text())["spec"]["template"]


def test_cloud_run_asks_routes_of_the_service(revision) -> None:
    (container,) = revision["spec"]["containers"]
    paths = {name: container[name]["httpGet"]["path"] for name in ("startupProbe", "livenessProbe")}
    assert paths == {"startupProbe": "/health/ready", "livenessProbe": "/health/live"}
    assert set(paths.values()) <= routes("GET")


def test_cloud_run_gives_two_minutes_to_load_within_what_it_allows(revision) -> None:
    startup = revision["spec"]["containers"][0]["startupProbe"]
    assert startup["timeoutSeconds"] <= startup["periodSeconds"]
    assert 120 <= startup["periodSeconds"] * startup["failureThreshold"] <= 240


def test_cloud_run_sends_no_more_at_a_time_than_the_queue_takes(revision) -> None:
    assert 2 * Settings().max_batch_size <= revision["spec"]["containerConcurrency"] <= Settings().queue_size


def test_cloud_run_waits_longer_than_the_service_does(revision) -> None:
    assert revision["spec"]["timeoutSeconds"] * 1000 > Settings().request_timeout_ms


def test_service_drains_within_the_ten_seconds_of_cloud_run() -> None:
    assert Settings().drain_delay_s + Settings().drain_timeout_s < 10


def test_cloud_run_takes_keys_from_a_secret_and_sets_no_port(revision) -> None:
    given = {entry["name"]: entry for entry in revision["spec"]["containers"][0]["env"]}
    assert given.keys() == {"REQUIRE_AUTH", "API_KEYS"} <= settings()
    assert "secretKeyRef" in given["API_KEYS"]["valueFrom"]


# Vertex AI


def test_vertex_asks_routes_of_the_service() -> None:
    container = json.loads((DEPLOY / "gcp" / "vertex-model.json").read_text())["model"]["containerSpec"]
    probes = {name: probe["httpGet"]["path"] for name, probe in container.items() if name.endswith("Probe")}
    assert probes == {
        "startupProbe": "/health/ready",
        "healthProbe": "/health/ready",
        "livenessProbe": "/health/live",
    }
    assert set(probes.values()) <= routes("GET")
    # What Vertex sets as AIP_PREDICT_ROUTE must not be a route that speaks another protocol
    assert container["predictRoute"] not in routes("POST")
    assert container["ports"] == [{"containerPort": 8080}]


def test_vertex_waits_longer_than_the_service_does() -> None:
    endpoint = json.loads((DEPLOY / "gcp" / "vertex-endpoint.json").read_text())
    waits_s = float(endpoint["clientConnectionConfig"]["inferenceTimeout"].removesuffix("s"))
    assert waits_s * 1000 > Settings().request_timeout_ms
