"""The command line: what it says, where it says it, and with which exit code."""

import importlib.machinery
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import keras
import numpy as np
import pytest

from models.manifest import Manifest
from models.repository import ModelRepository
from training import export, history, recipe, zoo
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
    models, runs = folder / "models", folder / "runs"
    done = _command("--models", models, "run", "mnist", "--data", data, "--epochs=1", "--seed=5", "--runs", runs)
    assert done.returncode == 0, done.stderr
    return SimpleNamespace(data=data, models=models, runs=runs, done=done)


def _manifest(models: Path) -> Manifest:
    repository = ModelRepository(models)
    return repository.read(repository.find("mnist"))


def test_a_run_ends_with_what_was_published_and_where_its_report_lies(published: SimpleNamespace) -> None:
    *_, last, report = published.done.stdout.splitlines()

    (folder,) = (published.runs / "mnist").iterdir()
    assert report == f"report: {folder / 'report.html'}"
    assert {"report.html", "history.csv", "recipe.json"} <= {path.name for path in folder.iterdir()}
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

    *recipes, version = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in recipes] == recipe.names()
    width = max(map(len, recipe.names()))
    for line, name in zip(recipes, recipe.names(), strict=True):
        assert line == f"{name:<{width}}  {recipe.card(name).splitlines()[0]}"
    assert version == f"{'minute/1':<{width}}  published in {minute.folder.path}"


def test_list_prints_networks_in_columns(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [zoo.Row("simple", 32, 32, 10, 122570, 4548608), zoo.Row("vgg16", 224, 224, 1000, 138357544, 15470264320)]
    monkeypatch.setattr(zoo, "table", lambda: rows)

    assert main(["list", "--architectures"]) == 0

    assert capsys.readouterr().out.splitlines() == [
        "network  height  width  classes   parameters   multiply-adds",
        "simple       32     32       10      122,570       4,548,608",
        "vgg16       224    224    1,000  138,357,544  15,470,264,320",
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "mnits"], "no recipe 'mnits'; there are caltech101, "),
        (["run", "mnist", "--epochs", "0"], "epochs: Input should be greater than or equal to 1, got 0"),
        (["run", "mnist", "--seed", "-1"], "seed: Input should be greater than or equal to 0, got -1"),
        (["run", "mnist", "--data", "/nowhere"], "there is no file mnist.npz at /nowhere"),
        (["run", "mnist", "--architecture", "ResNet"], "architecture: Value error, expected one of airbench, "),
        (["run", "mnist", "--weights", "x.npz"], "mnist starts from random weights; leave --weights out"),
        (["run", "caltech101", "--views", "6"], "this recipe has no views; it has model, description, dataset, "),
        (["run", "caltech101", "--architecture", "vgg16"], "this recipe has no architecture; it has model, "),
        (["run", "caltech101", "--strategy", "mirrored"], "caltech101 trains on one device; leave --strategy out"),
        (["run", "caltech101", "--data", "/nowhere"], "caltech101.tar is missing: neither the file nor a folder with "),
        (["photos", "/nowhere", "--name", "Pets"], "model: String should match pattern "),
        (["photos", "/nowhere", "--name", "pets", "--batch-size", "9"], "--batch-size is one of fine-tuning: give "),
        (["photos", "/nowhere", "--name", "pets", "--backbone", "vgg16"], "backbone: Input should be 'efficientnet_"),
        (["photos", "/nowhere", "--name", "pets"], "there is no folder /nowhere; expected one that holds a folder of "),
        (["compare", "/nowhere"], "/nowhere holds no figures of a run: "),
        (["evaluate", "cat"], "no version cat in "),
        (["evaluate", "minute/7"], "no version minute/7 in "),
        (["evaluate", "minute/latest"], "expected NAME or NAME/VERSION with a whole number, got 'minute/latest'"),
        (["evaluate", "minute", "--photos", "/nowhere"], "/nowhere holds no pictures in folders named after classes"),
        (
            ["evaluate", "minute"],
            "minute was published with quarters, made up, which is no data set known here; "
            "give pictures to measure it on with --photos FOLDER\n",
        ),
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

    place = ["--models", str(tmp_path / "models")]
    assert main([*place, "run", "mnist", "--data", str(data), "--runs", str(tmp_path / "runs")]) == 1
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

    place = ["--models", str(tmp_path / "models")]
    assert main([*place, "run", "mnist", "--data", str(data), "--runs", str(tmp_path / "runs")]) == code
    output = capsys.readouterr()
    assert (output.out, output.err) == ("", message)
    assert not (tmp_path / "models").exists()


