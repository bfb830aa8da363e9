"""In which order versions are loaded; and the first ones while the rest of the service is still imported."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from app.inference.engines import EngineFactory
from app.inference.engines.base import Engine
from app.priority import stand_back
from models.files import size_bytes
from models.manifest import Manifest
from models.repository import ModelRepository, VersionFolder

AT_A_TIME = 2


def largest_first(folders: Iterable[VersionFolder]) -> list[VersionFolder]:
    """As the last one, the largest would be loaded alone, when the other cores have nothing left to do."""
    return sorted(folders, key=lambda folder: size_bytes(folder.path), reverse=True)


class Ahead:
    """An `EngineFactory` that begins at once with what is in the repository, before it is asked for it."""

    def __init__(self, load_engine: EngineFactory, repository: ModelRepository) -> None:
        self._load_engine = load_engine
        pool = ThreadPoolExecutor(AT_A_TIME, "ahead")
        folders = largest_first(repository.versions())
        self._begun = {folder: pool.submit(self._load, repository, folder) for folder in folders}
        pool.shutdown(wait=False)

    def __call__(self, folder: VersionFolder, manifest: Manifest) -> Engine:
        begun = self._begun.pop(folder, None)
        if begun is not None:
            with suppress(Exception):  # what is wrong with it is said when it is loaded as any later version is
                return begun.result()
        return self._load_engine(folder, manifest)

    def _load(self, repository: ModelRepository, folder: VersionFolder) -> Engine:
        stand_back()
        manifest = repository.read(folder)
        repository.verify(folder, manifest)
        return self._load_engine(folder, manifest)
