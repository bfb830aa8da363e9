"""What a manifest says of the machine and the code that made a version."""

import platform
import subprocess
from pathlib import Path

import keras
import pytest

from training import provenance


def _repository(folder: Path) -> str:
    """A checkout with one commit; returns its hash."""
    (folder / "training").mkdir()
    (folder / "training" / "run.py").write_text("x = 1\n")
    (folder / "README.md").write_text("hello\n")
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    for command in (["init", "-q"], ["add", "."], [*identity, "commit", "-q", "-m", "one"]):
        subprocess.run(["git", *command], cwd=folder, check=True)
    done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def test_the_commit_is_marked_dirty_only_where_code_differs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "_ROOT", tmp_path)
    commit = _repository(tmp_path)
    assert provenance.git_commit() == commit

    (tmp_path / "README.md").write_text("other words\n")
    assert provenance.git_commit() == commit

    (tmp_path / "training" / "run.py").write_text("x = 2\n")
    assert provenance.git_commit() == f"{commit}-dirty"


def test_there_is_no_commit_outside_a_checkout_or_without_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "_ROOT", tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert provenance.git_commit() is None

    monkeypatch.setenv("PATH", str(tmp_path))
    assert provenance.git_commit() is None


def test_libraries_carry_the_versions_that_run() -> None:
    found = provenance.libraries()

    assert list(found) == ["python", "tensorflow", "keras", "numpy", "pillow", "openvino", "scipy", "scikit-learn"]
    assert (found["python"], found["keras"]) == (platform.python_version(), keras.__version__)
