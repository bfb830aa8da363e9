"""Readers see whole versions only, whatever publishers do and however they end."""

import errno
import itertools
import multiprocessing
import os
import shutil
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path

import pytest

from models.manifest import Manifest
from models.repository import InvalidVersion, ModelRepository, RepositoryError, VersionExists, VersionFolder

HOUR_S = 3600
SPAWN = multiprocessing.get_context("spawn")


def draft(name: str = "cups") -> Manifest:
    nothing = dict.fromkeys(("git_commit", "seed", "dataset", "pretrained"))
    return Manifest.model_validate(
        {
            "name": name,
            "version": 1,
            "description": "",
            "created_at": "2026-03-01T12:00:00Z",
            "architecture": {"name": "traut", "parameters": 1},
            "input": {"height": 8, "width": 8},
            "labels": [{"name": "cup"}, {"name": "saucer"}],
            "calibration": {"method": "none"},
            "decision": {},
            "metrics": [],
            "provenance": nothing | {"recipe": "", "settings": {}, "libraries": {}, "device": "", "wall_seconds": 0},
            "golden_tolerance": {"f32": 0.1, "bf16": 0.1},
            "files": {},
        }
    )


def fill(folder: Path, text: str = "weights") -> None:
    (folder / "variables").mkdir()
    (folder / "saved_model.pb").write_text(text)
    (folder / "variables" / "index").write_text(text * 100)


def publish(root: Path, text: str = "weights", name: str = "cups", version: int | None = None) -> VersionFolder:
    with ModelRepository(root).staging() as folder:
        fill(folder, text)
        return ModelRepository(root).publish(folder, draft(name), version)


def publish_all(root: Path, texts: list[str]) -> None:
    for text in texts:
        publish(root, text)


def check_all(root: Path) -> list[tuple[str, int]]:
    """Read and verify every version that is listed."""
    repository = ModelRepository(root)
    for folder in repository.versions():
        manifest = repository.read(folder)
        assert set(manifest.files) == {"saved_model.pb", "variables/index"}
        repository.verify(folder, manifest)
    return [(folder.name, folder.version) for folder in repository.versions()]


def in_child(function: Callable[..., None], *args: object) -> tuple[SpawnProcess, Connection]:
    """Start a process that gets the arguments and one end of a pipe; the other end comes back."""
    ours, theirs = SPAWN.Pipe()
    child = SPAWN.Process(target=function, args=(*args, theirs))
    child.start()
    theirs.close()
    return child, ours


def staging_folders(root: Path) -> list[Path]:
    return sorted(root.glob(".staging-*"))


def text_of(folder: VersionFolder) -> str:
    return (folder.path / "saved_model.pb").read_text()


# Listing


def test_versions_are_ordered_by_name_and_number(tmp_path: Path) -> None:
    for name, version in (("mugs", 1), ("cups", 10), ("cups", 2), ("cups", 9)):
        publish(tmp_path, name=name, version=version)
    assert check_all(tmp_path) == [("cups", 2), ("cups", 9), ("cups", 10), ("mugs", 1)]


def test_folders_that_are_no_versions_are_passed_over(tmp_path: Path) -> None:
    manifest = publish(tmp_path).path / "manifest.json"
    for name in ("01", "latest", "0", "-2", "2.0", ".3", ".staging-x", "__pycache__", "²", "٣", "1_0"):
        (tmp_path / "cups" / name).mkdir()
        shutil.copy(manifest, tmp_path / "cups" / name)
    (tmp_path / "cups" / "4").mkdir()  # without a manifest
    (tmp_path / "cups" / "5").write_text("a plain file")
    (tmp_path / "cups" / "6").symlink_to("gone")
    (tmp_path / "cups" / "7").symlink_to("7")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "preprocess.py").write_text("a plain file")
    (tmp_path / ".hidden").symlink_to("cups")
    shutil.copytree(tmp_path / "cups" / "1", tmp_path / "__pycache__" / "cups")
    assert check_all(tmp_path) == [("cups", 1)]


def test_a_linked_model_or_version_is_listed_like_any_other(tmp_path: Path) -> None:
    version = publish(tmp_path / "elsewhere").path
    (tmp_path / "root" / "cups").mkdir(parents=True)
    (tmp_path / "root" / "cups" / "1").symlink_to(version)
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "cups").symlink_to(version.parent)
    assert check_all(tmp_path / "root") == check_all(tmp_path / "linked") == [("cups", 1)]


