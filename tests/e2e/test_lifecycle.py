"""Start and stop of the real process."""

import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import httpx
import pytest

from tests.e2e.service import PATIENCE_S, ROOT, Service


def test_start_says_address_models_and_a_command_to_paste(shipped: Service) -> None:
    messages = shipped.messages()
    assert f"http://127.0.0.1:{shipped.port}" in messages
    assert "live models: caltech101/1, cifar10/4, imagenet/1, mnist/1" in messages
    assert f"curl -F file=@tests/pictures/espresso_cup.jpg http://127.0.0.1:{shipped.port}/predict" in messages


@pytest.mark.parametrize("workers", ["1", "2"])
def test_sigterm_fails_readiness_first_answers_what_was_accepted_and_exits_0(
    start, imagenet: str, espresso: bytes, workers: str
) -> None:
    service = start(MODEL_REPOSITORY=imagenet, DRAIN_DELAY_S="1", WORKERS=workers).wait_until_ready()
    statuses: list[int] = []
    lost: list[httpx.TransportError] = []
    signalled = threading.Event()

    def call_until_refused() -> None:
        with httpx.Client(base_url=f"http://127.0.0.1:{service.port}", timeout=PATIENCE_S) as client:
            while True:
                try:
                    statuses.append(client.post("/predict", files={"file": espresso}).status_code)
                except httpx.TransportError as error:
                    # Refused, or sent over an idle connection at the moment when it was closed: never accepted
                    if not signalled.is_set() or isinstance(error, httpx.TimeoutException):
                        lost.append(error)
                    return

    callers = [threading.Thread(target=call_until_refused) for _ in range(8)]
    for caller in callers:
        caller.start()
    service.wait_for(lambda: len(statuses) > 20, "traffic")
    signalled.set()
    service.process.send_signal(signal.SIGTERM)
    failed = service.wait_for(
        lambda: (answer := service.http.get("/health/ready")).status_code == 503 and answer, "readiness to fail"
    )
    assert failed.json()["error"]["code"] == "draining"
    taken = len(statuses)
    assert service.http.post("/predict", files={"file": espresso}).status_code == 200  # still taken meanwhile
    for caller in callers:
        caller.join(PATIENCE_S)
    assert service.process.wait(PATIENCE_S) == 0
    assert len(statuses) > taken
    assert (set(statuses), lost) == ({200}, [])


def test_request_whose_body_is_still_coming_is_answered_after_sigterm(start, imagenet: str, espresso: bytes) -> None:
    service = start(MODEL_REPOSITORY=imagenet).wait_until_ready()
    headers = f"Host: x\r\nContent-Type: image/jpeg\r\nContent-Length: {len(espresso)}\r\n\r\n"
    head = f"POST /predict?top_k=1 HTTP/1.1\r\n{headers}"
    with socket.create_connection(("127.0.0.1", service.port), PATIENCE_S) as caller:
        caller.sendall(head.encode() + espresso[:1000])
        service.wait_for(lambda: "demitasse_requests_in_progress 2.0" in _metrics(service), "the request")
        service.http.close()
        service.process.send_signal(signal.SIGTERM)
        with pytest.raises(OSError):  # the listening socket closes while the request is open
            while True:
                socket.create_connection(("127.0.0.1", service.port), PATIENCE_S).close()
        caller.sendall(espresso[1000:])
        answer = b"".join(iter(lambda: caller.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 200 OK")
    assert b'"label":"espresso"' in answer
    assert service.process.wait(PATIENCE_S) == 0


def _metrics(service: Service) -> str:
    return service.http.get("/metrics").text


def test_ctrl_c_exits_0_at_once(start, small: str) -> None:
    assert start(MODEL_REPOSITORY=small, DRAIN_DELAY_S="60").wait_until_ready().stop(signal.SIGINT) == 0


def test_empty_repository_is_live_but_not_ready(start, tmp_path: Path, espresso: bytes) -> None:
    service = start(MODEL_REPOSITORY=str(tmp_path))
    service.wait_for(lambda: service.http.get("/health/live").status_code == 200, "liveness")
    assert service.http.get("/health/ready").status_code == 503
    answer = service.http.post("/predict", files={"file": espresso})
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "not_ready")


def _run(**environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "app"]
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )


def test_setting_out_of_range_is_said_in_one_line_with_exit_code_2() -> None:
    done = _run(PORT="99999999")
    assert done.returncode == 2
    assert done.stderr.splitlines() == ["error: PORT: Input should be less than or equal to 65535, got '99999999'"]


def test_engine_that_can_not_be_had_is_said_in_one_line_with_exit_code_1() -> None:
    done = _run(ENGINE="tensorflow", PRECISION="bf16", MODEL_REPOSITORY="/nonexistent")
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "PRECISION=bf16 needs the OpenVINO engine" in done.stderr


def test_port_in_use_is_said_with_exit_code_1(shipped: Service, tmp_path: Path) -> None:
    done = _run(PORT=str(shipped.port), MODEL_REPOSITORY=str(tmp_path), LOG_FORMAT="text")
    assert done.returncode == 1
    assert "address already in use" in done.stdout
