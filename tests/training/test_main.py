"""The command line: what it says, where it says it, and with which exit code."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from models.manifest import Manifest
from models.repository import ModelRepository
from training import export
from training import run as training_run
from training.__main__ import main

ROOT = Path(__file__).parent.parent.parent


def _blobs(n: int, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Bright spots on black in one of ten places, uint8 [n, 28, 28]."""
    classes = random.integers(0, 10, n).astype(np.uint8)
    images = random.integers(0, 60, (n, 28, 28), dtype=np.uint8)
    for image, place in zip(images, classes, strict=True):
        image[4 + 12 * (place // 5) :, 1 + 5 * (place % 5) :][:8, :5] += 150
    return images, classes


def _write_mnist(path: Path, n: int) -> Path:
    random = np.random.default_rng(0)
    (x_train, y_train), (x_test, y_test) = _blobs(n, random), _blobs(200, random)
    np.savez(path, x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test)
    return path


def _command(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("TF_")}
    command = [sys.executable, "-m", "training", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, env=environment, check=False, capture_output=True, text=True)


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """The mnist recipe, run as people run it, on 6,400 made-up digits of which it holds out 6,000."""
    folder = tmp_path_factory.mktemp("main")
    data = _write_mnist(folder / "mnist.npz", 6400)
    done = _command("--models", folder / "models", "run", "mnist", "--data", data, "--epochs", "1", "--seed", "5")
    assert done.returncode == 0, done.stderr
    return SimpleNamespace(data=data, models=folder / "models", done=done)


def _manifest(models: Path) -> Manifest:
    repository = ModelRepository(models)
    return repository.read(repository.find("mnist"))


def test_a_run_ends_with_one_line_that_tells_what_was_published(published: SimpleNamespace) -> None:
    last = published.done.stdout.splitlines()[-1]

    assert last.startswith(f"published mnist version 1 in {published.models / 'mnist' / '1'}: accuracy ")
    assert last.endswith("n = 200 (MNIST from mnist.npz, test)")
    # and keeps the noise of TensorFlow to itself
    assert published.done.stderr == ""
    provenance = _manifest(published.models).provenance
    assert (provenance.recipe, provenance.seed, provenance.settings["epochs"]) == ("mnist", 5, 1)


def test_a_version_measured_again_has_the_figures_of_its_manifest(published: SimpleNamespace) -> None:
    done = _command("--models", published.models, "evaluate", "mnist/1", "--data", published.data)

    assert (done.returncode, done.stderr) == (0, "")
    found = [json.loads(line) for line in done.stdout.splitlines()]
    expected = [metric.model_dump() for metric in _manifest(published.models).metrics]
    assert [metric["name"] for metric in found] == [metric["name"] for metric in expected]
    assert found[0] == expected[0]
    assert found[0]["name"] == "accuracy"
    for ours, theirs in zip(found, expected, strict=True):
        assert ours["value"] == pytest.approx(theirs["value"], abs=0.006), ours["name"]
        assert ours["n"] == theirs["n"] or ours["name"] == "risk_at_threshold"


def test_list_prints_recipes_with_their_cards_and_versions(
    minute: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--models", str(minute.repository.root), "list"]) == 0

    lines = capsys.readouterr().out.splitlines()
    assert [line[:49] for line in lines[:-1]] == [
        "cifar10          CIFAR-10 with the course network",
        "mnist            Handwritten digits with a small ",
    ]
    assert lines[-1] == f"minute/1         published in {minute.folder.path}"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "mnits"], "no recipe 'mnits'; there are cifar10, mnist"),
        (["run", "mnist", "--epochs", "0"], "epochs: Input should be greater than or equal to 1, got 0"),
        (["run", "mnist", "--seed", "-1"], "seed: Input should be greater than or equal to 0, got -1"),
        (["run", "mnist", "--data", "/nowhere"], "there is no file mnist.npz at /nowhere"),
        (["evaluate", "cat"], "no version cat in "),
        (["evaluate", "minute/7"], "no version minute/7 in "),
        (["evaluate", "minute/latest"], "expected NAME or NAME/VERSION with a whole number, got 'minute/latest'"),
        (["evaluate", "minute", "--photos", "/nowhere"], "/nowhere holds no pictures in folders named after classes"),
        (["evaluate", "minute"], "no data set 'quarters'; there are cifar10, mnist"),
        (["import-imagenet", "--weights", "/nowhere.npz"], "/nowhere.npz can't be read as an .npz file"),
    ],
)
def test_a_mistake_is_answered_with_one_line_and_exit_code_1(
    minute: SimpleNamespace, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    code = main(["--models", str(minute.repository.root), *arguments])

    output = capsys.readouterr()
    assert (code, output.out) == (1, "")
    assert output.err.startswith(f"error: {message}")
    assert output.err.count("\n") == 1


def test_too_few_pictures_to_hold_out_are_noticed_before_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = _write_mnist(tmp_path / "mnist.npz", 50)

    assert main(["--models", str(tmp_path / "models"), "run", "mnist", "--data", str(data)]) == 1
    output = capsys.readouterr()
    assert output.err == "error: mnist has 50 training pictures, 6000 are to be held out\n"
    assert "Epoch" not in output.out
    assert not (tmp_path / "models").exists()


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (export.ExportError("the SavedModel differs"), 1, "error: the SavedModel differs\n"),
        (KeyboardInterrupt(), 130, "interrupted; nothing was published\n"),
    ],
)
def test_a_run_that_ends_early_publishes_nothing_and_says_why(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
    error: BaseException, code: int, message: str,
) -> None:  # fmt: skip
    def ends_early(*arguments: object) -> None:
        raise error

    monkeypatch.setattr(training_run, "run", ends_early)
    data = _write_mnist(tmp_path / "mnist.npz", 50)

    assert main(["--models", str(tmp_path / "models"), "run", "mnist", "--data", str(data)]) == code
    output = capsys.readouterr()
    assert (output.out, output.err) == ("", message)
    assert not (tmp_path / "models").exists()
