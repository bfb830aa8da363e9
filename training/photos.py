"""Folders of photos as people have them: which photos there are, which of them test, and which are there twice."""

import hashlib
import unicodedata
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from models.manifest import InputSpec, Label
from models.preprocess import FORMATS, ImageError, UnreadableImage, load_image
from training.splits import DataError

MINIMUM_PER_CLASS = 5
TEST_SHARE = 0.2
UNREADABLE_SHARE = 0.05

_SUFFIXES = frozenset(f".{name.lower()}" for name in (*FORMATS, "jpg", "jfif", "tif"))
_LEFT_BY_SYSTEMS = frozenset(("thumbs.db", "desktop.ini", "__macosx", "@eadir"))
_PARTS_OF_DATA_SETS = frozenset(("train", "training", "test", "testing", "val", "valid", "validation"))
_DRAW = "1"  # another text, another draw of the test part
_SHOWN = 10
_AHEAD = 8  # photos for each worker


@dataclass(frozen=True)
class Photo:
    path: Path
    class_id: int


@dataclass(frozen=True)
class Listing:
    """`ignored` are other files in the folders of classes, and photos that lie in none."""

    labels: tuple[Label, ...]
    train: tuple[Photo, ...]
    test: tuple[Photo, ...]
    ignored: tuple[Path, ...] = ()


_Photos = dict[str, Photo]  # by `class/file.jpg`
_Pixels = npt.NDArray[np.uint8]
_Item = TypeVar("_Item")
_Found = TypeVar("_Found")


def scan(folder: Path, exclude: Collection[str] = ()) -> Listing:
    """All photos below a folder for each class; labels and photos in the order of their names.

    `train.txt` and `test.txt`, one `class/file.jpg` a line, say which photos train and test; where there is but one,
    the other part is the rest. Without them a fifth of each class tests, drawn by the hash of `class/file.jpg`: the
    draw stays the same wherever the folder lies and whatever happens to other classes. Raises `DataError`.
    """
    root = _folder_of_classes(folder)
    left_out = frozenset(map(_normal, exclude))
    folders = _class_folders(root, left_out)
    ignored = [path for path in _visible(root) if _is_photo(path)]
    photos: _Photos = {}
    for class_id, each in enumerate(folders):
        found = [(_key(path, root), Photo(path, class_id)) for path in _files(each, ignored)]
        photos.update(sorted(found, key=lambda item: item[0]))
    lists = [_read_list(name, (folder, root), photos, left_out) for name in ("train.txt", "test.txt")]
    train, test = _split(photos, *lists)
    listing = Listing(tuple(Label(name=each.name) for each in folders), train, test, tuple(ignored))
    _refuse_too_few(listing, root)
    return listing


def collect(folder: Path) -> Listing:
    """All photos below a folder, whatever their number, as photos to train on, in the order of their names.

    Those in a folder of their class have its label, those beside such folders have class id -1. Raises `DataError`.
    """
    root = _folder_of_classes(folder)
    ignored: list[Path] = []
    alone = [Photo(path, -1) for path in _visible(root) if _is_photo(path)]
    of_class: list[Photo] = []
    labels: list[Label] = []
    for each in _class_folders(root, (), at_least=0):
        if found := [Photo(path, len(labels)) for path in _files(each, ignored)]:
            labels.append(Label(name=_normal(each.name)))
            of_class += found
    if not alone and not of_class:
        raise DataError(f"there are no photos in {root}; expected {', '.join(FORMATS)}")
    return Listing(tuple(labels), (*alone, *of_class), (), tuple(ignored))


def decode(photos: Sequence[Photo], spec: InputSpec, workers: int) -> Iterator[tuple[int, _Pixels | ImageError]]:
    """Index and pixels uint8 [spec.height, spec.width, 3] of each photo, in order, or why it can't be read."""
    return read_ahead(photos, lambda photo: _read(photo.path, spec), workers)


def read_ahead(items: Sequence[_Item], read: Callable[[_Item], _Found], workers: int) -> Iterator[tuple[int, _Found]]:
    """Index of each item and what `read` finds there, in order, read by so many threads.

    Only a few items for each of them are read ahead, so that memory does not grow with their number.
    """
    ahead: deque[Future[_Found]] = deque()
    pool = ThreadPoolExecutor(workers)
    try:
        for index in range(len(items) + workers * _AHEAD):
            if index < len(items):
                ahead.append(pool.submit(read, items[index]))
            if (due := index - workers * _AHEAD) >= 0:
                yield due, ahead.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def refuse_if_too_many(unreadable: Sequence[tuple[Path, str]], total: int) -> None:
    """Raises `DataError` where more than 5 % of `total` photos can't be read; `unreadable` are paths and reasons."""
    if len(unreadable) <= UNREADABLE_SHARE * total:
        return
    lines = [f"{path}: {reason}" for path, reason in unreadable[:_SHOWN]]
    if len(unreadable) > _SHOWN:
        lines.append(f"and {len(unreadable) - _SHOWN:,} more")
    share = f"{len(unreadable):,} of {total:,} photos can't be read, more than {UNREADABLE_SHARE:.0%}"
    raise DataError("\n  ".join((f"{share}; repair or remove them:", *lines)))


