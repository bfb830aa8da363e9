"""Versions loaded before they are asked for: each once, and never another one than is asked for."""

import threading
import time
from pathlib import Path

import pytest

from app.inference.engines.ahead import Ahead
from app.inference.engines.base import EngineError
from models.manifest import Manifest
from models.repository import ModelRepository, VersionFolder
from tests.app.conftest import FakeEngine, publish, rewrite_manifest


class _Loader:
    """Loads fakes, and knows what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.failing = False

    def __call__(self, folder: VersionFolder, manifest: Manifest) -> FakeEngine:
        self.asked.append(folder.name)
        if self.failing:
            raise RuntimeError("no memory")
        return FakeEngine(folder, manifest)


def _finish(ahead: Ahead) -> None:
    for begun in ahead._begun.values():
        begun.exception(20)


def test_all_versions_are_begun_at_once_the_largest_first_and_loaded_once(tmp_path: Path) -> None:
    side_by_side = threading.Barrier(2)
    load = _Loader()

    def load_two(folder: VersionFolder, manifest: Manifest) -> FakeEngine:
        engine = load(folder, manifest)
        side_by_side.wait(20)
        return engine

    for name, n_bytes in (("cups", 10), ("forks", 1000), ("plates", 100), ("spoons", 1)):
        (publish(tmp_path, name).path / "notes.txt").write_bytes(b"x" * n_bytes)
    repository = ModelRepository(tmp_path)
    ahead = Ahead(load_two, repository)
    _finish(ahead)
    assert (set(load.asked[:2]), set(load.asked[2:])) == ({"forks", "plates"}, {"cups", "spoons"})
    engines = [ahead(folder, repository.read(folder)) for folder in repository.versions()]
    assert len(load.asked) == len(set(map(id, engines))) == 4


def test_a_version_that_comes_later_is_loaded_when_it_is_asked_for(tmp_path: Path) -> None:
    load = _Loader()
    ahead = Ahead(load, ModelRepository(tmp_path / "none yet"))
    folder = publish(tmp_path)
    ahead(folder, ModelRepository(tmp_path).read(folder))
    assert load.asked == ["cups"]


def test_a_version_is_loaded_again_when_it_is_asked_for_a_second_time(tmp_path: Path) -> None:
    """It was retired, and has come back."""
    folder, repository = publish(tmp_path), ModelRepository(tmp_path)
    ahead = Ahead(_Loader(), repository)
    assert ahead(folder, repository.read(folder)) is not ahead(folder, repository.read(folder))


def test_what_failed_is_tried_again_and_fails_where_it_is_asked_for(tmp_path: Path) -> None:
    folder, repository, load = publish(tmp_path), ModelRepository(tmp_path), _Loader()
    load.failing = True
    ahead = Ahead(load, repository)
    _finish(ahead)
    with pytest.raises(RuntimeError, match="no memory"):
        ahead(folder, repository.read(folder))
    assert load.asked == ["cups", "cups"]


def test_a_version_that_was_replaced_meanwhile_is_loaded_as_it_is_now(tmp_path: Path) -> None:
    folder, repository, load = publish(tmp_path), ModelRepository(tmp_path), _Loader()
    ahead = Ahead(load, repository)
    _finish(ahead)
    rewrite_manifest(folder, labels=[{"name": name} for name in "abcdef"])
    (now,) = repository.versions()
    assert ahead(now, repository.read(now)).classes == 6


def test_no_engine_sees_files_that_are_not_those_of_the_manifest(tmp_path: Path) -> None:
    folder, load = publish(tmp_path), _Loader()
    (folder.path / "saved_model.pb").write_bytes(b"cut")
    _finish(Ahead(load, ModelRepository(tmp_path)))
    assert load.asked == []


def test_what_nobody_has_asked_for_is_given_up_and_said_to_be_where_somebody_waits(tmp_path: Path) -> None:
    go_on = threading.Event()
    load = _Loader()

    def load_slowly(folder: VersionFolder, manifest: Manifest) -> FakeEngine:
        assert go_on.wait(20)
        return load(folder, manifest)

    for name in ("cups", "forks", "mugs", "plates"):
        publish(tmp_path, name)
    repository = ModelRepository(tmp_path)
    ahead = Ahead(load_slowly, repository)
    waited_for, *_ = (folder for folder, begun in ahead._begun.items() if not begun.running())
    failures: list[BaseException] = []

    def wait() -> None:
        try:
            ahead(waited_for, repository.read(waited_for))
        except EngineError as error:
            failures.append(error)

    waiting = threading.Thread(target=wait)
    waiting.start()
    while waited_for in ahead._begun:
        time.sleep(0.001)
    ahead.close()
    waiting.join(20)
    go_on.set()
    ahead._pool.shutdown(wait=True)
    assert "loading was given up" in str(failures[0])
    assert len(load.asked) == 2  # those that had been begun
    assert ahead._begun == {}


def test_repository_that_cannot_be_listed_is_for_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: ModelRepository) -> list[VersionFolder]:
        raise PermissionError(13, "Permission denied")

    folder, load = publish(tmp_path), _Loader()
    monkeypatch.setattr(ModelRepository, "versions", refuse)
    ahead = Ahead(load, ModelRepository(tmp_path))
    ahead(folder, ModelRepository(tmp_path).read(folder))
    assert load.asked == ["cups"]
