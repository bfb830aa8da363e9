"""Tar files of data sets: pictures or pickled arrays read from them, or all that they hold unpacked for a while."""

import pickle
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from models.manifest import InputSpec
from models.preprocess import ImageError, load_image
from training.splits import DataError, Split

_DAMAGED = (tarfile.TarError, OSError, EOFError, zlib.error)


def jpeg_archive(path: Path, labels: tuple[str, ...], spec: InputSpec) -> tuple[Split, Split]:
    """Read `<anything>/{train,test}/<label>/<file>` from a tar file, in the order of the names."""
    members: dict[str, list[tuple[str, bytes]]] = {"train": [], "test": []}
    try:
        with tarfile.open(path) as archive:
            for member in tqdm(archive, desc=f"reading {path.name}", unit=" files", disable=None):
                parts = Path(member.name).parts
                file = archive.extractfile(member) if member.isfile() and len(parts) >= 3 else None
                if file is not None and parts[-3] in members and parts[-2] in labels:
                    members[parts[-3]].append(("/".join(parts[-2:]), file.read()))
    except _DAMAGED as error:
        raise DataError(f"{path} can't be read as a tar file: {error}") from error
    if not members["train"] or not members["test"]:
        raise DataError(f"{path} holds no files named train/<label>/… and test/<label>/…")
    train, test = (_decode(path, sorted(members[part]), labels, spec) for part in ("train", "test"))
    return train, test


def cifar100_archive(path: Path) -> tuple[Split, Split]:
    """Read `cifar-100-python/{train,test}`, pickles as published, without running what a pickle may ask for."""
    found: dict[str, Split] = {}
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                parts = Path(member.name).parts
                file = archive.extractfile(member) if member.isfile() else None
                if file is not None and parts[-2:] in (("cifar-100-python", "train"), ("cifar-100-python", "test")):
                    found[parts[-1]] = _cifar100_part(path, parts[-1], file)
    except _DAMAGED as error:
        raise DataError(f"{path} can't be read as a tar file: {error}") from error
    if len(found) < 2:
        raise DataError(f"{path} holds no files named cifar-100-python/train and cifar-100-python/test")
    return found["train"], found["test"]


@contextmanager
def unpacked(path: Path) -> Iterator[Path]:
    """What a tar file holds in a folder that lasts as long as the context; nothing is written outside it."""
    with tempfile.TemporaryDirectory(prefix=f"{path.stem}-") as folder:
        try:
            with tarfile.open(path) as archive:
                archive.extractall(folder, filter="data")
        except _DAMAGED as error:
            raise DataError(f"{path} can't be unpacked as a tar file: {error}") from error
        yield Path(folder)


def _decode(path: Path, members: list[tuple[str, bytes]], labels: tuple[str, ...], spec: InputSpec) -> Split:
    def decode(member: tuple[str, bytes]) -> npt.NDArray[np.uint8]:
        try:
            return load_image(member[1], spec)
        except ImageError as error:
            raise DataError(f"{path}, {member[0]}: {error}") from error

    with ThreadPoolExecutor() as pool:
        images = list(pool.map(decode, members, chunksize=256))
    classes = [labels.index(name.split("/")[0]) for name, _ in members]
    return Split(np.stack(images), np.asarray(classes, dtype=np.int64))


def _cifar100_part(path: Path, part: str, file: IO[bytes]) -> Split:
    try:
        content = _Unpickler(file, encoding="bytes").load()
        data, classes = content[b"data"], np.array(content[b"fine_labels"], dtype=np.int64)
        if data.dtype != np.uint8 or data.shape != (len(classes), 3072):
            raise ValueError(f"expected data uint8 [{len(classes)}, 3072], got {data.dtype} {list(data.shape)}")
        if not ((classes >= 0) & (classes < 100)).all():
            raise ValueError("expected fine labels from 0 to 99")
    except _DAMAGED:
        raise
    except Exception as error:  # damaged pickles raise nearly anything
        raise DataError(f"{path}, {part}: not CIFAR-100 in its published layout: {error}") from error
    return Split(np.ascontiguousarray(data.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)), classes)


class _Unpickler(pickle.Unpickler):
    """Knows arrays besides numbers, text and containers, and refuses to import anything else."""

    def find_class(self, module: str, name: str) -> object:
        if (module, name) in (("numpy.core.multiarray", "_reconstruct"), ("numpy._core.multiarray", "_reconstruct")):
            return np.empty(0).__reduce__()[0]  # the function itself, which has no public name
        if (module, name) == ("numpy", "ndarray"):
            return np.ndarray
        if (module, name) == ("numpy", "dtype"):
            return np.dtype
        raise pickle.UnpicklingError(f"{module}.{name} has no place in it")
