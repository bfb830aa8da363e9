"""deploy/kubernetes: what would be applied follows Kubernetes' schemas, and fits the service."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.settings import Settings
from tests.deploy import kustomize
from tests.deploy.conftest import DEPLOY
from tests.deploy.facts import routes, settings

KUBERNETES = DEPLOY / "kubernetes"
VARIANTS = ["cpu", "gpu"]
HANGING_S = 5  # how long a process with workers that hang takes beyond its drain


@pytest.fixture(params=VARIANTS)
def resources(request: pytest.FixtureRequest) -> list[kustomize.Resource]:
    return kustomize.build(KUBERNETES / request.param)


def one(resources: list[kustomize.Resource], kind: str) -> Any:
    (found,) = [resource for resource in resources if resource["kind"] == kind]
    return found["spec"]


def pod_of(resources: list[kustomize.Resource]) -> Any:
    return one(resources, "Deployment")["template"]["spec"]


def inference_service() -> Any:
    (found,) = kustomize.load(KUBERNETES / "kserve" / "inference-service.yaml")
    return found


def all_pods() -> list[Any]:
    return [
        *(pod_of(kustomize.build(KUBERNETES / name)) for name in VARIANTS),
        inference_service()["spec"]["predictor"],
    ]


def environment(container: Any) -> dict[str, str]:
    return {entry["name"]: entry["value"] for entry in container["env"]}


# The vendors' word


def test_resources_follow_the_published_schemas(resources, ask_vendor, tmp_path: Path) -> None:
    path = tmp_path / "all.yaml"
    path.write_text(yaml.safe_dump_all(resources))
    assert ask_vendor("kubernetes", path) == []


def test_the_schemas_refuse_a_word_that_kubernetes_does_not_know(ask_vendor, tmp_path: Path) -> None:
    resources = kustomize.build(KUBERNETES / "cpu")
    pod_of(resources)["containers"][0]["startupProbe"]["failureTreshold"] = 1
    path = tmp_path / "all.yaml"
    path.write_text(yaml.safe_dump_all(resources))
    (complaint,) = ask_vendor("kubernetes", path)
    assert "failureTreshold" in complaint


def test_service_monitor_follows_the_operators_schema(ask_vendor) -> None:
    assert ask_vendor("service-monitor", KUBERNETES / "monitoring" / "service-monitor.yaml") == []


def test_inference_service_is_a_pod_with_what_kserve_adds(ask_vendor, tmp_path: Path) -> None:
    """KServe's schema is in no package; a predictor of one's own is the spec of a pod, inline, and these fields."""
    resource = inference_service()
    assert (resource["apiVersion"], resource["kind"]) == ("serving.kserve.io/v1beta1", "InferenceService")
    added = {"minReplicas": int, "maxReplicas": int, "scaleTarget": int, "scaleMetric": str, "timeout": int}
    predictor = resource["spec"].pop("predictor")
    assert resource["spec"] == {}
    own = {name: predictor.pop(name) for name in added}
    assert {name: type(value) for name, value in own.items()} == added
    assert [container["name"] for container in predictor["containers"]] == ["kserve-container"]
    path = tmp_path / "pod.yaml"
    path.write_text(yaml.safe_dump({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": predictor}))
    assert ask_vendor("kubernetes", path) == []


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl, which has kustomize inside, is not installed")
@pytest.mark.parametrize("name", VARIANTS)
def test_kustomize_makes_of_it_what_these_tests_look_at(name: str) -> None:
    command = ["kubectl", "kustomize", str(KUBERNETES / name)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)

    def in_order(resources: list[kustomize.Resource]) -> list[Any]:
        for container in kustomize.containers(resources):
            container["env"].sort(key=json.dumps)
        return sorted(resources, key=kustomize.identity)

    theirs = list(yaml.safe_load_all(done.stdout))
    assert in_order(theirs) == in_order(kustomize.build(KUBERNETES / name))


# The parts, to each other


def test_everything_selects_the_pods_of_the_deployment(resources) -> None:
    labels = one(resources, "Deployment")["template"]["metadata"]["labels"]
    monitor = kustomize.load(KUBERNETES / "monitoring" / "service-monitor.yaml")[0]["spec"]
    selectors = [
        one(resources, "Deployment")["selector"]["matchLabels"],
        one(resources, "Service")["selector"],
        one(resources, "PodDisruptionBudget")["selector"]["matchLabels"],
        one(resources, "NetworkPolicy")["podSelector"]["matchLabels"],
        *(spread["labelSelector"]["matchLabels"] for spread in pod_of(resources)["topologySpreadConstraints"]),
        monitor["selector"]["matchLabels"],
    ]
    assert selectors == [labels] * len(selectors)


def test_ports_that_are_named_are_those_of_the_container(resources) -> None:
    (container,) = pod_of(resources)["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    service = {port["name"]: port["targetPort"] for port in one(resources, "Service")["ports"]}
    (ingress,) = one(resources, "NetworkPolicy")["ingress"]
    assert service == {name: name for name in ports}
    assert [port["port"] for port in ingress["ports"]] == list(ports)
    assert {probe["httpGet"]["port"] for probe in probes(container).values()} == {"http"}
    assert ports == {"http": 8080, "metrics": int(environment(container)["METRICS_PORT"])}


def test_prometheus_is_sent_to_the_port_of_the_metrics(resources) -> None:
    monitor = kustomize.load(KUBERNETES / "monitoring" / "service-monitor.yaml")[0]["spec"]
    (endpoint,) = monitor["endpoints"]
    assert endpoint["port"] in {port["name"] for port in one(resources, "Service")["ports"]}
    assert endpoint["path"] in routes("GET")


def test_autoscaler_asks_for_a_metric_that_the_adapter_gives_it(resources) -> None:
    autoscaler = one(resources, "HorizontalPodAutoscaler")
    assert autoscaler["scaleTargetRef"]["name"] == "demitasse"
    assert "replicas" not in one(resources, "Deployment")
    (asked,) = [metric["pods"]["metric"]["name"] for metric in autoscaler["metrics"] if metric["type"] == "Pods"]
    values = yaml.safe_load((KUBERNETES / "monitoring" / "adapter-values.yaml").read_text())
    (rule,) = values["rules"]["custom"]
    assert asked == rule["name"]["as"] == rule["seriesQuery"].partition("{")[0]


# The service


def probes(container: Any) -> dict[str, Any]:
    return {name: probe for name, probe in container.items() if name.endswith("Probe")}


@pytest.mark.parametrize("pod", all_pods())
def test_probes_ask_routes_that_are_there(pod) -> None:
    (container,) = pod["containers"]
    paths = {name: probe["httpGet"]["path"] for name, probe in probes(container).items()}
    ready, live = "/health/ready", "/health/live"
    assert paths == {"startupProbe": ready, "readinessProbe": ready, "livenessProbe": live}
    assert {ready, live} <= routes("GET")


@pytest.mark.parametrize("pod", all_pods())
def test_probes_wait_no_longer_than_until_the_next_and_give_models_time_to_load(pod) -> None:
    (container,) = pod["containers"]
    assert all(probe["timeoutSeconds"] <= probe["periodSeconds"] for probe in probes(container).values())
    startup = container["startupProbe"]
    assert startup["periodSeconds"] * startup["failureThreshold"] >= 120


@pytest.mark.parametrize("pod", all_pods())
def test_grace_period_lets_the_service_drain(pod) -> None:
    (container,) = pod["containers"]
    delay_s, drain_s = float(environment(container)["DRAIN_DELAY_S"]), Settings().drain_timeout_s
    assert pod["terminationGracePeriodSeconds"] > delay_s + drain_s + HANGING_S


@pytest.mark.parametrize("pod", all_pods())
def test_pod_has_no_rights_it_does_not_need(pod) -> None:
    (container,) = pod["containers"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    (volume,) = pod["volumes"]
    assert [mount["name"] for mount in container["volumeMounts"]] == [volume["name"]]
    assert volume["emptyDir"]["sizeLimit"]


@pytest.mark.parametrize("pod", all_pods())
def test_user_is_that_of_the_image(pod) -> None:
    user = re.search(r"^USER (\d+):(\d+)$", (DEPLOY.parent / "Dockerfile.gpu").read_text(), re.MULTILINE)
    assert user is not None
    assert [str(pod["securityContext"][name]) for name in ("runAsUser", "runAsGroup")] == list(user.groups())


@pytest.mark.parametrize("pod", all_pods())
def test_variables_are_settings_of_the_service(pod) -> None:
    (container,) = pod["containers"]
    given = environment(container)
    assert given.keys() <= settings()
    Settings.model_validate({name.lower(): value for name, value in given.items()})


@pytest.mark.parametrize("pod", all_pods())
def test_processor_is_limited_for_the_service_counts_its_threads_by_it(pod) -> None:
    (container,) = pod["containers"]
    resources = container["resources"]
    assert resources["limits"]["cpu"] == resources["requests"]["cpu"]
    assert {"cpu", "memory"} <= resources["requests"].keys()


def test_only_the_gpu_variant_asks_for_a_gpu() -> None:
    asked = {name: pod_of(kustomize.build(KUBERNETES / name))["containers"][0]["resources"] for name in VARIANTS}
    assert asked["gpu"]["limits"]["nvidia.com/gpu"] == "1"
    assert "nvidia.com/gpu" not in asked["cpu"]["limits"]
