"""What is one picture's, and what is the storage's: from an S3 server on loopback."""

from collections.abc import Iterator
from contextlib import closing
from functools import partial
from typing import Any

import fsspec
import pytest

from app.batch import reading
from app.batch.reading import Reader
from app.errors import BodyTooLarge, DemitasseError, NotFound, UnreadableImage
from models.storage import StorageError
from tests.app.batch.conftest import S3Server

FILES = {f"{number}.png": bytes([number]) * 10 for number in range(20)}
LIMIT = 100


@pytest.fixture(scope="module")
def bucket(s3: S3Server) -> str:
    """With 20 pictures, one too large and one empty."""
    return s3.bucket(FILES | {"large.png": b"x" * (LIMIT + 1), "empty.png": b""})


@pytest.fixture
def root(s3: S3Server, bucket: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The bucket's address, where its account is that of this process."""
    for name, value in s3.account.items():
        monkeypatch.setenv(name, value)
    fsspec.filesystem("s3").clear_instance_cache()  # or it would go on with another server's address
    return bucket


@pytest.fixture
def refusing(monkeypatch: pytest.MonkeyPatch) -> Iterator[set[str]]:
    """Names that the storage refuses to all whom it asks."""
    refused: set[str] = set()
    opened = reading.opened

    class Refusing:
        def __init__(self, storage: Any) -> None:
            self._storage = storage

        def __getattr__(self, name: str) -> Any:
            return partial(self._asked, getattr(self._storage, name))

        def _asked(self, method: Any, path: str) -> Any:
            if path.rpartition("/")[2] in refused:
                raise PermissionError("Forbidden")
            return method(path)

    def wrapped(url: str) -> tuple[Any, str]:
        storage, path = opened(url)
        return Refusing(storage), path

    monkeypatch.setattr(reading, "opened", wrapped)
    yield refused


def _told(reader: Reader, *names: str) -> list[bytes | type[DemitasseError]]:
    def told(read: Any) -> Any:
        try:
            return read()
        except DemitasseError as error:
            return type(error)

    return [told(read) for read in reader.each([name.encode() for name in names])]


def test_objects_are_read_ahead_in_order_and_each_has_its_own_errors(root: str) -> None:
    told = _told(Reader(root, LIMIT, 0), "gone.png", "large.png", "empty.png", "nosuch://a.png", *FILES)
    assert told == [NotFound, BodyTooLarge, b"", UnreadableImage, *FILES.values()]


def test_object_that_is_refused_where_others_are_not_has_an_error_of_its_own(root: str, refusing: set[str]) -> None:
    reader = Reader(root, LIMIT, 0)
    refusing.add("1.png")
    assert reader.read("0.png") == FILES["0.png"]
    with pytest.raises(UnreadableImage, match="the object can't be read: PermissionError: Forbidden"):
        reader.read("1.png")


def test_storage_that_refuses_everything_stops_the_job(root: str, refusing: set[str]) -> None:
    reader = Reader(root, LIMIT, 0)
    assert reader.read("0.png") == FILES["0.png"]
    refusing.update(FILES)
    with pytest.raises(StorageError, match=r"/1\.png can't be read, tried for 0 s: PermissionError: Forbidden"):
        reader.read("1.png")
    refusing.clear()
    assert reader.read("1.png") == FILES["1.png"]


def test_storage_that_is_out_of_reach_stops_the_job(root: str, s3: S3Server) -> None:
    s3.stop()
    with (
        pytest.raises(StorageError, match=r"/0\.png can't be read, tried for 0 s: .*Could not connect"),
        closing(Reader(root, LIMIT, 0).each([name.encode() for name in FILES])) as reads,
    ):
        next(reads)()
    s3.start()
    assert _told(Reader(root, LIMIT, 0), *FILES) == list(FILES.values())
