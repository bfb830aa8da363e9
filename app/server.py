"""uvicorn around the application: one process, or several behind one port.

Several processes decode and answer in parallel where one interpreter has become the limit. Each has its own copy of
the models, its share of the cores, and takes connections from the one socket that all share; uvicorn's supervisor
replaces one that has died, or whose engine hangs. Whichever is asked for metrics gives those of all.
"""

import asyncio
import logging
import math
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from socket import socket
from types import FrameType
from typing import Literal

import uvicorn
from fastapi import FastAPI
from prometheus_client import multiprocess
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import Multiprocess
from uvicorn.supervisors.multiprocess import Process

from app import listeners
from app.inference.device import Device
from app.inference.engines import Chosen
from app.inference.engines.base import EngineError
from app.main import create_app
from app.metrics import METRICS_FOLDER
from app.observability import configure_logging
from app.registry import Registry
from app.settings import Settings

logger = logging.getLogger(__name__)

_CLOSE = (b"connection", b"close")
_PATIENCE_S = 5.0  # with workers that have stopped serving
_START_AGAIN_AFTER_S = 5.0  # where one could not start beside others: memory may be short for a while
_OPEN_FILES = 65_536


class Server(uvicorn.Server):
    """Drains in order: readiness fails, requests are still taken for a while, what was accepted is answered, exit 0."""

    def __init__(self, config: uvicorn.Config, app: FastAPI, drain_delay_s: float) -> None:
        super().__init__(config)
        self.app = app
        self._drain_delay_s = drain_delay_s
        self._stop_accepting_at = math.inf

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002  the signature is uvicorn's
        """Signals are not recorded as uvicorn would: it raises them again at the end, which spoils the exit code."""
        if self.app.state.draining:
            self.force_exit = self.force_exit or sig == signal.SIGINT
        self.app.state.draining = True
        # Somebody at a terminal is waiting; a load balancer wants to see readiness fail first
        delay_s = 0.0 if sig == signal.SIGINT else self._drain_delay_s
        self._stop_accepting_at = min(self._stop_accepting_at, time.monotonic() + delay_s)

    async def on_tick(self, counter: int) -> bool:
        self.should_exit = self.should_exit or time.monotonic() >= self._stop_accepting_at
        stops = await super().on_tick(counter)
        if self.app.state.draining and _CLOSE not in self.server_state.default_headers:
            # Callers who keep connections open move on after an answer, not when one ends under their next request
            self.server_state.default_headers = [*self.server_state.default_headers, _CLOSE]
        return stops

    async def shutdown(self, sockets: list[socket] | None = None) -> None:
        if not self.force_exit:
            await listeners.close(self)
        await super().shutdown(sockets)

    @property
    def engine_busy_s(self) -> float:
        device: Device = self.app.state.device
        return device.busy_s


def serve(settings: Settings, engine: Chosen, greet: Callable[[Registry], None]) -> int:
    """One process. Returns the exit code."""
    _allow_connections()
    app = create_app(settings, **engine._asdict(), on_first_load=greet)
    server = _server(settings, app)
    # By an address such as `::`, asyncio would listen for IPv6 alone
    own = settings.metrics_port is not None or ":" in settings.host
    try:
        server.run(_sockets(server.config, settings.metrics_port) if own else None)
    except SystemExit:  # how uvicorn ends where it can't listen, having logged why
        _leave_a_hanging_engine(server, 1)
        return 1
    _leave_a_hanging_engine(server)
    return 0


def supervise(settings: Settings) -> int:
    """As many processes as the settings say, until a signal comes. Returns the exit code."""
    _allow_connections()
    config = _config(settings, "app.main:create_app")
    try:
        shared = _sockets(config, settings.metrics_port)
    except SystemExit:
        return 1
    with ExitStack() as closing, tempfile.TemporaryDirectory(prefix="demitasse-metrics-") as folder:
        for each in shared:
            closing.enter_context(each)
        os.environ[METRICS_FOLDER] = folder  # before a worker imports the metrics library, which asks for it once
        supervisor = Supervisor(config, shared, settings)
        supervisor.run()
    return 1 if supervisor.failed else 0


class Worker(Process):
    """One of the processes. `target` and `pong` run in it, the rest in the supervisor."""

    def __init__(self, config: uvicorn.Config, sockets: list[socket], settings: Settings) -> None:
        super().__init__(config, sockets)
        self._settings = settings
        self._worker: Server | None = None
        self._asked_at: float | None = None
        self.has_served = False

    def target(self, sockets: list[socket] | None = None) -> None:
        settings = self._settings
        configure_logging(settings.log_level, settings.log_format)
        # From the first moment: an engine may take longer to be imported than the supervisor waits for an answer
        threading.Thread(target=self.always_pong, daemon=True).start()
        try:
            self._worker = _server(settings, create_app(settings, load_before_serving=True))
            self._worker.run(sockets)
        except Exception as error:
            if self._worker is not None and self._worker.started:
                raise
            logger.error("%s", error, exc_info=not isinstance(error, (EngineError, OSError)))
            sys.exit(STARTUP_FAILURE)
        _leave_a_hanging_engine(self._worker)

    def pong(self) -> None:
        """Answer the supervisor's ping, but not while the engine hangs: then this process is replaced."""
        while self._worker is not None and self._worker.engine_busy_s > self._settings.engine_timeout_s:
            time.sleep(1.0)
        self.child_conn.recv()
        self.child_conn.send(self._worker is not None and self._worker.started)

    def is_alive(self, timeout: float = 5) -> bool:
        """Whether it has answered the last ping, or still has time to. Never blocks: signals would have to wait."""
        if not self.process.is_alive():
            return False
        with suppress(OSError, EOFError):
            if self._asked_at is None:
                self.parent_conn.send(b"ping")
                self._asked_at = time.monotonic()
            elif self.parent_conn.poll(0):
                serves = self.parent_conn.recv()
                self._asked_at = None
                if serves and not self.has_served:
                    self.has_served = True
                    logger.info("worker %s is serving", self.pid)
        return self._asked_at is None or time.monotonic() - self._asked_at < timeout

    def ends_within(self, seconds: float) -> bool:
        self.process.join(seconds)
        return self.process.exitcode is not None


