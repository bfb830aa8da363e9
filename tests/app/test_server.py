"""uvicorn around the application: the order in which it stops, and several processes that stand in for each other."""

import asyncio
import itertools
import resource
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import uvicorn
from fastapi import FastAPI
from uvicorn.config import STARTUP_FAILURE

from app import server
from app.inference.engines import Chosen
from app.inference.engines.base import EngineError
from app.metrics import METRICS_FOLDER
from app.registry import Registry
from app.settings import Settings
from tests.app.conftest import FakeEngine


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    clock = [100.0]
    monkeypatch.setattr(server, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    return clock


def _app() -> FastAPI:
    app = FastAPI()
    app.state.draining = False
    app.state.device = SimpleNamespace(busy_s=0.0)
    return app


def _server(drain_delay_s: float = 5.0) -> server.Server:
    app = _app()
    return server.Server(uvicorn.Config(app, log_config=None), app, drain_delay_s)


def _stops(running: server.Server) -> bool:
    return asyncio.run(running.on_tick(1))


def test_sigterm_fails_readiness_first_and_stops_accepting_after_the_delay(now: list[float]) -> None:
    running = _server(drain_delay_s=5.0)
    assert not _stops(running)
    running.handle_exit(signal.SIGTERM, None)
    assert (running.app.state.draining, running.should_exit) == (True, False)
    now[0] = 104.9
    assert not _stops(running)
    now[0] = 105.0
    assert _stops(running)
    assert (running.should_exit, running.force_exit) == (True, False)


def test_sigint_stops_accepting_at_once_but_still_answers(now: list[float]) -> None:
    running = _server()
    running.handle_exit(signal.SIGINT, None)
    assert _stops(running)
    assert (running.app.state.draining, running.force_exit) == (True, False)


def test_draining_service_asks_callers_to_leave_their_connections(now: list[float]) -> None:
    running = _server(drain_delay_s=5.0)
    running.config.load()
    assert not _stops(running)
    assert (b"connection", b"close") not in running.server_state.default_headers
    running.handle_exit(signal.SIGTERM, None)
    for _ in range(2):  # uvicorn sets the headers anew each second
        assert not _stops(running)
        assert running.server_state.default_headers.count((b"connection", b"close")) == 1
        running.server_state.default_headers = []


@pytest.mark.parametrize(
    ("first", "second", "stops", "forced"),
    [
        (signal.SIGINT, signal.SIGINT, True, True),
        (signal.SIGTERM, signal.SIGINT, True, True),
        (signal.SIGTERM, signal.SIGTERM, False, False),
        (signal.SIGINT, signal.SIGTERM, True, False),
    ],
)
def test_second_sigint_waits_for_nobody(
    first: signal.Signals, second: signal.Signals, stops: bool, forced: bool, now: list[float]
) -> None:
    running = _server()
    running.handle_exit(first, None)
    now[0] = 103.0
    running.handle_exit(second, None)
    assert (_stops(running), running.force_exit) == (stops, forced)
    now[0] = 105.0  # a second signal never puts off what the first one has asked for
    assert _stops(running)
    assert running._captured_signals == []  # uvicorn would raise them again, and spoil the exit code


def _greet(registry: Registry) -> None:
    """Nobody is at the door."""


def _serve(monkeypatch: pytest.MonkeyPatch, run: Any, settings: Settings) -> int:
    monkeypatch.setattr(server, "create_app", lambda *_, **__: _app())
    monkeypatch.setattr(server.Server, "run", run)
    return server.serve(settings, Chosen(FakeEngine, lanes=1), _greet)


def test_server_gets_the_settings_and_ends_with_0(monkeypatch: pytest.MonkeyPatch) -> None:
    servers: list[Any] = []
    settings = Settings(host="0.0.0.0", port=81, drain_timeout_s=12, drain_delay_s=3)
    assert _serve(monkeypatch, lambda running, _: servers.append(running), settings) == 0
    config = servers[0].config
    assert (config.host, config.port, config.timeout_graceful_shutdown) == ("0.0.0.0", 81, 12)
    assert servers[0]._drain_delay_s == 3.0
    assert (config.access_log, config.log_config, config.server_header) == (False, None, False)


def test_as_many_files_may_be_open_as_the_system_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (512, before[1]))
    try:
        _serve(monkeypatch, lambda *_: None, Settings())
        allowed, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert (allowed > 512, hard) == (True, before[1])


