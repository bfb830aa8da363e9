"""The command itself: what it says without Ray, and the real process, which is killed, stopped and taken up again."""

import os
import re
import signal
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sized
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from app.batch import __main__ as command
from app.batch.command import Summary
from app.batch.job import JOB_FILE, write_pictures
from app.batch.output import Output
from models.repository import ModelRepository
from tests.app.batch.conftest import S3Server, publish_ir
from tests.app.conftest import png

ROOT = Path(__file__).parents[3]
PATIENCE_S = 120.0  # against hanging for ever; no promise about speed
GOOD, ROWS_PER_FILE = 200, 4
GOES_ON = "what is complete stays, and the same command goes on from there"
LARGE = (1000, 1000)  # so that decoding takes long enough to be stopped in the middle
BAD = {"cut.png": png(7)[:40], "text.jpg": b"no picture", "many.png": png(7, (2500, 1000))}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models, and pictures of 200 shades with a few bad files among them."""
    root = tmp_path_factory.mktemp("batch")
    publish_ir(root / "models")
    (root / "photos" / "a").mkdir(parents=True)
    for shade in range(GOOD):
        (root / "photos" / "a" / f"{shade:03}.png").write_bytes(png(shade, LARGE))
    for name, data in BAD.items():
        (root / "photos" / name).write_bytes(data)
    (root / "photos" / "notes.md").write_text("no picture, and not called one")
    return root


class Command:
    """The real process, on the made-up models."""

    def __init__(self, folder: Path, *arguments: str | Path, **environment: str) -> None:
        kept = {key: value for key, value in os.environ.items() if key in ("PATH", "HOME", "LANG", "LD_LIBRARY_PATH")}
        self._mark = uuid.uuid4().hex
        self._process = subprocess.Popen(
            [sys.executable, "-m", "app.batch", *map(str, arguments), "--rows-per-file", str(ROWS_PER_FILE)],
            cwd=ROOT,
            env={
                **kept,
                "MODEL_REPOSITORY": str(folder / "models"),
                "PRECISION": "f32",
                "MAX_IMAGE_PIXELS": "2400000",
                "DECODE_THREADS": "2",
                "LOG_LEVEL": "warning",
                "DEMITASSE_TEST": self._mark,
                **environment,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def until_parts(self, parts: Callable[[], Sized], count: int) -> None:
        """Wait until there are so many parts."""
        deadline = time.monotonic() + PATIENCE_S
        while len(parts()) < count and self._process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        if self._process.poll() is not None:
            pytest.fail(f"it has ended too early: {self.end()}")

    def end(self, number: signal.Signals | None = None) -> tuple[int, str]:
        """Exit code, and what was told, once the process has ended, after a signal."""
        if number is not None:
            self._process.send_signal(number)
        told, _ = self._process.communicate(timeout=PATIENCE_S)
        return self._process.returncode, told

    def left(self) -> list[int]:
        """Processes that it has started and that are still there."""
        found = []
        for path in Path("/proc").glob("[0-9]*/environ"):
            with suppress(OSError):
                if self._mark.encode() in path.read_bytes():
                    found.append(int(path.parent.name))
        return found

    def sweep(self) -> None:
        """Ray's own helpers outlive a killed driver by a minute."""
        for process in self.left():
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        self.end()


@pytest.fixture
def start(folder: Path) -> Iterator[Callable[..., Command]]:
    """Starts the command, and leaves nothing of it in the end."""
    with ExitStack() as started:

        def start_one(*arguments: str | Path, **environment: str) -> Command:
            one = Command(folder, *arguments, **environment)
            started.callback(one.sweep)
            return one

        yield start_one


def _parts(output: Path) -> dict[str, int]:
    """Of each complete part, when it was written (ns)."""
    return {path.name: path.stat().st_mtime_ns for path in output.glob("part-*.parquet")}


