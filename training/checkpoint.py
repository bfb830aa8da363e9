"""The state of a training run after its last whole epoch, in a folder of its own under `runs/`.

runs/<recipe>/<time>/recipe.json      the values it runs with
                     history.csv      the figures of each epoch
                     checkpoint.npz   weights and the optimiser's state
                     report.html      once it is published
"""

import json
import os
import zipfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import keras
import numpy as np

from training import history
from training.history import Epoch
from training.recipe import ANY_LENGTH, AnyRecipe, RecipeError

REPORT = "report.html"
_STATE = "checkpoint.npz"
_RECIPE = "recipe.json"
_EPOCHS_DONE = "epochs_done"
_DAMAGED = (ValueError, KeyError, EOFError, zipfile.BadZipFile)


class Checkpoint:
    """`folder` of one run. Files are written aside and renamed, so that a full disk or a kill leaves the last ones."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def save(self, classifier: keras.Model, epochs: tuple[Epoch, ...]) -> None:
        """Raises `OSError`."""
        aside = self.folder / f"{_STATE}.part"
        variables = [*classifier.variables, *classifier.optimizer.variables]
        arrays = {str(i): variable.numpy() for i, variable in enumerate(variables)}
        with aside.open("wb") as file:
            np.savez(file, allow_pickle=False, **arrays, **{_EPOCHS_DONE: np.int64(len(epochs))})
            file.flush()
            os.fsync(file.fileno())
        # The figures first: were it the other way round, a kill in between would leave an epoch without its figures
        figures_aside = self.folder / f"{history.FILE}.part"
        history.write(epochs, figures_aside)
        figures_aside.replace(self.folder / history.FILE)
        aside.replace(self.folder / _STATE)

    def restore(self, classifier: keras.Model) -> tuple[Epoch, ...]:
        """Set the variables to those of the last epoch and return the figures so far, none if it never ended.

        Raises `RecipeError` for the state of another network.
        """
        path = self.folder / _STATE
        if not path.exists():
            return ()
        variables = [*classifier.variables, *classifier.optimizer.variables]
        try:
            with path.open("rb") as stream, np.load(stream) as arrays:
                done = int(arrays[_EPOCHS_DONE])
                if len(arrays.files) != len(variables) + 1:
                    raise ValueError(f"{len(variables)} arrays expected, {len(arrays.files) - 1} found")
                for i, variable in enumerate(variables):
                    variable.assign(arrays[str(i)])
        except _DAMAGED as error:
            raise RecipeError(f"{path} is not the state of this recipe's network: {error}") from error
        return figures(self.folder)[:done]


def figures(folder: Path) -> tuple[Epoch, ...]:
    """The epochs of the run in `folder`. Raises `RecipeError`."""
    try:
        return history.read(folder / history.FILE)
    except (OSError, history.HistoryError) as error:
        raise RecipeError(f"{folder} holds no figures of a run: {error}") from error


def new(root: Path, name: str, recipe: AnyRecipe, devices: int = 1) -> Checkpoint:
    """A new folder for a run of the recipe called `name` on so many devices. Raises `OSError`."""
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
    folder = root / name / stamp
    again = 1
    while folder.exists():
        again += 1
        folder = root / name / f"{stamp}-{again}"
    folder.mkdir(parents=True)
    _write(_values(recipe, devices), folder)
    return Checkpoint(folder)


def latest(root: Path, name: str, recipe: AnyRecipe, devices: int = 1) -> Checkpoint:
    """The newest run of the recipe called `name` with its values, on so many devices.

    An older one has to have epochs left. Views may be others, and the number of epochs where none of them depends on
    it, which may be as few as have been: those of the run become the recipe's. Raises `RecipeError` if there is none.
    """
    runs = sorted((path.parent for path in (root / name).glob(f"*/{_RECIPE}")), reverse=True)
    if not runs:
        raise RecipeError(f"there is no run of {name} in {root / name} to resume; start one without --resume")
    now = _values(recipe, devices)
    for run in runs:
        before = _read(run)
        if not _different(before, now) and (run == runs[0] or _epochs_done(run) < now["epochs"]):
            break
    else:
        before = _read(runs[0])
        values = ", ".join(f"{key} {before.get(key)!r} instead of {now.get(key)!r}" for key in _different(before, now))
        raise RecipeError(f"the run in {runs[0]} has {values}; resume it with its own values")
    if before.get("epochs") != now["epochs"]:
        done = _epochs_done(run)
        if done > now["epochs"]:
            raise RecipeError(f"the run in {run} has {done} epochs already, more than {now['epochs']}")
    _write(now, run)
    return Checkpoint(run)


def _values(recipe: AnyRecipe, devices: int) -> dict[str, Any]:
    """On one device the recipe's, as it was before there could be more."""
    return recipe.model_dump(mode="json") | ({"devices": devices} if devices > 1 else {})


def _different(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    free = {"views", "epochs"} if now.get("schedule") in ANY_LENGTH else {"views"}  # views come after the last epoch
    keys = [*now, *(key for key in ("devices",) if key not in now)]
    return [key for key in keys if key not in free and before.get(key) != now.get(key)]


def _read(folder: Path) -> dict[str, Any]:
    path = folder / _RECIPE
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except ValueError as error:
        raise RecipeError(f"{path} is damaged: {error}; start a run without --resume") from error


def _epochs_done(folder: Path) -> int:
    """By the state, not by the figures, which are written before it. Raises `RecipeError`."""
    path = folder / _STATE
    try:
        with path.open("rb") as stream, np.load(stream) as arrays:
            return int(arrays[_EPOCHS_DONE])
    except FileNotFoundError:
        return 0
    except _DAMAGED as error:
        raise RecipeError(f"{path} is damaged: {error}; start a run without --resume") from error


def _write(values: dict[str, Any], folder: Path) -> None:
    aside = folder / f"{_RECIPE}.part"
    aside.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    aside.replace(folder / _RECIPE)
