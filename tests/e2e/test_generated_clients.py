"""Clients that generators make of the OpenAPI document: they compile, and their calls are answered."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.service import PATIENCE_S, PICTURES, ROOT, Service

CLIENTS = ROOT / "tests" / "e2e" / "clients"
INSTALLED = ROOT / ".venv-clients"
PYTHON = INSTALLED / "openapi_python" / "bin"
TYPESCRIPT = INSTALLED / "typescript" / "node_modules"
RANGE = "Unsupported content type image/*"  # a generator takes no range; octet-stream is the same there


def _run(*command: str | Path, folder: Path, environment: Mapping[str, str] | None = None) -> str:
    path = f"{PYTHON}{os.pathsep}{os.environ['PATH']}"
    env = {"PATH": path, "HOME": str(folder), **(environment or {})}
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=PATIENCE_S, cwd=folder, env=env)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture
def document(shipped: Service, tmp_path: Path) -> Path:
    path = tmp_path / "openapi.json"
    path.write_bytes(shipped.http.get("/openapi.json").content)
    return path


@pytest.mark.skipif(not PYTHON.exists(), reason="`make test` installs openapi-python-client")
def test_client_that_is_generated_for_python_calls_every_protocol(shipped: Service, document: Path) -> None:
    folder = document.parent
    generate = ("openapi-python-client", "generate", "--path", document, "--output-path", "demitasse_client")
    said = _run(PYTHON / generate[0], *generate[1:], "--meta", "none", folder=folder)
    warnings = [line for line in said.splitlines() if line.startswith("WARNING")]
    assert len(warnings) == said.count(RANGE), said
    assert "will not be generated" not in said
    made = {path.stem for path in (folder / "demitasse_client" / "api").rglob("*.py")} - {"__init__"}
    assert made == {operation["operationId"] for operation in _operations(document)}

    script = CLIENTS / "openapi_python.py"
    strict = ("--strict", "--follow-imports", "silent", "--config-file", "", "--python-executable", PYTHON / "python")
    _run(sys.executable, "-m", "mypy", *strict, script, folder=folder, environment={"MYPYPATH": str(folder)})

    address, picture = str(shipped.http.base_url), PICTURES / "espresso_cup.jpg"
    found = _run(PYTHON / "python", script, address, picture, folder=folder, environment={"PYTHONPATH": str(folder)})
    assert json.loads(found) == {
        "models": list(shipped.live()),
        "predict": ["espresso"] * 3,
        "predict_batch": 2,
        "error": [404, "unknown_model"],
        "v2_infer": ["probabilities", "label"],
        "tfs_infer": "espresso",
    }


@pytest.mark.skipif(shutil.which("node") is None, reason="Node.js is not installed: no types for TypeScript were made")
@pytest.mark.skipif(not TYPESCRIPT.exists(), reason="`make test` installs openapi-typescript with npm, which failed")
def test_types_that_are_generated_for_typescript_fit_calls_with_fetch(shipped: Service, document: Path) -> None:
    folder = document.parent
    for path in (CLIENTS / "typescript").iterdir():
        shutil.copy(path, folder)
    (folder / "node_modules").symlink_to(TYPESCRIPT)
    tools = folder / "node_modules" / ".bin"
    _run(tools / "openapi-typescript", document, "--output", "schema.d.ts", folder=folder)
    _run(tools / "tsc", "--project", ".", folder=folder)
    address, picture = str(shipped.http.base_url).rstrip("/"), PICTURES / "espresso_cup.jpg"
    found = json.loads(_run("node", "--no-warnings", "call.js", address, picture, folder=folder))
    assert found["models"] == list(shipped.live())
    assert found["error"] == ["unknown_model", 0]
    assert (found["predict"][0], len(found["predict"])) == ("espresso", 2)


def _operations(document: Path) -> list[dict[str, Any]]:
    paths = json.loads(document.read_bytes())["paths"]
    return [operation for path in paths.values() for operation in path.values()]
