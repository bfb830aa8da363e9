"""deploy/aws: cfn-lint takes the templates, and what they say fits the service."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from app.settings import Settings
from tests.deploy.conftest import DEPLOY
from tests.deploy.facts import routes, settings

TEMPLATES = ["ecs.yml", "sagemaker.yml"]
HANGING_S = 5  # how long a process with workers that hang takes beyond its drain


class CloudFormation(yaml.SafeLoader):
    """Reads `!Ref X` as {"Ref": "X"}, and the other short forms likewise."""


def _function(loader: yaml.SafeLoader, name: str, node: yaml.Node) -> dict[str, Any]:
    match node:
        case yaml.ScalarNode():
            return {name: loader.construct_scalar(node)}
        case yaml.SequenceNode():
            return {name: loader.construct_sequence(node, deep=True)}
        case _:
            return {name: loader.construct_mapping(node, deep=True)}


CloudFormation.add_multi_constructor("!", _function)


def resource(template: str, name: str) -> Any:
    text = (DEPLOY / "aws" / template).read_text(encoding="utf-8")
    return yaml.load(text, CloudFormation)["Resources"][name]["Properties"]  # noqa: S506  a subclass of the safe one


@pytest.mark.parametrize("template", TEMPLATES)
def test_cfn_lint_finds_nothing(template: str, ask_vendor) -> None:
    assert ask_vendor("cloudformation", DEPLOY / "aws" / template) == []


def test_cfn_lint_finds_a_word_that_aws_does_not_know(ask_vendor, tmp_path: Path) -> None:
    path = tmp_path / "ecs.yml"
    path.write_text((DEPLOY / "aws" / "ecs.yml").read_text().replace("StopTimeout", "StopTimeOut"))
    assert "StopTimeOut" in str(ask_vendor("cloudformation", path))


# ECS


@pytest.fixture
def container() -> Any:
    (found,) = resource("ecs.yml", "TaskDefinition")["ContainerDefinitions"]
    return found


def test_load_balancer_asks_for_readiness_and_sends_to_the_port_of_the_container(container) -> None:
    group = resource("ecs.yml", "TargetGroup")
    assert group["HealthCheckPath"] == "/health/ready"
    assert group["HealthCheckPath"] in routes("GET")
    assert group["HealthCheckTimeoutSeconds"] < group["HealthCheckIntervalSeconds"]
    (mapping,) = container["PortMappings"]
    (target,) = resource("ecs.yml", "Service")["LoadBalancers"]
    (opened,) = resource("ecs.yml", "TaskGroup")["SecurityGroupIngress"]
    assert {mapping["ContainerPort"], target["ContainerPort"], group["Port"], opened["FromPort"]} == {8080}
    assert target["ContainerName"] == container["Name"]


def test_ecs_asks_for_liveness_lest_it_kill_what_only_waits_for_a_model(container) -> None:
    assert "http://localhost:8080/health/live" in container["HealthCheck"]["Command"][-1]
    compile(container["HealthCheck"]["Command"][-1], "health check", "exec")


def test_tasks_have_time_to_drain(container) -> None:
    assert container["StopTimeout"] > Settings().drain_delay_s + Settings().drain_timeout_s + HANGING_S


def test_load_balancer_waits_for_the_longest_request_and_little_longer() -> None:
    deadline_s = Settings().request_timeout_ms / 1000
    attributes = {one["Key"]: one["Value"] for one in resource("ecs.yml", "TargetGroup")["TargetGroupAttributes"]}
    assert deadline_s < int(attributes["deregistration_delay.timeout_seconds"]) < 3 * deadline_s
    balancer = {one["Key"]: one["Value"] for one in resource("ecs.yml", "Balancer")["LoadBalancerAttributes"]}
    assert deadline_s < int(balancer["idle_timeout.timeout_seconds"])


def test_deployment_that_does_not_get_healthy_is_taken_back() -> None:
    deployment = resource("ecs.yml", "Service")["DeploymentConfiguration"]
    assert deployment["DeploymentCircuitBreaker"] == {"Enable": True, "Rollback": True}
    assert deployment["MinimumHealthyPercent"] == 100


def test_task_has_no_rights_it_does_not_need(container) -> None:
    assert container["ReadonlyRootFilesystem"] is True
    assert container["LinuxParameters"]["Capabilities"] == {"Drop": ["ALL"]}
    assert container["User"] == "10001:10001"
    assert "TaskRoleArn" not in resource("ecs.yml", "TaskDefinition")


def test_task_takes_keys_from_a_secret(container) -> None:
    given = {entry["Name"]: entry["Value"] for entry in container["Environment"]}
    assert given == {"REQUIRE_AUTH": "true"}
    assert [secret["Name"] for secret in container["Secrets"]] == ["API_KEYS"]
    assert {"REQUIRE_AUTH", "API_KEYS"} <= settings()


# SageMaker


def test_sagemaker_takes_its_time_to_load() -> None:
    (variant,) = resource("sagemaker.yml", "EndpointConfig")["ProductionVariants"]
    assert variant["ContainerStartupHealthCheckTimeoutInSeconds"] >= 120


def test_models_of_sagemaker_are_served_from_where_it_unpacks_them() -> None:
    container = resource("sagemaker.yml", "Model")["PrimaryContainer"]
    condition, given, otherwise = container["Environment"]["If"]
    assert (condition, given) == ("HasModelData", {"MODEL_REPOSITORY": "/opt/ml/model"})
    assert otherwise == {"Ref": "AWS::NoValue"}
    assert given.keys() <= settings()


def test_endpoint_config_has_no_name_for_it_can_not_be_changed_in_place() -> None:
    assert "EndpointConfigName" not in resource("sagemaker.yml", "EndpointConfig")
