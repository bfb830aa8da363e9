"""The Open Inference Protocol, spoken by clients of others as they are on the package index."""

import json
import subprocess
import sys

import pytest

from tests.e2e.service import PATIENCE_S, PICTURES, ROOT, Service

CLIENTS = ROOT / "tests" / "e2e" / "clients"
PYTHON = ROOT / ".venv-clients" / "open_inference" / "bin" / "python"


@pytest.mark.skipif(not PYTHON.exists(), reason="`make test` installs the clients")
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
    command = [PYTHON, CLIENTS / script, str(shipped.http.base_url).rstrip("/"), PICTURES / "espresso_cup.jpg"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert len(done.stdout.split()) >= 6  # the cases that it went through


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