def list_without_rights(root: Path, answer: Connection) -> None:
    os.chdir(root)  # the folders above are closed to others
    if os.geteuid() == 0:
        os.setuid(65534)
    answer.send([folder.version for folder in ModelRepository(Path()).versions()])


def test_a_folder_that_may_not_be_entered_does_not_hide_the_others(tmp_path: Path) -> None:
    publish(tmp_path)
    (tmp_path / "lost+found").mkdir()
    (tmp_path / "lost+found").chmod(0o000)
    tmp_path.chmod(0o755)
    child, answer = in_child(list_without_rights, tmp_path)
    assert answer.recv() == [1]
    child.join()


def test_the_stamp_changes_with_the_manifest_only(tmp_path: Path) -> None:
    before = publish(tmp_path)
    (before.path / "notes.txt").write_text("nothing to do with it")
    assert ModelRepository(tmp_path).versions() == [before]
    shutil.copy(before.path / "manifest.json", before.path / "manifest.json.new")
    (before.path / "manifest.json.new").replace(before.path / "manifest.json")
    (after,) = ModelRepository(tmp_path).versions()
    assert after.stamp != before.stamp
    assert replace(after, stamp=before.stamp) == before


def test_find_gives_the_highest_version_or_the_one_asked_for(tmp_path: Path) -> None:
    for name, version in (("cups", 2), ("cups", 10), ("mugs", 30)):
        publish(tmp_path, name=name, version=version)
    repository = ModelRepository(tmp_path)
    assert repository.find("cups").version == 10
    assert repository.find("cups", 2).path == tmp_path / "cups" / "2"
    with pytest.raises(RepositoryError) as caught:
        repository.find("cups", 3)
    assert str(caught.value) == f"no version cups/3 in {tmp_path}, which holds cups/2, cups/10, mugs/30"
    with pytest.raises(RepositoryError, match="no version bowls in"):
        repository.find("bowls")


@pytest.mark.parametrize("root", [".", "missing"])
def test_an_empty_or_missing_root_holds_nothing(tmp_path: Path, root: str) -> None:
    assert ModelRepository(tmp_path / root).versions() == []
    with pytest.raises(RepositoryError, match=r"no version cups in .* which holds nothing"):
        ModelRepository(tmp_path / root).find("cups")


# Reading

NO_MANIFESTS = {
    b"": "is unreadable",
    b"{": "is unreadable",
    b"\xff\xfe{}": "is unreadable",
    b"[" * 100_000: "is unreadable",
    b"[]": "has schema_version None, this release reads 1",
    b"null": "has schema_version None, this release reads 1",
    b"{}": "has schema_version None, this release reads 1",
    b'{"schema_version": 2}': "has schema_version 2, this release reads 1",
    b'{"schema_version": 1}': r"is invalid: name: Field required \(and \d+ more\)",
    rb'{"schema_version": 1, "labels": [{"name": "\ud800"}]}': "is invalid: the document: Invalid JSON: .* hex escape",
}


@pytest.mark.parametrize("content", NO_MANIFESTS, ids=lambda content: content[:21].decode(errors="replace"))
def test_a_manifest_that_is_none_is_refused(tmp_path: Path, content: bytes) -> None:
    folder = publish(tmp_path)
    (folder.path / "manifest.json").write_bytes(content)
    with pytest.raises(InvalidVersion, match=rf"cups/1: manifest\.json {NO_MANIFESTS[content]}"):
        ModelRepository(tmp_path).read(folder)


def test_a_manifest_that_an_editor_has_marked_as_utf8_is_read(tmp_path: Path) -> None:
    folder = publish(tmp_path)
    path = folder.path / "manifest.json"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert ModelRepository(tmp_path).read(folder).name == "cups"


@pytest.mark.parametrize(("name", "version"), [("cups", 2), ("mugs", 1)])
def test_a_manifest_of_another_version_is_refused(tmp_path: Path, name: str, version: int) -> None:
    repository = ModelRepository(tmp_path)
    shutil.copytree(publish(tmp_path).path, tmp_path / name / str(version))
    with pytest.raises(InvalidVersion, match=rf"{name}/{version}: manifest\.json is that of cups/1"):
        repository.read(repository.find(name, version))