def imbalance(listing: Listing) -> str:
    """The smallest and the largest class and their ratio, with advice where they are far apart."""
    counts = Counter(photo.class_id for photo in (*listing.train, *listing.test))
    (large, most), (small, least) = (pick(counts.items(), key=lambda item: item[1]) for pick in (max, min))
    if most == least:
        return f"{most:,} photos in each class"
    line = (
        f"smallest class: {listing.labels[small].name} with {least:,} photos; "
        f"largest: {listing.labels[large].name} with {most:,}, {most / least:.1f} times as many"
    )
    if most < 10 * least:
        return line
    return f"{line}\nsmall classes are recognised less well than the accuracy says: more photos of them help most"


def untested(listing: Listing) -> list[str]:
    """A line on the classes of which no photo tests; none where there are none."""
    tested = {photo.class_id for photo in listing.test}
    names = [label.name for i, label in enumerate(listing.labels) if i not in tested]
    if not names:
        return []
    return [f"the lists leave no photo of {_some(names)} for testing: no figure says how well they are recognised"]


def left_over(listing: Listing) -> list[str]:
    """A line on the files that were ignored, how many of each kind; none where there were none."""
    if not listing.ignored:
        return []
    kinds = Counter(path.suffix.lower() or "without a suffix" for path in listing.ignored).most_common()
    shown = [f"{n:,} {kind}" for kind, n in kinds[:_SHOWN]]
    if more := sum(n for _, n in kinds[_SHOWN:]):
        shown.append(f"{more:,} more")
    return [
        f"other files, ignored: {', '.join(shown)}, such as {listing.ignored[0]}; "
        f"photos are {', '.join(FORMATS)}, each in the folder of its class"
    ]


def _normal(name: str) -> str:
    """One spelling for each name: macOS takes accents off their letters, most else doesn't."""
    return unicodedata.normalize("NFC", name)


def _key(path: Path, root: Path) -> str:
    return _normal(path.relative_to(root).as_posix())


def _visible(folder: Path) -> list[Path]:
    """What a folder holds, less hidden files and what systems leave behind, in the order of names."""
    found = (path for path in folder.iterdir() if path.name[0] != "." and path.name.casefold() not in _LEFT_BY_SYSTEMS)
    return sorted(found, key=lambda path: _normal(path.name))


def _is_photo(path: Path) -> bool:
    return path.suffix.lower() in _SUFFIXES and path.is_file()


def _files(folder: Path, ignored: list[Path]) -> Iterator[Path]:
    """All photos below a folder. Links to files are followed, links to folders are not: they may lead in circles."""
    for path in _visible(folder):
        if path.is_dir() and not path.is_symlink():
            yield from _files(path, ignored)
        elif _is_photo(path):
            yield path
        else:
            ignored.append(path)


def _folder_of_classes(folder: Path) -> Path:
    """The folder itself, or the only one in it, as archives leave it, where that holds folders and no photos."""
    if not folder.is_dir():
        raise DataError(f"there is no folder {folder}; expected one that holds a folder of photos for each class")
    inner = [path for path in _visible(folder) if path.is_dir()]
    if len(inner) != 1 or inner[0].is_symlink():
        return folder
    inside = _visible(inner[0])
    descend = any(path.is_dir() for path in inside) and not any(_is_photo(path) for path in inside)
    return _folder_of_classes(inner[0]) if descend else folder


