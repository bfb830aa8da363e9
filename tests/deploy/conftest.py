"""Files of deploy/ with their placeholders filled in, and what the vendors' tools say of them."""

import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator
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
def ask_vendor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str, Path], Any]]:
    """What vendors.py says, by kind, of a file: one process for all, for its libraries take seconds to be imported."""
    python = ROOT / ".venv-deploy" / "bin" / "python"
    if not python.exists():
        pytest.fail(f"the vendors' tools are not installed in {python.parents[1]}; `make test` does that")
    home = tmp_path_factory.mktemp("vendors")
    command = [python, Path(__file__).with_name("vendors.py")]
    env = {"PATH": os.environ["PATH"], "HOME": str(home)}
    with subprocess.Popen(
        command, cwd=home, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as vendors:
        assert vendors.stdin is not None
        assert vendors.stdout is not None
        asking, answers = vendors.stdin, vendors.stdout

        def ask(kind: str, path: Path) -> Any:
            asking.write(f"{kind} {path}\n")
            asking.flush()
            answer = answers.readline()
            assert answer, "the vendors' tools have ended; see stderr"
            return json.loads(answer)

        yield ask
        asking.close()
