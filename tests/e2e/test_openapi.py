"""The real process answers as its OpenAPI document says, whatever is sent: requests are made up by schemathesis."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.service import PATIENCE_S, ROOT, Service

# All but two: that data which fits its schema is taken, which no schema of bytes can promise for a picture, and that
# methods which are not listed answer 405, for `GET /v1/models/x:predict` asks for the status of a model of that name
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "missing_required_header",
    "allow_header_conformance",
)
OPTIONS = ("--phases", "examples,coverage,fuzzing", "--max-examples", "3", "--generation-deterministic")


@pytest.fixture
def small(start: Callable[..., Service], tmp_path: Path) -> Service:
    """A service with the smallest model."""
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "mnist").symlink_to(ROOT / "models" / "mnist")
    return start(MODEL_REPOSITORY=str(tmp_path / "models"), AIP_PREDICT_ROUTE="/vertex").wait_until_ready()


def test_answers_are_those_of_the_document(small: Service, tmp_path: Path) -> None:
    program = Path(sys.executable).with_name("st")
    where = f"{str(small.http.base_url).rstrip('/')}/openapi.json"
    command = [program, "run", where, *OPTIONS, "--checks", ",".join(CHECKS), "--continue-on-failure", "--no-color"]
    env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    done = subprocess.run(
        command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    operations = sum(len(path) for path in small.http.get("/openapi.json").json()["paths"].values())
    assert f"Tested: {operations}" in done.stdout
    assert not [line for line in small.log() if line["level"] == "error"]
