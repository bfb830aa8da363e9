"""Pictures as arrays, and how they are split: what is trained on, what is held out, and what each part is known by."""

import hashlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.manifest import DatasetRecord, Label, Manifest, SplitRecord

# Splits stay the same for every seed of training, so that held-out data never leaks from one run into the next
_SPLIT_SEED = 20_240_101


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


def spread(images: npt.NDArray[np.uint8], count: int) -> npt.NDArray[np.uint8]:
    """At most `count` of the pictures, evenly from the first to the last: data sets may be sorted by class."""
    rows = np.linspace(0, len(images) - 1, min(count, len(images))).astype(int)
    return np.asarray(images[rows])


def split(dataset: Dataset, validation: int, calibration: int, decision: int) -> Splits:
    """Hold out three parts of the training data, drawn at random but always alike. Raises `DataError`."""
    held_out = validation + calibration + decision
    if held_out >= len(dataset.train):
        raise DataError(f"{dataset.name} has {len(dataset.train)} training pictures, {held_out} are to be held out")
    order = np.random.default_rng(_SPLIT_SEED).permutation(len(dataset.train))
    parts = np.split(order, np.cumsum([validation, calibration, decision]))
    taken = [Split(dataset.train.images[part], dataset.train.classes[part]) for part in map(np.sort, parts)]
    return Splits(train=taken[3], validation=taken[0], calibration=taken[1], decision=taken[2], test=dataset.test)


def held_out(manifest: Manifest) -> tuple[int, int, int]:
    """How many pictures the recipe of a version held out by `split`. Raises `DataError` where it did so otherwise."""
    recorded = manifest.provenance.dataset
    sizes = {} if recorded is None else {name: part.n for name, part in recorded.splits.items()}
    try:
        return sizes["validation"], sizes["calibration"], sizes["decision"]
    except KeyError as error:
        how = "a new run does it" if sizes else "it was trained elsewhere"
        raise DataError(
            f"{manifest.name} can't be calibrated again, as versions of recipes that train a whole network can: {how}"
        ) from error
