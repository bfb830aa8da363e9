"""`.venv-deploy/bin/python tests/deploy/vendors.py`: what a vendor's own tool or model says of a file.

For each line `KIND FILE` that it reads it prints a line of JSON: a list of complaints, which is empty where there are
none; for `promql`, what the expressions ask for.
It runs in an environment of its own, in which nothing of the service is installed.
"""

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml


def kubernetes(path: Path) -> list[str]:
    """The published schemas of Kubernetes' own kinds; nothing is allowed that they do not name."""
    import kubernetes_validate

    complaints = []
    for document in yaml.safe_load_all(path.read_text()):
        try:
            kubernetes_validate.validate(document, kubernetes_validate.latest_version(), strict=True)
        except kubernetes_validate.ValidationError as error:
            complaints.append(f"{document['kind']}: {'.'.join(map(str, error.path))}: {error.message}")
    return complaints


def service_monitor(path: Path) -> list[str]:
    """Models generated from the Prometheus operator's CRDs."""
    from cloudcoil.models.prometheus_operator.v1 import ServiceMonitor

    document = yaml.safe_load(path.read_text())
    read = ServiceMonitor.model_validate(document).model_dump(by_alias=True, exclude_unset=True, mode="json")
    return _lost(document, read)


def azure_ml_endpoint(path: Path) -> list[str]:
    """The loader behind `az ml online-endpoint create`."""
    from azure.ai.ml import load_online_endpoint

    return _refusal(load_online_endpoint, path)


def azure_ml_deployment(path: Path) -> list[str]:
    """The loader behind `az ml online-deployment create`."""
    from azure.ai.ml import load_online_deployment

    return _refusal(load_online_deployment, path)


def container_app(path: Path) -> list[str]:
    """The models of Azure's management interface, which drop what they do not know."""
    from azure.mgmt.appcontainers.models import ContainerApp

    document = yaml.safe_load(path.read_text())
    return _lost(document, ContainerApp.deserialize(document).serialize(keep_readonly=True))


def cloudformation(path: Path) -> list[str]:
    """cfn-lint, which knows the resources of each region."""
    from cfnlint.api import lint_file

    return [str(match) for match in lint_file(path)]


def cloud_run(path: Path) -> list[str]:
    return _google("run", "v1", "Service", yaml.safe_load(path.read_text()))


def vertex_upload(path: Path) -> list[str]:
    return _vertex("UploadModelRequest", path)


def vertex_endpoint(path: Path) -> list[str]:
    return _vertex("Endpoint", path)


def vertex_deploy(path: Path) -> list[str]:
    return _vertex("DeployModelRequest", path)


def grafana(path: Path) -> list[str]:
    """Grafana's own models of a dashboard, which drop what they do not know."""
    from grafana_foundation_sdk.cog.encoder import JSONEncoder
    from grafana_foundation_sdk.cog.plugins import register_default_plugins
    from grafana_foundation_sdk.models.dashboard import Dashboard

    register_default_plugins()
    document = json.loads(path.read_text())
    return _lost(document, json.loads(JSONEncoder().encode(Dashboard.from_json(document))))


def promql(path: Path) -> list[dict[str, Any]]:
    """Of each expression in a JSON list: the metrics, and the labels that are asked of them."""
    import promql_parser

    found = []
    for text in json.loads(path.read_text()):
        metrics: set[str] = set()
        labels: set[str] = set()

        def look(node: Any, metrics: set[str] = metrics, labels: set[str] = labels) -> None:
            if isinstance(node, promql_parser.VectorSelector):
                metrics.add(node.name)
                labels.update(matcher.name for matcher in node.matchers.matchers)
            elif isinstance(node, promql_parser.AggregateExpr) and node.modifier is not None:
                labels.update(node.modifier.labels)
            elif isinstance(node, promql_parser.BinaryExpr) and node.modifier and node.modifier.matching:
                labels.update(node.modifier.matching.labels)

        promql_parser.walk(promql_parser.parse(text), look)
        found.append({"expression": text, "metrics": sorted(metrics), "labels": sorted(labels)})
    return found


def _vertex(schema: str, path: Path) -> list[str]:
    return _google("aiplatform", "v1", f"GoogleCloudAiplatformV1{schema}", json.loads(path.read_text()))


def _google(api: str, version: str, schema: str, document: Any) -> list[str]:
    """The discovery document of an interface, as JSON Schema; nothing is allowed that it does not name."""
    from googleapiclient.discovery_cache import get_static_doc
    from jsonschema import Draft202012Validator

    schemas = json.loads(get_static_doc(api, version))["schemas"]
    validator = Draft202012Validator({"$defs": {name: _as_json_schema(one) for name, one in schemas.items()}})
    errors = validator.evolve(schema={**validator.schema, "$ref": f"#/$defs/{schema}"}).iter_errors(document)
    return [f"{error.json_path}: {error.message}" for error in errors]


def _as_json_schema(node: Any) -> Any:
    if isinstance(node, list):
        return [_as_json_schema(one) for one in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        return {"$ref": f"#/$defs/{node['$ref']}"}
    if node.get("type") == "any":
        return {}
    kept = {key: value for key, value in node.items() if key in ("type", "enum", "items", "additionalProperties")}
    schema = {key: _as_json_schema(value) for key, value in kept.items()}
    if "properties" in node:
        schema["properties"] = {name: _as_json_schema(value) for name, value in node["properties"].items()}
        schema.setdefault("additionalProperties", False)
    return schema


def _refusal(load: Callable[[Path], object], path: Path) -> list[str]:
    try:
        load(path)
    except Exception as error:  # whatever it is, it is what a user would see
        return [str(error)]
    return []


def _lost(written: Any, read: Any, at: str = "$") -> list[str]:
    """Places at which the vendor's model kept something else than what was written."""
    return list(_differences(written, read, at))


def _differences(written: Any, read: Any, at: str) -> Iterator[str]:
    if isinstance(written, dict) and isinstance(read, dict):
        for key in written:
            yield from _differences(written[key], read.get(key), f"{at}.{key}")
    elif isinstance(written, list) and isinstance(read, list) and len(written) == len(read):
        for index, (one, other) in enumerate(zip(written, read, strict=True)):
            yield from _differences(one, other, f"{at}[{index}]")
    elif written != read:
        yield f"{at}: {written!r} was read as {read!r}"


if __name__ == "__main__":
    for line in sys.stdin:
        kind, _, file = line.rstrip("\n").partition(" ")
        sys.stdout.write(json.dumps(globals()[kind.replace("-", "_")](Path(file))) + "\n")
        sys.stdout.flush()
