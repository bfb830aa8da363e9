"""Indexes on the disk: whole or not there, and nothing believed that is not checked."""

import gc
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.index_manifest import INDEX_MANIFEST_FILE, THUMBNAILS_FILE, IndexManifest
from models.indexes import IndexFolder, IndexStore, InvalidIndex
from models.repository import ModelRepository
from models.storage import Mirror
from tests.app.conftest import publish as publish_model
from tests.indexes import embeddings, jpeg, publish


def _store(root: Path) -> IndexStore:
    return IndexStore(ModelRepository(root))


def _read(root: Path, folder: IndexFolder) -> IndexManifest:
    manifest = _store(root).read(folder)
    _store(root).verify(folder, manifest)
    return manifest


def _rewrite(folder: IndexFolder, **changes: Any) -> None:
    path = folder.path / INDEX_MANIFEST_FILE
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_published_index_is_read_back_with_its_labels_and_thumbnails(tmp_path: Path) -> None:
    folder = publish(tmp_path, embeddings(5))

    manifest = _read(tmp_path, folder)
    pictures = _store(tmp_path).pictures(folder, manifest)

    assert folder.path == tmp_path / "cups" / "indexes" / "photos"
    assert _store(tmp_path).folders() == [folder]
    assert (manifest.size, manifest.dimension, manifest.distance) == (5, 4, "cosine")
    assert [pictures.label(number) for number in range(5)] == ["cup", None, "cup", None, "cup"]
    assert pictures.thumbnails is not None
    assert [pictures.thumbnails[number] for number in (4, 0, 2)] == [jpeg(4), jpeg(0), jpeg(2)]


def test_an_index_may_have_no_thumbnails(tmp_path: Path) -> None:
    folder = publish(tmp_path, embeddings(3), thumbnails=False)
    assert _store(tmp_path).pictures(folder, _read(tmp_path, folder)).thumbnails is None


def test_publishing_a_name_again_replaces_the_index_and_leaves_its_readers_be(tmp_path: Path) -> None:
    first = publish(tmp_path, embeddings(3))
    before = _store(tmp_path).pictures(first, _read(tmp_path, first))

    second = publish(tmp_path, embeddings(6))

    assert _store(tmp_path).folders() == [second]
    assert second.stamp != first.stamp
    assert _read(tmp_path, second).size == 6
    assert [path.name for path in second.path.iterdir() if path.is_dir()] == [_read(tmp_path, second).generation]
    assert before.thumbnails is not None
    assert before.thumbnails[2] == jpeg(2)
    del before
    gc.collect()  # an open file that nobody closed would be a warning, and fail


def test_a_publisher_that_dies_before_the_last_step_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = publish(tmp_path, embeddings(3))

    def full(source: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="No space"):
        publish(tmp_path, embeddings(6))

    assert _store(tmp_path).folders() == [folder]
    assert _read(tmp_path, folder).size == 3


def test_what_another_publisher_has_just_written_is_not_removed(tmp_path: Path) -> None:
    folder = publish(tmp_path, embeddings(3))
    theirs = folder.path / "00000000deadbeef"
    theirs.mkdir()
    publish(tmp_path, embeddings(4))
    assert theirs.is_dir()
    os.utime(theirs, (0, 0))
    publish(tmp_path, embeddings(5))
    assert not theirs.exists()


def test_indexes_are_no_versions_to_repository_and_mirror(tmp_path: Path) -> None:
    remote, copy = tmp_path / "remote", tmp_path / "copy"
    version = publish_model(remote)
    publish(remote, embeddings(3))

    repository = ModelRepository(remote)
    Mirror(f"file://{remote}", copy).refresh()

    assert repository.versions() == [version]
    assert repository.next_version("cups") == 2
    assert [(each.name, each.version) for each in ModelRepository(copy).versions()] == [("cups", 1)]
    assert _store(copy).folders() == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"more": 1}, "more: Extra inputs"),
        ({"name": "others"}, "is that of cups/others"),
        ({"model": "mugs"}, "is that of mugs/photos"),
        ({"labels": ["\ud800"]}, "Invalid JSON"),  # no answer could be written with it
    ],
)
def test_a_manifest_that_is_not_as_it_should_be_is_refused(tmp_path: Path, changes: dict, message: str) -> None:
    folder = publish(tmp_path, embeddings(3))
    _rewrite(folder, **changes)
    with pytest.raises(InvalidIndex, match=message):
        _read(tmp_path, folder)


