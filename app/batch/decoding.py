"""Paths -> blocks of pixels, in Ray's tasks, by the service's pixel path and within its limits."""

import os
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from app.batch.job import read_pictures
from app.batch.patience import until_it_answers
from app.batch.reading import Reader
from app.batch.rows import as_error
from app.inference.decode import in_our_words
from models.manifest import InputSpec
from models.preprocess import load_image
from models.storage import StorageError, is_url, opened

Block = dict[str, Any]

_BLOCK_BYTES = 16 * 2**20
_MOST_ROWS = 1024


@dataclass(frozen=True)
class Decode:
    """Decodes parts of the list at the address `pictures`. A block holds, for each picture of it,

    `part` and `row` int64, its place; `path` as text; `pixels` uint8 [H, W, 3], of zeros where it could not be decoded,
    and then `code` and `message` of why, which are empty otherwise. Raises `StorageError` where a storage has not
    answered for `patience_s` seconds.
    """

    pictures: str
    root: str
    spec: InputSpec
    max_pixels: int
    max_bytes: int
    patience_s: float
    parts: tuple[int, ...]  # that are missing

    def __call__(self, places: Block) -> Iterator[Block]:
        """Blocks of the parts at these places among the missing ones, which Ray gives as `id`."""
        for place in places["id"]:
            yield from self.part(self.parts[place])

    def part(self, part: int) -> Iterator[Block]:
        paths = self._paths(part)
        rows = block_rows(self.spec)
        with closing(Reader(self.root, self.max_bytes, self.patience_s).each(paths)) as read:
            for first in range(0, len(paths), rows):
                some = paths[first : first + rows]
                pixels = np.zeros((len(some), self.spec.height, self.spec.width, 3), np.uint8)
                errors = [self._decode_into(pixels[row], next(read)) for row in range(len(some))]
                yield {
                    "part": np.full(len(some), part),
                    "row": np.arange(first, first + len(some)),
                    "path": np.array([os.fsdecode(path).encode(errors="replace").decode() for path in some], object),
                    "code": np.array([code for code, _ in errors], object),
                    "message": np.array([message for _, message in errors], object),
                    "pixels": pixels,
                }

    def _paths(self, part: int) -> list[bytes]:
        if not is_url(self.pictures):
            return read_pictures(Path(self.pictures), part)

        def ask() -> list[bytes]:
            storage, path = opened(self.pictures)
            with storage.open(path, "rb") as file:
                return read_pictures(file, part)

        return until_it_answers(ask, f"{self.pictures} can't be read", self.patience_s)

    def _decode_into(self, pixels: np.ndarray, read: Callable[[], bytes]) -> tuple[str, str]:
        """Code and message of what is wrong with the picture, empty where nothing is."""
        try:
            with in_our_words:
                pixels[:] = load_image(read(), self.spec, self.max_pixels)
        except StorageError:
            raise
        except Exception as error:
            return as_error(error)
        return "", ""


def block_rows(spec: InputSpec) -> int:
    """Pictures in a block: a power of two, as batches are, of some megabytes."""
    rows = _BLOCK_BYTES // (spec.height * spec.width * 3)
    return min(_MOST_ROWS, 1 << max(0, rows.bit_length() - 1))
