"""Each file is there as a whole or not at all, locally and in object storage."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from app.batch.job import JobError
from app.batch.output import Output
from tests.app.batch.conftest import S3Server

ROOT = Path(__file__).parents[3]


@pytest.fixture(params=["local", "memory"])
def output(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Output]:
    opened = Output(str(tmp_path / "out") if request.param == "local" else f"memory://{request.node.name}")
    yield opened
    opened.close()


def test_what_is_written_is_read_back(output: Output) -> None:
    assert output.names() == set()
    for text in ("first", "second"):
        with output.writing("a") as path:
            path.write_text(text)
        with output.reading("a") as path:
            assert path.read_text() == text
    assert output.names() == {"a"}


def test_what_broke_off_leaves_nothing(output: Output) -> None:
    with pytest.raises(KeyError), output.writing("a") as path:
        path.write_text("half")
        raise KeyError
    assert output.names() == set()


def test_what_one_run_has_created_in_a_storage_no_other_one_replaces(request: pytest.FixtureRequest) -> None:
    output = Output(f"memory://{request.node.name}")
    for _ in range(2):  # as where the first answer was lost
        output.create("a", b"first")
    with pytest.raises(FileExistsError):
        output.create("a", b"second")
    with output.reading("a") as path:
        assert path.read_bytes() == b"first"


def test_of_two_that_create_at_the_same_moment_one_is_refused(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in s3.account.items():
        monkeypatch.setenv(name, value)
    fsspec.filesystem("s3").clear_instance_cache()  # or it would go on with another server's address
    url = f"{s3.bucket({})}/out"
    first, second = Output(url), Output(url)
    monkeypatch.setattr(fsspec.filesystem("s3"), "exists", lambda path: False)  # neither sees the other's
    first.create("a", b"first")
    with pytest.raises(FileExistsError):
        second.create("a", b"second")


def test_what_is_removed_is_gone(output: Output) -> None:
    with output.writing("a") as path:
        path.write_text("text")
    for _ in range(2):
        output.remove("a")
        assert output.names() == set()


def test_what_a_killed_run_left_aside_is_removed(tmp_path: Path) -> None:
    (tmp_path / ".aside-1").write_text("half")
    (tmp_path / "part-000000.parquet").write_text("whole")
    output = Output(str(tmp_path))
    assert output.names() == {"part-000000.parquet"}
    output.close()


def test_second_run_is_kept_out_until_the_first_has_ended(tmp_path: Path) -> None:
    script = "import sys; from app.batch.output import Output; held = Output(sys.argv[1]); print('held'); input()"
    command = [sys.executable, "-c", script, str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == b"held\n"
        with pytest.raises(JobError, match="another run is writing"):
            Output(str(tmp_path))
        first.kill()
    Output(str(tmp_path)).close()


def test_file_can_be_no_output(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("text")
    with pytest.raises(JobError, match="can't be a folder"):
        Output(str(tmp_path / "out"))
