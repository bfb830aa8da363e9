"""What lies in the folder of a run: it comes back bit by bit, and what was there before outlives a full disk."""

import errno
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

import keras
import numpy as np
import pytest

from training import checkpoint, history, recipe
from training.checkpoint import Checkpoint
from training.history import Epoch
from training.recipe import Recipe, RecipeError, Transfer

EPOCHS = tuple(Epoch(i, 1 / i, 0.1 + 0.2, 0.7, 1 / 3, 1e-3, 2.5) for i in (1, 2, 3))


def _recipe(**changes: Any) -> Recipe:
    values: dict[str, Any] = {
        "model": "m", "description": "", "dataset": "mnist", "architecture": "simple", "epochs": 2, "batch_size": 8,
        "input": {"height": 4, "width": 4}, "learning_rate": 0.05,
    }  # fmt: skip
    return Recipe.model_validate({**values, **changes})


def _network(units: int = 3, layers: int = 1) -> keras.Model:
    inside = [keras.layers.Dense(5) for _ in range(layers)]
    network = keras.Sequential(
        [
            keras.Input((4,)),
            *inside,
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.5),
            keras.layers.Dense(units),
        ]
    )
    network.compile(optimizer=keras.optimizers.Adam(0.01), loss="mse")
    network.optimizer.build(network.trainable_variables)
    return network


def _trained() -> keras.Model:
    keras.utils.set_random_seed(1)
    network = _network()
    random = np.random.default_rng(0)
    network.fit(random.normal(size=(8, 4)), random.normal(size=(8, 3)), batch_size=4, verbose=0)
    return network


def _values(network: keras.Model) -> list[np.ndarray]:
    variables = [*network.variables, *network.optimizer.variables]
    return [np.array(variable.numpy()) for variable in variables]


