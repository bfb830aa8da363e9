"""The folder of versions: list, read, verify, publish.

A publisher writes into a staging folder beside the versions, the manifest last, syncs it to disk, and renames it to
its number. The rename is atomic and fails where the number is taken, so readers see a whole version or none, a crash
leaves at most a staging folder that no reader looks at, and two publishers never share a number.
"""

import errno
import json
import os
import re
import shutil
import uuid
from codecs import BOM_UTF8
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from models.files import file_sha256, is_abandoned, subfolders, sync, sync_tree
from models.manifest import MANIFEST_FILE, SCHEMA_VERSION, Manifest, first_error

LABELS_FILE = "labels.json"

_LABEL = re.compile(r"[a-z][a-z0-9_-]{0,31}")
_STAGING_PREFIX = ".staging-"


class RepositoryError(Exception):
    """Something is wrong with a version or with publishing it; the message says what and where."""


class InvalidVersion(RepositoryError):
    """A version folder that must not be served: its manifest or one of its files is not as it should be."""


class VersionExists(RepositoryError):
    """The number asked for is taken."""


@dataclass(frozen=True, order=True)
class VersionFolder:
    """A folder that claims to be a version. `stamp` changes whenever its manifest is replaced."""

    name: str
    version: int
    path: Path
    stamp: tuple[int, int, int]


