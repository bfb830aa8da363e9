"""Which indexes can be searched: looked for beside the traffic, as versions are, and independent of them.

An index is live while the version is whose embeddings it holds. One that can't be searched is refused with a log line
that says why, and looked at again once any of its files, or a version, has changed; what was
live under its name stays so.
"""

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from app.errors import InternalError, Unimplemented, UnknownIndex
from app.priority import stand_back
from app.registry import LiveVersion, Registry
from models import nearest
from models.files import Contents, contents, subfolders
from models.index_manifest import IndexManifest
from models.indexes import IndexFolder, IndexStore, InvalidIndex, Pictures
from models.nearest import Embeddings, FaissMissing, Nearest
from models.repository import RepositoryError, VersionFolder

logger = logging.getLogger(__name__)

_THREADS = 2

_Seen = tuple[Contents, frozenset[VersionFolder]]  # an index's files, and the live versions


@dataclass(frozen=True)
class Neighbour:
    """A picture of an index, its cosine distance from the one asked for, and its JPEG where that was asked for."""

    id: int
    label: str | None
    distance: float
    thumbnail: bytes | None


@dataclass(frozen=True)
class LiveIndex:
    """An index that has been read."""

    folder: IndexFolder
    manifest: IndexManifest
    nearest: Nearest
    pictures: Pictures

    def search(self, embedding: Embeddings, k: int, *, thumbnails: bool) -> list[Neighbour]:
        """The `k` pictures nearest to float32 [D], or all there are, the nearest first."""
        if embedding.shape != (self.manifest.dimension,):
            raise InternalError(f"expected {self.manifest.dimension} numbers to search, got {embedding.shape}")
        files = self.pictures.thumbnails if thumbnails else None
        return [
            Neighbour(
                int(number), self.pictures.label(number), float(distance), None if files is None else files[number]
            )
            for number, distance in zip(*self.nearest.search(embedding, k), strict=True)
        ]


class Indexes:
    """The indexes of the repository, by model and name."""

    def __init__(self, store: IndexStore, registry: Registry) -> None:
        self._store = store
        self._registry = registry
        self._read: dict[tuple[str, str], LiveIndex] = {}
        self._refused: dict[IndexFolder, _Seen] = {}
        self._faiss_missing = False
        self._threads = ThreadPoolExecutor(_THREADS, "search", stand_back)  # none is started before it is needed

    @property
    def live(self) -> list[LiveIndex]:
        """All live indexes, by model and name."""
        versions = {(live.folder.name, live.folder.version): live for live in self._registry.live}
        found = [self._read[key] for key in sorted(self._read)]
        return [each for each in found if _fits(each.manifest, versions)]

    def get(
        self, name: str | None = None, model: str | None = None, version: int | None = None, label: str | None = None
    ) -> tuple[LiveIndex, LiveVersion]:
        """The index asked for and the version of its embeddings.

        What is left open is chosen: an index of the default model before those of others, then the first by name.
        Raises `UnknownIndex`, and what `Registry.get` does for a model, version or label that is not live.
        """
        default = self._registry.get(model).folder.name  # the models have to be loaded, too
        if self._faiss_missing:
            raise Unimplemented("there are indexes, but FAISS is not installed here: install the extra 'index'")
        live = self.live
        candidates = [
            each for each in live if name in (None, each.manifest.name) and model in (None, each.manifest.model)
        ]
        for each in sorted(candidates, key=lambda each: each.manifest.model != default):
            ours = (each.manifest.model, each.manifest.version)
            asked = ours if version is None and label is None else (each.manifest.model, version)
            answering = self._registry.get(*asked, label)
            if (answering.folder.name, answering.folder.version) == ours:
                return each, answering
        known = ", ".join(f"{each.manifest.model}/{each.manifest.name}" for each in live) or "none"
        wanted = "no index" if name is None else f"no index '{name}'"
        wanted += "" if model is None else f" of {model}"
        wanted += "" if version is None else f" version {version}"
        raise UnknownIndex(f"{wanted}; live are: {known}")

    async def search(self, index: LiveIndex, embedding: Embeddings, k: int, *, thumbnails: bool) -> list[Neighbour]:
        """As `LiveIndex.search`, in a thread."""
        work = partial(index.search, embedding, k, thumbnails=thumbnails)
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    async def watch(self, interval_s: float) -> None:
        """Refresh for ever. No failure ends it."""
        while True:
            try:
                await self.refresh()
            except Exception:
                logger.exception("the indexes could not be looked at")
            await asyncio.sleep(interval_s)

    async def refresh(self) -> None:
        """Bring the indexes in line with the repository and with the versions that are live."""
        versions = {(live.folder.name, live.folder.version): live for live in self._registry.live}
        if not versions or not await asyncio.to_thread(subfolders, self._store.root):
            return  # a volume that has gone away must not take the indexes with it, as it takes no versions
        folders = await asyncio.to_thread(self._store.folders)
        for folder in folders:
            current = self._read.get((folder.model, folder.name))
            if current is None or current.folder != folder:
                await self._try(folder, versions)
        self._faiss_missing = self._faiss_missing and bool(folders)
        self._refused = {folder: seen for folder, seen in self._refused.items() if folder in folders}
        for key in self._read.keys() - {(folder.model, folder.name) for folder in folders}:
            logger.info("index %s of %s is gone", key[1], key[0])
            del self._read[key]

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _try(self, folder: IndexFolder, versions: dict[tuple[str, int], LiveVersion]) -> None:
        files = await asyncio.to_thread(contents, folder.path)
        seen = files, frozenset(version.folder for version in versions.values())
        if self._refused.get(folder) == seen:
            return
        try:
            found = await asyncio.to_thread(self._load, folder, versions)
        except Exception as error:  # a broken index may raise anything, and must not stop the others
            if folder not in await asyncio.to_thread(self._store.folders):  # it was replaced meanwhile
                return
            self._refused[folder] = seen
            self._faiss_missing = self._faiss_missing or isinstance(error, FaissMissing)
            expected = isinstance(error, RepositoryError)
            logger.error("refused index %s of %s: %s", folder.name, folder.model, error, exc_info=not expected)
            return
        if found is None:
            return
        self._refused.pop(folder, None)
        self._read[folder.model, folder.name] = found
        logger.info(
            "live: index %s of %s version %d, %s, %d pictures",
            folder.name,
            folder.model,
            found.manifest.version,
            found.manifest.kind,
            found.manifest.size,
        )

    def _load(self, folder: IndexFolder, versions: dict[tuple[str, int], LiveVersion]) -> LiveIndex | None:
        """None where its version is not live (yet): then nothing is wrong with it."""
        stand_back()
        manifest = self._store.read(folder)
        if (manifest.model, manifest.version) not in versions:
            return None
        if not _fits(manifest, versions):
            raise InvalidIndex(
                f"{folder.path} has embeddings of another {manifest.model} version {manifest.version} than the live "
                "one: build it again"
            )
        self._store.verify(folder, manifest)
        read = nearest.read(self._store.index_path(folder, manifest), manifest)
        return LiveIndex(folder, manifest, read, self._store.pictures(folder, manifest))


def _fits(manifest: IndexManifest, versions: dict[tuple[str, int], LiveVersion]) -> bool:
    version = versions.get((manifest.model, manifest.version))
    return version is not None and version.manifest.fingerprint == manifest.model_sha256
