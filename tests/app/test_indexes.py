"""Which indexes are live: theirs come, change and go beside the traffic, and what is broken changes nothing."""

import asyncio
import json
import logging
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.errors import NotReady, Unimplemented, UnknownIndex, UnknownVersion
from app.indexes import Indexes, LiveIndex
from app.registry import Registry
from models.indexes import IndexFolder
from models.repository import ModelRepository, VersionFolder
from tests import indexes as made
from tests.app.conftest import publish as publish_model
from tests.app.conftest import serving

EMBEDDINGS = np.array([[1, 0, 0], [0.5, 0.5, 0], [0, 1, 0]], np.float32)  # dark, grey, bright


def publish(version: VersionFolder, vectors: np.ndarray = EMBEDDINGS, **changes: Any) -> IndexFolder:
    """An index of what that version, whose engine is the fake one, says of pictures."""
    root = version.path.parents[1]
    manifest = ModelRepository(root).read(version)
    named = {"model": version.name, "version": version.version, "model_sha256": manifest.fingerprint}
    return made.publish(root, vectors, **(named | changes))


@asynccontextmanager
async def looking(root: Path, **settings: Any) -> AsyncIterator[tuple[Indexes, Registry]]:
    """Indexes beside live versions, both of which look at the repository when they are told to."""

    async def never(self: Indexes, interval_s: float) -> None:
        await asyncio.Event().wait()

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Indexes, "watch", never)
        async with serving(root, reload_interval_s=3600, **settings) as served:
            await served.app.state.indexes.refresh()
            yield served.app.state.indexes, served.app.state.registry


def _names(live: list[LiveIndex]) -> list[tuple[str, str, int]]:
    return [(each.manifest.model, each.manifest.name, each.manifest.size) for each in live]


def _refusals(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]


async def test_indexes_come_change_and_go_with_their_folders(tmp_path: Path) -> None:
    version = publish_model(tmp_path)
    async with looking(tmp_path) as (indexes, _):
        assert indexes.live == []
        folder = publish(version)
        await indexes.refresh()
        assert _names(indexes.live) == [("cups", "photos", 3)]
        publish(version, EMBEDDINGS[:2], kind="hnsw")
        publish(version, EMBEDDINGS[:1], name="another", kind="lsh")
        await indexes.refresh()
        assert _names(indexes.live) == [("cups", "another", 1), ("cups", "photos", 2)]
        folder.path.rename(tmp_path / "gone")
        await indexes.refresh()
        assert _names(indexes.live) == [("cups", "another", 1)]


async def test_a_broken_index_is_refused_once_and_the_one_before_stays_live(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    version = publish_model(tmp_path)
    publish(version)
    async with looking(tmp_path) as (indexes, _):
        folder = publish(version, EMBEDDINGS[:2])
        broken = next(folder.path.glob("*/index.faiss"))
        whole = broken.read_bytes()
        broken.write_bytes(whole[:-1] + b"\xff")
        for _ in range(3):
            await indexes.refresh()
        assert _names(indexes.live) == [("cups", "photos", 3)]
        numbers = await indexes.search(indexes.live[0], EMBEDDINGS[2], 3, thumbnails=True)
        assert [(each.id, each.thumbnail) for each in numbers] == [(n, made.jpeg(n)) for n in (2, 1, 0)]
        (refusal,) = _refusals(caplog)
        assert refusal.startswith("refused index photos of cups: ")
        assert "has sha256" in refusal
        broken.write_bytes(whole)  # somebody copied it by hand, and has finished
        await indexes.refresh()
        assert _names(indexes.live) == [("cups", "photos", 2)]


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"model_sha256": "1" * 64}, "of another cups version 1 than the live one: build"),
        ({"dimension": 4}, "is no exact index of 3 x 4 numbers"),
        ({"kind": "lsh", "parameters": {"bits": 64}}, "is no lsh index"),
        ({"generation": "../../../1"}, "generation"),
        ({"files": {}}, "an index has the files"),
    ],
)
async def test_an_index_that_is_not_what_it_says_is_refused(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, changes: dict, why: str
) -> None:
    folder = publish(publish_model(tmp_path))
    path = folder.path / "index.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    async with looking(tmp_path) as (indexes, _):
        assert indexes.live == []
    assert why in _refusals(caplog)[0]


async def test_an_index_is_live_while_its_version_is(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    publish_model(tmp_path)
    second = publish_model(tmp_path)
    publish(second)
    async with looking(tmp_path) as (indexes, registry):
        assert len(indexes.live) == 1
        second.path.rename(tmp_path / "aside")
        await registry.refresh()
        assert indexes.live == []
        with pytest.raises(UnknownIndex, match="no index; live are: none"):
            indexes.get()
        await indexes.refresh()
        (tmp_path / "aside").rename(second.path)
        await registry.refresh()
        await indexes.refresh()
        assert _names(indexes.live) == [("cups", "photos", 3)]
    assert _refusals(caplog) == []  # it is not broken for that


async def test_a_repository_that_has_gone_away_takes_no_index_with_it(tmp_path: Path) -> None:
    root = tmp_path / "models"
    publish(publish_model(root))
    async with looking(root) as (indexes, _):
        root.rename(tmp_path / "unmounted")
        await indexes.refresh()
        assert _names(indexes.live) == [("cups", "photos", 3)]


async def test_what_a_request_leaves_open_is_chosen(tmp_path: Path) -> None:
    cups, mugs = publish_model(tmp_path, "cups"), publish_model(tmp_path, "mugs")
    newer = publish_model(tmp_path, "mugs")
    for version, name in ((cups, "photos"), (mugs, "photos"), (newer, "news"), (mugs, "zebras")):
        publish(version, name=name)
    async with looking(tmp_path, default_model="mugs") as (indexes, _):

        def chosen(*asked: Any) -> tuple[str, str, int]:
            index, version = indexes.get(*asked)
            assert index.manifest.version == version.folder.version
            return version.folder.name, index.manifest.name, version.folder.version

        assert chosen() == ("mugs", "news", 2)
        assert chosen("photos") == ("mugs", "photos", 1)
        assert chosen(None, "cups") == ("cups", "photos", 1)
        assert chosen(None, "mugs", 1) == ("mugs", "photos", 1)
        assert chosen("zebras") == ("mugs", "zebras", 1)
        known = "live are: cups/photos, mugs/news, mugs/photos, mugs/zebras"
        with pytest.raises(UnknownIndex, match=f"no index 'zebras' of cups; {known}"):
            chosen("zebras", "cups")
        with pytest.raises(UnknownIndex, match=f"no index 'news' version 1; {known}"):
            chosen("news", None, 1)
        with pytest.raises(UnknownVersion):
            chosen("news", None, 7)


async def test_nothing_is_unknown_before_the_models_are_loaded(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        with pytest.raises(NotReady):
            served.app.state.indexes.get("photos")


async def test_without_faiss_the_log_and_the_error_say_what_to_install(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(publish_model(tmp_path))
    monkeypatch.setitem(sys.modules, "faiss", None)
    async with looking(tmp_path) as (indexes, _):
        await indexes.refresh()
        assert indexes.live == []
        with pytest.raises(Unimplemented, match="install the extra 'index'"):
            indexes.get()
    assert _refusals(caplog) == ["refused index photos of cups: FAISS is not installed; install the extra 'index'"]
