"""Data sets as arrays: where their files are looked for, and how they are read. `training.splits` has what they are."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from models.manifest import InputSpec, Label
from models.preprocess import ImageError
from training import archives, photos
from training.photos import Listing, Photo
from training.splits import DataError, Dataset, Split

_CIFAR10_LABELS = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_CIFAR10_INPUT = InputSpec(height=32, width=32)

# The fine labels in the order of their numbers
_CIFAR100_LABELS = """
    apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle
    caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant
    flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree
    motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate
    poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake spider
    squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle
    wardrobe whale willow_tree wolf woman worm
"""

_CALTECH101_CLASSES = "101_ObjectCategories"
_CALTECH101_CLUTTER = "BACKGROUND_Google"


def load(name: str, given: Path | None = None, spec: InputSpec | None = None) -> Dataset:
    """Read a data set from `given` (a file, or a folder that holds it), else from where it is usually kept.

    `spec` says what photos of many sizes are brought to; data sets of one size don't heed it. Raises `DataError`
    where the data can't be had.
    """
    if name not in _READERS:
        raise DataError(f"no data set '{name}'; there are {', '.join(_READERS)}")
    return _READERS[name](given, spec)


def read_npz(path: Path) -> dict[str, npt.NDArray[Any]]:
    """All arrays of an .npz file by name. Raises `DataError`."""
    try:
        # Opened here, since np.load leaves a file open that turns out to be no zip file
        with path.open("rb") as stream, np.load(stream) as file:
            return dict(file)
    except Exception as error:  # NumPy, zipfile and zlib each have their own for a damaged file
        raise DataError(f"{path} can't be read as an .npz file: {error}") from error


def read_photos(listing: Listing, spec: InputSpec) -> tuple[Split, Split]:
    """The photos to train on and those to test on, in memory. Raises `DataError` for one that can't be read."""
    return _read_photos(listing.train, spec, "photos to train on"), _read_photos(
        listing.test, spec, "photos to test on"
    )


@contextmanager
def caltech101_folder(given: Path | None) -> Iterator[Path]:
    """The folder of Caltech-101, as given or found; where that is the archive, it is unpacked meanwhile.

    Raises `DataError`.
    """
    for place in _places(given):
        for path in (place, place / "caltech101", place / "caltech101.tar"):
            if (path / _CALTECH101_CLASSES).is_dir():
                yield path
                return
            if path.is_file():
                with archives.unpacked(path) as folder:
                    if not (folder / "caltech101" / _CALTECH101_CLASSES).is_dir():
                        raise DataError(f"{path} holds no files named caltech101/{_CALTECH101_CLASSES}/<label>/…")
                    yield folder / "caltech101"
                return
    places = ", ".join(str(place.absolute()) for place in _places(given))
    raise DataError(
        f"caltech101.tar is missing: neither the file nor a folder with {_CALTECH101_CLASSES} is in {places}. "
        f"Give it with --data PATH or put it there"
    )


@contextmanager
def caltech101_listing(given: Path | None) -> Iterator[tuple[Listing, str]]:
    """Its photos without the clutter, and which copy they are; kept as `caltech101_folder` keeps them."""
    with caltech101_folder(given) as folder:
        yield photos.scan(folder, exclude=caltech101_clutter(folder)), caltech101_source(folder)


def caltech101_clutter(folder: Path) -> tuple[str, ...]:
    """The folder of `caltech101_folder` that is no class, where it is there."""
    return (_CALTECH101_CLUTTER,) if (folder / _CALTECH101_CLASSES / _CALTECH101_CLUTTER).is_dir() else ()


def caltech101_source(folder: Path) -> str:
    """Which copy of the data set lies there, by which photos test."""
    return "Caltech-101" if (folder / "test.txt").is_file() else "Caltech-101, a fifth drawn for test"


def _mnist(given: Path | None, _: InputSpec | None) -> Dataset:
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
    return Dataset("mnist", source, _labels("0123456789"), train, test)


def _cifar10(given: Path | None, _: InputSpec | None) -> Dataset:
    path = _locate("cifar10.tar.gz", given)
    if path is None:
        arrays = _from_keras("cifar10", "cifar10.tar.gz", given)
        source = "CIFAR-10 from keras.datasets"
        train, test = (Split(x, y.reshape(-1).astype(np.int64)) for x, y in arrays)
    else:
        source = "CIFAR-10, JPEG copy (quality 75, 4:2:0)"
        train, test = archives.jpeg_archive(path, _CIFAR10_LABELS, _CIFAR10_INPUT)
    return Dataset("cifar10", source, _labels(_CIFAR10_LABELS), train, test)


def _cifar100(given: Path | None, _: InputSpec | None) -> Dataset:
    path = _locate("cifar-100-python.tar.gz", given)
    if path is None:
        arrays = _from_keras("cifar100", "cifar-100-python.tar.gz", given)
        source = "CIFAR-100 from keras.datasets"
        train, test = (Split(x, y.reshape(-1).astype(np.int64)) for x, y in arrays)
    else:
        source = "CIFAR-100 from cifar-100-python.tar.gz"
        train, test = archives.cifar100_archive(path)
    return Dataset("cifar100", source, _labels(_CIFAR100_LABELS.split()), train, test)


def _caltech101(given: Path | None, spec: InputSpec | None) -> Dataset:
    if spec is None:
        raise DataError("caltech101 has photos of many sizes; expected an input spec to bring them to one")
    with caltech101_listing(given) as (listing, source):
        train, test = read_photos(listing, spec)
    return Dataset("caltech101", source, listing.labels, train, test)


_READERS: dict[str, Callable[[Path | None, InputSpec | None], Dataset]] = {
    "caltech101": _caltech101,
    "cifar10": _cifar10,
    "cifar100": _cifar100,
    "mnist": _mnist,
}


def _labels(names: Sequence[str]) -> tuple[Label, ...]:
    return tuple(Label(name=name) for name in names)


def _read_photos(chosen: Sequence[Photo], spec: InputSpec, description: str) -> Split:
    images = np.empty((len(chosen), spec.height, spec.width, 3), np.uint8)
    decoded = photos.decode(chosen, spec, os.cpu_count() or 1)
    for index, pixels in tqdm(decoded, total=len(chosen), desc=description, unit=" photos", disable=None):
        if isinstance(pixels, ImageError):
            raise DataError(f"{chosen[index].path}: {pixels}") from pixels
        images[index] = pixels
    return Split(images, np.array([photo.class_id for photo in chosen], dtype=np.int64))


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
