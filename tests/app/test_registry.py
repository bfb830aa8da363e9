"""Versions come, prove themselves, take over, and leave; none of it costs a request."""

import asyncio
import logging
import shutil
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.errors import InvalidParameter, NotReady, UnknownLabel, UnknownModel, UnknownVersion
from app.inference.batcher import Batcher
from app.inference.device import Device
from app.inference.engines import EngineFactory
from app.inference.engines.base import Engine
from app.inference.explain import Explainer
from app.registry import LiveVersion, Registry
from models.files import Contents, contents
from models.manifest import Manifest
from models.repository import ModelRepository, RepositoryError, VersionFolder
from tests.app.conftest import FakeEngine, HeldEngine, publish, rewrite_manifest, shades, until


@asynccontextmanager
async def _registry(root: Path, load_engine: EngineFactory = FakeEngine, **options: Any) -> AsyncIterator[Registry]:
    device = Device()

    def batcher(engine: Engine, manifest: Manifest) -> Batcher:
        return Batcher(
            engine, device, max_batch_size=2, batch_wait_s=0, queue_size=9, observe=lambda size, failed: None
        )

    registry = Registry(
        ModelRepository(root), load_engine, batcher, lambda engine, _: Explainer(engine, device), 2, **options
    )
    try:
        yield registry
    finally:
        await registry.close()
        device.close()


async def _ask(live: LiveVersion, shade: int) -> int:
    with live.batcher.admit():
        answer = await live.batcher.submit(np.full((2, 2, 3), shade, np.uint8), float("inf"))
    return round(float(answer.probabilities[1]) * 255)


def _versions(registry: Registry) -> list[tuple[str, int]]:
    return [(live.folder.name, live.folder.version) for live in registry.live]


async def test_versions_are_loaded_warmed_and_answer(tmp_path: Path) -> None:
    for name, version in (("mugs", 1), ("cups", 10), ("cups", 9)):
        publish(tmp_path, name, version)
    async with _registry(tmp_path) as registry:
        await registry.refresh()
        assert _versions(registry) == [("cups", 9), ("cups", 10), ("mugs", 1)]
        live = registry.get("cups")
        assert (live.folder.version, live.manifest.version, live.engine.sizes) == (10, 10, [2, 1])
        assert await _ask(live, 77) == 77
        assert registry.refused == {}


async def test_the_largest_versions_are_loaded_first(tmp_path: Path) -> None:
    asked: list[str] = []
    side_by_side = threading.Barrier(2)

    def load(folder: VersionFolder, manifest: Manifest) -> FakeEngine:
        asked.append(folder.name)
        side_by_side.wait(20)
        return FakeEngine()

    for name, n_bytes in (("cups", 10), ("forks", 1000), ("plates", 100), ("spoons", 1)):
        (publish(tmp_path, name).path / "notes.txt").write_bytes(b"x" * n_bytes)
    async with _registry(tmp_path, load) as registry:
        await registry.refresh()
    assert (set(asked[:2]), set(asked[2:])) == ({"forks", "plates"}, {"cups", "spoons"})


class _Improving(FakeEngine):
    """Computes the same with `faster`, once that is loaded and was right."""

    def __init__(self, faster: Callable[[np.ndarray], np.ndarray] = shades) -> None:
        super().__init__()
        self.faster, self.asked = faster, 0

    def load_rest(self, check: Callable[[Any], None]) -> None:
        self.asked += 1
        check(self.faster)
        self.infer = self.faster  # type: ignore[method-assign]


async def test_what_versions_can_be_served_without_is_loaded_once_they_are(tmp_path: Path) -> None:
    publish(tmp_path, "cups")
    async with _registry(tmp_path, lambda folder, manifest: _Improving()) as registry:
        await registry.refresh()
        first: Any = registry.get("cups").engine
        assert (registry.ready, first.asked) == (True, 0)
        watching = asyncio.create_task(registry.watch(0.001))
        await until(lambda: first.infer is first.faster)
        assert await _ask(registry.get("cups"), 77) == 77

        publish(tmp_path, "cups", 2)
        await until(lambda: _versions(registry) == [("cups", 1), ("cups", 2)])
        second: Any = registry.get("cups").engine
        await until(lambda: second.infer is second.faster)
        watching.cancel()
    assert (first.asked, second.asked) == (1, 1)


