"""Files of deploy/ with their placeholders filled in, and what the vendors' tools say of them."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
PLACEHOLDER = re.compile(r"\$\{([A-Z_]+)\}")
PLACEHOLDERS = {
    "API_KEYS": "caller:" + 64 * "0",
    "ENVIRONMENT_ID": "/subscriptions/s/resourceGroups/g/providers/Microsoft.App/managedEnvironments/e",
    "IDENTITY_ID": "/subscriptions/s/resourceGroups/g/providers/Microsoft.ManagedIdentity/userAssignedIdentities/i",
    "IMAGE": "registry.example.com/demitasse@sha256:" + 64 * "0",
    "LOCATION": "westeurope",
    "MODEL": "projects/p/locations/europe-west4/models/m",
    "REGISTRY": "registry.example.com",
}


@pytest.fixture
def filled(tmp_path: Path) -> Callable[[str], Path]:
    """A file below deploy/ as `envsubst` would leave it."""

    def fill(name: str) -> Path:
        text = (DEPLOY / name).read_text(encoding="utf-8")
        path = tmp_path / Path(name).name
        path.write_text(PLACEHOLDER.sub(lambda match: PLACEHOLDERS[match[1]], text), encoding="utf-8")
        return path

    return fill


@pytest.fixture(scope="session")
def ask_vendor() -> Callable[[str, Path], Any]:
    """What vendors.py says, by kind, of a file."""
    python = ROOT / ".venv-deploy" / "bin" / "python"
    if not python.exists():
        pytest.fail(f"the vendors' tools are not installed in {python.parents[1]}; `make test` does that")

    def ask(kind: str, path: Path) -> Any:
        command = [python, Path(__file__).with_name("vendors.py"), kind, path]
        env = {"PATH": os.environ["PATH"], "HOME": str(path.parent)}
        done = subprocess.run(command, cwd=path.parent, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        sys.stderr.write(done.stderr)
        return json.loads(done.stdout)

    return ask
