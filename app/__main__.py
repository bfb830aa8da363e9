"""Settings -> uvicorn: `python -m app`."""

import logging
import math
import signal
import sys
import time
from types import FrameType

import uvicorn
from fastapi import FastAPI
from pydantic import ValidationError

from app.inference.engines.base import EngineError
from app.main import create_app
from app.observability import configure_logging
from app.registry import Registry
from app.settings import Settings

logger = logging.getLogger("app")

_SAMPLE = "tests/pictures/espresso_cup.jpg"


class Server(uvicorn.Server):
    """Drains in order: readiness fails, requests are still taken for a while, what was accepted is answered, exit 0."""

    def __init__(self, config: uvicorn.Config, app: FastAPI, drain_delay_s: float) -> None:
        super().__init__(config)
        self._app = app
        self._drain_delay_s = drain_delay_s
        self._stop_accepting_at = math.inf

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002  the signature is uvicorn's
        """Signals are not recorded as uvicorn would: it raises them again at the end, which spoils the exit code."""
        if self._app.state.draining:
            self.force_exit = self.force_exit or sig == signal.SIGINT
        self._app.state.draining = True
        # Somebody at a terminal is waiting; a load balancer wants to see readiness fail first
        delay_s = 0.0 if sig == signal.SIGINT else self._drain_delay_s
        self._stop_accepting_at = min(self._stop_accepting_at, time.monotonic() + delay_s)

    async def on_tick(self, counter: int) -> bool:
        self.should_exit = self.should_exit or time.monotonic() >= self._stop_accepting_at
        return await super().on_tick(counter)


def main() -> int:
    """Exit code 0, 1 where the service can't start, 2 for settings that can't work."""
    try:
        settings = Settings()
    except ValidationError as error:
        for problem in error.errors():
            name = "_".join(str(part) for part in problem["loc"]).upper()
            sys.stderr.write(f"error: {name}: {problem['msg']}, got {problem['input']!r}\n")
        return 2
    configure_logging(settings.log_level, settings.log_format)
    try:
        app = create_app(settings, on_first_load=lambda registry: _greet(settings, registry))
    except EngineError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        server_header=False,
        ws="none",
        timeout_graceful_shutdown=settings.drain_timeout_s,
    )
    server = Server(config, app, settings.drain_delay_s)
    try:
        server.run()
    except SystemExit:  # how uvicorn ends where it can't listen, having logged why
        return 1
    return 0


def _greet(settings: Settings, registry: Registry) -> None:
    host = "127.0.0.1" if settings.host in ("0.0.0.0", "::") else settings.host  # noqa: S104  compared, not bound
    address = f"http://{f'[{host}]' if ':' in host else host}:{settings.port}"
    versions = ", ".join(f"{live.folder.name}/{live.folder.version}" for live in registry.live) or "none"
    logger.info("Demitasse is serving on %s, interface at %s/docs", address, address)
    logger.info("live models: %s", versions)
    logger.info("try: curl -F file=@%s %s/predict", _SAMPLE, address)


if __name__ == "__main__":
    sys.exit(main())