async def test_rest_that_is_wrong_is_told_and_costs_the_version_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    publish(tmp_path, "cups")
    publish(tmp_path, "mugs")
    engines = {"cups": _Improving(lambda images: shades(images)[:, ::-1]), "mugs": _Improving()}
    async with _registry(tmp_path, lambda folder, manifest: engines[folder.name]) as registry:
        await registry.refresh()
        watching = asyncio.create_task(registry.watch(0.001))
        await until(lambda: engines["mugs"].infer is engines["mugs"].faster)
        await until(lambda: "could not be sped up" in caplog.text)
        assert await _ask(registry.get("cups"), 77) == 77
        await asyncio.sleep(0.02)  # in which it would be tried again
        watching.cancel()
    assert engines["cups"].asked == 1
    assert "cups version 1 could not be sped up" in caplog.text
    assert "a probability of golden.npz is off by" in caplog.text


async def test_a_version_that_has_left_loads_nothing_more(tmp_path: Path) -> None:
    engine = _Improving()
    folder = publish(tmp_path, "cups")
    publish(tmp_path, "mugs")
    async with _registry(tmp_path, lambda folder, _: engine if folder.name == "cups" else FakeEngine()) as registry:
        await registry.refresh()
        shutil.rmtree(folder.path)
        await registry.refresh()
        watching = asyncio.create_task(registry.watch(0.001))
        await until(lambda: not registry._incomplete)
        watching.cancel()
    assert engine.asked == 0


async def test_nothing_answers_before_the_repository_was_gone_through(tmp_path: Path) -> None:
    """Else the first model by name would be the default for a while, and the last one unknown."""
    leave = threading.Event()

    def load(folder: VersionFolder, manifest: Manifest) -> FakeEngine:
        assert folder.name == "cups" or leave.wait(20)
        return FakeEngine()

    publish(tmp_path, "cups")
    publish(tmp_path, "imagenet")
    async with _registry(tmp_path, load) as registry:
        refreshing = asyncio.create_task(registry.refresh())
        await until(lambda: registry.live)
        assert not registry.ready
        for asked in ((), ("cups",), ("imagenet",)):
            with pytest.raises(NotReady, match=r"^the models are not loaded \(yet\)$"):
                registry.get(*asked)
        leave.set()
        await refreshing
        assert registry.ready
        assert registry.get().folder.name == "imagenet"