def test_job_goes_on_after_it_was_killed_or_stopped_or_its_storage_was_gone(
    folder: Path, tmp_path: Path, start: Callable[..., Command], s3: S3Server
) -> None:
    output, storage, total = tmp_path / "out.parquet", s3.storage(), GOOD + len(BAD)
    storage.mkdir("bucket")
    storage.put(str(folder / "photos"), "bucket/photos", recursive=True)
    there = partial(storage.glob, "bucket/out.parquet/part-*")
    local = (folder / "photos", "--output", output, "--top-k", "2")
    remote = ("s3://bucket/photos", "--output", "s3://bucket/out.parquet", "--top-k", "2", "--storage-patience-s", "1")

    killed, cut_off = start(*local), start(*remote, **s3.account)
    killed.until_parts(lambda: _parts(output), 3)
    killed.end(signal.SIGKILL)
    after_kill = _parts(output)
    cut_off.until_parts(there, 3)
    s3.stop()
    code, told = cut_off.end()
    assert code == 1
    assert re.fullmatch(rf"error: s3://bucket/\S+ can't be .*, tried for 1 s: .*; {GOES_ON}\n", told), told
    s3.start()
    before = set(there())

    again, stopped = start(*local), start(*remote, **s3.account)
    stopped.until_parts(there, len(before) + 3)
    assert stopped.end(signal.SIGINT) == (130, f"stopped; {GOES_ON}\n")
    assert stopped.left() == []
    code, told = again.end()
    complete = _parts(output)
    assert len(after_kill) < len(complete) == -(-total // ROWS_PER_FILE)
    assert complete.items() >= after_kill.items()  # nothing was written again
    left = total - ROWS_PER_FILE * len(after_kill)
    assert code == 0
    assert re.fullmatch(
        rf"{total} pictures, {left} of them in this run in [\d.]+ s, [\d.]+ a second\n"
        r"3 errors\n  too_many_pixels: 1\n  unreadable_image: 1\n  unsupported_media_type: 1\n",
        told,
    ), told

    rows = [row for name in sorted(complete) for row in pq.read_table(output / name).to_pylist()]
    assert [row["path"] for row in rows] == [*sorted(BAD), *(f"a/{shade:03}.png" for shade in range(GOOD))]
    of_path = {row["path"]: row for row in rows}
    for path in there():
        for row in pq.read_table(path, filesystem=storage).to_pylist():
            assert row == of_path[row["path"]]
    for shade, row in enumerate(rows[len(BAD) :]):
        bright = {one["label"]: one["confidence"] for one in row["predictions"]}["bright"]
        assert bright == pytest.approx(shade / 255, abs=1.01 / 255)  # resizing may round
        assert (row["error"], row["model"], row["version"]) == (None, "cups", 1)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["photos"], "--output"),
        (["photos", "--output", "out", "--top-k", "0"], "--top-k: expected 1 or more, got 0"),
        (["photos", "--output", "out", "--rows-per-file", "many"], "--rows-per-file: invalid"),
        (["photos", "--output", "out", "--rows-per-file", "1000001"], "expected at most 1,000,000, got 1,000,001"),
    ],
)
def test_wrong_usage_is_told_with_exit_code_2(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        command.main(arguments)
    assert stopped.value.code == 2
    assert said in capsys.readouterr().err


@contextmanager
def _signals_as_they_were() -> Iterator[None]:
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _refused(capsys: pytest.CaptureFixture[str], *arguments: str | Path, code: int = 1) -> str:
    with _signals_as_they_were():
        assert command.main([str(argument) for argument in arguments]) == code
    told = capsys.readouterr()
    assert told.out == ""
    return told.err


def test_what_cannot_be_done_is_told_before_ray_starts(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MODEL_REPOSITORY", str(folder / "models"))
    (tmp_path / "empty").mkdir()
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "mine.txt").write_text("text")
    out = tmp_path / "out"
    assert "empty holds no pictures" in _refused(capsys, tmp_path / "empty", "--output", out)
    assert "nothing is not there" in _refused(capsys, tmp_path / "nothing", "--output", out)
    assert "holds mine.txt" in _refused(capsys, folder / "photos", "--output", tmp_path / "taken")
    assert "no version cats" in _refused(capsys, folder / "photos", "--output", out, "--model", "cats")
    assert "no version cups/7" in _refused(capsys, folder / "photos", "--output", out, "--version", "7")
    assert "cups has 3 classes, got 4" in _refused(capsys, folder / "photos", "--output", out, "--top-k", "4")
    monkeypatch.setenv("MAX_IMAGE_PIXELS", "none")
    assert "MAX_IMAGE_PIXELS" in _refused(capsys, folder / "photos", "--output", out, code=2)


def test_run_that_begins_while_another_one_lists_its_pictures_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MODEL_REPOSITORY", str(folder / "models"))
    monkeypatch.setattr("app.batch.command.cluster", lambda *_: pytest.fail("it has not begun"))
    out = f"memory://{uuid.uuid4().hex}"

    def write_slowly(path: Path, pictures: Iterator[bytes], rows_per_part: int) -> int:
        Output(out).create(JOB_FILE, b"another run's")
        return write_pictures(path, pictures, rows_per_part)

    monkeypatch.setattr("app.batch.command.write_pictures", write_slowly)
    assert "another run has begun to write to memory://" in _refused(capsys, folder / "photos", "--output", out)
    assert Output(out).names() == {JOB_FILE}


def test_other_arguments_over_the_same_output_are_refused(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MODEL_REPOSITORY", str(folder / "models"))
    monkeypatch.setattr("app.batch.command.cluster", lambda *_: pytest.fail("Ray is not needed to refuse"))
    with pytest.raises(pytest.fail.Exception):
        _refused(capsys, folder / "photos", "--output", tmp_path / "out")  # which begins the job
    told = _refused(capsys, folder / "photos" / "a", "--output", tmp_path / "out", "--top-k", "3")
    assert re.search(r"input was \S+/photos and is \S+/photos/a; top_k was None and is 3", told)
    monkeypatch.setenv("MODEL_REPOSITORY", str(tmp_path / "models"))
    changed = publish_ir(tmp_path / "models")
    assert ModelRepository(tmp_path / "models").find("cups") == changed
    assert "cups version 1 was another one" in _refused(capsys, folder / "photos", "--output", tmp_path / "out")


@pytest.mark.parametrize(
    ("errors", "code"), [({}, 0), ({"not_found": 1}, 0), ({"not_found": 1, "too_many_pixels": 2}, 3)]
)
def test_exit_code_tells_whether_every_picture_failed(
    errors: dict[str, int], code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    summary = Summary(pictures=3, errors=Counter(errors), computed=3, seconds=2.0)
    monkeypatch.setattr("app.batch.command.run", lambda *_: summary)
    with _signals_as_they_were():
        assert command.main(["photos", "--output", "out"]) == code
    assert capsys.readouterr().out.startswith("3 pictures, 3 of them in this run in 2.0 s, 1.5 a second\n")


def test_missing_packages_are_told_with_their_extra(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "find_spec", lambda name: None if name == "ray" else object())
    told = _refused(capsys, "photos", "--output", "out")
    assert told == "error: ray is not installed; install the extra 'batch': pip install '.[batch]'\n"