def test_port_that_is_taken_ends_with_1(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*_: Any) -> None:
        raise SystemExit(3)

    assert _serve(monkeypatch, run, Settings()) == 1


def _sockets(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Host and port of each socket that is bound from here on; the socket itself is its port."""
    bound: list[tuple[str, int]] = []

    def bind_socket(config: uvicorn.Config) -> int:
        bound.append((config.host, config.port))
        return config.port

    monkeypatch.setattr(uvicorn.Config, "bind_socket", bind_socket)
    return bound


@pytest.mark.parametrize(
    ("host", "metrics_port", "expected"), [("127.0.0.1", None, None), ("127.0.0.1", 82, [81, 82]), ("::", None, [81])]
)
def test_sockets_are_made_here_for_metrics_that_have_a_port_and_for_ipv6(
    host: str, metrics_port: int | None, expected: list[int] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    bound, given = _sockets(monkeypatch), []
    settings = Settings(host=host, port=81, metrics_port=metrics_port)
    assert _serve(monkeypatch, lambda _, sockets: given.append(sockets), settings) == 0
    assert given == [expected]
    assert bound == [(host, port) for port in expected or ()]


def test_supervisor_that_cannot_listen_ends_with_1(monkeypatch: pytest.MonkeyPatch) -> None:
    def bind_socket(_: object) -> None:
        raise SystemExit(1)

    monkeypatch.setattr(uvicorn.Config, "bind_socket", bind_socket)
    assert server.supervise(Settings(workers=2)) == 1


class _Worker:
    """Lives until it is killed or told how it has ended; `hangs` is a process that lives and answers nothing."""

    def __init__(self, pid: int) -> None:
        self.pid, self.exitcode, self.hangs = pid, None, False
        self.started = self.joined = self.terminated = False
        self.has_served = True

    def start(self) -> None:
        self.started = True

    def is_alive(self, timeout: float) -> bool:
        return self.exitcode is None and not self.hangs

    def kill(self) -> None:
        self.exitcode = self.exitcode or -9

    def join(self) -> None:
        self.joined = True

    def terminate(self) -> None:
        self.terminated = True
        self.exitcode = None if self.hangs else self.exitcode or 0

    def ends_within(self, seconds: float) -> bool:
        assert 0 <= seconds <= 14
        return self.exitcode is not None


@pytest.fixture
def supervisor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A supervisor of three workers with the pids 1, 2 and 3, and no processes behind them."""
    pids = itertools.count(1)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setattr(server, "Worker", lambda *_: _Worker(next(pids)))
    monkeypatch.setenv(METRICS_FOLDER, str(tmp_path))
    supervisor = server.Supervisor(uvicorn.Config(_app(), workers=3, log_config=None), [], Settings())
    supervisor.init_processes()
    return supervisor


def _pids(supervisor: Any) -> list[int]:
    assert all(worker.started for worker in supervisor.processes)
    return [worker.pid for worker in supervisor.processes]


def test_worker_that_died_is_replaced_and_the_others_stay(supervisor: Any, caplog: pytest.LogCaptureFixture) -> None:
    supervisor.keep_subprocess_alive()
    assert _pids(supervisor) == [1, 2, 3]
    died = supervisor.processes[1]
    died.exitcode = -11
    supervisor.keep_subprocess_alive()
    assert _pids(supervisor) == [1, 4, 3]
    assert died.joined
    assert caplog.messages == ["worker 2 ended with -11; another one takes its place"]
    assert (supervisor.failed, supervisor.should_exit.is_set()) == (False, False)


def test_worker_that_answers_nothing_is_killed_and_replaced(supervisor: Any) -> None:
    hanging = supervisor.processes[0]
    hanging.hangs = True
    supervisor.keep_subprocess_alive()
    assert _pids(supervisor) == [4, 2, 3]
    assert (hanging.exitcode, hanging.joined) == (-9, True)


def test_all_workers_that_died_are_replaced_at_once(supervisor: Any) -> None:
    for worker in supervisor.processes:
        worker.exitcode = 1
    supervisor.keep_subprocess_alive()
    assert _pids(supervisor) == [4, 5, 6]


def test_worker_that_cannot_start_ends_the_service_as_failed(supervisor: Any) -> None:
    for worker in supervisor.processes:
        worker.has_served = False
    supervisor.processes[0].exitcode = supervisor.processes[1].exitcode = STARTUP_FAILURE
    supervisor.keep_subprocess_alive()
    assert (supervisor.failed, supervisor.should_exit.is_set()) == (True, True)
    assert _pids(supervisor) == [1, 2, 3]


def test_worker_that_ends_while_the_service_stops_is_not_replaced(supervisor: Any) -> None:
    supervisor.processes[0].exitcode = 0
    supervisor.should_exit.set()
    supervisor.keep_subprocess_alive()
    assert (_pids(supervisor), supervisor.failed) == ([1, 2, 3], False)


def test_figures_of_a_worker_that_died_stay_and_what_it_held_goes(supervisor: Any, tmp_path: Path) -> None:
    for name in ("counter_1.db", "histogram_1.db", "gauge_livesum_1.db", "gauge_livemax_1.db", "gauge_livesum_2.db"):
        (tmp_path / name).touch()
    supervisor.processes[0].exitcode = 1
    supervisor.keep_subprocess_alive()
    assert {path.name for path in tmp_path.iterdir()} == {"counter_1.db", "histogram_1.db", "gauge_livesum_2.db"}


def test_drain_closes_the_shared_socket_and_waits_for_the_workers(supervisor: Any) -> None:
    closed: list[bool] = []
    supervisor.sockets = [SimpleNamespace(close=lambda: closed.append(True))]
    supervisor.terminate_all()
    supervisor.join_all()
    assert [worker.terminated for worker in supervisor.processes] == [True] * 3
    assert closed == [True]  # or the kernel would take connections that no worker takes from it
    assert not supervisor.failed


def test_worker_that_does_not_end_is_killed_and_makes_the_service_fail(
    supervisor: Any, caplog: pytest.LogCaptureFixture
) -> None:
    supervisor.processes[2].hangs = True
    supervisor.terminate_all()
    supervisor.join_all()
    assert (supervisor.processes[2].exitcode, supervisor.failed) == (-9, True)
    assert caplog.messages == ["worker 3 did not end in 14 s, and is killed"]


@pytest.mark.parametrize(
    ("exit_code", "failed"), [(0, False), (-signal.SIGTERM, False), (-signal.SIGINT, False), (1, True), (-11, True)]
)
def test_worker_that_ends_badly_while_it_drains_makes_the_service_fail(
    exit_code: int, failed: bool, supervisor: Any
) -> None:
    supervisor.processes[1].exitcode = exit_code
    for worker in (supervisor.processes[0], supervisor.processes[2]):
        worker.exitcode = 0
    supervisor.join_all()
    assert supervisor.failed is failed


def test_worker_that_dies_before_it_ever_served_ends_the_service_as_failed(
    supervisor: Any, caplog: pytest.LogCaptureFixture
) -> None:
    for worker in supervisor.processes:
        worker.has_served = False
    supervisor.processes[2].exitcode = -4
    supervisor.keep_subprocess_alive()
    assert (supervisor.failed, supervisor.should_exit.is_set()) == (True, True)
    assert caplog.messages == ["worker 3 ended with -4 before it could serve"]


def test_worker_that_cannot_start_beside_others_that_serve_is_tried_again_later(
    supervisor: Any, now: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    supervisor.processes[0].exitcode = -9
    supervisor.keep_subprocess_alive()
    caplog.clear()
    for replacement, code in ((4, STARTUP_FAILURE), (5, -9)):
        assert _pids(supervisor) == [replacement, 2, 3]
        supervisor.processes[0].exitcode, supervisor.processes[0].has_served = code, False
        supervisor.keep_subprocess_alive()
        assert caplog.messages == [f"worker {replacement} ended with {code} before it could serve"]
        now[0] += 4.9
        supervisor.keep_subprocess_alive()
        assert _pids(supervisor) == [replacement, 2, 3]
        now[0] += 0.2
        supervisor.keep_subprocess_alive()
        caplog.clear()
    assert _pids(supervisor) == [6, 2, 3]
    assert (supervisor.failed, supervisor.should_exit.is_set()) == (False, False)


def test_worker_that_waits_to_be_tried_again_does_not_make_the_end_a_failure(supervisor: Any) -> None:
    supervisor.keep_subprocess_alive()
    supervisor.processes[1].exitcode, supervisor.processes[1].has_served = STARTUP_FAILURE, False
    supervisor.keep_subprocess_alive()
    supervisor.terminate_all()
    supervisor.join_all()
    assert not supervisor.failed


def test_closed_terminal_ends_the_service(supervisor: Any) -> None:
    supervisor.signal_queue.append(signal.SIGHUP)
    supervisor.handle_signals()
    assert (supervisor.should_exit.is_set(), supervisor.failed) == (True, False)


def test_worker_is_asked_without_waiting_and_has_its_time_to_answer(now: list[float]) -> None:
    worker = server.Worker(uvicorn.Config(_app(), workers=2, log_config=None), [], Settings())
    worker.process = SimpleNamespace(is_alive=lambda: True, pid=7)
    assert worker.is_alive(timeout=10)  # asked
    now[0] += 9.9
    assert worker.is_alive(timeout=10)  # and not answered yet
    assert worker.child_conn.recv() == b"ping"
    worker.child_conn.send(True)
    assert (worker.is_alive(timeout=10), worker.has_served) == (True, True)
    now[0] += 100.0
    assert worker.is_alive(timeout=10)  # asked again
    now[0] += 10.0
    assert not worker.is_alive(timeout=10)
    worker.process = SimpleNamespace(is_alive=lambda: False)
    assert not worker.is_alive(timeout=1000)


@pytest.mark.parametrize("number", [signal.SIGTTIN, signal.SIGTTOU])
def test_signals_that_are_uvicorns_change_nothing(number: signal.Signals, supervisor: Any) -> None:
    supervisor.signal_queue.append(number)
    supervisor.handle_signals()
    assert _pids(supervisor) == [1, 2, 3]
    assert not supervisor.should_exit.is_set()


@pytest.mark.parametrize("failure", [EngineError("no engine is installed"), OSError("in use"), ImportError("broken")])
def test_worker_answers_its_supervisor_while_its_engine_is_imported_and_ends_where_that_fails(
    failure: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The import takes longer than the supervisor waits for an answer; and no other worker would have more luck."""
    answers: list[bool] = []

    def create_app(*_: object, **__: object) -> FastAPI:
        answers.append(worker.ping(timeout=5))
        raise failure

    monkeypatch.setattr(server, "create_app", create_app)
    monkeypatch.setattr(server.Worker, "always_pong", lambda worker: worker.pong())  # once: no thread is left
    worker = server.Worker(uvicorn.Config(_app(), workers=2, log_config=None), [], Settings())
    with pytest.raises(SystemExit) as ended:
        worker.target([])
    assert ended.value.code == STARTUP_FAILURE
    assert answers == [True]
    out = capsys.readouterr().out
    assert str(failure) in out
    assert ("Traceback" in out) is isinstance(failure, ImportError)  # what nobody foresaw is told whole