def test_a_changed_missing_or_misplaced_file_is_found(tmp_path: Path) -> None:
    repository, folder = ModelRepository(tmp_path), publish(tmp_path)
    manifest = repository.read(folder)
    repository.verify(folder, manifest)
    index = folder.path / "variables" / "index"
    good = index.read_bytes()
    index.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    with pytest.raises(InvalidVersion, match=r"variables/index has sha256 \w{12}…, the manifest says \w{12}…"):
        repository.verify(folder, manifest)
    index.unlink()
    with pytest.raises(InvalidVersion, match="variables/index is missing or unreadable: No such file"):
        repository.verify(folder, manifest)
    index.mkdir()
    with pytest.raises(InvalidVersion, match="variables/index is missing or unreadable: Is a directory"):
        repository.verify(folder, manifest)
    shutil.rmtree(folder.path)
    with pytest.raises(InvalidVersion, match=r"manifest\.json is unreadable: .*No such file"):
        repository.read(folder)


# Publishing


def test_publishing_fills_in_version_and_checksums(tmp_path: Path) -> None:
    repository = ModelRepository(tmp_path / "new" / "root")
    with repository.staging() as staged:
        fill(staged)
        (staged / "assets").mkdir()
        (staged / "assets" / "manifest.json").write_bytes(b"")  # a file like any other
        folder = repository.publish(staged, draft())
    assert (folder.name, folder.version, folder.path) == ("cups", 1, tmp_path / "new" / "root" / "cups" / "1")
    manifest = repository.read(folder)
    assert manifest == draft().model_copy(update={"version": 1, "files": manifest.files})
    assert sorted(manifest.files) == ["assets/manifest.json", "saved_model.pb", "variables/index"]
    assert manifest.files["assets/manifest.json"].startswith("e3b0c442")  # SHA-256 of nothing
    assert staging_folders(repository.root) == []


def test_the_next_number_follows_the_highest_in_use_by_anything(tmp_path: Path) -> None:
    numbers = [publish(tmp_path).version]
    for obstacle in (
        lambda: (tmp_path / "cups" / "5").mkdir(),
        lambda: (tmp_path / "cups" / "7").write_text("a plain file"),
        lambda: (tmp_path / "cups" / "9").symlink_to("gone"),
        lambda: (tmp_path / "cups" / "²").mkdir(),
    ):
        obstacle()
        numbers.append(publish(tmp_path).version)
    assert numbers == [1, 6, 8, 10, 11]
    assert check_all(tmp_path) == [("cups", number) for number in numbers]


OCCUPY: dict[str, Callable[[Path], object]] = {
    "a version": lambda target: publish(target.parent.parent, "first", version=3),
    "a folder": lambda target: (target / "something").mkdir(parents=True),
    "a file": lambda target: target.write_text("plain"),
    "a dangling link": lambda target: target.symlink_to("gone"),
}


@pytest.mark.parametrize("what", OCCUPY)
def test_a_taken_number_is_refused_and_nothing_is_lost(tmp_path: Path, what: str) -> None:
    repository = ModelRepository(tmp_path)
    (tmp_path / "cups").mkdir()
    OCCUPY[what](tmp_path / "cups" / "3")
    with repository.staging() as staged:
        fill(staged, "second")
        with pytest.raises(VersionExists, match="cups/3 exists; versions are never overwritten"):
            repository.publish(staged, draft(), 3)
        assert (staged / "saved_model.pb").read_text() == "second"
        assert (staged / "variables" / "index").read_text() == "second" * 100
        assert repository.publish(staged, draft()).version == 4  # so another number can be had for them
    if what == "a version":
        assert text_of(repository.find("cups", 3)) == "first"
    assert check_all(tmp_path)[-1] == ("cups", 4)


def test_an_empty_folder_does_not_hold_its_number(tmp_path: Path) -> None:
    (tmp_path / "cups" / "3").mkdir(parents=True)
    assert publish(tmp_path, version=3).version == 3
    assert check_all(tmp_path) == [("cups", 3)]


def test_two_publishers_of_one_number_do_not_overwrite_each_other(tmp_path: Path) -> None:
    start = threading.Barrier(8)

    def publish_3(text: str) -> str | None:
        start.wait()
        try:
            publish(tmp_path, text, version=3)
        except VersionExists:
            return None
        return text

    with ThreadPoolExecutor(8) as pool:
        winners = [text for text in pool.map(publish_3, "abcdefgh") if text]
    assert winners == [text_of(ModelRepository(tmp_path).find("cups"))]
    assert check_all(tmp_path) == [("cups", 3)]
    assert staging_folders(tmp_path) == []