def test_weights_optimiser_random_state_and_figures_come_back_bit_by_bit(tmp_path: Path) -> None:
    network, other = _trained(), _network()
    Checkpoint(tmp_path).save(network, EPOCHS)

    assert Checkpoint(tmp_path).restore(other) == EPOCHS

    for ours, theirs in zip(_values(other), _values(network), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    # so they go on alike, dropout included
    batch = np.random.default_rng(2).normal(size=(8, 4)), np.random.default_rng(3).normal(size=(8, 3))
    for each in (network, other):
        each.fit(*batch, batch_size=4, shuffle=False, verbose=0)
    for ours, theirs in zip(_values(other), _values(network), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert int(other.optimizer.iterations) == 4


def test_a_run_whose_first_epoch_never_ended_begins_anew(tmp_path: Path) -> None:
    network = _network()
    before = _values(network)

    assert Checkpoint(tmp_path).restore(network) == ()
    for ours, theirs in zip(_values(network), before, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_disk_that_is_full_half_way_leaves_the_epoch_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network, other = _trained(), _network()
    Checkpoint(tmp_path).save(network, EPOCHS[:1])
    expected = _values(network)

    def full(file: Any, **_: Any) -> NoReturn:
        file.write(b"half of it")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(OSError, match="No space left"):
        Checkpoint(tmp_path).save(other, EPOCHS[:2])

    assert Checkpoint(tmp_path).restore(other) == EPOCHS[:1]
    for ours, theirs in zip(_values(other), expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("where", ["figures", "state"])
def test_a_kill_between_two_files_leaves_state_and_figures_of_the_same_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    network, other = _trained(), _network()
    Checkpoint(tmp_path).save(network, EPOCHS[:1])
    expected = _values(network)
    write, replace = history.write, Path.replace

    def half_written(epochs: Any, path: Path) -> NoReturn:
        write(epochs, path)
        path.write_bytes(path.read_bytes()[:-5])
        raise KeyboardInterrupt

    def killed_at_the_state(path: Path, target: Path) -> Path:
        if target.suffix == ".npz":
            raise KeyboardInterrupt
        return replace(path, target)

    if where == "figures":
        monkeypatch.setattr(history, "write", half_written)
    else:
        monkeypatch.setattr(Path, "replace", killed_at_the_state)
    with pytest.raises(KeyboardInterrupt):
        Checkpoint(tmp_path).save(other, EPOCHS[:2])

    assert Checkpoint(tmp_path).restore(other) == EPOCHS[:1]
    for ours, theirs in zip(_values(other), expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(
    ("other", "message"), [({"units": 4}, "shape"), ({"layers": 2}, "29 arrays expected, 23 found")]
)
def test_the_state_of_another_network_is_refused(tmp_path: Path, other: dict[str, int], message: str) -> None:
    Checkpoint(tmp_path).save(_trained(), EPOCHS)

    with pytest.raises(RecipeError, match=f"is not the state of this recipe's network: .*{message}"):
        Checkpoint(tmp_path).restore(_network(**other))


@pytest.mark.parametrize("damage", [lambda data: data[:-100], lambda data: b"nonsense" * 20])
def test_a_damaged_state_is_refused(tmp_path: Path, damage: Any) -> None:
    Checkpoint(tmp_path).save(_trained(), EPOCHS)
    path = tmp_path / "checkpoint.npz"
    path.write_bytes(damage(path.read_bytes()))

    with pytest.raises(RecipeError, match=r"checkpoint\.npz is not the state of this recipe's network"):
        Checkpoint(tmp_path).restore(_network())


def test_every_run_has_a_folder_of_its_own_with_its_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Clock(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            return datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)

    monkeypatch.setattr(checkpoint, "datetime", Clock)

    folders = [checkpoint.new(tmp_path / "runs", "quick", _recipe(seed=seed)).folder for seed in range(3)]

    assert [folder.name for folder in folders] == ["20260102T030405", "20260102T030405-2", "20260102T030405-3"]
    for seed, folder in enumerate(folders):
        assert Recipe.model_validate_json((folder / "recipe.json").read_text()) == _recipe(seed=seed)
    assert checkpoint.latest(tmp_path / "runs", "quick", _recipe(seed=2)).folder == folders[2]


def test_without_a_run_there_is_nothing_to_resume(tmp_path: Path) -> None:
    checkpoint.new(tmp_path, "other", _recipe())

    with pytest.raises(RecipeError, match=r"there is no run of quick in .*quick to resume; start one without"):
        checkpoint.latest(tmp_path, "quick", _recipe())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schedule": "cosine"}, "has schedule 'constant' instead of 'cosine'; resume it with its own values"),
        ({"seed": 1, "batch_size": 9}, "has batch_size 8 instead of 9, seed 0 instead of 1;"),
        ({"input": {"height": 5, "width": 4}}, "has input {'height': 4.* instead of {'height': 5"),
    ],
)
def test_a_run_goes_on_with_its_own_values_only(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    checkpoint.new(tmp_path, "quick", _recipe())

    with pytest.raises(RecipeError, match=message):
        checkpoint.latest(tmp_path, "quick", _recipe(**changes))


def test_views_may_change_since_they_are_taken_after_the_last_epoch(tmp_path: Path) -> None:
    folder = checkpoint.new(tmp_path, "quick", _recipe()).folder

    assert checkpoint.latest(tmp_path, "quick", _recipe(views=6)).folder == folder


def _epoch(number: int) -> Epoch:
    return Epoch(number, 1.0, 0.5, 1.0, 0.5, 0.001, 1.0)


@pytest.mark.parametrize("schedule", ["constant", "plateau"])
def test_a_run_may_be_cut_or_go_on_for_longer_where_no_epoch_depends_on_that(tmp_path: Path, schedule: str) -> None:
    run = checkpoint.new(tmp_path, "quick", _recipe(epochs=5, schedule=schedule))
    for epochs in (9, 1):
        changed = _recipe(epochs=epochs, schedule=schedule)
        assert checkpoint.latest(tmp_path, "quick", changed).folder == run.folder
        assert Recipe.model_validate_json((run.folder / "recipe.json").read_text()) == changed
    # The figures are written first: a kill between the two files leaves those of an epoch that is done again
    np.savez(run.folder / "checkpoint.npz", epochs_done=np.int64(2))
    history.write((_epoch(1), _epoch(2), _epoch(3)), run.folder / "history.csv")
    assert checkpoint.latest(tmp_path, "quick", _recipe(epochs=2, schedule=schedule)).folder == run.folder
    with pytest.raises(RecipeError, match="has 2 epochs already, more than 1"):
        checkpoint.latest(tmp_path, "quick", _recipe(epochs=1, schedule=schedule))
    for damaged in (b"PK", b""):
        (run.folder / "checkpoint.npz").write_bytes(damaged)
        with pytest.raises(RecipeError, match=r"checkpoint\.npz is damaged: "):
            checkpoint.latest(tmp_path, "quick", _recipe(epochs=1, schedule=schedule))


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_a_run_whose_rate_falls_to_its_end_has_the_length_it_began_with(tmp_path: Path, schedule: str) -> None:
    checkpoint.new(tmp_path, "quick", _recipe(epochs=5, schedule=schedule))
    with pytest.raises(RecipeError, match="has epochs 5 instead of 2; resume it with its own values"):
        checkpoint.latest(tmp_path, "quick", _recipe(epochs=2, schedule=schedule))


def test_transfer_learning_is_resumed_alike(tmp_path: Path) -> None:
    recipe = Transfer(model="pets", description="", exclude=("other",), epochs=3)
    folder = checkpoint.new(tmp_path, "photos-pets", recipe).folder

    assert checkpoint.latest(tmp_path, "photos-pets", recipe).folder == folder
    with pytest.raises(RecipeError, match="has epochs 3 instead of 4"):
        checkpoint.latest(tmp_path, "photos-pets", recipe.model_copy(update={"epochs": 4}))


def test_a_run_that_lacks_a_value_of_today_is_not_resumed(tmp_path: Path) -> None:
    path = checkpoint.new(tmp_path, "quick", _recipe()).folder / "recipe.json"
    values = json.loads(path.read_text())
    del values["cutout"]
    path.write_text(json.dumps(values))

    with pytest.raises(RecipeError, match="has cutout None instead of 0"):
        checkpoint.latest(tmp_path, "quick", _recipe())


def test_the_newest_run_of_the_same_values_goes_on(tmp_path: Path) -> None:
    first, second = (checkpoint.new(tmp_path, "quick", _recipe(learning_rate=rate)).folder for rate in (0.1, 0.2))
    assert first != second

    assert checkpoint.latest(tmp_path, "quick", _recipe(learning_rate=0.1)).folder == first
    assert checkpoint.latest(tmp_path, "quick", _recipe(learning_rate=0.2)).folder == second
    with pytest.raises(RecipeError, match=rf"the run in {second} has learning_rate 0\.2 instead of 0\.3; "):
        checkpoint.latest(tmp_path, "quick", _recipe(learning_rate=0.3))


def test_an_older_run_that_is_finished_does_not_go_on(tmp_path: Path) -> None:
    first = checkpoint.new(tmp_path, "quick", _recipe(epochs=2)).folder
    np.savez(first / "checkpoint.npz", epochs_done=np.int64(2))
    history.write((_epoch(1), _epoch(2)), first / "history.csv")
    assert checkpoint.latest(tmp_path, "quick", _recipe(epochs=2)).folder == first
    checkpoint.new(tmp_path, "quick", _recipe(epochs=2, batch_size=9))

    with pytest.raises(RecipeError, match="has batch_size 9 instead of 8; resume it with its own values"):
        checkpoint.latest(tmp_path, "quick", _recipe(epochs=2))


def test_a_run_goes_on_on_as_many_devices(tmp_path: Path) -> None:
    one = checkpoint.new(tmp_path, "quick", _recipe()).folder
    with pytest.raises(RecipeError, match="has devices None instead of 2; "):
        checkpoint.latest(tmp_path, "quick", _recipe(), devices=2)
    two = checkpoint.new(tmp_path, "quick", _recipe(), devices=2).folder

    assert checkpoint.latest(tmp_path, "quick", _recipe(), devices=2).folder == two
    assert checkpoint.latest(tmp_path, "quick", _recipe()).folder == one


def test_a_folder_without_figures_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=f"{tmp_path} holds no figures of a run: "):
        checkpoint.figures(tmp_path)


def test_a_damaged_recipe_of_a_run_is_told(tmp_path: Path) -> None:
    chosen = recipe.load("cifar10-fast")
    run = checkpoint.new(tmp_path, "cifar10-fast", chosen)
    (run.folder / "recipe.json").write_text("{", encoding="utf-8")

    with pytest.raises(recipe.RecipeError, match=r"recipe.json is damaged: .*start a run without --resume"):
        checkpoint.latest(tmp_path, "cifar10-fast", chosen)
