"""The folder of the output, local or in object storage. Each of its files is there as a whole or not at all.

Locally a file is written aside, synced to disk and renamed; object storage shows one only once it has all of it.
"""

import os
import sys
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from app.batch.job import JobError
from models.storage import StorageError, is_url, opened

if sys.platform != "win32":
    import fcntl

_ASIDE = ".aside-"  # readers of Parquet pass over names that begin with a dot or an underscore


class Output:
    """`address` is a local path or a URL. A local folder is made, and other runs on this machine are kept out of it.

    Raises `JobError` where it can't be had.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self._storage: Any = None
        self._lock: int | None = None
        self._folder, self._top = Path(address), address
        if is_url(address):
            self._storage, self._top = opened(address)
            return
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._keep_others_out()
        except OSError as error:
            raise JobError(f"{address} can't be a folder to write to: {error.strerror}") from error
        for left in self._folder.glob(f"{_ASIDE}*"):  # by a run that was killed
            left.unlink()

    def close(self) -> None:
        """Let others in."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def names(self) -> set[str]:
        """Of its files and folders. Raises `StorageError` or `OSError`."""
        if self._storage is None:
            return {path.name for path in self._folder.iterdir()}
        try:
            self._storage.invalidate_cache()
            found = self._storage.ls(self._top, detail=False)
        except FileNotFoundError:
            return set()
        except Exception as error:
            raise StorageError(f"{self.address} can't be read: {type(error).__name__}: {error}") from error
        return {path.rstrip("/").rpartition("/")[2] for path in found} - {""}

    @contextmanager
    def reading(self, name: str) -> Iterator[Path]:
        """A file of it, as a local one. Raises `StorageError` or `OSError`."""
        if self._storage is None:
            yield self._folder / name
            return
        with tempfile.TemporaryDirectory(prefix="demitasse-batch-") as folder:
            path = Path(folder) / name
            try:
                self._storage.get_file(f"{self._top}/{name}", str(path))
            except Exception as error:
                raise StorageError(f"{self.address}/{name} can't be read: {type(error).__name__}: {error}") from error
            yield path

    @contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        """A local file to be written, which takes its place in the folder once the block has ended well.

        Raises `StorageError` or `OSError`.
        """
        if self._storage is None:
            aside = self._folder / f"{_ASIDE}{uuid.uuid4().hex}"
            try:
                yield aside
                _sync(aside)
                aside.replace(self._folder / name)
                _sync(self._folder)
            finally:
                aside.unlink(missing_ok=True)
            return
        with tempfile.TemporaryDirectory(prefix="demitasse-batch-") as folder:
            path = Path(folder) / name
            yield path
            try:
                self._storage.makedirs(self._top, exist_ok=True)
                self._storage.put_file(str(path), f"{self._top}/{name}")
            except Exception as error:
                raise StorageError(
                    f"{self.address}/{name} can't be written: {type(error).__name__}: {error}"
                ) from error

    def _keep_others_out(self) -> None:
        self._lock = os.open(self._folder, os.O_RDONLY)
        if sys.platform == "win32":
            return
        try:
            fcntl.flock(
                self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB
            )  # the system lets go of it, however this process ends
        except BlockingIOError:
            self.close()
            raise JobError(f"another run is writing to {self.address}") from None


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
