"""What `index` refuses, before anything is computed."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from training.__main__ import main


def _run(minute: SimpleNamespace, *arguments: str | Path) -> int:
    return main(["--models", str(minute.repository.root), "index", *map(str, arguments)])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nobody", "DIR", "--name", "x"], "no version nobody in"),
        (["minute/2", "DIR", "--name", "x"], "no version minute/2 in"),
        (["minute/1", "DIR", "--version", "2", "--name", "x"], "expected NAME or NAME/VERSION"),
        (["minute", "DIR", "--name", "../x"], "can't be the name of an index"),
        (["minute", "--name", "x"], "expected a folder of pictures or --dataset"),
        (["minute", "DIR", "--dataset", "mnist", "--name", "x"], "expected a folder of pictures or --dataset"),
        (["minute", "DIR", "--name", "x", "--bits", "64"], "kind exact has no parameter bits"),
        (["minute", "DIR", "--name", "x", "--kind", "lsh", "--bits", "1"], "bits is 1, expected 8 to 8192"),
        (["minute", "DIR/none", "--name", "x"], "there is no folder"),
        (["minute", "DIR", "--name", "x"], "there are no photos in"),
        (["minute", "--dataset", "mnits", "--name", "x"], "no data set 'mnits'"),
    ],
)
def test_what_can_not_be_done_is_said_in_one_line(
    minute: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert _run(minute, *(argument.replace("DIR", str(tmp_path)) for argument in arguments)) == 1
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1


def test_without_faiss_nothing_is_computed_in_vain(
    minute: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    assert _run(minute, "minute", tmp_path, "--name", "x") == 1
    assert capsys.readouterr().err == "error: FAISS is not installed; install the extra 'index'\n"
