"""Which versions can answer: load -> self-test -> warm -> swap -> drain, beside the traffic.

The repository is looked at every few seconds. A new version is loaded, proves itself and takes over; a version whose
folder is gone stops once its last request is answered. A version that can't be served is refused with a log line that
says why, and looked at again once any of its files has changed, since somebody may be copying it in by hand; whatever
was live stays live.
"""

import asyncio
import logging
import os
import random
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from app.errors import InvalidParameter, NotReady, UnknownLabel, UnknownModel, UnknownVersion
from app.inference.batcher import Batcher
from app.inference.engines import EngineFactory
from app.inference.engines.ahead import AT_A_TIME, largest_first
from app.inference.engines.base import Engine, EngineError, complete, prove
from app.inference.explain import Explainer
from app.priority import stand_back
from models.files import Contents, contents
from models.manifest import Manifest
from models.repository import ModelRepository, RepositoryError, VersionFolder

logger = logging.getLogger(__name__)

Found = TypeVar("Found")

PREFERRED_DEFAULT = "imagenet"
STABLE, CANARY = "stable", "canary"  # the labels that decide who answers requests that name no version


@dataclass(frozen=True)
class LiveVersion:
    """A version that answers requests, with all that it takes."""

    folder: VersionFolder
    manifest: Manifest
    engine: Engine
    batcher: Batcher
    explainer: Explainer


@dataclass(frozen=True)
class Refusal:
    """Why a version is not served, and the files that were found then."""

    why: str
    contents: Contents


