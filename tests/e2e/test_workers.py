"""Several processes behind one port, and an engine that hangs in one of them."""

import io
import os
import re
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.service import PATIENCE_S, Service


@pytest.fixture
def start_small(start, small: str) -> Callable[..., Service]:
    """Starts services that have the smallest shipped model alone."""

    def start_with(**environment: str) -> Service:
        service = start(MODEL_REPOSITORY=small, **environment).wait_until_ready()
        return _all_serving(service, int(environment.get("WORKERS", "0")))

    return start_with


def _all_serving(service: Service, count: int) -> Service:
    """So many workers have loaded their models, and their supervisor knows."""
    service.wait_for(lambda: service.messages().count("is serving") >= count, "all workers to serve")
    return service


def _workers(service: Service) -> set[int]:
    """The processes that serve; their parent has another child, which is multiprocessing's own."""
    children = Path(f"/proc/{service.process.pid}/task/{service.process.pid}/children").read_text().split()
    return {int(pid) for pid in children if b"spawn_main" in _proc(int(pid), "cmdline")}


def _proc(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:  # it has just ended
        return b""


@contextmanager
def _only(service: Service, worker: int) -> Iterator[None]:
    """All other workers stand still."""
    service.wait_for(lambda: _totals(service)[2] == 1, "other requests to end")
    others = _workers(service) - {worker}
    try:
        for other in others:
            os.kill(other, signal.SIGSTOP)
            service.wait_for(lambda pid=other: re.search(rb"\) T ", _proc(pid, "stat")), "a worker to stand still")
        yield
    finally:
        for other in others:
            os.kill(other, signal.SIGCONT)


def _picture(shade: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (28, 28), shade).save(buffer, "PNG")
    return buffer.getvalue()


def _post(service: Service, shade: int = 0) -> httpx.Response:
    """Over a connection of its own: any worker may take it."""
    return httpx.post(f"{service.http.base_url}/predict", content=_picture(shade), timeout=PATIENCE_S)


def _get(service: Service, path: str) -> httpx.Response:
    return httpx.get(f"{service.http.base_url}{path}", timeout=PATIENCE_S)


def _totals(service: Service) -> list[float]:
    """Predictions answered, images in batches, and requests in progress, by the metrics of whoever is asked."""
    families = text_string_to_metric_families(_get(service, "/metrics").text)
    samples = {
        (sample.name, *sorted(sample.labels.values())): sample.value for family in families for sample in family.samples
    }
    keys = (
        ("demitasse_requests_total", "/predict", "200", "POST"),
        ("demitasse_batch_size_images_sum", "mnist"),
        ("demitasse_requests_in_progress",),
    )
    return [samples.get(key, 0.0) for key in keys]


def _tells(service: Service, totals: list[float]) -> None:
    """An answer comes a moment before it is counted."""
    service.wait_for(lambda: _totals(service) == totals, f"the metrics to tell {totals}")


def test_each_of_two_workers_answers_for_both_until_one_is_killed_and_replaced_and_sigterm_leaves_nobody(
    start_small,
) -> None:
    service = start_small(WORKERS="2")
    workers = _workers(service)
    assert len(workers) == 2
    for count, worker in enumerate(workers, start=1):
        with _only(service, worker):
            answers = [_post(service) for _ in range(3)]
            assert [answer.status_code for answer in answers] == [200] * 3
            assert answers[0].json()["model"] == "mnist"
            _tells(service, [3 * count, 3 * count, 1])
    for worker in workers:
        with _only(service, worker):
            _tells(service, [6, 6, 1])
    assert _workers(service) == workers

    killed = min(workers)
    answered = 6

    def answer() -> bool:
        nonlocal answered
        assert _post(service).status_code == 200
        answered += 1
        return True

    os.kill(killed, signal.SIGKILL)
    after = workers
    while killed in after or len(after) < 2:
        service.wait_for(answer, "an answer")  # which tries again where the killed worker had taken the connection
        after = _workers(service)
    assert len(after & workers) == 1
    (new,) = after - workers
    _all_serving(service, 3)
    with _only(service, new):
        answer()
        answer()
        # What the killed worker has answered is counted still
        service.wait_for(lambda: _totals(service)[0] == answered, f"the metrics to tell {answered} answers")
    assert f"worker {killed} ended with -9; another one takes its place" in service.messages()
    assert service.stop() == 0
    assert [worker for worker in after if Path(f"/proc/{worker}").exists()] == []


def test_engine_that_can_not_be_had_ends_all_with_exit_code_1(start) -> None:
    service = start(ENGINE="tensorflow", PRECISION="bf16", WORKERS="2", MODEL_REPOSITORY="/nonexistent")
    assert service.process.wait(PATIENCE_S) == 1
    assert "PRECISION=bf16 needs the OpenVINO engine" in service.messages()  # and no traceback, which is no JSON


def test_port_in_use_ends_all_with_exit_code_1(shipped: Service, start) -> None:
    service = start(PORT=str(shipped.port), WORKERS="2", MODEL_REPOSITORY="/nonexistent")
    assert service.process.wait(PATIENCE_S) == 1
    assert "ddress already in use" in service.messages()


def test_engine_that_hangs_fails_liveness_and_keeps_nobody_from_stopping(start_small) -> None:
    service = start_small(module="tests.e2e.hanging", ENGINE_TIMEOUT_S="0.5", REQUEST_TIMEOUT_MS="2000")
    assert _post(service, 0).status_code == 200
    assert _get(service, "/health/live").status_code == 200
    late = _post(service, 255)
    assert (late.status_code, late.json()["error"]["code"]) == (504, "deadline_passed")
    service.wait_for(lambda: _get(service, "/health/live").status_code == 503, "liveness to fail")
    assert _get(service, "/health/live").json()["error"]["code"] == "engine_stuck"
    assert service.stop() == 0


def test_request_that_can_not_be_answered_before_the_end_of_a_drain_is_told(start_small) -> None:
    service = start_small(module="tests.e2e.hanging", REQUEST_TIMEOUT_MS="60000", DRAIN_TIMEOUT_S="1")
    with ThreadPoolExecutor(1) as caller:
        asked = caller.submit(_post, service, 255)
        service.wait_for(lambda: _totals(service)[2] == 2, "the request")
        service.process.send_signal(signal.SIGTERM)
        answer = asked.result()
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "draining")
    assert service.process.wait(PATIENCE_S) == 0


def test_worker_whose_engine_hangs_is_replaced_and_sigterm_ends_them_all_the_same(start_small) -> None:
    service = start_small(module="tests.e2e.hanging", WORKERS="2", ENGINE_TIMEOUT_S="0.5", REQUEST_TIMEOUT_MS="2000")
    before = _workers(service)
    assert _post(service, 255).status_code == 504
    service.wait_for(lambda: len(after := _workers(service)) == 2 and after != before, "another worker")
    _all_serving(service, 3)
    for worker in _workers(service):
        with _only(service, worker):
            assert _get(service, "/health/live").status_code == 200
            assert _post(service, 0).status_code == 200
    workers = _workers(service)
    for worker in workers:
        with _only(service, worker):
            assert _post(service, 255).status_code == 504
    assert service.stop() == 0
    assert [worker for worker in workers if Path(f"/proc/{worker}").exists()] == []
