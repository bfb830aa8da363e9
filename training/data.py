"""Data sets as arrays: where their files are looked for, how they are read, and how they are split."""

import hashlib
import os
import tarfile
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from models.manifest import DatasetRecord, InputSpec, Label, SplitRecord
from models.preprocess import ImageError, load_image

# Splits stay the same for every seed of training, so that held-out data never leaks from one run into the next
_SPLIT_SEED = 20_240_101

_CIFAR10_LABELS = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_CIFAR10_INPUT = InputSpec(height=32, width=32)


class DataError(Exception):
    """Data that is missing or not as expected; the message says where it was looked for and how to give it."""


@dataclass(frozen=True)
class Split:
    """Pictures uint8 [N, H, W, 3] and class ids int64 [N]."""

    images: npt.NDArray[np.uint8]
    classes: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.classes)

    def record(self) -> SplitRecord:
        digest = hashlib.sha256(np.ascontiguousarray(self.images).data)
        digest.update(np.ascontiguousarray(self.classes).data)
        return SplitRecord(n=len(self), sha256=digest.hexdigest())


@dataclass(frozen=True)
class Dataset:
    """A data set as published: `source` says which copy of it this is."""

    name: str
    source: str
    labels: tuple[Label, ...]
    train: Split
    test: Split


@dataclass(frozen=True)
class Splits:
    """`calibration` fits the temperature, `decision` the threshold and the quantile; `test` chooses nothing."""

    train: Split
    validation: Split
    calibration: Split
    decision: Split
    test: Split

    def record(self, dataset: Dataset) -> DatasetRecord:
        parts = {name: split.record() for name, split in vars(self).items()}
        return DatasetRecord(name=dataset.name, source=dataset.source, splits=parts)


def load(name: str, given: Path | None = None) -> Dataset:
    """Read a data set from `given` (a file, or a folder that holds it), else from where it is usually kept.

    Raises `DataError` where it can't be had.
    """
    if name not in _READERS:
        raise DataError(f"no data set '{name}'; there are {', '.join(_READERS)}")
    return _READERS[name](given)


def split(dataset: Dataset, validation: int, calibration: int, decision: int) -> Splits:
    """Hold out three parts of the training data, drawn at random but always alike. Raises `DataError`."""
    held_out = validation + calibration + decision
    if held_out >= len(dataset.train):
        raise DataError(f"{dataset.name} has {len(dataset.train)} training pictures, {held_out} are to be held out")
    order = np.random.default_rng(_SPLIT_SEED).permutation(len(dataset.train))
    parts = np.split(order, np.cumsum([validation, calibration, decision]))
    taken = [Split(dataset.train.images[part], dataset.train.classes[part]) for part in map(np.sort, parts)]
    return Splits(train=taken[3], validation=taken[0], calibration=taken[1], decision=taken[2], test=dataset.test)


def read_npz(path: Path) -> dict[str, npt.NDArray[Any]]:
    """All arrays of an .npz file by name. Raises `DataError`."""
    try:
        # Opened here, since np.load leaves a file open that turns out to be no zip file
        with path.open("rb") as stream, np.load(stream) as file:
            return dict(file)
    except Exception as error:  # NumPy, zipfile and zlib each have their own for a damaged file
        raise DataError(f"{path} can't be read as an .npz file: {error}") from error


def _mnist(given: Path | None) -> Dataset:
    path = _locate("mnist.npz", given)
    if path is None:
        arrays = _from_keras("mnist", "mnist.npz", given)
        source = "MNIST from keras.datasets"
    else:
        found = read_npz(path)
        if missing := {"x_train", "y_train", "x_test", "y_test"} - found.keys():
            raise DataError(f"{path} is not MNIST in Keras's layout: it lacks {', '.join(sorted(missing))}")
        arrays = (found["x_train"], found["y_train"]), (found["x_test"], found["y_test"])
        source = "MNIST from mnist.npz"
    train, test = (Split(np.repeat(x[..., None], 3, axis=3), y.astype(np.int64)) for x, y in arrays)
    return Dataset("mnist", source, tuple(Label(name=str(digit)) for digit in range(10)), train, test)


def _cifar10(given: Path | None) -> Dataset:
    path = _locate("cifar10.tar.gz", given)
    if path is None:
        arrays = _from_keras("cifar10", "cifar10.tar.gz", given)
        source = "CIFAR-10 from keras.datasets"
        train, test = (Split(x, y.reshape(-1).astype(np.int64)) for x, y in arrays)
    else:
        source = "CIFAR-10, JPEG copy (quality 75, 4:2:0)"
        train, test = _jpeg_archive(path, _CIFAR10_LABELS, _CIFAR10_INPUT)
    return Dataset("cifar10", source, tuple(Label(name=name) for name in _CIFAR10_LABELS), train, test)


_READERS: dict[str, Callable[[Path | None], Dataset]] = {"cifar10": _cifar10, "mnist": _mnist}


def _jpeg_archive(path: Path, labels: tuple[str, ...], spec: InputSpec) -> tuple[Split, Split]:
    """Read `<anything>/{train,test}/<label>/<file>` from a tar file, in the order of the names."""
    members: dict[str, list[tuple[str, bytes]]] = {"train": [], "test": []}
    try:
        with tarfile.open(path) as archive:
            for member in tqdm(archive, desc=f"reading {path.name}", unit=" files", disable=None):
                parts = Path(member.name).parts
                file = archive.extractfile(member) if member.isfile() and len(parts) >= 3 else None
                if file is not None and parts[-3] in members and parts[-2] in labels:
                    members[parts[-3]].append(("/".join(parts[-2:]), file.read()))
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} can't be read as a tar file: {error}") from error
    if not members["train"] or not members["test"]:
        raise DataError(f"{path} holds no files named train/<label>/… and test/<label>/…")
    train, test = (_decode(path, sorted(members[part]), labels, spec) for part in ("train", "test"))
    return train, test


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


def _places(given: Path | None) -> Iterator[Path]:
    if given is not None:
        yield given
        return
    if folder := os.environ.get("DEMITASSE_DATA"):
        yield Path(folder)
    yield Path("data")


def _locate(file: str, given: Path | None) -> Path | None:
    for place in _places(given):
        for path in (place, place / file):
            if path.is_file():
                return path
    if given is not None:
        raise DataError(f"there is no file {file} at {given}; give the file itself or the folder that holds it")
    return None


_Arrays = tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]


def _from_keras(name: str, file: str, given: Path | None) -> tuple[_Arrays, _Arrays]:
    import keras  # only here: reading local files needs no TensorFlow

    try:
        train, test = getattr(keras.datasets, name).load_data()
    except Exception as error:  # whatever the download raises
        places = ", ".join(str(place.absolute()) for place in _places(given))
        raise DataError(
            f"{file} is missing: it is neither in {places} nor could keras.datasets.{name} download it ({error}). "
            f"Give it with --data PATH or put it into one of these folders"
        ) from error
    return train, test