@dataclass
class Registry:
    """Without a `default_model`, the default is `PREFERRED_DEFAULT` where it is live, else the first model by name."""

    repository: ModelRepository
    load_engine: EngineFactory
    make_batcher: Callable[[Engine, Manifest], Batcher]
    make_explainer: Callable[[Engine, Manifest], Explainer]
    max_batch_size: int
    default_model: str | None = None
    fetch: Callable[[], None] | None = None  # brings the repository up to date, where it is a copy
    canary_share: float = 0.0
    draw: Callable[[], float] = random.random
    refused: dict[VersionFolder, Refusal] = field(default_factory=dict)
    _said_empty: bool = False
    _complete: bool = False  # the repository has been gone through once
    _live: dict[tuple[str, int], LiveVersion] = field(default_factory=dict)
    _labels: dict[str, dict[str, int]] = field(default_factory=dict)
    _missing: dict[str, dict[str, int]] = field(default_factory=dict)  # labels of versions that are not live
    _label_errors: dict[str, str] = field(default_factory=dict)  # of each model, so that it is said once
    _incomplete: list[LiveVersion] = field(default_factory=list)  # whose engines have more to load
    _closing: set[asyncio.Task[None]] = field(default_factory=set)
    _threads: set[threading.Thread] = field(default_factory=set)  # that fetch or load

    @property
    def loading(self) -> bool:
        """A thread fetches or loads, which may take long, and in an engine that hangs for ever."""
        return bool(self._threads)

    @property
    def live(self) -> list[LiveVersion]:
        """All live versions, by name and version."""
        return [self._live[key] for key in sorted(self._live)]

    @property
    def ready(self) -> bool:
        """At least the default model answers."""
        return self._complete and self._default_name() is not None

    def get(self, name: str | None = None, version: int | None = None, label: str | None = None) -> LiveVersion:
        """The version asked for, by number or by label; of the default model, where the request leaves that open.

        A request that names neither is answered by the version labelled stable, or by the highest one where none is;
        a share of such requests by the one labelled canary. Raises `UnknownModel`, `UnknownVersion`, `UnknownLabel`,
        or `NotReady` where the default model is not live, and until the repository has been gone through once: before
        that, a model that is still to be loaded would seem unknown, and the wrong version might be the default.
        """
        if not self._complete:
            raise NotReady("the models are not loaded (yet)")
        if name is None:
            name = self._default_name()
            if name is None:
                raise NotReady(f"the default model {self.default_model or ''} is not live (yet)".replace("  ", " "))
        numbers = [number for known, number in self._live if known == name]
        if not numbers:
            names = ", ".join(sorted({known for known, _ in self._live})) or "none"
            raise UnknownModel(f"no model '{name}'; live are: {names}")
        if version is not None and label is not None:
            raise InvalidParameter("expected a version or a label, both came")
        if label is not None:
            version = self.labels(name).get(label)
            if version is None:
                labels = ", ".join(sorted(self.labels(name))) or "none"
                raise UnknownLabel(f"no label '{label}' of '{name}' on a live version; there are: {labels}")
        if version is None:
            canary = self.labels(name).get(CANARY) if self.canary_share else None
            version = canary if canary and self.draw() < self.canary_share else self.default_version(name)
        if version not in numbers:
            known_versions = ", ".join(map(str, sorted(numbers)))
            raise UnknownVersion(f"no version {version} of '{name}'; live are: {known_versions}")
        return self._live[name, version]

    def labels(self, name: str) -> dict[str, int]:
        """The labels of the model's live versions; those of versions that can't be served are left out."""
        return {label: number for label, number in self._labels.get(name, {}).items() if (name, number) in self._live}

    def default_version(self, name: str) -> int:
        """The version of a live model that answers requests which name none, except for the canary's share of them."""
        return self.labels(name).get(STABLE) or max(number for known, number in self._live if known == name)

    async def watch(self, interval_s: float) -> None:
        """Refresh for ever, every `interval_s`. A failure is logged and ends nothing."""
        while True:
            await self._complete_engines()
            await asyncio.sleep(interval_s)
            try:
                await self.refresh()
            except Exception:
                logger.exception("the model repository could not be refreshed")

    async def refresh(self) -> None:
        """Bring the live versions in line with the repository."""
        if self.fetch is not None:
            try:
                await _abandonable(self.fetch, self._threads)
            except RepositoryError as error:
                logger.error("%s; what is live stays so", error)
        root = self.repository.root
        if not await asyncio.to_thread(root.is_dir) or (self._live and not await asyncio.to_thread(os.listdir, root)):
            # A volume that has gone away leaves no folder or an empty one, and must not take the live versions with it
            logger.error("the model repository %s is no folder, or empty all at once; nothing is changed", root)
            return
        folders = await asyncio.to_thread(self.repository.versions)
        if not folders and not self._said_empty and self.fetch is None:  # what fetches says so itself
            logger.warning("%s holds no versions (yet): <name>/<number>/manifest.json", root)
        self._said_empty = not folders
        live = {version.folder for version in self._live.values()}
        await self._load_all([folder for folder in folders if folder not in live])
        await self._read_labels({folder.name for folder in folders})
        self._complete = True
        self.refused = {folder: refusal for folder, refusal in self.refused.items() if folder in folders}
        for key in self._live.keys() - {(folder.name, folder.version) for folder in folders}:
            self._retire(self._live.pop(key))

    async def _load_all(self, folders: list[VersionFolder]) -> None:
        """Load some at a time, but for those that are refused already."""
        places = asyncio.Semaphore(AT_A_TIME)

        async def load(folder: VersionFolder) -> None:
            if not await self._still_refused(folder):
                async with places:
                    await self._go_live(folder)

        if len(folders) > 1:
            folders = await asyncio.to_thread(largest_first, folders)
        for failure in await asyncio.gather(*map(load, folders), return_exceptions=True):
            if isinstance(failure, Exception):  # such as a folder that vanished meanwhile; the next refresh looks again
                logger.error("a version could not be looked at: %s", failure)

    async def _read_labels(self, names: set[str]) -> None:
        """A label moves once the version it names can answer; until then it stays where it was."""
        for name in names:
            try:
                wanted = await asyncio.to_thread(self.repository.labels, name)
            except RepositoryError as error:  # somebody may be writing it
                if self._label_errors.get(name) != str(error):
                    self._label_errors[name] = str(error)
                    logger.error("the labels of %s stay as they were: %s", name, error)
                continue
            self._label_errors.pop(name, None)
            before = self._labels.get(name, {})
            missing = {label: number for label, number in wanted.items() if (name, number) not in self._live}
            if missing != self._missing.get(name, {}):
                self._missing[name] = missing
                if missing:
                    logger.error("labels of %s on versions that are not live: %s", name, missing)
            labels = {
                label: number if (name, number) in self._live else before[label]
                for label, number in wanted.items()
                if (name, number) in self._live or label in before
            }
            if labels != before:
                logger.info("labels of %s: %s", name, labels or "none")
            self._labels[name] = labels

    async def close(self) -> None:
        """Answer what is under way in every version, then stop them."""
        for key in list(self._live):
            self._retire(self._live.pop(key))
        await asyncio.gather(*self._closing)

    def _default_name(self) -> str | None:
        names = sorted({name for name, _ in self._live})
        if self.default_model is not None:
            return self.default_model if self.default_model in names else None
        return PREFERRED_DEFAULT if PREFERRED_DEFAULT in names else next(iter(names), None)

    async def _still_refused(self, folder: VersionFolder) -> bool:
        refusal = self.refused.get(folder)
        return refusal is not None and refusal.contents == await asyncio.to_thread(contents, folder.path)

    async def _go_live(self, folder: VersionFolder) -> None:
        """Load a version and put it in the place of the one before, or note why it is refused."""
        files = await asyncio.to_thread(contents, folder.path)
        try:
            manifest, engine = await _abandonable(partial(self._load, folder), self._threads)
        except Exception as error:  # a broken version may raise anything, and must not stop the others
            expected = isinstance(error, (RepositoryError, EngineError))
            why = str(error) if expected else f"{type(error).__name__}: {error}"
            self.refused[folder] = Refusal(why, files)
            logger.error("refused %s version %d: %s", folder.name, folder.version, why, exc_info=not expected)
            return
        self.refused.pop(folder, None)
        previous = self._live.get((folder.name, folder.version))
        live = LiveVersion(
            folder, manifest, engine, self.make_batcher(engine, manifest), self.make_explainer(engine, manifest)
        )
        self._live[folder.name, folder.version] = live
        self._incomplete.append(live)
        logger.info(
            "live: %s version %d on %s %s %s", folder.name, folder.version, engine.name, engine.device, engine.precision
        )
        if previous is not None:
            self._retire(previous)

    def _load(self, folder: VersionFolder) -> tuple[Manifest, Engine]:
        stand_back()  # so do the threads that the engine starts from here
        manifest = self.repository.read(folder)
        self.repository.verify(folder, manifest)
        engine = self.load_engine(folder, manifest)
        prove(engine, folder, manifest, self.max_batch_size)
        return manifest, engine

    async def _complete_engines(self) -> None:
        """One after the other, beside the traffic; a version that fails answers as it did before."""
        while self._incomplete:
            live = self._incomplete.pop(0)
            if self._live.get((live.folder.name, live.folder.version)) is not live:
                continue
            try:
                await _abandonable(partial(_complete_engine, live), self._threads)
            except Exception:
                logger.exception("%s version %d could not be sped up", live.folder.name, live.folder.version)

    def _retire(self, version: LiveVersion) -> None:
        logger.info("draining: %s version %d", version.folder.name, version.folder.version)
        task = asyncio.create_task(version.batcher.close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)


def _complete_engine(live: LiveVersion) -> None:
    stand_back()
    complete(live.engine, live.folder, live.manifest)


async def _abandonable(work: Callable[[], Found], threads: set[threading.Thread]) -> Found:
    """As `asyncio.to_thread`, but the end of the process does not wait for it: a copy from afar may take minutes.

    Its thread is among `threads` meanwhile.
    """
    outcome: Future[Found] = Future()
    outcome.set_running_or_notify_cancel()  # from here on, whoever leaves does not cancel it

    def run() -> None:
        try:
            outcome.set_result(work())
        except BaseException as error:
            outcome.set_exception(error)
        finally:
            threads.discard(threading.current_thread())

    thread = threading.Thread(target=run, name="beside", daemon=True)
    threads.add(thread)
    try:
        thread.start()
    except RuntimeError:
        threads.discard(thread)
        raise
    return await asyncio.wrap_future(outcome)