class Supervisor(Multiprocess):
    """Keeps as many workers as the settings say. All stop if one can't start, and no other one serves."""

    failed = False

    def __init__(self, config: uvicorn.Config, sockets: list[socket], settings: Settings) -> None:
        super().__init__(config, sockets)
        self._settings = settings
        self._patience_s = settings.drain_delay_s + settings.drain_timeout_s + _PATIENCE_S
        self._workers: list[Worker] = []
        self._start_at: dict[int, float] = {}  # by the index of a worker that has ended; `time.monotonic`

    def init_processes(self) -> None:
        self._workers = [self._started() for _ in range(self.processes_num)]
        self.processes = list(self._workers)

    def keep_subprocess_alive(self) -> None:
        for index, worker in enumerate(self._workers):
            if self.should_exit.is_set():
                return
            if index in self._start_at:
                if time.monotonic() >= self._start_at[index]:
                    del self._start_at[index]
                    self._replace(index)
                continue
            if worker.is_alive(timeout=self.config.timeout_worker_healthcheck):
                continue
            worker.kill()
            worker.join()
            multiprocess.mark_process_dead(worker.pid)
            if worker.has_served:
                logger.error("worker %s ended with %s; another one takes its place", worker.pid, worker.exitcode)
                self._replace(index)
                continue
            logger.error("worker %s ended with %s before it could serve", worker.pid, worker.exitcode)
            others = (other for i, other in enumerate(self._workers) if i not in {index, *self._start_at})
            if not any(other.has_served and other.exitcode is None for other in others):  # nor would another one
                self.failed = True
                self.should_exit.set()
                return
            self._start_at[index] = time.monotonic() + _START_AGAIN_AFTER_S

    def _replace(self, index: int) -> None:
        self._workers[index] = self._started()
        self.processes = list(self._workers)

    def terminate_all(self) -> None:
        super().terminate_all()
        for shared in self.sockets:  # or the kernel would take connections when no worker does any more
            shared.close()

    def join_all(self) -> None:
        """A worker that does not end by itself is killed. One that did not end well makes the service fail."""
        end = time.monotonic() + self._patience_s
        for index, worker in enumerate(self._workers):
            if index in self._start_at:
                continue
            if not worker.ends_within(max(0.0, end - time.monotonic())):
                logger.error("worker %s did not end in %g s, and is killed", worker.pid, self._patience_s)
                worker.kill()
                worker.join()
            # A signal that came before the worker could handle it ends it well, too
            self.failed = self.failed or worker.exitcode not in (0, -signal.SIGTERM, -signal.SIGINT)

    def handle_hup(self) -> None:
        """A terminal has closed, and takes its service along; models are reloaded without a signal."""
        self.should_exit.set()

    def handle_ttin(self) -> None:
        """Changes nothing, nor does TTOU: WORKERS says how many processes there are."""

    handle_ttou = handle_ttin

    def _started(self) -> Worker:
        worker = Worker(self.config, self.sockets, self._settings)
        worker.start()
        return worker


def _allow_connections() -> None:
    """Each is an open file, of which many a shell and service manager allow 1,024 unless a program asks for more."""
    if sys.platform == "win32":
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, _OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _leave_a_hanging_engine(server: Server, exit_code: int = 0) -> None:
    """Python would wait for the thread in which it hangs or loads; all requests have had their answer by now."""
    registry: Registry | None = getattr(server.app.state, "registry", None)
    if server.engine_busy_s or (registry is not None and registry.loading):
        logging.shutdown()
        os._exit(exit_code)


def _server(settings: Settings, app: FastAPI) -> Server:
    return Server(_config(settings, app), app, settings.drain_delay_s)


def _config(settings: Settings, app: FastAPI | str) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        http=_protocol(),
        workers=settings.workers,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # nothing here depends on the caller's address or scheme
        ws="none",
        timeout_keep_alive=settings.keep_alive_s,
        timeout_graceful_shutdown=settings.drain_timeout_s,
        timeout_worker_healthcheck=10,
    )


def _sockets(config: uvicorn.Config, metrics_port: int | None) -> list[socket]:
    """The socket of the service and, with a `metrics_port`, that of the metrics, which is told by its port.

    Raises `SystemExit`, as uvicorn does, where one can't be had.
    """
    found = [config.bind_socket()]
    if metrics_port is not None:
        found.append(uvicorn.Config(config.app, host=config.host, port=metrics_port, log_config=None).bind_socket())
    return found


def _protocol() -> type[asyncio.Protocol] | Literal["auto"]:
    if sys.platform == "win32":  # there is no httptools there
        return "auto"
    from app.protocol import GatedProtocol

    return GatedProtocol