def test_many_threads_get_consecutive_numbers_and_keep_their_files(tmp_path: Path) -> None:
    texts = [f"text {i}" for i in range(24)]
    with ThreadPoolExecutor(8) as pool:
        folders = list(pool.map(lambda text: publish(tmp_path, text), texts))
    assert [text_of(folder) for folder in folders] == texts
    assert sorted(folder.version for folder in folders) == list(range(1, 25))
    assert len(check_all(tmp_path)) == 24


def test_a_reader_sees_whole_versions_only_while_processes_publish(tmp_path: Path) -> None:
    texts = [[f"{process}-{i}" for i in range(5)] for process in range(3)]
    publishers = [SPAWN.Process(target=publish_all, args=(tmp_path, mine)) for mine in texts]
    for publisher in publishers:
        publisher.start()
    seen = [0]
    while any(publisher.is_alive() for publisher in publishers):
        versions = check_all(tmp_path)
        assert versions == [("cups", number) for number in range(1, len(versions) + 1)]
        assert len(versions) >= seen[-1]
        seen.append(len(versions))
    assert [publisher.exitcode for publisher in publishers] == [0, 0, 0]
    assert len(set(seen)) > 2  # it did look while they were at it
    found = [text_of(folder) for folder in ModelRepository(tmp_path).versions()]
    assert sorted(found) == sorted(text for mine in texts for text in mine)
    assert len(check_all(tmp_path)) == 15


def test_listing_goes_on_while_versions_are_removed(tmp_path: Path) -> None:
    publish_all(tmp_path, ["weights"] * 12)
    repository = ModelRepository(tmp_path)
    with ThreadPoolExecutor(1) as pool:
        removed = pool.submit(shutil.rmtree, tmp_path / "cups")
        while not removed.done():
            for folder in repository.versions():
                try:
                    repository.verify(folder, repository.read(folder))
                except InvalidVersion:
                    files = ("manifest.json", "saved_model.pb", "variables/index")
                    assert not all((folder.path / file).exists() for file in files)
    removed.result()
    assert repository.versions() == []


# Failing half-way


def at_call(call: int, function: Callable[..., object], action: Callable[[], object]) -> Callable[..., object]:
    """The function, with the action before one of its calls."""
    calls = itertools.count()

    def replaced(*args: object) -> object:
        if next(calls) == call:
            action()
        return function(*args)

    return replaced


