"""The bytes of pictures, local or in object storage.

What is wrong with one picture is that picture's. What may be wrong with all of them is no picture's: a storage that is
out of reach, answers 5xx or takes nobody's credentials is waited for, and stops the job in the end.
"""

import errno
import os
import stat
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path

from fsspec import available_protocols

from app.batch.listing import address
from app.batch.patience import until_it_answers
from app.errors import BodyTooLarge, NotFound, UnreadableImage
from models.storage import is_url, opened

_READ_AHEAD = 16  # pictures on their way from object storage, where each takes its time to begin
_REFUSALS = (errno.EACCES, errno.EPERM, errno.EINVAL, errno.ENAMETOOLONG)


class Reader:
    """Reads pictures under `root` of at most so many bytes, from a storage that it waits for so many seconds."""

    def __init__(self, root: str, max_bytes: int, patience_s: float) -> None:
        self._root = root
        self._max_bytes = max_bytes
        self._patience_s = patience_s
        self._readable: str | None = None  # the last picture that could be read from a storage

    def each(self, paths: Sequence[bytes]) -> Generator[Callable[[], bytes]]:
        """What gives each picture's bytes, or raises what `read` does; in object storage some of them are read ahead,
        in threads."""
        reads = [partial(self.read, os.fsdecode(path)) for path in paths]
        if not is_url(self._root):
            yield from reads
            return
        pool = ThreadPoolExecutor(_READ_AHEAD, "read")
        try:
            waiting: deque[Future[bytes]] = deque()
            for read in reads:
                waiting.append(pool.submit(read))
                if len(waiting) > _READ_AHEAD:
                    yield waiting.popleft().result
            while waiting:
                yield waiting.popleft().result
        finally:
            pool.shutdown(wait=False, cancel_futures=True)  # or what has failed would wait for all that will

    def read(self, path: str) -> bytes:
        """A whole file. Raises `NotFound`, `BodyTooLarge` or `UnreadableImage`, or `StorageError` where it is none of
        these and the storage could not be had."""
        place = address(self._root, path)
        if not is_url(place):
            return _read_local(place, self._max_bytes)
        if (scheme := place.partition("://")[0]) not in available_protocols():
            raise UnreadableImage(
                f"expected a path, or an address such as s3://bucket/a.jpg; no storage is {scheme}://"
            )
        try:
            return until_it_answers(partial(self._read_object, place), f"{place} can't be read", self._patience_s)
        except FileNotFoundError:
            raise NotFound("no such object") from None

    def _read_object(self, place: str) -> bytes:
        storage, path = opened(place)
        try:
            _check_size(storage.size(path), self._max_bytes)
            data: bytes = storage.cat_file(path)
        except (OSError, ValueError) as error:
            if _is_refusal(error) and self._reads_others():
                raise UnreadableImage(f"the object can't be read: {type(error).__name__}: {error}") from error
            raise
        self._readable = place
        return data

    def _reads_others(self) -> bool:
        """Whether what could be read before still can, so that a refusal is not for want of credentials."""
        if self._readable is None:
            return False
        storage, path = opened(self._readable)
        try:
            storage.size(path)
        except FileNotFoundError:
            return True
        except Exception:
            return False
        return True


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


def _check_size(size: int | None, max_bytes: int) -> None:
    if size is not None and size > max_bytes:
        raise BodyTooLarge(f"the file has {size:,} bytes, the limit is {max_bytes:,}")


def _is_refusal(error: OSError | ValueError) -> bool:
    """Of this object or of everything: denied, archived, or no name that there could be."""
    return isinstance(error, PermissionError | ValueError) or error.errno in _REFUSALS
