"""The folder of the output, local or in object storage. Each of its files is there as a whole or not at all.

Locally a file is written aside, synced to disk and renamed; object storage shows one only once it has all of it. A
storage that does not answer is waited for.
"""

import errno
import os
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from app.batch.job import JobError
from app.batch.patience import until_it_answers
from models.storage import StorageError, is_object_store, is_url, opened

if sys.platform != "win32":
    import fcntl

Answer = TypeVar("Answer")

_ASIDE = ".aside-"  # readers of Parquet pass over names that begin with a dot or an underscore


class Output:
    """`address` is a local path, or a URL in a storage that is waited for so many seconds. A local folder is made, and
    other runs on this machine are kept out of it; in object storage nothing can, where a run that was killed would not
    keep out the next one, too.

    Raises `JobError` where it can't be had.
    """

    def __init__(self, address: str, patience_s: float = 0.0) -> None:
        self.address = address
        self._patience_s = patience_s
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

        def ask() -> list[str]:
            self._storage.invalidate_cache()
            found: list[str] = self._storage.ls(self._top, detail=False)
            return found

        try:
            found = self._waited_for(ask, "", "read")
        except FileNotFoundError:
            return set()
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
                self._waited_for(partial(self._storage.get_file, f"{self._top}/{name}", str(path)), name, "read")
            except FileNotFoundError:
                raise StorageError(f"{self.address}/{name} is not there any more") from None
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
            self._waited_for(partial(self._put, path, name), name, "written")

    def create(self, name: str, data: bytes) -> None:
        """A small file that is to be there once and for all. Raises `FileExistsError` where another one is.

        In a storage that knows no exclusive writing two runs within moments may both take theirs for the one: S3 and
        what follows it closely, Azure's and Google's do.
        """
        if self._storage is None:  # others are kept out
            with self.writing(name) as path:
                path.write_bytes(data)
            return
        try:
            self._waited_for(partial(self._put_new, f"{self._top}/{name}", data), name, "written")
        except FileExistsError:  # an attempt that seemed to fail may have written it
            with self.reading(name) as path:
                if path.read_bytes() != data:
                    raise

    def remove(self, name: str) -> None:
        """A file, if it is there. Raises `StorageError` or `OSError`."""
        with suppress(FileNotFoundError):
            if self._storage is None:
                (self._folder / name).unlink()
            else:
                self._waited_for(partial(self._storage.rm_file, f"{self._top}/{name}"), name, "removed")

    def _put(self, path: Path, name: str) -> None:
        if not is_object_store(self.address):
            self._storage.makedirs(self._top, exist_ok=True)
        self._storage.put_file(str(path), f"{self._top}/{name}")

    def _put_new(self, target: str, data: bytes) -> None:
        self._storage.invalidate_cache()
        if self._storage.exists(target):
            raise FileExistsError(target)
        try:
            self._storage.pipe_file(target, data, mode="create")
        except OSError as error:
            if error.errno != errno.ENOSYS:
                raise
            self._storage.pipe_file(target, data)

    def _waited_for(self, ask: Callable[[], Answer], name: str, done: str) -> Answer:
        place = f"{self.address}/{name}".rstrip("/")
        return until_it_answers(ask, f"{place} can't be {done}", self._patience_s)

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
