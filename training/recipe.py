"""What makes an experiment: every value of a run, validated before any work starts."""

import importlib
import pkgutil
from pathlib import Path
from types import ModuleType
from typing import Annotated, Literal, Self, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from models.manifest import InputSpec, ModelName
from training import recipes

DatasetName = Literal["caltech101", "cifar10", "cifar100", "mnist"]


def architecture_names() -> list[str]:
    """All networks, by the file that holds them. Their package is not imported: that would load TensorFlow."""
    folder = Path(__file__).with_name("architectures")
    return sorted(path.stem for path in folder.glob("[a-z]*.py"))


def _known_architecture(name: str) -> str:
    if name not in architecture_names():
        raise ValueError(f"expected one of {', '.join(architecture_names())}")
    return name


ArchitectureName = Annotated[str, AfterValidator(_known_architecture)]

_ADAM_RATE = 1e-3
ANY_LENGTH = ("constant", "plateau")  # schedules in which no epoch depends on how many there are to be


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
    optimizer: Literal["adam", "muon"] = "adam"
    learning_rate: float = Field(gt=0.0, description="at the start")
    schedule: Literal["constant", "cosine", "linear", "plateau"] = Field(
        default="constant",
        description="cosine and linear end at 0; plateau halves where the validation accuracy stays for three epochs",
    )
    label_smoothing: float = Field(default=0.0, ge=0.0, lt=1.0)
    augmentation: Literal["none", "shift_rotate_zoom", "flip_crop"] = "none"
    shift: int = Field(default=2, ge=0, description="most pixels in each direction, of flip_crop")
    cutout: int = Field(default=0, ge=0, description="side of the square that is greyed out, in pixels")
    small_epochs: int = Field(
        default=0, ge=0, description="the first ones see pictures of three quarters of the size, at half of the cost"
    )
    views: Literal[1, 6] = Field(default=1, description="test-time augmentation, inside the exported graph")
    mixed_precision: bool = Field(default=False, description="compute in bfloat16 where the processor has it")
    validation_size: int = Field(default=1000, ge=1)
    calibration_size: int = Field(default=2000, ge=1)
    decision_size: int = Field(default=3000, ge=1)
    seed: int = Field(default=0, ge=0, lt=2**31)

    @model_validator(mode="after")
    def _cutout_fits(self) -> Self:
        if self.cutout > min(self.input.height, self.input.width):
            raise ValueError(f"cutout of {self.cutout} pixels is larger than the picture")
        return self

    @model_validator(mode="after")
    def _small_pictures_fit(self) -> Self:
        if self.small_epochs and not self.architecture.startswith("airbench"):
            raise ValueError(f"{self.architecture} takes pictures of one size, small_epochs has to be 0")
        return self


class Transfer(BaseModel):
    """An experiment that starts from a backbone with ImageNet weights and gives it a new head.

    The head is fitted on frozen embeddings; with `epochs`, the upper half of the backbone is trained after that.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: ModelName = Field(description="the name under which versions are published")
    description: str = Field(description="one line for the manifest")
    dataset: Literal["caltech101", "photos"] = "photos"
    exclude: tuple[str, ...] = Field(default=(), description="folders that are no classes")
    backbone: Literal["efficientnet_lite0", "resnet34", "resnet50"] = "efficientnet_lite0"
    input: InputSpec = InputSpec(height=224, width=224, resize="stretch")
    epochs: int = Field(default=0, ge=0, description="of fine-tuning; 0 leaves the backbone frozen")
    small_epochs: int = Field(
        default=0, ge=0, description="the first ones see crops of three quarters of the size, at half of the cost"
    )
    batch_size: int = Field(default=32, ge=1)
    learning_rate: float = Field(default=1e-3, gt=0.0, description="of the head, at the top of the cycle")
    held_out: float = Field(default=0.15, gt=0.0, lt=0.5, description="share that calibrates, with fine-tuning")
    seed: int = Field(default=0, ge=0, lt=2**31)


AnyRecipe = Recipe | Transfer
AnyRecipeT = TypeVar("AnyRecipeT", bound=BaseModel)


def names() -> list[str]:
    """All recipes, by the file that holds them: `cifar10_fast.py` is `cifar10-fast`."""
    return sorted(module.name.replace("_", "-") for module in pkgutil.iter_modules(recipes.__path__))


def load(name: str) -> AnyRecipe:
    """The recipe of that name. Raises `RecipeError`."""
    recipe = getattr(_module(name), "RECIPE", None)
    if not isinstance(recipe, AnyRecipe):
        raise RecipeError(f"RECIPE of '{name}' is no Recipe")
    return recipe


def card(name: str) -> str:
    """The recipe's experiment card. Raises `RecipeError`."""
    return (_module(name).__doc__ or "").strip()


def original(name: str) -> str | None:
    """The accuracy that was reported for the model which the recipe reproduces, if it does. Raises `RecipeError`."""
    figure = getattr(_module(name), "ORIGINAL", None)
    return None if figure is None else str(figure)


def changed(recipe: AnyRecipeT, changes: dict[str, object]) -> AnyRecipeT:
    """The recipe with some values replaced. Raises `RecipeError` for values it does not have or out of range."""
    if unknown := sorted(changes.keys() - type(recipe).model_fields.keys()):
        raise RecipeError(f"this recipe has no {unknown[0]}; it has {', '.join(type(recipe).model_fields)}")
    try:
        return type(recipe).model_validate({**recipe.model_dump(), **changes})
    except ValidationError as error:
        raise RecipeError(_first_error(error)) from error


def with_architecture(recipe: AnyRecipe, name: str) -> AnyRecipe:
    """The recipe for another network, under a name of its own: what is live under the recipe's stays.

    Muon's learning rates and smaller pictures are for airbench networks, and left out with others. Of a `Transfer` it
    is the backbone that is replaced. Raises `RecipeError`.
    """
    changes: dict[str, object] = {"model": f"{recipe.model}-{name}".replace("_", "-")}
    if isinstance(recipe, Transfer):
        return changed(changed(recipe, {"backbone": name}), changes)
    others: dict[str, object] = {"architecture": name}
    if not name.startswith("airbench"):
        others["small_epochs"] = 0
        if recipe.optimizer == "muon":
            others.update(optimizer="adam", learning_rate=_ADAM_RATE)
    return changed(changed(recipe, others), changes)


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
