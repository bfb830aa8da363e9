"""Settings -> uvicorn: `python -m app`."""

import argparse
import logging
import sys
from collections.abc import Sequence

from pydantic import ValidationError

from app import server
from app.inference import engines
from app.inference.engines.base import EngineError
from app.observability import configure_logging
from app.registry import Registry
from app.settings import Settings

logger = logging.getLogger("app")

_SAMPLE = "tests/pictures/espresso_cup.jpg"


def main(arguments: Sequence[str] = ()) -> int:
    """Exit code 0, 1 where the service can't start, 2 for arguments or settings that can't work."""
    parser = argparse.ArgumentParser(prog="python -m app", description="Serve. Environment variables are the settings.")
    parser.add_argument("command", nargs="?", choices=["serve"], help="as SageMaker says it; the same as nothing")
    parser.parse_args(arguments)
    try:
        settings = Settings()
    except ValidationError as error:
        for problem in error.errors():
            name = "_".join(str(part) for part in problem["loc"]).upper()
            sys.stderr.write(f"error: {name}: {problem['msg']}, got {problem['input']!r}\n")
        return 2
    configure_logging(settings.log_level, settings.log_format)
    try:
        if settings.workers > 1:
            engines.choose(settings.engine)  # a worker would say the same, once for each
            logger.info("Demitasse is starting %d workers on %s", settings.workers, _address(settings))
            return server.supervise(settings)
        return server.serve(settings, greet=lambda registry: _greet(settings, registry))
    except EngineError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1


def _greet(settings: Settings, registry: Registry) -> None:
    address = _address(settings)
    versions = ", ".join(f"{live.folder.name}/{live.folder.version}" for live in registry.live) or "none"
    logger.info("Demitasse is serving on %s, interface at %s/docs", address, address)
    logger.info("live models: %s", versions)
    logger.info("try: curl -F file=@%s %s/predict", _SAMPLE, address)


def _address(settings: Settings) -> str:
    host = "127.0.0.1" if settings.host in ("0.0.0.0", "::") else settings.host  # noqa: S104  compared, not bound
    return f"http://{f'[{host}]' if ':' in host else host}:{settings.port}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