@pytest.mark.parametrize("text", ["", "[]", "[" * 100_000, "\xff", "{}"])
def test_a_manifest_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    folder = publish(tmp_path, embeddings(3))
    (folder.path / INDEX_MANIFEST_FILE).write_text(text, encoding="latin-1")
    with pytest.raises(InvalidIndex, match=r"index\.json is (invalid|unreadable)"):
        _read(tmp_path, folder)


@pytest.mark.parametrize("name", ["index.faiss", "classes.i32", "thumbnails.bin", "thumbnails.u64"])
def test_a_changed_shortened_missing_or_linked_file_is_refused(tmp_path: Path, name: str) -> None:
    folder = publish(tmp_path, embeddings(3))
    path = folder.path / _read(tmp_path, folder).generation / name
    data = path.read_bytes()
    for damaged, message in ((data[:-1] + bytes([data[-1] ^ 1]), "has sha256"), (data[:-1], "bytes, the manifest")):
        path.write_bytes(damaged)
        with pytest.raises(InvalidIndex, match=message):
            _read(tmp_path, folder)
    path.unlink()
    with pytest.raises(InvalidIndex, match="missing, or no plain file"):
        _read(tmp_path, folder)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(data)
    path.symlink_to(elsewhere)
    with pytest.raises(InvalidIndex, match="missing, or no plain file"):
        _read(tmp_path, folder)


def test_links_that_lead_out_of_the_folder_are_refused(tmp_path: Path) -> None:
    folder = publish(tmp_path, embeddings(3))
    (folder.path / _read(tmp_path, folder).generation).rename(tmp_path / "elsewhere")
    (folder.path / _store(tmp_path).read(folder).generation).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InvalidIndex, match="missing, or no plain file"):
        _read(tmp_path, folder)
    manifest = folder.path / INDEX_MANIFEST_FILE
    manifest.rename(tmp_path / "elsewhere.json")
    manifest.symlink_to(tmp_path / "elsewhere.json")
    with pytest.raises(InvalidIndex, match=r"index\.json is no plain file"):
        _read(tmp_path, folder)


def test_an_index_folder_may_itself_be_a_link_as_a_volume_is(tmp_path: Path) -> None:
    folder = publish(tmp_path, embeddings(3))
    folder.path.rename(tmp_path / "volume")
    folder.path.symlink_to(tmp_path / "volume")
    assert _read(tmp_path, folder).size == 3


def test_offsets_and_classes_that_lead_beyond_the_files_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = publish(tmp_path, embeddings(3))
    manifest = _read(tmp_path, folder)
    path = folder.path / manifest.generation
    end = (path / THUMBNAILS_FILE).stat().st_size
    good = (path / "thumbnails.u64").read_bytes()
    for offsets in ([0, 1, 2, end + 1], [0, 5, 2, end], [1, 5, 6, end], [0, 2**63, 2**63, end]):
        np.asarray(offsets, "<u8").tofile(path / "thumbnails.u64")
        with pytest.raises(InvalidIndex, match="does not fit"):
            _store(tmp_path).pictures(folder, manifest)
    (path / "thumbnails.u64").write_bytes(good)
    monkeypatch.setattr("models.indexes.MOST_THUMBNAIL_BYTES", 9)
    with pytest.raises(InvalidIndex, match="the limit is 9"):
        _store(tmp_path).pictures(folder, manifest)
    monkeypatch.undo()
    for classes in ([0, 0, 1], [0, -2, 0]):
        np.asarray(classes, "<i4").tofile(path / "classes.i32")
        with pytest.raises(InvalidIndex, match="beyond the 1 labels"):
            _store(tmp_path).pictures(folder, manifest)


def test_a_pipe_in_place_of_a_manifest_is_no_index(tmp_path: Path) -> None:
    folder = publish(tmp_path, embeddings(2))
    (folder.path / INDEX_MANIFEST_FILE).unlink()
    os.mkfifo(folder.path / INDEX_MANIFEST_FILE)
    assert _store(tmp_path).folders() == []