async def test_no_more_than_two_versions_are_loaded_at_a_time(tmp_path: Path) -> None:
    """Each of them takes memory and cores that are needed for answers."""
    leave = threading.Semaphore(0)
    loading: list[int] = []

    def load(folder: VersionFolder, manifest: Manifest) -> FakeEngine:
        loading.append(folder.version)
        assert leave.acquire(timeout=20)
        return FakeEngine()

    for version in range(1, 6):
        publish(tmp_path, version=version)
    async with _registry(tmp_path, load) as registry:
        refreshing = asyncio.create_task(registry.refresh())
        for done in range(4):
            await until(lambda done=done: len(loading) == done + 2)  # type: ignore[misc]
            await asyncio.sleep(0.01)  # in which a third would begin
            assert len(loading) == done + 2
            leave.release()
        leave.release(5)
        await refreshing
        assert len(_versions(registry)) == 5


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (lambda folder: (folder.path / "saved_model.pb").unlink(), "saved_model.pb is missing or unreadable"),
        (lambda folder: (folder.path / "saved_model.pb").write_bytes(b"x"), "saved_model.pb has sha256 2d711642b726…"),
        (lambda folder: (folder.path / "manifest.json").write_text("{"), "manifest.json is unreadable"),
        (partial(rewrite_manifest, schema_version=2), "has schema_version 2, this release reads 1"),
        (partial(rewrite_manifest, surprise=1), "manifest.json is invalid: surprise"),
        (partial(rewrite_manifest, version=7), "manifest.json is that of broken/7"),
        (
            partial(rewrite_manifest, labels=[{"name": "a"}, {"name": "b"}]),
            "golden.npz has (3,) probabilities, the manifest has 2 labels",
        ),
    ],
)
async def test_damaged_version_is_refused_with_the_reason_while_others_stay_up(
    damage: Callable[[VersionFolder], None], why: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    damage(publish(tmp_path, "broken"))
    await _check_refusal(tmp_path, FakeEngine, why, caplog)


class _Bad(FakeEngine):
    def __init__(self, answer: Callable[[np.ndarray], np.ndarray]) -> None:
        super().__init__()
        self.infer = answer  # type: ignore[method-assign]


def _fail(*_: object) -> Any:
    raise KeyError("no such op")


@pytest.mark.parametrize(
    ("load", "why"),
    [
        (_fail, "KeyError: 'no such op'"),
        (lambda: _Bad(_fail), "KeyError: 'no such op'"),
        (lambda: _Bad(lambda images: shades(images) + 0.02), "golden.npz is off by 0.0200 on fake (f32)"),
        (lambda: _Bad(lambda images: shades(images)[:, :2]), "the model gives (2,) probabilities, the manifest has 3"),
    ],
)
async def test_version_that_its_engine_fails_on_is_refused_with_the_reason_while_others_stay_up(
    load: Callable[[], FakeEngine], why: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    publish(tmp_path, "broken")
    await _check_refusal(tmp_path, lambda folder, _: load() if folder.name == "broken" else FakeEngine(), why, caplog)


async def _check_refusal(root: Path, load: EngineFactory, why: str, caplog: pytest.LogCaptureFixture) -> None:
    publish(root, "cups")
    async with _registry(root, load) as registry:
        await registry.refresh()
        assert _versions(registry) == [("cups", 1)]
        assert [folder.name for folder in registry.refused] == ["broken"]
        assert await _ask(registry.get(), 9) == 9
    line = next(record for record in caplog.records if record.levelno == logging.ERROR)
    assert line.getMessage().startswith("refused broken version 1: ")
    assert why in line.getMessage()


async def test_version_that_is_still_being_copied_goes_live_once_it_is_whole(tmp_path: Path) -> None:
    folder = publish(tmp_path)
    graph = (folder.path / "saved_model.pb").read_bytes()
    (folder.path / "saved_model.pb").unlink()
    async with _registry(tmp_path) as registry:
        for arrived in (b"", graph[:2], graph):
            (folder.path / "saved_model.pb").write_bytes(arrived)
            await registry.refresh()
        assert (_versions(registry), registry.refused) == ([("cups", 1)], {})


async def test_refused_version_is_tried_again_only_once_its_manifest_changes(tmp_path: Path) -> None:
    tries: list[int] = []

    def load(folder: VersionFolder, manifest: Manifest) -> FakeEngine:
        tries.append(folder.version)
        if len(tries) == 1:
            raise ValueError("out of memory")
        return FakeEngine()

    folder = publish(tmp_path)
    async with _registry(tmp_path, load) as registry:
        for _ in range(3):
            await registry.refresh()
        assert (tries, _versions(registry), list(registry.refused)) == ([1], [], [folder])

        rewrite_manifest(folder, description="as before, but tried again")
        await registry.refresh()
        assert (tries, _versions(registry), registry.refused) == ([1, 1], [("cups", 1)], {})


async def test_version_that_goes_while_it_is_looked_at_keeps_no_other_from_being_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    publish(tmp_path, "cups")
    publish(tmp_path, "mugs")

    def gone(folder: Path) -> Contents:
        if folder == tmp_path / "cups" / "1":
            raise FileNotFoundError("cups/1/saved_model.pb")
        return contents(folder)

    monkeypatch.setattr("app.registry.contents", gone)
    async with _registry(tmp_path) as registry:
        await registry.refresh()
        assert (_versions(registry), registry.ready) == ([("mugs", 1)], True)
        assert "a version could not be looked at: cups/1/saved_model.pb" in caplog.text
        monkeypatch.undo()
        await registry.refresh()
        assert _versions(registry) == [("cups", 1), ("mugs", 1)]


async def test_refusal_is_forgotten_with_its_folder(tmp_path: Path) -> None:
    folder = publish(tmp_path)
    (folder.path / "saved_model.pb").unlink()
    async with _registry(tmp_path) as registry:
        await registry.refresh()
        assert len(registry.refused) == 1
        shutil.rmtree(folder.path)
        await registry.refresh()
        assert registry.refused == {}


async def test_newer_version_becomes_the_default_and_the_old_one_still_answers(tmp_path: Path) -> None:
    publish(tmp_path)
    async with _registry(tmp_path) as registry:
        await registry.refresh()
        old = registry.get()
        publish(tmp_path)
        await registry.refresh()
        assert registry.get().folder.version == 2
        assert registry.get("cups", 1) is old
        assert await _ask(old, 5) == 5


async def test_version_whose_folder_is_gone_answers_what_it_accepted_and_stops(tmp_path: Path) -> None:
    publish(tmp_path)
    gone = publish(tmp_path)
    async with _registry(tmp_path, HeldEngine) as registry:
        await registry.refresh()
        live = registry.get("cups", 2)
        asked = [asyncio.create_task(_ask(live, shade)) for shade in (1, 2, 3)]
        await until(lambda: live.engine.sizes)
        shutil.rmtree(gone.path)
        await registry.refresh()
        assert registry.get("cups").folder.version == 1
        with pytest.raises(UnknownVersion, match=r"^no version 2 of 'cups'; live are: 1$"):
            registry.get("cups", 2)

        live.engine.let()
        assert await asyncio.gather(*asked) == [1, 2, 3]
        await until(live.batcher._worker.done)


async def test_replaced_version_is_swapped_while_it_answers(tmp_path: Path) -> None:
    leave, loading = threading.Event(), threading.Event()
    engines: list[HeldEngine] = []

    def load(folder: VersionFolder, manifest: Manifest) -> HeldEngine:
        if engines:
            loading.set()
            assert leave.wait(20)
        engines.append(HeldEngine())
        return engines[-1]

    folder = publish(tmp_path)
    async with _registry(tmp_path, load) as registry:
        await registry.refresh()
        old = registry.get()
        asked = asyncio.create_task(_ask(old, 1))
        await until(lambda: old.engine.sizes == [1])
        rewrite_manifest(folder, description="replaced")
        refreshing = asyncio.create_task(registry.refresh())
        await until(loading.is_set)
        assert registry.get() is old

        leave.set()
        await refreshing
        new = registry.get()
        assert (new.manifest.description, new.engine, len(registry.live)) == ("replaced", engines[1], 1)
        old.engine.let()
        new.engine.let()
        assert (await asked, await _ask(new, 2)) == (1, 2)
        await until(old.batcher._worker.done)


async def test_replacement_that_fails_leaves_the_live_version(tmp_path: Path) -> None:
    folder = publish(tmp_path)
    async with _registry(tmp_path) as registry:
        await registry.refresh()
        old = registry.get()
        rewrite_manifest(folder, schema_version=2)
        for _ in range(2):
            await registry.refresh()
        assert registry.get() is old
        assert await _ask(old, 3) == 3
        assert len(registry.refused) == 1


async def test_newer_version_that_fails_leaves_the_older_one_the_default(tmp_path: Path) -> None:
    publish(tmp_path)
    async with _registry(tmp_path) as registry:
        await registry.refresh()
        (publish(tmp_path).path / "golden.npz").unlink()
        await registry.refresh()
        assert registry.get().folder.version == 1


async def test_repository_that_vanishes_changes_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = tmp_path / "models"
    publish(root)
    async with _registry(root) as registry:
        await registry.refresh()
        root.rename(tmp_path / "aside")
        await registry.refresh()
        assert await _ask(registry.get(), 8) == 8
        assert f"the model repository {root} is no folder, or empty all at once; nothing is changed" in caplog.text
        (tmp_path / "aside").rename(root)
        old = registry.get()
        await registry.refresh()
        assert registry.get() is old


async def test_repository_that_is_empty_all_at_once_changes_nothing(tmp_path: Path) -> None:
    root = tmp_path / "models"
    publish(root)
    async with _registry(root) as registry:
        await registry.refresh()
        shutil.rmtree(root / "cups")  # as an unmounted volume leaves it
        await registry.refresh()
        assert await _ask(registry.get(), 8) == 8


async def test_watching_goes_on_after_a_failure(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with _registry(tmp_path) as registry:
        versions = registry.repository.versions
        failures = iter([PermissionError("not yours")])

        def flaky() -> list[VersionFolder]:
            for error in failures:
                raise error
            return versions()

        registry.repository.versions = flaky  # type: ignore[method-assign]
        watching = asyncio.create_task(registry.watch(0.001))
        await until(lambda: registry._complete)
        publish(tmp_path)
        await until(lambda: registry.live)
        watching.cancel()
        await asyncio.wait([watching])
    assert "the model repository could not be refreshed" in caplog.text
    assert "PermissionError: not yours" in caplog.text


@pytest.mark.parametrize(
    ("names", "setting", "expected"),
    [
        (["cups"], None, "cups"),
        (["mugs", "cups"], None, "cups"),
        (["cups", "imagenet", "mugs"], None, "imagenet"),
        (["cups", "imagenet", "mugs"], "mugs", "mugs"),
        (["cups"], "mugs", None),
        ([], None, None),
    ],
)
async def test_default_model_is_the_one_set_else_imagenet_else_the_first(
    names: list[str], setting: str | None, expected: str | None, tmp_path: Path
) -> None:
    for name in names:
        publish(tmp_path, name)
    async with _registry(tmp_path, default_model=setting) as registry:
        await registry.refresh()
        assert registry.ready is (expected is not None)
        if expected is not None:
            assert registry.get().folder.name == expected
            return
        with pytest.raises(NotReady) as refusal:
            registry.get()
        wanted = "the default model mugs is not" if setting else "the default model is not"
        assert str(refusal.value) == f"{wanted} live (yet)"


async def test_unknown_names_are_told_what_there_is(tmp_path: Path) -> None:
    async with _registry(tmp_path) as registry:
        await registry.refresh()
        with pytest.raises(UnknownModel, match=r"^no model 'jugs'; live are: none$"):
            registry.get("jugs")
        for name, version in (("mugs", 2), ("mugs", 10), ("cups", 1)):
            publish(tmp_path, name, version)
        await registry.refresh()
        with pytest.raises(UnknownModel, match=r"^no model 'jugs'; live are: cups, mugs$"):
            registry.get("jugs")
        with pytest.raises(UnknownVersion, match=r"^no version 3 of 'mugs'; live are: 2, 10$"):
            registry.get("mugs", 3)
        with pytest.raises(UnknownVersion, match=r"^no version 2 of 'cups'; live are: 1$"):
            registry.get(None, 2)


async def test_close_answers_what_every_version_accepted(tmp_path: Path) -> None:
    publish(tmp_path)
    publish(tmp_path, "mugs")
    async with _registry(tmp_path, HeldEngine) as registry:
        await registry.refresh()
        lives = registry.live
        asked = [asyncio.create_task(_ask(live, shade)) for shade, live in enumerate(lives)]
        await until(lambda: lives[0].engine.sizes)
        closing = asyncio.create_task(registry.close())
        await asyncio.sleep(0)
        assert not closing.done()
        for live in lives:
            live.engine.let()
        assert await asyncio.gather(*asked) == [0, 1]
        await closing
        assert (registry.live, registry._closing) == ([], set())


async def test_stable_version_answers_by_default_and_the_canary_its_share(tmp_path: Path) -> None:
    for version in (1, 2, 3):
        publish(tmp_path, version=version)
    repository, drawn = ModelRepository(tmp_path), [0.0]
    async with _registry(tmp_path, canary_share=0.25, draw=lambda: drawn[0]) as registry:

        async def answers(label: str, version: int | None) -> list[int]:
            repository.set_label("cups", label, version)
            await registry.refresh()
            found = []
            for drawn[0] in (0.2, 0.3):
                found.append(registry.get("cups").folder.version)
            return found

        assert await answers("stable", None) == [3, 3]
        assert await answers("stable", 1) == [1, 1]
        assert await answers("canary", 2) == [2, 1]
        assert [registry.get("cups", label=label).folder.version for label in ("stable", "canary")] == [1, 2]
        assert (registry.labels("cups"), registry.default_version("cups")) == ({"stable": 1, "canary": 2}, 1)
        assert registry.get("cups", 3).folder.version == 3
        assert await answers("stable", 2) == [2, 2]


async def test_label_of_a_version_that_is_not_there_is_told_from_the_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    publish(tmp_path, version=1)
    (tmp_path / "cups" / "labels.json").write_text('{"stable": 7}')
    async with _registry(tmp_path) as registry:
        await registry.refresh()
    assert "labels of cups on versions that are not live: {'stable': 7}" in caplog.messages


@pytest.mark.parametrize("layout", ["", "saved_model.pb", "cups/latest/manifest.json"])
async def test_repository_without_a_version_is_told_once(
    layout: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    if layout:
        (tmp_path / layout).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / layout).touch()
    async with _registry(tmp_path) as registry:
        for _ in range(2):
            await registry.refresh()
    assert caplog.messages == [f"{tmp_path} holds no versions (yet): <name>/<number>/manifest.json"]


async def test_label_stays_where_it_was_until_the_version_it_names_can_answer(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    publish(tmp_path, version=1)
    folder = publish(tmp_path, version=2)
    (folder.path / "saved_model.pb").write_bytes(b"broken")
    repository = ModelRepository(tmp_path)
    repository.set_label("cups", "stable", 1)
    async with _registry(tmp_path) as registry:
        await registry.refresh()
        repository.set_label("cups", "stable", 2)
        repository.set_label("cups", "canary", 2)
        await registry.refresh()
        assert registry.labels("cups") == {"stable": 1}
        await registry.refresh()
        told = "labels of cups on versions that are not live: {'canary': 2, 'stable': 2}"
        assert caplog.messages.count(told) == 1
        (folder.path / "saved_model.pb").write_bytes(b"graph")
        await registry.refresh()
        assert registry.labels("cups") == {"stable": 2, "canary": 2}
        (tmp_path / "cups" / "labels.json").write_text("{")
        for _ in range(2):
            await registry.refresh()
        assert caplog.text.count("the labels of cups stay as they were") == 1
        assert registry.labels("cups") == {"stable": 2, "canary": 2}
        shutil.rmtree(folder.path)
        await registry.refresh()
        assert registry.get("cups").folder.version == 1


def test_loop_ends_while_the_repository_is_still_being_fetched(tmp_path: Path) -> None:
    leave, ended = threading.Event(), threading.Event()

    def fetch() -> None:
        leave.wait(20)
        ended.set()

    async def leave_it() -> None:
        async with _registry(tmp_path, fetch=fetch) as registry:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(registry.refresh(), 0.01)

    asyncio.run(leave_it())
    assert not ended.is_set()
    leave.set()
    assert ended.wait(20)


def test_loop_ends_while_a_version_is_still_loading(tmp_path: Path) -> None:
    publish(tmp_path)
    leave, ended = threading.Event(), threading.Event()

    def load(*_: object) -> FakeEngine:
        leave.wait(20)
        ended.set()
        return FakeEngine()

    async def leave_it() -> Registry:
        async with _registry(tmp_path, load) as registry:
            assert not registry.loading
            refreshing = asyncio.create_task(registry.refresh())
            await until(lambda: registry.loading)
            refreshing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await refreshing
        return registry

    registry = asyncio.run(leave_it())
    assert (ended.is_set(), registry.loading) == (False, True)
    leave.set()
    assert ended.wait(20)


async def test_repository_that_can_not_be_fetched_is_served_as_it_is(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def fetch() -> None:
        raise RepositoryError("s3://bucket can't be read")

    publish(tmp_path)
    async with _registry(tmp_path, fetch=fetch) as registry:
        await registry.refresh()
        assert _versions(registry) == [("cups", 1)]
    assert "s3://bucket can't be read; what is live stays so" in caplog.text


async def test_labels_that_are_not_there_are_unknown(tmp_path: Path) -> None:
    publish(tmp_path, version=1)
    ModelRepository(tmp_path).set_label("cups", "stable", 1)
    async with _registry(tmp_path) as registry:
        await registry.refresh()
        with pytest.raises(UnknownLabel, match=r"^no label 'canary' of 'cups' on a live version; there are: stable$"):
            registry.get("cups", label="canary")
        with pytest.raises(InvalidParameter, match=r"^expected a version or a label, both came$"):
            registry.get("cups", 1, "stable")
        with pytest.raises(UnknownModel):
            registry.get("mugs", label="stable")