class _Started:
    """`training run mnist` up to where training would begin, and what it begins with."""

    def __init__(self, folder: Path, minute: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self._minute, self.calls = folder, minute, list[tuple[Any, ...]]()
        self._data = _write_mnist(folder / "mnist.npz", 50)
        monkeypatch.setattr(training_run, "run", self._run)

    def _run(self, *arguments: Any) -> tuple[Any, Manifest]:
        self.calls.append(arguments)
        return self._minute.folder, self._minute.manifest

    def __call__(self, *options: str) -> int:
        place = ["--models", str(self.folder / "models")]
        return main([*place, "run", "mnist", "--data", str(self._data), "--runs", str(self.folder / "runs"), *options])


@pytest.fixture
def started(tmp_path: Path, minute: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> _Started:
    return _Started(tmp_path, minute, monkeypatch)


def test_a_run_is_resumed_in_its_folder_with_its_own_values_only(
    started: _Started, capsys: pytest.CaptureFixture[str]
) -> None:
    assert started("--resume") == 1
    output = capsys.readouterr()
    assert output.err.startswith("error: there is no run of mnist in ")
    assert output.err.endswith(" to resume; start one without --resume\n")
    assert output.err.count("\n") == 1

    assert started("--epochs", "3") == started("--epochs", "3") == started("--epochs", "3", "--resume") == 0
    first, second, resumed = (call[4].folder for call in started.calls)
    assert first != second
    assert resumed == second
    assert [call[1].epochs for call in started.calls] == [3, 3, 3]

    assert started("--epochs", "4", "--resume") == 1
    assert " has epochs 3 instead of 4; resume it with its own values" in capsys.readouterr().err


def test_another_architecture_is_published_under_a_name_of_its_own(started: _Started) -> None:
    assert started("--architecture", "traut_shallow", "--learning-rate", "0.5") == 0

    ((name, chosen, *_),) = started.calls
    assert (name, chosen.model, chosen.architecture) == ("mnist", "mnist-traut-shallow", "traut_shallow")
    assert (chosen.learning_rate, chosen.batch_size) == (0.5, recipe.load("mnist").batch_size)


def test_by_default_one_device_trains_and_nobody_listens(started: _Started) -> None:
    assert started() == 0

    *_, strategy, callbacks = started.calls[0]
    assert (type(strategy).__name__, callbacks) == ("_DefaultDistributionStrategy", [])


def test_all_devices_train_where_that_is_wanted(started: _Started) -> None:
    assert started("--strategy", "mirrored") == 0

    *_, strategy, _ = started.calls[0]
    assert (type(strategy).__name__, strategy.num_replicas_in_sync) == ("MirroredStrategy", 1)


def test_tensorboard_writes_beside_the_report_or_is_asked_for(
    started: _Started, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    assert started("--tensorboard") == 1
    assert capsys.readouterr().err.startswith("error: TensorBoard is not installed; install the package tensorboard")

    installed = ModuleType("tensorboard")
    installed.__spec__ = importlib.machinery.ModuleSpec("tensorboard", None)
    monkeypatch.setitem(sys.modules, "tensorboard", installed)
    assert started("--tensorboard") == 0
    *_, state, _, callbacks = started.calls[0]
    assert [type(callback) for callback in callbacks] == [keras.callbacks.TensorBoard]
    assert callbacks[0].log_dir == str(state.folder / "tensorboard")


def test_runs_are_compared_in_one_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, accuracy in (("a", 0.5), ("b", 0.75)):
        (tmp_path / name).mkdir()
        history.write([history.Epoch(1, 1.0, 0.5, 1.0, accuracy, 0.1, 2.0)], tmp_path / name / history.FILE)

    page = tmp_path / "page.html"
    assert main(["compare", str(tmp_path / "a"), str(tmp_path / "b"), "--output", str(page)]) == 0

    assert capsys.readouterr().out == f"comparison: {page}\n"
    assert str(tmp_path / "a") in page.read_text(encoding="utf-8")
    assert str(tmp_path / "b") in page.read_text(encoding="utf-8")