class ModelRepository:
    def __init__(self, root: Path) -> None:
        self.root = root

    def versions(self) -> list[VersionFolder]:
        """All version folders, ordered by name and version. Costs a directory read a model and a stat a version."""
        return sorted(
            folder
            for model in subfolders(self.root)
            if os.access(model, os.R_OK | os.X_OK)  # a volume's lost+found is not, and must not cost the others
            for version in subfolders(model)
            if (folder := _version_folder(model.name, version)) is not None
        )

    def find(self, name: str, version: int | None = None) -> VersionFolder:
        """The version asked for, or the highest one. Raises `RepositoryError` where there is none."""
        folders = [f for f in self.versions() if f.name == name and version in (None, f.version)]
        if not folders:
            known = ", ".join(f"{f.name}/{f.version}" for f in self.versions()) or "nothing"
            wanted = name if version is None else f"{name}/{version}"
            raise RepositoryError(f"no version {wanted} in {self.root}, which holds {known}")
        return folders[-1]

    def find_named(self, model: str, version: int | None = None) -> VersionFolder:
        """As `find`, of NAME or NAME/VERSION."""
        name, _, number = model.partition("/")
        if number and (not number.isdecimal() or version not in (None, int(number))):
            raise RepositoryError(f"expected NAME or NAME/VERSION with a whole number, got '{model}'")
        return self.find(name, int(number) if number else version)

    def read(self, folder: VersionFolder) -> Manifest:
        """The manifest of a version. Raises `InvalidVersion` where it can't be trusted."""
        try:
            text = (folder.path / MANIFEST_FILE).read_bytes()
            document = json.loads(text)
        except (OSError, ValueError, RecursionError) as error:
            raise InvalidVersion(f"{folder.path}: {MANIFEST_FILE} is unreadable: {error}") from error
        schema = document.get("schema_version") if isinstance(document, dict) else None
        if schema != SCHEMA_VERSION:
            raise InvalidVersion(
                f"{folder.path}: {MANIFEST_FILE} has schema_version {schema!r}, this release reads {SCHEMA_VERSION}"
            )
        try:
            # Stricter than what json has read: no halves of characters, which no answer can hold
            manifest = Manifest.model_validate_json(text.removeprefix(BOM_UTF8))
        except ValidationError as error:
            raise InvalidVersion(f"{folder.path}: {MANIFEST_FILE} is invalid: {first_error(error)}") from error
        if (manifest.name, manifest.version) != (folder.name, folder.version):
            raise InvalidVersion(f"{folder.path}: {MANIFEST_FILE} is that of {manifest.name}/{manifest.version}")
        return manifest

    def verify(self, folder: VersionFolder, manifest: Manifest) -> None:
        """Compare every file with its checksum. Raises `InvalidVersion` for a missing or changed one."""
        for name, expected in manifest.files.items():
            try:
                actual = file_sha256(folder.path / name)
            except OSError as error:
                raise InvalidVersion(f"{folder.path}: {name} is missing or unreadable: {error.strerror}") from error
            if actual != expected:
                raise InvalidVersion(
                    f"{folder.path}: {name} has sha256 {actual[:12]}…, the manifest says {expected[:12]}…"
                )

    def next_version(self, name: str) -> int:
        """One more than the highest number in use, by a finished version or by anything else that has that name."""
        model = self.root / name
        names = [path.name for path in model.iterdir()] if model.is_dir() else []
        return max((int(name) for name in names if _is_number(name)), default=0) + 1

    def labels(self, name: str) -> dict[str, int]:
        """The labels of a model's versions, such as stable and canary. Raises `RepositoryError` for a broken file."""
        path = self.root / name / LABELS_FILE
        try:
            document = json.loads(path.read_bytes())
        except (FileNotFoundError, NotADirectoryError):
            return {}
        except (OSError, ValueError, RecursionError) as error:
            raise RepositoryError(f"{path} is unreadable: {error}") from error
        if not isinstance(document, dict):
            raise RepositoryError(f'{path} is no object such as {{"stable": 1}}')
        for label, version in document.items():
            _check_label(label)
            if type(version) is not int or version < 1:
                raise RepositoryError(f"{path}: {label} is {version!r}, expected the number of a version")
        return document

    def set_label(self, name: str, label: str, version: int | None) -> dict[str, int]:
        """Give a label to another version, or take it away (None), all at once; returns the labels that result.

        Raises `RepositoryError` for a version that is not there, or a label that can't be one.
        """
        _check_label(label)
        labels = self.labels(name)
        if version is None:
            labels.pop(label, None)
        else:
            labels[label] = self.find(name, version).version
        path = self.root / name / LABELS_FILE
        if not labels:
            path.unlink(missing_ok=True)
            return labels
        aside = path.with_name(f"{_STAGING_PREFIX}{uuid.uuid4().hex}")
        try:
            aside.write_text(json.dumps(labels, indent=2, sort_keys=True) + "\n", encoding="utf-8")
            sync(aside)
            aside.replace(path)
            sync(path.parent)
        except FileNotFoundError as error:
            raise RepositoryError(f"no model '{name}' in {self.root}") from error
        finally:
            aside.unlink(missing_ok=True)
        return labels

    @contextmanager
    def staging(self) -> Iterator[Path]:
        """An empty folder on the repository's file system, removed at the end unless it was published."""
        self.root.mkdir(parents=True, exist_ok=True)
        self._remove_abandoned()
        folder = self.root / f"{_STAGING_PREFIX}{uuid.uuid4().hex}"
        folder.mkdir()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def publish(self, staged: Path, draft: Manifest, version: int | None = None) -> VersionFolder:
        """Make the staged files a version: `version`, or the next free number.

        `draft` needs no true `version` and `files`: both are filled in here. Raises `VersionExists` where `version`
        is taken, and leaves the staged files as they were.
        """
        files = {
            path.relative_to(staged).as_posix(): file_sha256(path)
            for path in sorted(staged.rglob("*"))
            if path.is_file() and path != staged / MANIFEST_FILE
        }
        (self.root / draft.name).mkdir(parents=True, exist_ok=True)
        while True:
            number = version if version is not None else self.next_version(draft.name)
            manifest = Manifest.model_validate({**draft.model_dump(), "version": number, "files": files})
            (staged / MANIFEST_FILE).write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")
            sync_tree(staged)
            target = self.root / draft.name / str(number)
            if _rename_to_new(staged, target):
                sync(target.parent)
                sync(self.root)
                return self.find(draft.name, number)
            if version is not None:
                raise VersionExists(f"{target} exists; versions are never overwritten")

    def _remove_abandoned(self) -> None:
        for folder in self.root.glob(f"{_STAGING_PREFIX}*"):
            if is_abandoned(folder):
                shutil.rmtree(folder, ignore_errors=True)


def _check_label(label: str) -> None:
    if not _LABEL.fullmatch(label):
        raise RepositoryError(f"'{label}' can't be a label: expected at most 32 of a-z, 0-9, - and _, a letter first")


def _is_number(name: str) -> bool:
    return name.isascii() and name.isdigit()  # '²' is a digit, too, but no number


def _version_folder(name: str, path: Path) -> VersionFolder | None:
    # '01' would be a second spelling of '1'
    if not _is_number(path.name) or path.name.startswith("0"):
        return None
    try:
        stat = (path / MANIFEST_FILE).stat()
    except (FileNotFoundError, NotADirectoryError):
        return None  # any other error is the file system's: it must not look as if versions had been taken away
    return VersionFolder(name, int(path.name), path, (stat.st_ino, stat.st_size, stat.st_mtime_ns))


def _rename_to_new(source: Path, target: Path) -> bool:
    """Rename a folder unless the target exists; rename(2) itself refuses every target but an empty folder."""
    try:
        source.rename(target)
    except OSError as error:
        taken = target.exists() or target.is_symlink()
        if error.errno in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR, errno.EACCES) and taken:
            return False
        raise
    return True
