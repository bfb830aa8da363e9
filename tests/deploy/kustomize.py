"""As much of kustomize as deploy/kubernetes uses: resources, strategic merges of patches, and names of images."""

from pathlib import Path
from typing import Any

import yaml

Resource = dict[str, Any]

_USED = {"apiVersion", "kind", "resources", "patches", "images"}


def build(folder: Path) -> list[Resource]:
    """What `kubectl kustomize FOLDER` prints. Raises `ValueError` for what is not understood here."""
    plan = yaml.safe_load((folder / "kustomization.yaml").read_text(encoding="utf-8"))
    if unknown := plan.keys() - _USED:
        raise ValueError(f"{folder}: this does not know {unknown}")
    resources: list[Resource] = []
    for name in plan["resources"]:
        path = folder / name
        resources += build(path) if path.is_dir() else load(path)
    for patch in plan.get("patches", []):
        (change,) = load(folder / patch["path"])
        (target,) = [one for one in resources if identity(one) == identity(change)]
        _merge(target, change)
    for image in plan.get("images", []):
        for container in containers(resources):
            if container["image"] == image["name"]:
                container["image"] = f"{image['newName']}:{image['newTag']}"
    return resources


def load(path: Path) -> list[Resource]:
    return list(yaml.safe_load_all(path.read_text(encoding="utf-8")))


def identity(resource: Resource) -> tuple[str, str, str]:
    return resource["apiVersion"], resource["kind"], resource["metadata"]["name"]


def containers(resources: list[Resource]) -> list[Resource]:
    pods = [one["spec"]["template"]["spec"] for one in resources if one["kind"] == "Deployment"]
    return [container for pod in pods for container in pod["containers"]]


def _merge(target: Resource, change: Resource) -> None:
    for key, value in change.items():
        old = target.get(key)
        if isinstance(value, dict) and isinstance(old, dict):
            _merge(old, value)
        elif isinstance(value, list) and isinstance(old, list):
            _merge_named(old, value)
        else:
            target[key] = value


def _merge_named(old: list[Resource], changes: list[Resource]) -> None:
    """Kubernetes merges lists of named things by their names; patches here have no others."""
    by_name = {one["name"]: one for one in old}
    for change in changes:
        if change["name"] in by_name:
            _merge(by_name[change["name"]], change)
        else:
            old.append(change)
