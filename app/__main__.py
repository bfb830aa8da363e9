"""Settings -> uvicorn: `python -m app`; `python -m app keys` changes who may call."""

import argparse
import ipaddress
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from app import keys, keys_command
from app.inference import engines
from app.inference.engines import Chosen
from app.inference.engines.ahead import Ahead
from app.inference.engines.base import EngineError
from app.keys import KeysError
from app.observability import configure_logging
from app.settings import Settings, problems
from models.repository import ModelRepository

if TYPE_CHECKING:
    from app.registry import Registry

logger = logging.getLogger("app")

_SAMPLE = "tests/pictures/espresso_cup.jpg"


def main(arguments: Sequence[str] = ()) -> int:
    """Exit code 0, 1 where the service can't start, 2 for arguments or settings that can't work."""
    if arguments[:1] != ["keys"]:
        _parser().parse_args(arguments)
    try:
        settings = Settings()
    except ValidationError as error:
        sys.stderr.write("".join(f"error: {problem}\n" for problem in problems(error)))
        return 2
    if arguments[:1] == ["keys"]:
        return keys_command.run(arguments[1:], settings.api_keys_file)
    configure_logging(settings.log_level, settings.log_format)
    try:
        if keys.check(settings) is None and not _is_loopback(settings.host):
            logger.warning("anybody who reaches %s may call: neither API_KEYS nor API_KEYS_FILE is set", settings.host)
        if settings.workers > 1:
            engines.choose(settings.engine)  # a worker would say the same, once for each
            logger.info("Demitasse is starting %d workers on %s", settings.workers, _address(settings))
            from app import server

            return server.supervise(settings)
        engine = _begun(settings)
        try:
            from app import server

            return server.serve(settings, engine, greet=lambda registry: _greet(settings, registry))
        finally:
            engine.give_up()
    except KeysError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    except EngineError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m app",
        description="Serve the models of the repository over HTTP. Settings are environment variables: see README.md.",
        epilog="`python -m app keys --help` says how API keys are made.",
    )
    parser.add_argument("command", nargs="?", choices=["serve"], help="what SageMaker passes; makes no difference")
    return parser


def _begun(settings: Settings) -> Chosen:
    """The engine, which loads the versions of a folder from now on, while FastAPI and the routes are imported."""
    engine = engines.chosen(settings)
    if not isinstance(settings.model_repository, Path):
        return engine
    ahead = Ahead(engine.load_engine, ModelRepository(settings.model_repository))
    return engine._replace(load_engine=ahead, give_up=ahead.close)


def _greet(settings: Settings, registry: "Registry") -> None:
    address = _address(settings)
    versions = ", ".join(f"{live.folder.name}/{live.folder.version}" for live in registry.live) or "none"
    logger.info("Demitasse is serving on %s, interface at %s/docs", address, address)
    logger.info("live models: %s", versions)
    if settings.metrics_port is not None:
        logger.info("metrics on %s/metrics", _address(settings.model_copy(update={"port": settings.metrics_port})))
    key = "" if keys.ring(settings) is None else "-H 'X-API-Key: …' "
    logger.info("try: curl %s-F file=@%s %s/predict", key, _SAMPLE, address)


def _address(settings: Settings) -> str:
    host = "127.0.0.1" if settings.host in ("0.0.0.0", "::") else settings.host  # noqa: S104  compared, not bound
    return f"http://{f'[{host}]' if ':' in host else host}:{settings.port}"


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
