"""Indexes of pictures, beside the versions whose embeddings they hold: list, read, verify, publish.

    models/<model>/indexes/<name>/
        index.json                     all there is to know, with the size and checksum of every file
        <generation>/index.faiss       the embeddings, as FAISS reads them
        <generation>/classes.i32       class of each picture, int32 as a place in the labels, -1 where it has none
        <generation>/thumbnails.bin    JPEG files, one after the other; left out where there are none
        <generation>/thumbnails.u64    where each of them begins, and where the last one ends

A publisher renames its files into place as a new generation, then replaces `index.json`, which names it, and removes
the generation before: readers see the one or the other, and never a part. All numbers are little-endian.
"""

import json
import shutil
import stat
import threading
import uuid
import weakref
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from models.files import file_sha256, is_abandoned, subfolders, sync, sync_tree
from models.index_manifest import (
    CLASSES_FILE,
    INDEX_FILE,
    INDEX_MANIFEST_FILE,
    OFFSETS_FILE,
    THUMBNAILS_FILE,
    FileRecord,
    IndexManifest,
)
from models.manifest import first_error
from models.repository import ModelRepository, RepositoryError

INDEXES_FOLDER = "indexes"
NO_CLASS = -1
MOST_THUMBNAIL_BYTES = 2**16

_MOST_MANIFEST_BYTES = 16 * 2**20


class InvalidIndex(RepositoryError):
    """An index that must not be served: its manifest or one of its files is not as it should be."""


@dataclass(frozen=True, order=True)
class IndexFolder:
    """A folder that claims to be an index. `stamp` changes whenever its manifest is replaced."""

    model: str
    name: str
    path: Path
    stamp: tuple[int, int, int]


class Thumbnails:
    """The JPEG files of an index by number. The file is kept open, so that its removal changes nothing."""

    def __init__(self, path: Path, offsets: npt.NDArray[np.uint64]) -> None:
        self._offsets = offsets
        self._file = path.open("rb")
        self._lock = threading.Lock()
        weakref.finalize(self, self._file.close)

    def __getitem__(self, number: int) -> bytes:
        begin, end = map(int, self._offsets[number : number + 2])
        with self._lock:
            self._file.seek(begin)
            return self._file.read(end - begin)


@dataclass(frozen=True)
class Pictures:
    """What an index knows of its pictures, by number."""

    labels: tuple[str, ...]
    classes: npt.NDArray[np.int32]
    thumbnails: Thumbnails | None

    def label(self, number: int) -> str | None:
        class_id = int(self.classes[number])
        return None if class_id == NO_CLASS else self.labels[class_id]


