"""A repository in object storage: mirrored to a folder, which is served like any other, and uploaded to.

`s3://`, `gs://`, `az://` and all else that fsspec opens. An uploader writes the manifest last; a reader takes a version
once every file of it has the checksum that the manifest says, and renames it into place. So neither sees a part of one,
and a transfer that breaks, or a right that is missing, changes nothing.
"""

import errno
import json
import logging
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from models.files import file_sha256
from models.manifest import MANIFEST_FILE, MODEL_NAME, Manifest
from models.repository import (
    LABELS_FILE,
    InvalidVersion,
    ModelRepository,
    RepositoryError,
    VersionExists,
    VersionFolder,
)

logger = logging.getLogger(__name__)

_SOURCE_FILE = ".source"  # in a mirrored version: the stamp of the one in the storage that it is a copy of
_EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs", "az": "azure", "abfs": "azure", "abfss": "azure"}


class StorageError(RepositoryError):
    """The storage can't be read or written; the message says what and why."""


def is_url(location: str) -> bool:
    return "://" in location


class Mirror:
    """The versions under `url`, kept in the folder `root`."""

    def __init__(self, url: str, root: Path) -> None:
        self._url = url.rstrip("/")
        self._repository = ModelRepository(root)
        self._logged: dict[tuple[str, int], str] = {}  # why a version was not copied, so that it is said once
        self._logged_empty = False
        self._verified = False  # what an earlier process copied has been compared with its manifests

    def refresh(self) -> None:
        """Copy what is new, remove what is gone. Raises `StorageError` where the storage can't be read.

        A version that is not whole, or not what its manifest says, is passed over with a line in the log; the next
        call looks at it again.
        """
        self._repository.root.mkdir(parents=True, exist_ok=True)
        storage, top = opened(self._url)
        with _reading(self._url):
            storage.invalidate_cache()
            found = storage.find(top, detail=True)
        listing = {path.removeprefix(top).strip("/"): entry for path, entry in found.items()}
        remote = _remote_versions(listing)
        self._say_what_is_begun(listing, remote)
        local = {(folder.name, folder.version): folder for folder in self._repository.versions()}
        if local and not remote:
            raise StorageError(f"{self._url} holds no versions all at once; what was copied before is kept")
        if not remote and not self._logged_empty:
            logger.warning("%s holds no versions (yet)", self._url)
        self._logged_empty = not remote
        damaged = set() if self._verified else {key for key, folder in local.items() if not self._is_whole(folder)}
        self._verified = True
        for key, stamp in remote.items():
            folder = local.get(key)
            if folder is None or key in damaged or _stamp_of(folder.path) != stamp:
                self._copy_version(storage, top, listing, key, stamp, damaged=key in damaged)
        for key in local.keys() - remote.keys():
            self._discard(local[key].path)
        for name in {folder.name for folder in self._repository.versions()}:
            self._copy_labels(storage, top, listing, name)

    def _say_what_is_begun(self, listing: Iterable[str], remote: Iterable[tuple[str, int]]) -> None:
        """Versions without a manifest, once each: their upload goes on, or has broken off."""
        begun = {(name, int(number)) for name, number, *_ in map(_parts, listing) if _is_number(number)}
        for name, version in sorted(begun.difference(remote, self._logged)):
            self._logged[name, version] = f"{MANIFEST_FILE} is not there (yet)"
            logger.warning("%s/%s/%d is not taken: %s", self._url, name, version, self._logged[name, version])

    def _is_whole(self, folder: VersionFolder) -> bool:
        try:
            self._repository.verify(folder, self._repository.read(folder))
        except RepositoryError as error:
            logger.warning("%s; it is copied again", error)
            return False
        return True

    def _copy_version(
        self,
        storage: Any,
        top: str,
        listing: dict[str, dict[str, Any]],
        key: tuple[str, int],
        stamp: str,
        *,
        damaged: bool,
    ) -> None:
        name, version = key
        try:
            if not re.fullmatch(MODEL_NAME, name):  # '..' would lead out of the folder, and no reader looks at '.name'
                raise InvalidVersion(f"the name of a model is {MODEL_NAME}")
            with self._repository.staging() as staged:
                self._download(storage, f"{top}/{name}/{version}", staged, listing, f"{name}/{version}")
                (staged / _SOURCE_FILE).write_text(stamp, encoding="utf-8")
                target = self._repository.root / name / str(version)
                target.parent.mkdir(parents=True, exist_ok=True)
                # Another process mirrors to the same folder, and may have it open
                if not damaged and _stamp_of(target) == stamp:
                    return
                if target.exists():
                    self._discard(target)
                staged.rename(target)
        except (RepositoryError, OSError) as error:
            if self._logged.get(key) != str(error):
                self._logged[key] = str(error)
                logger.error("%s/%s/%d is not taken: %s", self._url, name, version, error)
            return
        self._logged.pop(key, None)
        logger.info("copied %s/%s/%d", self._url, name, version)

    def _download(
        self, storage: Any, source: str, staged: Path, listing: dict[str, dict[str, Any]], version: str
    ) -> None:
        with _reading(f"{source}/{MANIFEST_FILE}"):
            text = storage.cat_file(f"{source}/{MANIFEST_FILE}")
        try:
            manifest = Manifest.model_validate_json(text)
        except ValueError as error:
            raise InvalidVersion(f"{MANIFEST_FILE} is invalid: {error}") from error
        if missing := [name for name in manifest.files if f"{version}/{name}" not in listing]:
            raise InvalidVersion(f"{', '.join(missing)} is not there (yet)")
        paths = {name: staged / name for name in manifest.files}
        for path in paths.values():
            path.parent.mkdir(parents=True, exist_ok=True)
        with _reading(source):
            try:  # side by side, where the storage allows
                storage.get([f"{source}/{name}" for name in paths], list(map(str, paths.values())))
            except OSError as error:
                if error.errno == errno.ENOSPC:
                    raise StorageError(f"there is no room for it in {self._repository.root}") from error
                raise
        for name, expected in manifest.files.items():
            if (actual := file_sha256(paths[name])) != expected:
                raise InvalidVersion(f"{name} has sha256 {actual[:12]}…, the manifest says {expected[:12]}…")
        (staged / MANIFEST_FILE).write_bytes(text)

    def _discard(self, path: Path) -> None:
        """Out of the readers' sight in one step, then off the disk."""
        with self._repository.staging() as aside:
            try:
                path.rename(aside / path.name)
            except FileNotFoundError:  # another process mirrors to the same folder
                return
            logger.info("removed %s", path)

    def _copy_labels(self, storage: Any, top: str, listing: dict[str, dict[str, Any]], name: str) -> None:
        path = self._repository.root / name / LABELS_FILE
        if f"{name}/{LABELS_FILE}" not in listing:
            path.unlink(missing_ok=True)
            return
        with _reading(f"{self._url}/{name}/{LABELS_FILE}"):
            text = storage.cat_file(f"{top}/{name}/{LABELS_FILE}")
        if path.is_file() and path.read_bytes() == text:
            return
        with self._repository.staging() as aside:
            (aside / LABELS_FILE).write_bytes(text)
            (aside / LABELS_FILE).replace(path)


