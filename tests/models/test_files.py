"""What is found in folders that others change meanwhile."""

import os
from pathlib import Path

from models.files import contents, is_abandoned, size_bytes, subfolders

HOUR_S = 3600


def test_contents_change_with_any_file_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "variables").mkdir()
    (tmp_path / "manifest.json").write_text("{}")
    before = contents(tmp_path)
    assert before == contents(tmp_path)
    (tmp_path / "variables" / "data").write_bytes(b"half")
    between = contents(tmp_path)
    assert between != before
    (tmp_path / "variables" / "data").write_bytes(b"all of it")
    assert contents(tmp_path) not in (before, between)


def test_contents_of_a_folder_that_is_gone_are_none(tmp_path: Path) -> None:
    assert contents(tmp_path / "gone") == frozenset()


def test_a_folder_is_abandoned_when_nothing_changed_in_it_for_a_day(tmp_path: Path) -> None:
    assert not is_abandoned(tmp_path / "gone")
    then = tmp_path.stat().st_mtime
    for hours, abandoned in ((23, False), (25, True)):
        os.utime(tmp_path, (then - hours * HOUR_S,) * 2)
        assert is_abandoned(tmp_path) is abandoned


def test_subfolders_are_those_that_can_be_entered_and_are_not_hidden(tmp_path: Path) -> None:
    for name in ("cups", ".staging-x"):
        (tmp_path / name).mkdir()
    (tmp_path / "notes.txt").write_text("a plain file")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "linked").symlink_to("cups")
    assert sorted(path.name for path in subfolders(tmp_path)) == ["cups", "linked"]
    assert subfolders(tmp_path / "notes.txt") == subfolders(tmp_path / "gone") == []


def test_size_is_that_of_all_that_lies_below(tmp_path: Path) -> None:
    (tmp_path / "variables").mkdir()
    (tmp_path / "variables" / "data").write_bytes(b"12345")
    (tmp_path / "manifest.json").write_bytes(b"{}")
    assert size_bytes(tmp_path) == 5 + 2 + (tmp_path / "variables").stat().st_size
    assert size_bytes(tmp_path / "gone") == 0
