"""`python -m app keys`: what it prints, what it writes, and what it leaves as it was."""

import os
import stat
from pathlib import Path

import pytest

from app.keys import hashed, parse, read_file
from app.keys_command import run


def _new(capsys: pytest.CaptureFixture[str], name: str, path: Path) -> str:
    """The key that was printed."""
    capsys.readouterr()
    assert run(["new", name, "--file", str(path)], None) == 0
    return capsys.readouterr().out.removesuffix("\n")


def _error(capsys: pytest.CaptureFixture[str], *arguments: str, default: Path | None = None) -> str:
    capsys.readouterr()
    assert run(arguments, default) == 1
    told = capsys.readouterr()
    assert told.out == ""
    return told.err


def test_new_key_is_printed_alone_and_its_hash_is_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "keys"
    web = _new(capsys, "web", path)
    mobile = _new(capsys, "mobile", path)
    assert read_file(path) == {"web": hashed(web.encode()), "mobile": hashed(mobile.encode())}
    assert web not in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["keys"]


def test_without_a_file_the_hash_is_printed_for_the_environment(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["new", "web"], None) == 0
    key, line = capsys.readouterr().out.splitlines()
    assert parse([line]) == {"web": hashed(key.encode())}


@pytest.mark.parametrize("arguments", [["new", "web", "--file", "keys"], ["new", "web"], ["list", "--file", "keys"]])
def test_key_that_nobody_saw_is_not_kept(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    _new(capsys, "other", tmp_path / "keys")
    before = (tmp_path / "keys").read_bytes()
    with Path("/dev/full").open("w") as full:
        monkeypatch.setattr("sys.stdout", full)
        assert run(arguments, None) == 1
        assert full.closed  # or Python would complain once more in the end
    assert capsys.readouterr().err == "error: the output can't be written: No space left on device\n"
    assert (tmp_path / "keys").read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["keys"]


def test_key_is_not_kept_where_there_is_no_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdout", None)  # as Python has it after `>&-`
    assert run(["new", "web", "--file", str(tmp_path / "keys")], None) == 1
    assert capsys.readouterr().err == "error: the output can't be written: it is closed\n"
    assert list(tmp_path.iterdir()) == []


def test_list_prints_names_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "keys"
    for name in ("web", "mobile"):
        _new(capsys, name, path)
    assert run(["list"], path) == 0
    assert capsys.readouterr().out == "web\nmobile\n"


def test_remove_leaves_the_other_lines_as_they_were(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "keys"
    for name in ("web", "web2", "mobile"):
        _new(capsys, name, path)
    text = path.read_text() + "# the last one is for testers\n"
    path.write_text(text)
    assert run(["remove", "web", "--file", str(path)], None) == 0
    assert path.read_text().splitlines() == [line for line in text.splitlines() if not line.startswith("web:")]
    for name in ("web2", "mobile"):
        assert run(["remove", name], path) == 0
    assert read_file(path) == {}  # and not empty, which would be taken for half-written


def test_name_that_is_taken_or_unknown_is_refused_and_nothing_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "keys"
    _new(capsys, "web", path)
    before = path.read_text()
    assert "has a key named web; remove that, or take another name" in _error(capsys, "new", "web", default=path)
    assert "has no key of that name; it has: web" in _error(capsys, "remove", "mobile", default=path)
    assert "1 to 64 letters" in _error(capsys, "new", "web\nroot", default=path)
    assert path.read_text() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["keys"]


def test_file_that_is_broken_is_not_written_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "keys"
    path.write_text("somebody's notes\n")
    for arguments in (("new", "web"), ("remove", "web"), ("list",)):
        told = _error(capsys, *arguments, default=path)
        assert "line 1: expected NAME:HASH" in told
        assert "notes" not in told
    assert path.read_text() == "somebody's notes\n"


def test_one_command_writes_at_a_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "keys"
    (tmp_path / "keys.new").touch()
    assert "another command is writing; if none is, remove it" in _error(capsys, "new", "web", default=path)
    assert not path.exists()
    assert (tmp_path / "keys.new").exists()


def test_what_the_next_command_has_begun_to_write_is_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, replace = tmp_path / "keys", Path.replace

    def replace_and_begin(aside: Path, target: Path) -> None:
        replace(aside, target)
        aside.write_text("of the next one")

    monkeypatch.setattr(Path, "replace", replace_and_begin)
    _new(capsys, "web", path)
    assert (tmp_path / "keys.new").read_text() == "of the next one"


def test_file_behind_a_link_is_changed_and_the_link_stays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "there").mkdir()
    link = tmp_path / "keys"
    link.symlink_to(tmp_path / "there" / "keys")
    key = _new(capsys, "web", link)
    assert link.is_symlink()
    assert read_file(tmp_path / "there" / "keys") == {"web": hashed(key.encode())}


@pytest.mark.skipif(os.getuid() != 0, reason="only root gives files away")
def test_owner_of_the_file_stays_its_owner(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "keys"
    _new(capsys, "web", path)
    os.chown(path, 10001, 10002)
    _new(capsys, "mobile", path)
    assert (path.stat().st_uid, path.stat().st_gid) == (10001, 10002)


def test_what_cannot_be_done_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "expected --file FILE, or the setting API_KEYS_FILE" in _error(capsys, "list")
    assert "expected --file FILE" in _error(capsys, "remove", "web")
    assert "can't be written: No such file" in _error(capsys, "new", "web", "--file", str(tmp_path / "no" / "keys"))
    with pytest.raises(SystemExit) as stopped:
        run(["make"], None)
    assert stopped.value.code == 2
