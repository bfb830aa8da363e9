"""`python -m app`: its exit codes, its greeting, and the order in which it stops."""

import asyncio
import logging
import signal
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import uvicorn
from fastapi import FastAPI

from app import __main__ as entry
from app.inference.engines.base import EngineError
from app.settings import Settings


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    clock = [100.0]
    monkeypatch.setattr(entry, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    return clock


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    root, uvicorns = logging.getLogger(), logging.getLogger("uvicorn")
    handlers, levels = root.handlers, (root.level, uvicorns.level)
    yield
    root.handlers = handlers
    root.setLevel(levels[0])
    uvicorns.setLevel(levels[1])


def _server(drain_delay_s: float = 5.0) -> Any:
    app = FastAPI()
    app.state.draining = False
    return entry.Server(uvicorn.Config(app, log_config=None), app, drain_delay_s)


def _stops(server: Any) -> bool:
    return asyncio.run(server.on_tick(1))


def test_sigterm_fails_readiness_first_and_stops_accepting_after_the_delay(now: list[float]) -> None:
    server = _server(drain_delay_s=5.0)
    assert not _stops(server)
    server.handle_exit(signal.SIGTERM, None)
    assert (server._app.state.draining, server.should_exit) == (True, False)
    now[0] = 104.9
    assert not _stops(server)
    now[0] = 105.0
    assert _stops(server)
    assert (server.should_exit, server.force_exit) == (True, False)


def test_sigint_stops_accepting_at_once_but_still_answers(now: list[float]) -> None:
    server = _server()
    server.handle_exit(signal.SIGINT, None)
    assert _stops(server)
    assert (server._app.state.draining, server.force_exit) == (True, False)


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
    server = _server()
    server.handle_exit(first, None)
    now[0] = 103.0
    server.handle_exit(second, None)
    assert (_stops(server), server.force_exit) == (stops, forced)
    now[0] = 105.0  # a second signal never puts off what the first one has asked for
    assert _stops(server)
    assert server._captured_signals == []  # uvicorn would raise them again, and spoil the exit code


def test_settings_that_cannot_work_end_with_2_and_say_which(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PORT", "99999")
    monkeypatch.setenv("ENGINE", "onnx")
    assert entry.main() == 2
    assert capsys.readouterr().err.splitlines() == [
        "error: PORT: Input should be less than or equal to 65535, got '99999'",
        "error: ENGINE: Input should be 'auto', 'openvino' or 'tensorflow', got 'onnx'",
    ]


def test_engine_that_cannot_be_had_ends_with_1_and_says_why(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def create_app(*_: object, **__: object) -> FastAPI:
        raise EngineError("no engine is installed")

    monkeypatch.setattr(entry, "create_app", create_app)
    assert entry.main() == 1
    assert capsys.readouterr().err == "error: no engine is installed\n"


def _main(monkeypatch: pytest.MonkeyPatch, run: Any) -> int:
    monkeypatch.setattr(entry, "create_app", lambda *_, **__: FastAPI())
    monkeypatch.setattr(entry.Server, "run", run)
    return entry.main()


def test_server_gets_the_settings_and_ends_with_0(monkeypatch: pytest.MonkeyPatch) -> None:
    servers: list[Any] = []
    for name, value in (("PORT", "81"), ("HOST", "0.0.0.0"), ("DRAIN_TIMEOUT_S", "12"), ("DRAIN_DELAY_S", "3")):
        monkeypatch.setenv(name, value)
    assert _main(monkeypatch, lambda server: servers.append(server)) == 0
    config = servers[0].config
    assert (config.host, config.port, config.timeout_graceful_shutdown) == ("0.0.0.0", 81, 12)
    assert servers[0]._drain_delay_s == 3.0
    assert (config.access_log, config.log_config, config.server_header) == (False, None, False)


def test_port_that_is_taken_ends_with_1(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(_: Any) -> None:
        raise SystemExit(3)

    assert _main(monkeypatch, run) == 1


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("127.0.0.1", "http://127.0.0.1:8080"),
        ("0.0.0.0", "http://127.0.0.1:8080"),
        ("::", "http://127.0.0.1:8080"),
        ("::1", "http://[::1]:8080"),
    ],
)
def test_greeting_gives_an_address_that_can_be_pasted(
    host: str, address: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    live = SimpleNamespace(folder=SimpleNamespace(name="cups", version=2))
    entry._greet(Settings(host=host), SimpleNamespace(live=[live]))  # type: ignore[arg-type]
    assert caplog.messages == [
        f"Demitasse is serving on {address}, interface at {address}/docs",
        "live models: cups/2",
        f"try: curl -F file=@tests/pictures/espresso_cup.jpg {address}/predict",
    ]


def test_greeting_names_a_picture_that_exists() -> None:
    assert (Path(__file__).parents[2] / entry._SAMPLE).is_file()