@pytest.mark.parametrize("error", [OSError(errno.EIO, "broken disk"), KeyboardInterrupt()])
def test_a_failure_leaves_the_old_state_until_the_rename(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def fail() -> None:
        raise error

    publish(tmp_path, "old")
    # Two folders and three files are synced before the rename, two folders after it
    for name, call, versions in [("rename", 0, 1), *(("fsync", call, 1) for call in range(5)), ("fsync", 5, 2)]:
        with monkeypatch.context() as patch, pytest.raises(type(error)):
            patch.setattr(os, name, at_call(call, getattr(os, name), fail))
            publish(tmp_path, "new")
        assert staging_folders(tmp_path) == []
        assert len(check_all(tmp_path)) == versions
        assert text_of(ModelRepository(tmp_path).find("cups", 1)) == "old"
    assert publish(tmp_path).version == 3


def test_everything_is_on_disk_before_it_is_visible(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names: dict[int, str] = {}
    events: list[str] = []
    open_, sync, rename = os.open, os.fsync, os.rename

    def record_open(path: Path, *args: int, **kwargs: int) -> int:
        descriptor = open_(path, *args, **kwargs)
        names[descriptor] = Path(path).name
        return descriptor

    def record_sync(descriptor: int) -> None:
        events.append(names[descriptor])
        sync(descriptor)

    def record_rename(source: Path, target: Path) -> None:
        events.append("rename")
        rename(source, target)

    monkeypatch.setattr(os, "open", record_open)
    monkeypatch.setattr(os, "fsync", record_sync)
    monkeypatch.setattr(os, "rename", record_rename)
    publish(tmp_path)
    before, after = events[: events.index("rename")], events[events.index("rename") + 1 :]
    assert before[-1].startswith(".staging-")
    assert sorted(before[:-1]) == ["index", "manifest.json", "saved_model.pb", "variables"]
    assert after == ["cups", tmp_path.name]  # the folder 'cups' is new, too


def publish_and_stop(root: Path, name: str, call: int, parent: Connection) -> None:
    def stop() -> None:
        parent.send("here")
        parent.recv()  # for ever

    setattr(os, name, at_call(call, getattr(os, name), stop))
    publish(root, "new")


@pytest.mark.parametrize(("name", "call"), [("fsync", 2), ("rename", 0)])
def test_a_killed_publisher_leaves_the_old_state(tmp_path: Path, name: str, call: int) -> None:
    publish(tmp_path, "old")
    child, answer = in_child(publish_and_stop, tmp_path, name, call)
    assert answer.recv() == "here"
    child.kill()
    child.join()
    (left,) = staging_folders(tmp_path)
    assert (left / "manifest.json").exists()
    assert check_all(tmp_path) == [("cups", 1)]
    assert text_of(ModelRepository(tmp_path).find("cups")) == "old"
    assert publish(tmp_path).version == 2
    assert staging_folders(tmp_path) == [left]  # it could be of a publisher at work


def test_an_error_in_the_block_removes_the_staging_folder(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), ModelRepository(tmp_path).staging() as folder:
        fill(folder)
        assert staging_folders(tmp_path) == [folder]
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_staging_folders_are_removed_when_they_are_older_than_a_day(tmp_path: Path) -> None:
    old, young = tmp_path / ".staging-old", tmp_path / ".staging-young"
    for folder, hours in ((old, 25), (young, 23)):
        folder.mkdir()
        fill(folder)
        then = folder.stat().st_mtime - hours * HOUR_S
        os.utime(folder, (then, then))
    (tmp_path / ".staging-link").symlink_to("gone")
    publish(tmp_path)
    assert not old.exists()
    assert sorted(path.name for path in young.rglob("*")) == ["index", "saved_model.pb", "variables"]
    assert check_all(tmp_path) == [("cups", 1)]


def test_labels_move_from_version_to_version_and_go(tmp_path: Path) -> None:
    publish(tmp_path)
    publish(tmp_path)
    repository = ModelRepository(tmp_path)
    assert repository.labels("cups") == repository.labels("mugs") == {}
    assert repository.set_label("cups", "stable", 1) == {"stable": 1}
    assert repository.set_label("cups", "canary", 2) == {"stable": 1, "canary": 2}
    assert repository.set_label("cups", "stable", 2) == {"stable": 2, "canary": 2}
    assert repository.set_label("cups", "canary", None) == repository.labels("cups") == {"stable": 2}
    assert [folder.version for folder in repository.versions()] == [1, 2]
    assert repository.next_version("cups") == 3
    assert sorted(path.name for path in (tmp_path / "cups").iterdir()) == ["1", "2", "labels.json"]
    assert repository.set_label("cups", "stable", None) == repository.labels("cups") == {}
    assert sorted(path.name for path in (tmp_path / "cups").iterdir()) == ["1", "2"]


@pytest.mark.parametrize(
    ("name", "label", "version", "why"),
    [
        ("cups", "stable", 3, "no version cups/3"),
        ("mugs", "stable", 1, "no version mugs/1"),
        ("cups", "Stable", 1, "'Stable' can't be a label"),
        ("cups", "1", 1, "'1' can't be a label"),
        ("cups", "", 1, "'' can't be a label"),
        ("cups", "x" * 33, 1, "can't be a label"),
    ],
)
def test_labels_that_lead_nowhere_are_refused(
    name: str, label: str, version: int | None, why: str, tmp_path: Path
) -> None:
    publish(tmp_path)
    with pytest.raises(RepositoryError, match=why):
        ModelRepository(tmp_path).set_label(name, label, version)
    assert ModelRepository(tmp_path).labels("cups") == {}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('{"stable"', "is unreadable"),
        ("[1]", "is no object"),
        ('{"stable": "1"}', "stable is '1', expected the number of a version"),
        ('{"stable": 0}', "stable is 0"),
        ('{"stable": true}', "stable is True"),
        ('{"Stable": 1}', "'Stable' can't be a label"),
    ],
)
def test_a_broken_file_of_labels_is_told(text: str, why: str, tmp_path: Path) -> None:
    publish(tmp_path)
    (tmp_path / "cups" / "labels.json").write_text(text)
    with pytest.raises(RepositoryError, match=why):
        ModelRepository(tmp_path).labels("cups")
