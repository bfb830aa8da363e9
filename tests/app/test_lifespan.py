"""The life of an application: how its models come, and that nothing is left of it."""

import asyncio
import stat
import tempfile
import threading
from pathlib import Path
from typing import Any

import pytest

from app.main import create_app
from app.settings import Settings
from tests.app.conftest import FakeEngine, HeldEngine, client, png, publish, serving, until


async def test_settings_reach_the_parts(tmp_path: Path) -> None:
    publish(tmp_path)
    async with serving(tmp_path, max_batch_size=3, batch_wait_ms=500, queue_size=7, max_image_pixels=5) as served:
        batcher = served.batcher
        assert (batcher._sizes, batcher._batch_wait_s, batcher._room.limit) == ((1, 2, 3), 0.5, 7)
        assert served.engine.sizes == [3, 2, 1]
        assert served.app.state.pipeline._decoder._max_pixels == 5


async def test_lifespan_ends_once_what_was_accepted_is_answered_and_leaves_no_thread(tmp_path: Path) -> None:
    publish(tmp_path)
    before = set(threading.enumerate())
    async with serving(tmp_path, HeldEngine) as served:
        asked = asyncio.create_task(served.http.post("/predict", content=png(1, (200, 200))))
        # Too large to be decoded without a thread
        await until(lambda: served.engine.sizes)
        asyncio.get_running_loop().call_soon(served.engine.let)
    assert (await asked).status_code == 200
    await asyncio.get_running_loop().shutdown_default_executor()
    await until(lambda: set(threading.enumerate()) <= before)
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_repository_that_cannot_be_read_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Unreadable:
        def __init__(self, root: Path) -> None:
            self.root = root

        def versions(self) -> list[object]:
            raise PermissionError("not yours")

    monkeypatch.setattr("app.repository.ModelRepository", Unreadable)
    async with serving(tmp_path) as served:
        assert "the model repository could not be read" in caplog.text
        assert (await served.http.get("/health/ready")).status_code == 503
        assert (await served.http.get("/health/live")).status_code == 200


async def test_version_published_later_goes_live_without_a_restart(tmp_path: Path) -> None:
    async with serving(tmp_path, reload_interval_s=0.1) as served:
        assert (await served.http.get("/health/ready")).status_code == 503
        publish(tmp_path)
        await until(lambda: served.app.state.registry.ready)
        assert (await served.http.post("/predict", content=png(1))).status_code == 200


async def test_service_is_told_once_when_its_models_have_loaded(tmp_path: Path) -> None:
    publish(tmp_path)
    told: list[list[int]] = []
    app = create_app(
        Settings(model_repository=tmp_path),
        load_engine=FakeEngine,
        on_first_load=lambda registry: told.append([live.folder.version for live in registry.live]),
    )
    async with app.router.lifespan_context(app), client(app) as http:
        assert (await http.get("/health/live")).status_code == 200  # whether they have or not
        await until(lambda: told)
    assert told == [[1]]


async def test_application_that_is_to_stop_does_not_wait_for_its_models(tmp_path: Path) -> None:
    leave = threading.Event()

    def load(*_: object) -> FakeEngine:
        leave.wait(20)
        return FakeEngine()

    publish(tmp_path)
    app = create_app(Settings(model_repository=tmp_path), load_engine=load, load_before_serving=True)
    life = app.router.lifespan_context(app)
    async with asyncio.timeout(20):
        starting = asyncio.create_task(life.__aenter__())
        done, _ = await asyncio.wait([starting], timeout=0.05)
        assert not done
        app.state.draining = True
        await starting
        assert not app.state.registry.ready
        leave.set()
        await life.__aexit__(None, None, None)


@pytest.mark.parametrize("kept", [True, False])
async def test_models_in_object_storage_are_served_from_a_copy(
    kept: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage, cache, temporary = tmp_path / "storage", tmp_path / "cache", tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    publish(storage)
    root: Any = f"file://{storage}"
    async with serving(root, model_cache=cache if kept else None) as served:
        answer = await served.http.post("/predict", content=png(255), headers={"content-type": "image/png"})
        assert answer.json()["predictions"][0]["label"] == "bright"
        folder = served.app.state.registry.get().folder.path
        assert folder.is_relative_to(cache if kept else temporary)
        if not kept:
            (made,) = temporary.iterdir()
            assert stat.S_IMODE(made.stat().st_mode) == 0o700
    assert folder.exists() == kept
    assert not list(temporary.iterdir())
