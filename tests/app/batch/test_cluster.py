"""Ray's start and end, without Ray but for what it tells by itself."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray

from app.batch.cluster import ClusterError, cluster

ROOT = Path(__file__).parents[3]
ACTOR_KILLED_AT_WORK = """
import time
from app.batch.cluster import cluster

with cluster(None, 1) as ray:

    @ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)  # as Ray Data has them
    class Actor:
        def begin(self):
            pass

        def work(self):
            time.sleep(60)

    actor = Actor.remote()
    ray.get(actor.begin.remote())
    work = actor.work.remote()
    ray.kill(actor)
    ray.wait([work], timeout=60)
    time.sleep(1)  # what is told comes by way of the cluster
print("done")
"""


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


def test_actors_that_are_ended_at_work_are_no_failures_to_tell() -> None:
    ended = subprocess.run(  # another process, for Ray reads its environment once in one
        [sys.executable, "-c", ACTOR_KILLED_AT_WORK], cwd=ROOT, capture_output=True, text=True, check=True, timeout=120
    )
    assert (ended.stdout, ended.stderr) == ("done\n", "")