def upload(repository: ModelRepository, folder: VersionFolder, url: str) -> str:
    """Copy a version to `<url>/<name>/<version>/`, its manifest last; returns that address.

    The same version may be there already. Raises `VersionExists` for another one of that number, `InvalidVersion` for
    files that are not those of the manifest, `StorageError` where the storage can't be written.
    """
    manifest = repository.read(folder)
    repository.verify(folder, manifest)
    storage, top = opened(url.rstrip("/"))
    target = f"{top}/{folder.name}/{folder.version}"
    address = f"{url.rstrip('/')}/{folder.name}/{folder.version}"
    ours = (folder.path / MANIFEST_FILE).read_bytes()
    with _reading(address):
        storage.invalidate_cache()
        theirs = storage.cat_file(f"{target}/{MANIFEST_FILE}") if storage.exists(f"{target}/{MANIFEST_FILE}") else None
    if theirs is not None and json.loads(theirs) != json.loads(ours):
        raise VersionExists(f"{address} exists, and is another one; versions are never overwritten")
    try:
        for name in (*manifest.files, MANIFEST_FILE):
            if not is_object_store(url):
                storage.makedirs(f"{target}/{name}".rpartition("/")[0], exist_ok=True)
            storage.put_file(str(folder.path / name), f"{target}/{name}")
    except Exception as error:  # as in `_reading`
        raise StorageError(f"{address} can't be written: {type(error).__name__}: {error}") from error
    return address


def is_object_store(url: str) -> bool:
    """It has no folders: to make one would make the bucket, if its name was mistyped."""
    return url.partition("://")[0] in _EXTRAS


def opened(url: str) -> tuple[Any, str]:
    """fsspec's file system, and the path of the URL in it. Raises `StorageError` where it can't be had."""
    scheme = url.partition("://")[0]
    # Google's zonal buckets are asked for by who has one: telling them apart takes a right that readers of objects may
    # not have, and gcsfs warns of that for each file
    os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
    try:
        import fsspec

        storage, path = fsspec.url_to_fs(url)
    except ImportError as error:
        extra = _EXTRAS.get(scheme, "s3")
        raise StorageError(f"{scheme}:// needs packages that are not here: pip install '.[{extra}]'") from error
    except ValueError as error:
        raise StorageError(f"{url} can't be opened: {error}") from error
    return storage, path.rstrip("/")


@contextmanager
def _reading(what: str) -> Iterator[None]:
    """Raises `StorageError` for whatever the storage does: each of fsspec's has exceptions of its own."""
    try:
        yield
    except StorageError:
        raise
    except Exception as error:
        raise StorageError(f"{what} can't be read: {type(error).__name__}: {error}") from error


def _remote_versions(listing: dict[str, dict[str, Any]]) -> dict[tuple[str, int], str]:
    """All versions that have a manifest, each with its stamp: it changes when the manifest is replaced."""
    found = {}
    for path, entry in listing.items():
        name, number, file = _parts(path)
        if file == MANIFEST_FILE and _is_number(number):
            marks = (entry.get(key) for key in ("ETag", "etag", "md5Hash", "mtime", "LastModified", "last_modified"))
            found[name, int(number)] = f"{entry.get('size')} {next((str(mark) for mark in marks if mark), '')}"
    return found


def _parts(path: str) -> tuple[str, str, str]:
    """Of what lies in a repository: model, version, file."""
    name, _, rest = path.partition("/")
    number, _, file = rest.partition("/")
    return name, number, file


def _is_number(version: str) -> bool:
    return version.isascii() and version.isdigit() and not version.startswith("0")


def _stamp_of(version: Path) -> str | None:
    try:
        return (version / _SOURCE_FILE).read_text(encoding="utf-8")
    except OSError:
        return None
