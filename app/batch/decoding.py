"""Paths -> blocks of pixels, in Ray's tasks, by the service's pixel path and within its limits."""

import os
import stat
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from app.batch.job import PICTURES_FILE, read_pictures
from app.batch.listing import address
from app.batch.rows import as_error
from app.errors import BodyTooLarge, NotFound, UnreadableImage
from app.inference.decode import in_our_words
from models.manifest import InputSpec
from models.preprocess import load_image
from models.storage import is_url, opened

Block = dict[str, Any]

_BLOCK_BYTES = 16 * 2**20
_MOST_ROWS = 1024
_READ_AHEAD = 16  # pictures on their way from object storage, where each takes its time to begin


@dataclass(frozen=True)
class Decode:
    """Decodes parts of the list that lies in the folder `output`. A block holds, for each picture of it,

    `part` and `row` int64, its place; `path` as text; `pixels` uint8 [H, W, 3], of zeros where it could not be decoded,
    and then `code` and `message` of why, which are empty otherwise.
    """

    output: str
    root: str
    spec: InputSpec
    max_pixels: int
    max_bytes: int
    parts: tuple[int, ...]  # that are missing

    def __call__(self, places: Block) -> Iterator[Block]:
        """Blocks of the parts at these places among the missing ones, which Ray gives as `id`."""
        for place in places["id"]:
            yield from self.part(self.parts[place])

    def part(self, part: int) -> Iterator[Block]:
        with _listed_in(self.output) as file:
            paths = read_pictures(file, part)
        rows = block_rows(self.spec)
        read = _reading([partial(self._read, path) for path in paths], ahead=_READ_AHEAD if self._is_remote else 0)
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

    @property
    def _is_remote(self) -> bool:
        return is_url(self.root)

    def _read(self, path: bytes) -> bytes:
        return read_picture(address(self.root, os.fsdecode(path)), self.max_bytes)

    def _decode_into(self, pixels: np.ndarray, read: Callable[[], bytes]) -> tuple[str, str]:
        """Code and message of what is wrong with the picture, empty where nothing is."""
        try:
            with in_our_words():
                pixels[:] = load_image(read(), self.spec, self.max_pixels)
        except Exception as error:
            return as_error(error)
        return "", ""


def block_rows(spec: InputSpec) -> int:
    """Pictures in a block: a power of two, as batches are, of some megabytes."""
    rows = _BLOCK_BYTES // (spec.height * spec.width * 3)
    return min(_MOST_ROWS, 1 << max(0, rows.bit_length() - 1))


def read_picture(place: str, max_bytes: int) -> bytes:
    """A whole file, local or in object storage. Raises `NotFound`, `BodyTooLarge` or, of a
    local one, `UnreadableImage`, and whatever its storage does."""
    return _read_remote(place, max_bytes) if is_url(place) else _read_local(place, max_bytes)


def _read_local(place: str, max_bytes: int) -> bytes:
    try:
        status = Path(place).stat()
        if not stat.S_ISREG(status.st_mode):  # a pipe would never end
            raise NotFound("expected a file, it is something else")
        _check_size(status.st_size, max_bytes)
        return Path(place).read_bytes()
    except FileNotFoundError:
        raise NotFound("no such file") from None
    except OSError as error:
        raise UnreadableImage(f"the file can't be read: {error.strerror}") from error


def _read_remote(place: str, max_bytes: int) -> bytes:
    storage, path = opened(place)
    try:
        _check_size(storage.size(path), max_bytes)
        data: bytes = storage.cat_file(path)
    except FileNotFoundError:
        raise NotFound("no such object") from None
    return data


def _check_size(size: int | None, max_bytes: int) -> None:
    if size is not None and size > max_bytes:
        raise BodyTooLarge(f"the file has {size:,} bytes, the limit is {max_bytes:,}")


def _reading(reads: list[Callable[[], bytes]], ahead: int) -> Iterator[Callable[[], bytes]]:
    """What gives each file's bytes, or raises what came instead; so many of them are read ahead, in threads."""
    if not ahead:
        yield from reads
        return
    with ThreadPoolExecutor(ahead, "read") as pool:
        waiting: deque[Future[bytes]] = deque()
        for read in reads:
            waiting.append(pool.submit(read))
            if len(waiting) > ahead:
                yield waiting.popleft().result
        while waiting:
            yield waiting.popleft().result


@contextmanager
def _listed_in(output: str) -> Iterator[Any]:
    if not is_url(output):
        yield Path(output) / PICTURES_FILE
        return
    storage, top = opened(output)
    with storage.open(f"{top}/{PICTURES_FILE}", "rb") as file:
        yield file
