"""Ray's start and end, without Ray."""

import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray

from app.batch.cluster import ClusterError, cluster


@pytest.fixture
def answered() -> Iterator[list[int]]:
    """The signals that our own answer to SIGTERM has seen."""
    seen: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: seen.append(number))
    yield seen
    signal.signal(signal.SIGTERM, before)


def test_sigterm_while_ray_starts_is_answered_as_at_any_other_time(
    answered: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def init(**_: Any) -> None:
        signal.signal(signal.SIGTERM, lambda number, _: sys.exit(number))  # as Ray does
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(ray, "init", init)
    with pytest.raises(SystemExit), cluster(None, 1):
        pytest.fail("it has not started")
    assert answered == [signal.SIGTERM]


@pytest.mark.parametrize("address", [None, "10.0.0.1:6379"])
def test_logs_of_the_own_ray_go_with_it(
    tmp_path: Path, answered: list[int], monkeypatch: pytest.MonkeyPatch, address: str | None
) -> None:
    session = tmp_path / "session"
    session.mkdir()
    monkeypatch.setattr(ray, "init", lambda **_: SimpleNamespace(address_info={"session_dir": str(session)}))
    with cluster(address, 1):
        assert session.is_dir()
    assert session.is_dir() == (address is not None)
    assert answered == []


def test_ray_that_cannot_be_had_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def init(**_: Any) -> None:
        raise ConnectionError("nobody there")

    monkeypatch.setattr(ray, "init", init)
    with (
        pytest.raises(ClusterError, match=r"can't be had at 10\.0\.0\.1:6379: nobody there"),
        cluster("10.0.0.1:6379", 1),
    ):
        pytest.fail("it has not started")
