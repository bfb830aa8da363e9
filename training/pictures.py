"""Pictures for an index, of a folder or of a data set: each as the model's input and as a thumbnail."""

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from models.manifest import InputSpec
from models.preprocess import ImageError, UnreadableImage, load_image, open_image, to_pixels, upright
from training import data, photos
from training.photos import Listing, Photo
from training.splits import Split

THUMBNAIL_SIDE = 96
_JPEG_QUALITY = 80

Pixels = npt.NDArray[np.uint8]


class Look(NamedTuple):
    """Pixels uint8 [H, W, 3] of the model's size, and a JPEG of at most 96 pixels a side where one is wanted."""

    pixels: Pixels
    thumbnail: bytes | None


@dataclass(frozen=True)
class Photos:
    """Files, read when their turn comes."""

    photos: tuple[Photo, ...]

    @property
    def classes(self) -> npt.NDArray[np.int32]:
        return np.array([photo.class_id for photo in self.photos], np.int32)

    def name(self, number: int) -> str:
        return str(self.photos[number].path)

    def look(self, number: int, spec: InputSpec, *, thumbnail: bool) -> Look:
        """Raises an `ImageError`."""
        try:
            read = self.photos[number].path.read_bytes()
        except OSError as error:
            raise UnreadableImage(f"the file can't be read: {error.strerror or error}") from error
        return Look(load_image(read, spec), _jpeg(open_image(read)) if thumbnail else None)


@dataclass(frozen=True)
class Arrays:
    """Pictures of a data set that is in memory."""

    split: Split

    @property
    def classes(self) -> npt.NDArray[np.int32]:
        return self.split.classes.astype(np.int32)

    def name(self, number: int) -> str:
        return f"picture {number}"

    def look(self, number: int, spec: InputSpec, *, thumbnail: bool) -> Look:
        image = Image.fromarray(self.split.images[number])
        return Look(to_pixels(image, spec), _jpeg(image) if thumbnail else None)


Pictures = Photos | Arrays


@dataclass(frozen=True)
class Collection:
    """`labels` are those of the class ids; `queries` are pictures that are not indexed, and may be none."""

    source: str
    labels: tuple[str, ...]
    indexed: Pictures
    queries: Pictures


def of_folder(folder: Path, *, hold_out: bool) -> Collection:
    """All photos of a folder; with `hold_out`, those that `photos.scan` would test on are queries. Raises `DataError`.

    Photos directly in the folder have no class; with `hold_out`, each has to be in a folder of its class.
    """
    listing = photos.scan(folder) if hold_out else photos.collect(folder)
    name = folder.resolve().name.encode(errors="replace").decode()
    return _of_listing(listing, f"photos of {name}" + (", but for those held out" if hold_out else ""))


@contextmanager
def of_data_set(name: str, given: Path | None) -> Iterator[Collection]:
    """The training pictures of a data set that a recipe uses, with its test pictures as queries. Raises `DataError`."""
    if name == "caltech101":  # photos of many sizes, whose thumbnails are to show all of them
        with data.caltech101_listing(given) as (listing, source):
            yield _of_listing(listing, f"{source}, train")
        return
    found = data.load(name, given)
    labels = tuple(label.name for label in found.labels)
    yield Collection(f"{found.source}, train", labels, Arrays(found.train), Arrays(found.test))


def read(pictures: Pictures, spec: InputSpec, *, thumbnails: bool) -> Iterator[tuple[int, Look | ImageError]]:
    """The number of each picture and its look, in order, or why it can't be read; decoded ahead by all cores."""

    def look(number: int) -> Look | ImageError:
        try:
            return pictures.look(number, spec, thumbnail=thumbnails)
        except ImageError as error:
            return error

    return photos.read_ahead(range(len(pictures.classes)), look, os.cpu_count() or 1)


def _of_listing(listing: Listing, source: str) -> Collection:
    labels = tuple(label.name for label in listing.labels)
    return Collection(source, labels, Photos(listing.train), Photos(listing.test))


def _jpeg(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    small = upright(image, THUMBNAIL_SIDE)
    small.info = {}  # its comment would be written, too
    small.save(buffer, "JPEG", quality=_JPEG_QUALITY, optimize=True)
    return buffer.getvalue()
