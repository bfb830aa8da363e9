"""What makes an experiment: every value of a run, validated before any work starts."""

import importlib
import pkgutil
from types import ModuleType
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from models.manifest import InputSpec, ModelName
from training import recipes

ArchitectureName = Literal["mnist_cnn", "traut"]
DatasetName = Literal["cifar10", "mnist"]


class RecipeError(Exception):
    """No such recipe, or one with values that can't work."""


class Recipe(BaseModel):
    """One experiment. Sizes are numbers of examples; what the held-out parts leave over is trained on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: ModelName = Field(description="the name under which versions are published")
    description: str = Field(description="one line for the manifest")
    dataset: DatasetName
    architecture: ArchitectureName
    input: InputSpec
    epochs: int = Field(ge=1)
    batch_size: int = Field(ge=1)
    learning_rate: float = Field(gt=0.0, description="Adam's, at the start")
    schedule: Literal["constant", "cosine"] = "constant"
    augmentation: Literal["none", "shift_rotate_zoom"] = "none"
    mixed_precision: bool = Field(default=False, description="compute in bfloat16 where the processor has it")
    validation_size: int = Field(default=1000, ge=1)
    calibration_size: int = Field(default=2000, ge=1)
    decision_size: int = Field(default=3000, ge=1)
    seed: int = Field(default=0, ge=0, lt=2**31)


def names() -> list[str]:
    """All recipes, by the file that holds them: `cifar10_fast.py` is `cifar10-fast`."""
    return sorted(module.name.replace("_", "-") for module in pkgutil.iter_modules(recipes.__path__))


def load(name: str) -> Recipe:
    """The recipe of that name. Raises `RecipeError`."""
    recipe = getattr(_module(name), "RECIPE", None)
    if not isinstance(recipe, Recipe):
        raise RecipeError(f"RECIPE of '{name}' is no Recipe")
    return recipe


def card(name: str) -> str:
    """The recipe's experiment card. Raises `RecipeError`."""
    return (_module(name).__doc__ or "").strip()


def changed(recipe: Recipe, changes: dict[str, object]) -> Recipe:
    """The recipe with some values replaced. Raises `RecipeError` for values out of range."""
    try:
        return Recipe.model_validate({**recipe.model_dump(), **changes})
    except ValidationError as error:
        raise RecipeError(_first_error(error)) from error


def _module(name: str) -> ModuleType:
    if name not in names():
        raise RecipeError(f"no recipe '{name}'; there are {', '.join(names())}")
    try:
        return importlib.import_module(f"{recipes.__name__}.{name.replace('-', '_')}")
    except ValidationError as error:
        raise RecipeError(f"recipe '{name}', {_first_error(error)}") from error


def _first_error(error: ValidationError) -> str:
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}, got {first['input']!r}"
