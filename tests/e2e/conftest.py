"""Services for the tests of this folder."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.service import PICTURES, ROOT, Service


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Service]]:
    """Starts services and stops them at the end of the test."""
    started: list[Service] = []

    def start_one(**options: Any) -> Service:
        service = Service(tmp_path / f"log-{len(started)}.jsonl", **{"DRAIN_DELAY_S": "0", **options})
        started.append(service)
        return service

    yield start_one
    for service in started:
        service.stop()


@pytest.fixture(scope="session")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One service with the shipped models, for the tests that leave it as it was."""
    service = Service(tmp_path_factory.mktemp("shipped") / "log.jsonl", DRAIN_DELAY_S="0").wait_until_ready()
    yield service
    service.stop()


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A repository with the smallest shipped model alone, for services that are started for one test."""
    return _with_only("mnist", tmp_path_factory)


@pytest.fixture(scope="session")
def imagenet(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A repository with the default model alone."""
    return _with_only("imagenet", tmp_path_factory)


def _with_only(model: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    root = tmp_path_factory.mktemp(model)
    (root / model).symlink_to(ROOT / "models" / model)
    return str(root)


@pytest.fixture(scope="session")
def espresso() -> bytes:
    return (PICTURES / "espresso_cup.jpg").read_bytes()
