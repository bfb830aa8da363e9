"""deploy/nginx/demitasse.conf as it is, in front of two real processes that die, start again and drain under load."""

import os
import re
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from app.settings import Settings
from tests.app.conftest import png
from tests.deploy.conftest import DEPLOY, ROOT
from tests.e2e.service import PATIENCE_S, Service, free_port

CONFIGURATION = (DEPLOY / "nginx" / "demitasse.conf").read_text(encoding="utf-8")
NGINX = shutil.which("nginx", path=f"{os.environ['PATH']}{os.pathsep}/usr/sbin")
PICTURE = png(255, (28, 28))
CALLERS = 3
SOME = 60  # answers, between one event and the next

installed = pytest.mark.skipif(NGINX is None, reason="nginx is not installed: two replicas behind it were not tried")


class Proxy:
    """nginx in the foreground, with a folder of its own and no rights; its configuration is the one for users."""

    def __init__(self, folder: Path, *replicas: int) -> None:
        self.port = free_port()
        text = CONFIGURATION.replace("listen 8000;", f"listen 127.0.0.1:{self.port};")
        for number, port in enumerate(replicas, 1):
            text = text.replace(f"demitasse-{number}:8080", f"127.0.0.1:{port}")
        temporary = "".join(
            f"{kind}_temp_path {kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        (folder / "nginx.conf").write_text(
            f"daemon off; master_process off; pid nginx.pid; error_log stderr;\n"
            f"events {{}}\nhttp {{ access_log off;\n{temporary}{text}}}\n"
        )
        command = [str(NGINX), "-p", str(folder), "-c", "nginx.conf", "-e", "stderr"]
        with (folder / "log").open("w") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        self.url = f"http://127.0.0.1:{self.port}"

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(PATIENCE_S)


class Load:
    """Callers that send one picture after another. What comes back is counted, what fails is kept."""

    def __init__(self, url: str, retries: int = 0) -> None:
        self.answered = 0
        self.failed: list[str] = []
        self._url, self._retries = url, retries
        self._stopped = threading.Event()
        self._threads = [threading.Thread(target=self._call_on) for _ in range(CALLERS)]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join(PATIENCE_S)

    def _call_on(self) -> None:
        with httpx.Client(base_url=self._url, timeout=PATIENCE_S) as client:
            while not self._stopped.is_set():
                failure = self._call(client, self._retries)
                if failure is None:
                    self.answered += 1
                else:
                    self.failed.append(failure)

    def _call(self, client: httpx.Client, retries: int) -> str | None:
        """Why a call has failed in the end. As deploy/README.md calls, and after lost connections as well."""
        wait_s = 0.2
        try:
            answer = client.post("/predict", content=PICTURE, headers={"content-type": "image/png"})
            if answer.status_code == 200:
                return None if answer.json()["predictions"] else "no predictions"
            failure = answer.text
            if answer.status_code not in (429, 502, 503, 504):
                return failure
            wait_s = answer.json()["error"].get("retry_after_s", wait_s)
        except httpx.TransportError as error:
            failure = repr(error)
        if not retries:
            return failure
        time.sleep(wait_s)
        return self._call(client, retries - 1)


def _taken(service: Service) -> float:
    """Pictures that a replica has answered."""
    with suppress(httpx.TransportError):
        lines = service.http.get("/metrics").text.splitlines()
        line = 'demitasse_requests_total{method="POST",route="/predict",status="200"}'
        return sum(float(one.split()[-1]) for one in lines if one.startswith(line))
    return 0.0


@pytest.fixture
def replica(tmp_path: Path) -> Iterator[Callable[..., Service]]:
    """Starts a replica with the smallest model."""
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "mnist").symlink_to(ROOT / "models" / "mnist")
    started: list[Service] = []

    def start(port: int | None = None) -> Service:
        log = tmp_path / f"log-{len(started)}.jsonl"
        settings = {"MODEL_REPOSITORY": str(tmp_path / "models"), "DRAIN_DELAY_S": "0.3"}
        started.append(Service(log, port=port, **settings))
        return started[-1]

    yield start
    for service in started:
        service.stop()


@pytest.fixture
def proxy(tmp_path: Path, replica: Callable[..., Service]) -> Iterator[tuple[Proxy, Service, Service]]:
    first, second = replica(), replica()
    in_front = Proxy(tmp_path, first.port, second.port)
    first.wait_until_ready()
    second.wait_until_ready()
    yield in_front, first, second
    in_front.stop()


@installed
def test_replica_that_dies_or_drains_costs_no_request(
    proxy: tuple[Proxy, Service, Service], replica: Callable[..., Service]
) -> None:
    in_front, first, second = proxy
    plain, patient = Load(in_front.url), Load(in_front.url, retries=5)

    def some_more(service: Service) -> None:
        before = plain.answered, patient.answered
        enough = (before[0] + SOME, before[1] + SOME)
        service.wait_for(lambda: plain.answered >= enough[0] and patient.answered >= enough[1], "some more answers")

    try:
        some_more(first)
        assert min(_taken(first), _taken(second)) > SOME / 4
        assert plain.failed == []

        first.stop(signal.SIGKILL)
        some_more(second)
        assert plain.failed == []  # what it was answering went to the other one

        again = replica(first.port).wait_until_ready()
        again.wait_for(lambda: _taken(again) > SOME / 4, "the replica's return")
        assert second.stop(signal.SIGTERM) == 0
        some_more(again)
        assert plain.failed == []
    finally:
        plain.stop()
        patient.stop()
    assert patient.failed == []


@installed
def test_what_nginx_says_itself_has_the_one_shape(tmp_path: Path) -> None:
    """No replica answers."""
    in_front = Proxy(tmp_path, free_port(), free_port())
    try:
        with httpx.Client(
            base_url=in_front.url, timeout=PATIENCE_S, transport=httpx.HTTPTransport(retries=20)
        ) as client:
            found = {
                (answer.status_code, answer.json()["error"]["code"], answer.json()["error"]["request_id"])
                for answer in (
                    client.post("/predict", content=PICTURE, headers={"x-request-id": "mine"}),
                    client.post("/predict", content=bytes(2**21 * 10 + 1), headers={"x-request-id": "large"}),
                    client.get("/metrics", headers={"x-request-id": "hidden"}),
                )
            }
            quoted = client.get("/models", headers={"x-request-id": '"}'})
    finally:
        in_front.stop()
    assert found == {
        (503, "not_ready", "mine"),
        (413, "body_too_large", "large"),
        (404, "not_found", "hidden"),
    }
    assert quoted.json()["error"]["retry_after_s"] == 1
    assert quoted.headers["retry-after"] == "1"


def test_numbers_fit_those_of_the_service() -> None:
    settings = Settings()
    (size,) = re.findall(r"client_max_body_size (\d+);", CONFIGURATION)
    assert int(size) == settings.max_body_bytes
    (read_s,) = re.findall(r"proxy_read_timeout (\d+)s;", CONFIGURATION)
    assert int(read_s) * 1000 > settings.request_timeout_ms
    (idle_s,) = re.findall(r"keepalive_timeout (\d+)s;", CONFIGURATION)
    assert int(idle_s) < settings.keep_alive_s
