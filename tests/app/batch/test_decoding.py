"""Parts of the list to blocks of pixels; what is wrong with a file is its own row's alone."""

import os
from pathlib import Path

import numpy as np
import pytest

from app.batch import decoding
from app.batch.decoding import Decode, block_rows
from app.batch.job import write_pictures
from app.batch.reading import Reader
from models.manifest import InputSpec
from models.storage import StorageError
from tests.app.conftest import png

SPEC = InputSpec(height=2, width=2, resize="stretch")


def _decode(folder: Path, root: str, paths: list[bytes], parts: tuple[int, ...] = (0,), rows: int = 100) -> Decode:
    write_pictures(folder / "list", iter(paths), rows)
    return Decode(str(folder / "list"), root, SPEC, max_pixels=100, max_bytes=2000, patience_s=0, parts=parts)


def test_each_picture_has_its_pixels_or_its_error(tmp_path: Path) -> None:
    files = {
        "good.png": png(7),
        "empty.jpg": b"",
        "cut.png": png(7)[:40],
        "text.jpg": b"no picture",
        "many.png": png(7, (11, 10)),
        "large.png": b"x" * 2001,
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")
    names = [*files, "pipe.jpg", "gone.jpg", "loop.jpg", "x" * 300, "nul\0.jpg"]
    (block,) = _decode(tmp_path, str(tmp_path), [name.encode() for name in names]).part(0)
    assert list(block["path"]) == names
    assert list(block["code"]) == [
        "",
        "unreadable_image",
        "unreadable_image",
        "unsupported_media_type",
        "too_many_pixels",
        "body_too_large",
        "not_found",
        "not_found",
        "unreadable_image",
        "unreadable_image",
        "internal_error",
    ]
    assert block["pixels"].shape == (11, 2, 2, 3)
    assert (block["pixels"][0] == 7).all()
    assert (block["pixels"][1:] == 0).all()
    messages = dict(zip(names, block["message"], strict=True))
    assert messages["good.png"] == ""
    assert messages["large.png"] == "the file has 2,001 bytes, the limit is 2,000"
    assert "11 x 10 pixels" in messages["many.png"]


def test_blocks_say_which_rows_of_which_part_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "_MOST_ROWS", 4)
    for shade in range(10):
        (tmp_path / f"{shade}.png").write_bytes(png(shade))
    paths = [b"%d.png" % shade for shade in range(10)]
    decode = _decode(tmp_path, str(tmp_path), paths, parts=(1, 0), rows=6)
    blocks = list(decode({"id": np.array([1, 0])}))
    assert [(block["part"].tolist(), block["row"].tolist()) for block in blocks] == [
        ([0] * 4, [0, 1, 2, 3]),
        ([0] * 2, [4, 5]),
        ([1] * 4, [0, 1, 2, 3]),
    ]
    assert [block["pixels"][:, 0, 0, 0].tolist() for block in blocks] == [[0, 1, 2, 3], [4, 5], [6, 7, 8, 9]]


def test_name_that_is_no_text_is_read_and_told_as_far_as_it_is_one(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"caf\xe9.png")).write_bytes(png(7))
    (block,) = _decode(tmp_path, str(tmp_path), [b"caf\xe9.png"]).part(0)
    assert (block["path"][0], block["code"][0]) == ("caf?.png", "")


def test_storage_that_cannot_be_had_is_no_error_of_a_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(reader: Reader, path: str) -> bytes:
        raise StorageError(f"{path} can't be read")

    monkeypatch.setattr(Reader, "read", gone)
    with pytest.raises(StorageError, match=r"^a\.png can't be read$"):
        list(_decode(tmp_path, "memory://bucket", [b"a.png"]).part(0))


@pytest.mark.parametrize(("size", "rows"), [(224, 64), (28, 1024), (600, 8), (4096, 1)])
def test_blocks_are_of_some_megabytes(size: int, rows: int) -> None:
    assert block_rows(InputSpec(height=size, width=size)) == rows
