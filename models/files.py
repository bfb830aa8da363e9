"""What versions and indexes need of the file system: listings, checksums, and all of it on the disk."""

import hashlib
import os
import time
from contextlib import suppress
from pathlib import Path

Contents = frozenset[tuple[str, int, int]]

_ABANDONED_AFTER_S = 24 * 3600.0


def subfolders(parent: Path) -> list[Path]:
    """The folders in a folder that are not hidden; none where it is none itself."""
    try:
        return [
            Path(entry.path) for entry in os.scandir(parent) if not entry.name.startswith(".") and _is_folder(entry)
        ]
    except (FileNotFoundError, NotADirectoryError):
        return []


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that can't be followed
        return False


def contents(folder: Path) -> Contents:
    """Path, bytes and time of change (ns) of each file: differs once any of them was replaced or completed."""
    found = set()
    for path in folder.rglob("*"):
        with suppress(OSError):  # on its way, or gone again
            status = path.stat()
            found.add((path.relative_to(folder).as_posix(), status.st_size, status.st_mtime_ns))
    return frozenset(found)


def size_bytes(folder: Path) -> int:
    """Of all files and folders below it; 0 where it goes while they are counted."""
    try:
        return sum(size for _, size, _ in contents(folder))
    except OSError:
        return 0


def is_abandoned(folder: Path) -> bool:
    """Whether nothing was added, renamed or removed in it for a day: its publisher must have died."""
    try:
        return time.time() - folder.stat().st_mtime > _ABANDONED_AFTER_S
    except FileNotFoundError:  # its publisher has just finished with it
        return False


def file_sha256(path: Path) -> str:
    """The file's SHA-256 in hexadecimal. Raises `OSError`."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync_tree(root: Path) -> None:
    """Bring all files below a folder to the disk."""
    for path in root.rglob("*"):
        sync(path)
    sync(root)


def sync(path: Path) -> None:
    """Bring a file, or the entries of a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
