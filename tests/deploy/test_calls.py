"""deploy/README.md: the calls, word for word, against the real process, whose queue is full at first."""

import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from tests.app.conftest import png
from tests.deploy.conftest import DEPLOY, ROOT
from tests.e2e.service import PATIENCE_S, Service

README = (DEPLOY / "README.md").read_text(encoding="utf-8")
CALLS = README.split("## Calling it\n")[1]
REFUSED = 'demitasse_requests_total{method="POST",route="/predict",status="429"}'
UNDER_WAY = 'demitasse_under_way_images{model="imagenet",version="1"}'


def snippet(language: str) -> str:
    (found,) = re.findall(rf"```{language}\n(.*?)```", CALLS, re.DOTALL)
    return found


def command(language: str) -> list[str]:
    """What runs the call of that language, in the root of the repository."""
    text = snippet(language)
    match language:
        case "bash":
            return ["bash", "-euo", "pipefail", "-c", text]
        case "python":
            return [sys.executable, "-W", "error", "-c", text]
        case _:
            return ["node", "--no-warnings", "--input-type=module", "--eval", text]


LANGUAGES = [
    "bash",
    "python",
    pytest.param(
        "javascript", marks=pytest.mark.skipif(shutil.which("node") is None, reason="Node.js is not installed")
    ),
]


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("held") / "held"


@pytest.fixture(scope="module")
def service(held: Path) -> Iterator[Service]:
    """With room for one picture, which a white one takes for as long as the file `held` is there."""
    settings = {"QUEUE_SIZE": "1", "REQUEST_TIMEOUT_MS": "60000", "DRAIN_DELAY_S": "0"}
    started = Service(held.with_name("log.jsonl"), "tests.deploy.held", HELD_BY=str(held), **settings)
    yield started.wait_until_ready()
    held.unlink(missing_ok=True)
    started.stop()


def metric(service: Service, line: str) -> float:
    lines = service.http.get("/metrics").text.splitlines()
    return sum(float(one.split()[-1]) for one in lines if one.startswith(line + " "))


def start(language: str, service: Service, **environment: str) -> "subprocess.Popen[str]":
    env = {"PATH": os.environ["PATH"], "KEY": "", "DEMITASSE": f"http://127.0.0.1:{service.port}", **environment}
    return subprocess.Popen(
        command(language), cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.mark.parametrize("language", LANGUAGES)
def test_call_is_answered_though_the_queue_was_full_at_first(language: str, service: Service, held: Path) -> None:
    refused = metric(service, REFUSED)
    held.touch()
    occupant = threading.Thread(target=service.http.post, args=("/predict",), kwargs={"content": png(255, (9, 9))})
    occupant.start()
    service.wait_for(lambda: metric(service, UNDER_WAY) == 1, "the picture that fills the queue")
    call = start(language, service)
    try:
        service.wait_for(lambda: metric(service, REFUSED) > refused, "a 429")
        held.unlink()
        out, err = call.communicate(timeout=PATIENCE_S)
    finally:
        held.unlink(missing_ok=True)
        call.kill()
        occupant.join(PATIENCE_S)
    assert (call.returncode, err) == (0, ""), out
    assert "espresso" in out


@pytest.mark.parametrize("language", LANGUAGES)
def test_call_fails_at_once_where_waiting_does_not_help(language: str, service: Service) -> None:
    """The address leads to a route that is not there."""
    refused = metric(service, REFUSED)
    call = start(language, service, DEMITASSE=f"http://127.0.0.1:{service.port}/nowhere")
    out, err = call.communicate(timeout=PATIENCE_S)
    assert call.returncode != 0
    assert "404" in out + err or "not_found" in out + err
    assert metric(service, REFUSED) == refused


# The commands of the platforms' pages


@pytest.mark.parametrize("page", sorted(DEPLOY.rglob("README.md")), ids=lambda path: path.parent.name)
def test_files_that_a_page_names_are_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    named = re.findall(r"\b((?:deploy|tests)/[\w./-]+\w)", text)
    linked = re.findall(r"\]\(([\w./-]+)\)", text)
    missing = [name for name in named if not (ROOT / name).exists()]
    assert missing + [name for name in linked if not (page.parent / name).exists()] == []


@pytest.mark.parametrize("page", sorted(DEPLOY.rglob("README.md")), ids=lambda path: path.parent.name)
def test_commands_of_a_page_are_those_of_a_shell(page: Path) -> None:
    for block in re.findall(r"```bash\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
        done = subprocess.run(["bash", "-n"], input=block, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", sorted(DEPLOY.rglob("README.md")), ids=lambda path: path.parent.name)
def test_python_of_a_page_can_be_read(page: Path) -> None:
    for block in re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
        compile(block, str(page), "exec")


def test_each_placeholder_of_a_file_is_filled_in_by_its_page() -> None:
    filled = {}
    for page in DEPLOY.rglob("README.md"):
        pattern = r"envsubst '([^']+)' (?:\\\n *)?<deploy/([\w./-]+)"
        for names, file in re.findall(pattern, page.read_text(encoding="utf-8")):
            filled[file] = set(re.findall(r"\$(\w+)", names))
    wanted = {}
    for path in [*DEPLOY.rglob("*.yml"), *DEPLOY.rglob("*.yaml"), *DEPLOY.rglob("*.json")]:
        if names := set(re.findall(r"\$\{([A-Z_]+)\}", path.read_text(encoding="utf-8"))):
            wanted[path.relative_to(DEPLOY).as_posix()] = names
    assert filled == wanted


def test_keys_are_made_as_the_page_says() -> None:
    block = README.split("## Keys\n")[1].split("```bash\n")[1].split("```")[0]
    env = {"PATH": os.environ["PATH"]}
    script = f'set -euo pipefail\n{block}\nprintf "%s\\n" "$KEY" "$API_KEYS"'
    done = subprocess.run(["bash", "-c", script], env=env, capture_output=True, text=True, check=True)
    key, line = done.stdout.split()
    name, digits = line.split(":")
    assert name == "my-caller"
    assert digits == sha256(key.encode()).hexdigest()
