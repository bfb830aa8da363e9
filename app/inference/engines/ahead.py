"""In which order versions are loaded; and the first ones while the rest of the service is still imported."""

from collections.abc import Iterable
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import suppress

from app.inference.engines import EngineFactory
from app.inference.engines.base import Engine, EngineError
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
        self._pool = ThreadPoolExecutor(AT_A_TIME, "ahead")
        folders: list[VersionFolder] = []
        with suppress(OSError):  # which is said, and tried again, by who goes through the repository later
            folders = largest_first(repository.versions())
        self._begun = {folder: self._pool.submit(self._load, repository, folder) for folder in folders}

    def __call__(self, folder: VersionFolder, manifest: Manifest) -> Engine:
        begun = self._begun.pop(folder, None)
        if begun is not None:
            try:
                if begun.exception() is None:  # what is wrong is said when it is loaded as any later version is
                    return begun.result()
            except CancelledError:
                raise EngineError(f"{folder.path}: loading was given up, since the service stops") from None
        return self._load_engine(folder, manifest)

    def close(self) -> None:
        """Give up what nobody has asked for: the end of the process would wait for it, and its memory be kept."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._begun.clear()

    def _load(self, repository: ModelRepository, folder: VersionFolder) -> Engine:
        stand_back()
        manifest = repository.read(folder)
        repository.verify(folder, manifest)
        return self._load_engine(folder, manifest)
