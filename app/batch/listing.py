"""INPUT -> the paths of its pictures, one after the other, however many there are.

Paths are bytes: a file may have a name that is no text.
"""

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.utils import glob_translate

from app.batch.job import JobError
from models.storage import StorageError, is_url, opened

COLUMN = "path"

_EXTENSIONS = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")
_LISTS = (".txt", ".parquet")
_MAGIC = re.compile(r"[*?\[]")
_EXPECTED = "expected a folder, a pattern with *, ? or [, or a list of paths that ends in .txt or .parquet"


@dataclass(frozen=True)
class Listing:
    """`paths` are relative to `root`, a local path or a URL, or stand for themselves. Running through them may raise
    `JobError`, `StorageError` or `OSError`."""

    root: str
    paths: Iterator[bytes]


def listing(given: str) -> Listing:
    """The pictures of INPUT. Raises `JobError` for what is none, `StorageError` where it can't be reached."""
    return _remote(given) if is_url(given) else _local(given)


def address(root: str, path: str) -> str:
    """Where a picture of a listing lies: a local path or a URL."""
    return path if is_url(path) or path.startswith("/") else f"{root.rstrip('/')}/{path}"


def _local(given: str) -> Listing:
    place = Path(given).absolute()
    if place.is_dir():
        return Listing(str(place), _walk(str(place), _is_picture_at))
    if place.is_file() and place.suffix.lower() in _LISTS:
        return Listing(str(place.parent), _listed(lambda: place.open("rb"), given))
    if place.is_file() or not _MAGIC.search(given):
        raise JobError(f"{_EXPECTED}; {given} is {'another file' if place.exists() else 'not there'}")
    above, slash, _ = _before_magic(given).rpartition("/")
    pattern = given[len(above + slash) :]
    root = str(Path(above + slash).absolute())
    depth = None if "**" in pattern else pattern.count("/")
    return Listing(root, _walk(root, _translated(pattern).match, depth))


def _remote(given: str) -> Listing:
    storage, top = opened(given)
    scheme = given.partition("://")[0]
    if given.lower().endswith(_LISTS):
        return Listing(f"{scheme}://{top.rpartition('/')[0]}", _listed(lambda: storage.open(top, "rb"), given))
    if _MAGIC.search(top):
        root = _before_magic(top).rpartition("/")[0]
        wanted = _translated(top)
        found = (path for path in _walk_remote(storage, root, given) if wanted.match(path))
    else:
        root = top
        found = (path for path in _walk_remote(storage, root, given) if _is_picture(path.rpartition("/")[2]))
    return Listing(f"{scheme}://{root}", (path[len(root) :].lstrip("/").encode() for path in found))


def _walk(root: str, wanted: Callable[[str], object], depth: int | None = None) -> Iterator[bytes]:
    """Wanted files, by their path under the root; of folders so many levels below it at most. Nothing that is hidden.

    Links are followed, and no folder is entered twice.
    """
    seen = set()

    def unreadable(error: OSError) -> None:
        raise error

    for folder, folders, files in os.walk(root, onerror=unreadable, followlinks=True):
        status = Path(folder).stat()
        if (status.st_dev, status.st_ino) in seen:
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        under = "" if folder == root else f"{os.path.relpath(folder, root)}/"
        enter = depth is None or under.count("/") < depth
        folders[:] = sorted(name for name in folders if enter and not name.startswith("."))
        paths = (f"{under}{name}" for name in sorted(files) if not name.startswith("."))
        yield from map(os.fsencode, filter(wanted, paths))


def _walk_remote(storage: Any, root: str, given: str) -> Iterator[str]:
    with _told(given):
        for folder, _, files in storage.walk(root, on_error="raise"):
            yield from (f"{folder.rstrip('/')}/{name}" for name in sorted(files) if name)
            storage.invalidate_cache()  # or it would keep all it has seen


@contextmanager
def _told(given: str) -> Iterator[None]:
    """What storages raise, each its own, as our errors."""
    try:
        yield
    except FileNotFoundError:
        raise JobError(f"{given} is not there") from None
    except (JobError, GeneratorExit):
        raise
    except Exception as error:
        raise StorageError(f"{given} can't be read: {type(error).__name__}: {error}") from error


def _is_picture_at(path: str) -> bool:
    return path.lower().endswith(_EXTENSIONS)


def _is_picture(name: str) -> bool:
    return name.lower().endswith(_EXTENSIONS) and not name.startswith(".")


def _listed(reached: Callable[[], IO[bytes]], given: str) -> Iterator[bytes]:
    with _told(given), reached() as file:
        yield from _column(file, given) if given.lower().endswith(".parquet") else _lines(file)


def _lines(file: IO[bytes]) -> Iterator[bytes]:
    first = True
    for line in file:
        path = line.rstrip(b"\r\n")
        if first:
            path, first = path.removeprefix(b"\xef\xbb\xbf"), False  # Windows puts it there
        if path:
            yield path


def _column(file: IO[bytes], given: str) -> Iterator[bytes]:
    try:
        table = pq.ParquetFile(file)
        if COLUMN not in table.schema_arrow.names:
            raise JobError(f"{given} has no column '{COLUMN}', but {', '.join(table.schema_arrow.names)}")
        row = 0
        for batch in table.iter_batches(columns=[COLUMN]):
            for path in batch.column(0).cast(pa.binary()).to_pylist():
                if not path:
                    raise JobError(f"{given}: the path of row {row} is empty")
                yield path
                row += 1
    except pa.ArrowException as error:
        raise JobError(f"{given} can't be read as a list of paths: {error}") from error


def _before_magic(pattern: str) -> str:
    magic = _MAGIC.search(pattern)
    return pattern[: magic.start() if magic else None]


def _translated(pattern: str) -> re.Pattern[str]:
    """As a shell reads it. Raises `JobError` for what is none."""
    try:
        return re.compile(glob_translate(pattern))
    except (ValueError, re.error) as error:
        raise JobError(f"{pattern} is no pattern: {error}") from error