def _class_folders(root: Path, left_out: Collection[str], at_least: int = 2) -> list[Path]:
    here = root.resolve()  # a link to what holds the classes is no class
    folders = {_normal(path.name): path for path in _visible(root) if path.is_dir()}
    folders = {name: path for name, path in folders.items() if not here.is_relative_to(path.resolve())}
    if unknown := sorted(set(left_out) - folders.keys()):
        raise DataError(f"{root} has no class '{unknown[0]}' that could be left out; it has {_some(folders)}")
    if folders and {name.casefold() for name in folders} <= _PARTS_OF_DATA_SETS:
        raise DataError(
            f"expected a folder for each class in {root}, got parts of a data set: {_some(folders)}; give one of them, "
            f"or bring the photos of each class together and list those that test in test.txt"
        )
    classes = {name: path for name, path in folders.items() if name not in left_out}
    if len(classes) < at_least:
        raise DataError(
            f"expected a folder of photos for each of two classes or more in {root}, such as {root / 'cat' / '1.jpg'}; "
            f"got {_some(classes) or 'none'}"
        )
    for name in classes:
        if any("\ud800" <= character <= "\udfff" for character in name):
            raise DataError(f"the name of the folder {name!r} in {root} is no valid text; rename it")
    return list(classes.values())


def _some(names: Collection[str]) -> str:
    shown = ", ".join(f"'{name}'" for name in list(names)[:_SHOWN])
    return shown if len(names) <= _SHOWN else f"{shown} and {len(names) - _SHOWN:,} more"


def _read_list(name: str, places: Sequence[Path], photos: _Photos, left_out: Collection[str]) -> dict[str, int]:
    """The photos that a list names, but for classes left out, with their lines; none where there is no list."""
    path = next((place / name for place in places if (place / name).is_file()), None)
    if path is None:
        return {}
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is no text in UTF-8: {error}") from error
    found: dict[str, int] = {}
    for number, line in enumerate(lines, 1):
        entry = PurePosixPath(_normal(line.strip()).replace("\\", "/"))
        if entry.is_absolute() or ".." in entry.parts or PureWindowsPath(str(entry)).drive:
            raise DataError(f"{path}, line {number}: expected class/file.jpg inside {places[-1]}, got '{line}'")
        if not entry.parts or entry.parts[0] in left_out:
            continue
        if str(entry) in photos:
            found.setdefault(str(entry), number)
        elif not (places[-1] / entry).is_file():  # other files are ignored here too
            raise DataError(f"{path}, line {number}: there is no file '{entry}' in {places[-1]}")
    return found


def _split(photos: _Photos, train: dict[str, int], test: dict[str, int]) -> tuple[tuple[Photo, ...], tuple[Photo, ...]]:
    for key in sorted(train.keys() & test.keys()):
        lines = f"line {train[key]} of train.txt and in line {test[key]} of test.txt"
        raise DataError(f"'{key}' is in {lines}; expected each photo either to train or to test")
    if train or not test:
        # Classes that no list knows were added later
        listed = {photos[key].class_id for key in (*train, *test)}
        added = {key: photo for key, photo in photos.items() if photo.class_id not in listed}
        drawn, known = _draw(added), photos.keys() - added.keys()
        tests = drawn | (test.keys() or known - train.keys())
        trains = train.keys() | added.keys() - drawn
    else:
        tests, trains = set(test), photos.keys() - test.keys()
    picked = (tuple(photo for key, photo in photos.items() if key in part) for part in (trains, tests))
    return next(picked), next(picked)


def _draw(photos: _Photos) -> set[str]:
    drawn: set[str] = set()
    for _, members in groupby(photos, key=lambda key: photos[key].class_id):
        ranked = sorted(
            members, key=lambda key: hashlib.sha256(f"{_DRAW}/{key}".encode(errors="surrogatepass")).digest()
        )
        drawn.update(ranked[: max(1, round(TEST_SHARE * len(ranked)))])
    return drawn


def _refuse_too_few(listing: Listing, root: Path) -> None:
    train, every = (Counter(photo.class_id for photo in part) for part in (listing.train, listing.train + listing.test))
    names = [label.name for label in listing.labels]
    if few := [f"'{name}' ({every[i]})" for i, name in enumerate(names) if every[i] < MINIMUM_PER_CLASS]:
        advice = "add photos or leave these classes out with --exclude"
        expected = f"expected at least {MINIMUM_PER_CLASS} photos in each class in {root}"
        raise DataError("; ".join((f"{expected}, got fewer in {', '.join(few)}", advice, *left_over(listing))))
    if untrained := [f"'{name}'" for i, name in enumerate(names) if not train[i]]:
        raise DataError(f"the lists leave no photo to train on in {', '.join(untrained)}; expected some of each class")
    if not listing.test:
        raise DataError("train.txt lists all photos and leaves none to test on; remove some lines, or the file")


def _read(path: Path, spec: InputSpec) -> _Pixels | ImageError:
    try:
        return load_image(path.read_bytes(), spec)
    except OSError as error:
        return UnreadableImage(f"the file can't be read: {error.strerror or error}")
    except ImageError as error:
        return error
