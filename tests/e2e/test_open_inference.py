"""The Open Inference Protocol, spoken by clients of others as they are on the package index."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.service import PATIENCE_S, PICTURES, ROOT, Service

CLIENTS = ROOT / "tests" / "e2e" / "clients"
PYTHON = ROOT / ".venv-clients" / "open_inference" / "bin" / "python"


installed = pytest.mark.skipif(not PYTHON.exists(), reason="`make test` installs the clients")


def _run(*arguments: str | Path) -> str:
    """What it prints, in the clients' environment."""
    command = [PYTHON, *arguments]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=PATIENCE_S, cwd=ROOT)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


@installed
@pytest.mark.parametrize(
    "script",
    [
        "triton.py",
        pytest.param(
            "kserve_rest.py", marks=pytest.mark.skipif(sys.version_info >= (3, 14), reason="kserve is not for it yet")
        ),
    ],
)
def test_client_of_others_is_answered(shipped: Service, script: str) -> None:
    url = str(shipped.http.base_url).rstrip("/")
    assert (
        len(_run(CLIENTS / script, url, PICTURES / "espresso_cup.jpg").split()) >= 6
    )  # the cases that it went through


@installed
def test_example_of_the_readme_does_what_it_says(shipped: Service) -> None:
    code = (ROOT / "README.md").read_text(encoding="utf-8").split("```python\n")[1].split("```")[0]
    assert "127.0.0.1:8080" in code
    printed = _run("-c", code.replace("127.0.0.1:8080", f"127.0.0.1:{shipped.port}"))
    assert printed.strip() == code.split("# ")[1].strip() == "[b'espresso']"


def test_bare_photo_is_answered_without_any_json_in_front(shipped: Service, espresso: bytes) -> None:
    answer = shipped.http.post(
        "/v2/models/imagenet/infer", content=espresso, headers={"Inference-Header-Content-Length": "0"}
    )
    assert answer.status_code == 200
    length = int(answer.headers["inference-header-content-length"])
    probabilities, label = json.loads(answer.content[:length])["outputs"]
    assert probabilities["parameters"] == {"binary_data_size": 4000}
    assert answer.content[length + 4000 :] == b"\x08\0\0\0espresso"
    assert label["parameters"] == {"binary_data_size": 12}
