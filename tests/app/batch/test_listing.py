"""What INPUT may be, and which pictures that is."""

import os
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from app.batch.job import JobError
from app.batch.listing import address, listing


def _made(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"picture")
    return root


def _paths(given: str | Path) -> list[str]:
    return [os.fsdecode(path) for path in listing(str(given)).paths]


def test_folder_gives_what_is_named_like_a_picture_at_any_depth(tmp_path: Path) -> None:
    root = _made(tmp_path / "photos", "b.JPG", "a/1.png", "a/b/2.tiff", "notes.txt", ".hidden.jpg", ".cache/3.jpg")
    assert sorted(_paths(root)) == ["a/1.png", "a/b/2.tiff", "b.JPG"]
    assert listing(str(root)).root == str(root)


def test_links_are_followed_and_lead_nowhere_twice(tmp_path: Path) -> None:
    root = _made(tmp_path / "photos", "1.jpg", "a/2.jpg")
    _made(tmp_path / "elsewhere", "3.jpg")
    (root / "a" / "up").symlink_to(root)
    (root / "linked").symlink_to(tmp_path / "elsewhere")
    assert sorted(_paths(root)) == ["1.jpg", "a/2.jpg", "linked/3.jpg"]


def test_file_names_need_not_be_text(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"caf\xe9.jpg")).write_bytes(b"picture")
    assert list(listing(str(tmp_path)).paths) == [b"caf\xe9.jpg"]


def test_pattern_gives_what_it_matches_whatever_it_is_called(tmp_path: Path) -> None:
    _made(tmp_path, "photos/a/1.jpg", "photos/a/2.raw", "photos/b/c/3.jpg", "other/4.jpg")
    assert sorted(_paths(tmp_path / "photos" / "**" / "*.*")) == ["a/1.jpg", "a/2.raw", "b/c/3.jpg"]
    assert _paths(tmp_path / "photos" / "?" / "*.jpg") == ["a/1.jpg"]
    assert listing(f"{tmp_path}/photos/*/*.jpg").root == f"{tmp_path}/photos"


def test_pattern_enters_no_folder_twice(tmp_path: Path) -> None:
    root = _made(tmp_path / "photos", "1.jpg", "a/2.jpg", ".hidden/3.jpg")
    for name in ("up", "again"):
        (root / "a" / name).symlink_to(root)
    assert _paths(root / "**" / "*.jpg") == ["1.jpg", "a/2.jpg"]


def test_pattern_is_relative_to_a_folder_whose_name_looks_like_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = _made(tmp_path / "run[1]", "1.jpg", "a/2.jpg")
    monkeypatch.chdir(root)
    assert (listing("*.jpg").root, _paths("*.jpg"), _paths("a/*.jpg")) == (str(root), ["1.jpg"], ["2.jpg"])


@pytest.mark.parametrize("given", ["photos/a**.jpg", "memory://bucket/a**.jpg"])
def test_pattern_that_is_none_is_refused(given: str) -> None:
    with pytest.raises(JobError, match="is no pattern"):
        listing(given)


def test_text_list_keeps_its_lines_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes(b"\xef\xbb\xbfb.jpg\r\n\n/abs/a b.jpg\ns3://bucket/c.jpg\nb.jpg\ncaf\xe9.jpg")
    found = list(listing(str(path)).paths)
    assert found == [b"b.jpg", b"/abs/a b.jpg", b"s3://bucket/c.jpg", b"b.jpg", b"caf\xe9.jpg"]
    root = listing(str(path)).root
    places = [address(root, os.fsdecode(path)) for path in found[:3]]
    assert places == [f"{tmp_path}/b.jpg", "/abs/a b.jpg", "s3://bucket/c.jpg"]


def test_parquet_list_is_its_column_path(tmp_path: Path) -> None:
    path = tmp_path / "list.parquet"
    pq.write_table(pa.table({"id": [1, 2], "path": ["a.jpg", "b.jpg"]}), path)
    assert _paths(path) == ["a.jpg", "b.jpg"]


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (pa.table({"file": ["a.jpg"]}), "no column 'path', but file"),
        (pa.table({"path": ["a.jpg", None]}), "path of row 1 is empty"),
        (pa.table({"path": [[1]]}), "can't be read as a list of paths"),
    ],
)
def test_parquet_list_that_is_none_is_refused(tmp_path: Path, table: pa.Table, said: str) -> None:
    path = tmp_path / "list.parquet"
    pq.write_table(table, path)
    with pytest.raises(JobError, match=said):
        _paths(path)


@pytest.mark.parametrize(("name", "said"), [("nothing", "is not there"), ("a.doc", "is another file")])
def test_anything_else_is_refused(tmp_path: Path, name: str, said: str) -> None:
    (tmp_path / "a.doc").write_bytes(b"text")
    with pytest.raises(JobError, match=rf"expected a folder, a pattern .* or a list .* {said}"):
        listing(str(tmp_path / name))


def test_object_storage_is_listed_the_same_way(request: pytest.FixtureRequest) -> None:
    storage = fsspec.filesystem("memory")
    top = f"/bucket-{request.node.name}"
    for name in ("photos/a/1.jpg", "photos/2.png", "photos/notes.txt", "list.txt"):
        storage.pipe_file(f"{top}/{name}", b"photos/2.png\n")
    url = f"memory:/{top}"
    assert sorted(_paths(f"{url}/photos")) == ["2.png", "a/1.jpg"]
    assert _paths(f"{url}/photos/*/*.jpg") == ["a/1.jpg"]
    assert _paths(f"{url}/list.txt") == ["photos/2.png"]
    with storage.open(address(listing(f"{url}/photos").root, "a/1.jpg").removeprefix("memory:/")) as file:
        assert file.read() == b"photos/2.png\n"
    for missing in ("nothing", "nothing.txt", "nothing/*.jpg"):
        with pytest.raises(JobError, match="is not there"):
            _paths(f"{url}/{missing}")