class IndexStore:
    """The indexes of a repository. An index that can't be read raises `InvalidIndex`."""

    def __init__(self, repository: ModelRepository) -> None:
        self.root = repository.root

    def folders(self) -> list[IndexFolder]:
        """All index folders, by model and name. Costs a directory read a model and a stat an index."""
        found = []
        for model in subfolders(self.root):
            with suppress(PermissionError):
                for path in subfolders(model / INDEXES_FOLDER):
                    with suppress(FileNotFoundError, NotADirectoryError):
                        status = (path / INDEX_MANIFEST_FILE).stat()
                        if not stat.S_ISREG(status.st_mode):  # a pipe would never end
                            continue
                        stamp = (status.st_ino, status.st_size, status.st_mtime_ns)
                        found.append(IndexFolder(model.name, path.name, path, stamp))
        return sorted(found)

    def read(self, folder: IndexFolder) -> IndexManifest:
        """The manifest of an index."""
        path = folder.path / INDEX_MANIFEST_FILE
        try:
            if path.is_symlink():
                raise InvalidIndex(f"{path} is no plain file")  # a link may lead anywhere
            if path.stat().st_size > _MOST_MANIFEST_BYTES:
                raise InvalidIndex(f"{path} has more than {_MOST_MANIFEST_BYTES:,} bytes")
            manifest = IndexManifest.model_validate_json(path.read_bytes())
        except ValidationError as error:
            raise InvalidIndex(f"{path} is invalid: {first_error(error)}") from error
        except OSError as error:
            raise InvalidIndex(f"{path} is unreadable: {error}") from error
        if (manifest.model, manifest.name) != (folder.model, folder.name):
            raise InvalidIndex(f"{path} is that of {manifest.model}/{manifest.name}")
        return manifest

    def verify(self, folder: IndexFolder, manifest: IndexManifest) -> None:
        """Compare every file with its size, then with its checksum. Links that lead out of the folder are refused."""
        paths = {name: _path(folder, manifest, name) for name in manifest.files}
        own = folder.path.resolve() / manifest.generation
        for name, record in manifest.files.items():
            if paths[name].resolve() != own / name or not paths[name].is_file():
                raise InvalidIndex(f"{paths[name]} is missing, or no plain file")
            if (size := paths[name].stat().st_size) != record.size_bytes:
                raise InvalidIndex(f"{paths[name]} has {size:,} bytes, the manifest says {record.size_bytes:,}")
        for name, record in manifest.files.items():
            try:
                actual = file_sha256(paths[name])
            except OSError as error:
                raise InvalidIndex(f"{paths[name]} is unreadable: {error.strerror}") from error
            if actual != record.sha256:
                raise InvalidIndex(f"{paths[name]} has sha256 {actual[:12]}…, the manifest says {record.sha256[:12]}…")

    def pictures(self, folder: IndexFolder, manifest: IndexManifest) -> Pictures:
        """Classes and thumbnails of an index that has been verified."""
        try:
            classes = np.fromfile(_path(folder, manifest, CLASSES_FILE), "<i4")
            thumbnails = None
            if THUMBNAILS_FILE in manifest.files:
                offsets = np.fromfile(_path(folder, manifest, OFFSETS_FILE), "<u8")
                end = manifest.files[THUMBNAILS_FILE].size_bytes
                if offsets[0] != 0 or offsets[-1] != end or (offsets[1:] < offsets[:-1]).any():
                    raise InvalidIndex(f"{folder.path}: {OFFSETS_FILE} does not fit {THUMBNAILS_FILE}")
                if (most := int(np.diff(offsets).max())) > MOST_THUMBNAIL_BYTES:  # an answer has up to a hundred
                    raise InvalidIndex(
                        f"{folder.path}: a thumbnail has {most:,} bytes, the limit is {MOST_THUMBNAIL_BYTES:,}"
                    )
                thumbnails = Thumbnails(_path(folder, manifest, THUMBNAILS_FILE), offsets)
        except OSError as error:
            raise InvalidIndex(f"{folder.path} is unreadable: {error.strerror}") from error
        if classes.min() < NO_CLASS or classes.max() >= len(manifest.labels):
            raise InvalidIndex(f"{folder.path}: {CLASSES_FILE} has classes beyond the {len(manifest.labels)} labels")
        return Pictures(manifest.labels, classes, thumbnails)

    def index_path(self, folder: IndexFolder, manifest: IndexManifest) -> Path:
        return _path(folder, manifest, INDEX_FILE)

    def publish(self, staged: Path, draft: IndexManifest) -> IndexFolder:
        """Make the staged files the index of that model and name, in place of the one before.

        `draft` needs no true `generation` and `files`: both are filled in here. Raises `InvalidIndex` for files that
        are not those of an index.
        """
        files = {path.name: _record(path) for path in sorted(staged.iterdir())}
        generation = uuid.uuid4().hex[:16]
        try:
            manifest = IndexManifest.model_validate({**draft.model_dump(), "generation": generation, "files": files})
        except ValidationError as error:
            raise InvalidIndex(f"the index of {draft.model} is invalid: {first_error(error)}") from error
        target = self.root / draft.model / INDEXES_FOLDER / draft.name
        target.mkdir(parents=True, exist_ok=True)
        before = _generation(target)
        sync_tree(staged)
        staged.rename(target / generation)
        aside = target / f".{generation}"
        try:
            aside.write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")
            sync(aside)
            aside.replace(target / INDEX_MANIFEST_FILE)
        finally:
            aside.unlink(missing_ok=True)
        for folder in (target, target.parent, target.parent.parent):
            sync(folder)
        for path in subfolders(target):
            if path.name == before or (path.name != generation and is_abandoned(path)):
                shutil.rmtree(path, ignore_errors=True)
        return next(each for each in self.folders() if each.path == target)


class ThumbnailWriter:
    """Writes what `Thumbnails` reads into a staged folder, in the order of the pictures."""

    def __init__(self, folder: Path) -> None:
        self._offsets = [0]
        self._folder = folder
        self._file = (folder / THUMBNAILS_FILE).open("wb")

    def add(self, jpeg: bytes) -> None:
        self._file.write(jpeg)
        self._offsets.append(self._offsets[-1] + len(jpeg))

    def close(self) -> None:
        self._file.close()
        np.asarray(self._offsets, "<u8").tofile(self._folder / OFFSETS_FILE)


def _path(folder: IndexFolder, manifest: IndexManifest, name: str) -> Path:
    return folder.path / manifest.generation / name


def _record(path: Path) -> FileRecord:
    return FileRecord(size_bytes=path.stat().st_size, sha256=file_sha256(path))


def _generation(index: Path) -> str | None:
    """The one that is read now, if there is any; whatever else is there may be another publisher's."""
    try:
        found = json.loads((index / INDEX_MANIFEST_FILE).read_bytes())["generation"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return found if isinstance(found, str) else None
