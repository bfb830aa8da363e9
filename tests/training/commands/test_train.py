"""What `run` starts, with which values, and what it says of its end."""

import importlib.machinery
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import keras
import pytest

from models.manifest import Manifest
from models.repository import ModelRepository
from tests.training.commands.conftest import write_mnist
from training import export, recipe
from training import run as training_run
from training.__main__ import main
from training.commands import train


def test_a_run_ends_with_what_was_published_and_where_its_report_lies(published: SimpleNamespace) -> None:
    *_, last, report = published.done.stdout.splitlines()

    (folder,) = (published.runs / "mnist").iterdir()
    assert report == f"report: {folder / 'report.html'}"
    assert {"report.html", "history.csv", "recipe.json"} <= {path.name for path in folder.iterdir()}
    assert last.startswith(f"published mnist version 1 in {published.models / 'mnist' / '1'}: accuracy ")
    assert last.endswith("n = 200 (MNIST from mnist.npz, test)")
    # and keeps the noise of TensorFlow to itself
    assert published.done.stderr == ""
    repository = ModelRepository(published.models)
    provenance = repository.read(repository.find("mnist")).provenance
    assert (provenance.recipe, provenance.seed, provenance.settings["epochs"]) == ("mnist", 5, 1)


def test_too_few_pictures_to_hold_out_are_noticed_before_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_mnist(tmp_path / "mnist.npz", 50)

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
    data = write_mnist(tmp_path / "mnist.npz", 50)

    place = ["--models", str(tmp_path / "models")]
    assert main([*place, "run", "mnist", "--data", str(data), "--runs", str(tmp_path / "runs")]) == code
    output = capsys.readouterr()
    assert (output.out, output.err) == ("", message)
    assert not (tmp_path / "models").exists()


class _Started:
    """`training run mnist` up to where training would begin, and what it begins with."""

    def __init__(self, folder: Path, minute: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self._minute, self.calls = folder, minute, list[tuple[Any, ...]]()
        self._data = write_mnist(folder / "mnist.npz", 50)
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


def test_what_suits_the_network_of_a_recipe_alone_is_left_out_with_another(
    started: _Started, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = recipe.changed(recipe.load("mnist-fast"), {"small_epochs": 1, "model": "m"})
    monkeypatch.setattr(recipe, "load", lambda _: chosen)

    assert started("--architecture", "airbench_wide") == started("--architecture", "traut") == 0

    (_, wide, *_), (_, traut, *_) = started.calls
    kept = ("muon", chosen.learning_rate, 1)
    assert (wide.model, wide.optimizer, wide.learning_rate, wide.small_epochs) == ("m-airbench-wide", *kept)
    assert (traut.model, traut.optimizer, traut.learning_rate, traut.small_epochs) == ("m-traut", "adam", 1e-3, 0)
    told = [line for line in capsys.readouterr().out.splitlines() if "Adam" in line]
    assert told == ["Muon's rates are those of airbench networks, so traut is trained with Adam"]


def test_another_architecture_of_transfer_learning_is_another_backbone(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = recipe.with_architecture(recipe.load("caltech101"), "resnet50")

    assert isinstance(asked, recipe.Transfer)
    assert (asked.model, asked.backbone, asked.epochs) == ("caltech101-resnet50", "resnet50", 8)


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


def test_fine_tuning_sees_whole_photos_in_its_last_epoch_alone_unless_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr(train, "_transfer", lambda _, recipe, *__: asked.append((recipe.epochs, recipe.small_epochs)))

    asking = ["", "--epochs=0", "--unfreeze", "--epochs=2", "--unfreeze --epochs=1", "--unfreeze --small-epochs=0"]
    for options in asking:
        assert main(["photos", str(tmp_path), "--name", "any", *options.split()]) == 0

    assert asked == [(0, 0), (0, 0), (6, 5), (2, 1), (1, 0), (6, 0)]
