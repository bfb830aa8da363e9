"""Figures of a version, which are those of its manifest, and of runs side by side."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from models.repository import ModelRepository
from tests.training.commands.conftest import command
from training import history
from training.__main__ import main


def test_a_version_measured_again_has_the_figures_of_its_manifest(published: SimpleNamespace) -> None:
    done = command("--models", published.models, "evaluate", "mnist/1", "--data", published.data)

    assert (done.returncode, done.stderr) == (0, "")
    found = [json.loads(line) for line in done.stdout.splitlines()]
    repository = ModelRepository(published.models)
    expected = [metric.model_dump() for metric in repository.read(repository.find("mnist")).metrics]
    assert [metric["name"] for metric in found] == [metric["name"] for metric in expected]
    assert found[0] == expected[0]
    assert found[0]["name"] == "accuracy"
    for ours, theirs in zip(found, expected, strict=True):
        assert ours["value"] == pytest.approx(theirs["value"], abs=0.006), ours["name"]
        assert ours["n"] == theirs["n"] or ours["name"] == "risk_at_threshold"


def test_runs_are_compared_in_one_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, accuracy in (("a", 0.5), ("b", 0.75)):
        (tmp_path / name).mkdir()
        history.write([history.Epoch(1, 1.0, 0.5, 1.0, accuracy, 0.1, 2.0)], tmp_path / name / history.FILE)

    page = tmp_path / "page.html"
    assert main(["compare", str(tmp_path / "a"), str(tmp_path / "b"), "--output", str(page)]) == 0

    assert capsys.readouterr().out == f"comparison: {page}\n"
    assert str(tmp_path / "a") in page.read_text(encoding="utf-8")
    assert str(tmp_path / "b") in page.read_text(encoding="utf-8")
