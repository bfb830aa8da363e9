"""Recipes: found by file name, checked before any work starts, each with its card."""

from pathlib import Path

import pytest

from training import recipe, recipes
from training.recipe import Recipe, RecipeError, Transfer


@pytest.mark.parametrize("name", recipe.names())
def test_every_recipe_in_the_repository_has_a_card_with_its_command(name: str) -> None:
    card = recipe.card(name)

    assert recipe.load(name).description
    assert f"python -m training run {name}\n" in card
    assert [row for row in ("command ", "data ", "training ", "expected ") if f"\n{row}" not in card] == []


def test_an_underscore_in_a_file_name_is_a_hyphen_on_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = '"""Quick.\n\nMore."""\nfrom training.recipes.mnist import RECIPE\n'
    (tmp_path / "mnist_quick.py").write_text(text, encoding="utf-8")
    expected = recipe.load("mnist")
    monkeypatch.setattr(recipes, "__path__", [str(tmp_path)])

    assert recipe.names() == ["mnist-quick"]
    assert recipe.card("mnist-quick") == "Quick.\n\nMore."
    assert recipe.load("mnist-quick") == expected


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("wrong_value", "from training.recipe import Recipe\nRecipe(model='UPPER')", "recipe 'wrong-value', model: "),
        (
            "wrong_transfer",
            "from training.recipe import Transfer\nTransfer(model='m', description='', backbone='vgg16')",
            "recipe 'wrong-transfer', backbone: ",
        ),
        ("wrong_type", "RECIPE = {'epochs': 3}", "RECIPE of 'wrong-type' is no Recipe"),
        ("nothing", "", "RECIPE of 'nothing' is no Recipe"),
    ],
)
def test_a_recipe_file_that_can_not_work_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, text: str, message: str
) -> None:
    (tmp_path / f"{name}.py").write_text(text, encoding="utf-8")
    monkeypatch.setattr(recipes, "__path__", [str(tmp_path)])

    with pytest.raises(RecipeError, match=message):
        recipe.load(name.replace("_", "-"))


@pytest.mark.parametrize("name", ["cifar", "../recipe", ""])
def test_an_unknown_recipe_is_answered_with_those_that_exist(name: str) -> None:
    with pytest.raises(RecipeError, match=rf"no recipe '{name}'; there are .*cifar10-fast, .*mnist"):
        recipe.load(name)


def test_changed_values_replace_those_of_the_recipe_and_leave_it_as_it_was() -> None:
    before = recipe.load("mnist")

    after = recipe.changed(before, {"epochs": 1, "seed": 5})

    assert (after.epochs, after.seed, after.model, after.input) == (1, 5, "mnist", before.input)
    assert (before.epochs, before.seed) == (14, 0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 0}, "epochs: Input should be greater than or equal to 1, got 0"),
        ({"seed": -1}, "seed: Input should be greater than or equal to 0, got -1"),
        ({"seed": 2**31}, "seed: Input should be less than 2147483648"),
        ({"learning_rate": 0.0}, r"learning_rate: Input should be greater than 0, got 0\.0"),
        ({"architecture": "resnet"}, "architecture: .* got 'resnet'"),
        ({"model": "../elsewhere"}, "model: "),
        ({"input": {"height": 0, "width": 28}}, r"input\.height: "),
        ({"epoch": 3}, "this recipe has no epoch; it has model, "),
    ],
)
def test_values_out_of_range_are_refused_by_name(change: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        recipe.changed(recipe.load("mnist"), change)


@pytest.mark.parametrize("name", recipe.names())
def test_every_recipe_is_of_one_of_two_kinds_and_comes_back_from_json(name: str) -> None:
    found = recipe.load(name)

    assert isinstance(found, Recipe | Transfer)
    assert type(found).model_validate_json(found.model_dump_json()) == found


def test_a_recipe_that_starts_from_a_backbone_is_changed_alike() -> None:
    before = recipe.load("caltech101")

    after = recipe.changed(before, {"epochs": 0, "backbone": "resnet50"})

    assert isinstance(after, Transfer)
    assert (after.epochs, after.backbone, after.exclude) == (0, "resnet50", ("BACKGROUND_Google",))
    assert (before.epochs, before.backbone) == (8, "efficientnet_lite0")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"views": 6}, "this recipe has no views; it has model, .*backbone"),
        (
            {"backbone": "vgg16"},
            "backbone: Input should be 'efficientnet_lite0', 'resnet34' or 'resnet50', got 'vgg16'",
        ),
        ({"epochs": -1}, "epochs: Input should be greater than or equal to 0, got -1"),
        ({"held_out": 0.5}, r"held_out: Input should be less than 0\.5"),
        ({"dataset": "mnist"}, "dataset: Input should be 'caltech101' or 'photos'"),
    ],
)
def test_values_that_a_transfer_does_not_have_or_allow_are_refused_by_name(
    change: dict[str, object], message: str
) -> None:
    with pytest.raises(RecipeError, match=message):
        recipe.changed(recipe.load("caltech101"), change)


def test_the_figure_that_a_recipe_reproduces_is_text_or_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "course.py").write_text("ORIGINAL = '70 %'", encoding="utf-8")
    (tmp_path / "own.py").write_text("", encoding="utf-8")
    monkeypatch.setattr(recipes, "__path__", [str(tmp_path)])

    assert (recipe.original("course"), recipe.original("own")) == ("70 %", None)


def test_architectures_are_known_by_their_files_alone() -> None:
    names = recipe.architecture_names()

    assert names == sorted(names)
    assert {"airbench", "traut", "vgg16"} <= set(names)
    assert not any(name.startswith("_") for name in names)


def test_a_cutout_larger_than_the_picture_is_refused() -> None:
    with pytest.raises(recipe.RecipeError, match="cutout of 33 pixels is larger than the picture"):
        recipe.changed(recipe.load("cifar10-fast"), {"cutout": 33})


def test_small_pictures_are_for_networks_that_take_any_size() -> None:
    assert recipe.changed(recipe.load("cifar10-fast"), {"small_epochs": 3}).small_epochs == 3
    with pytest.raises(recipe.RecipeError, match="simple takes pictures of one size, small_epochs has to be 0"):
        recipe.changed(recipe.load("cifar10-simple"), {"small_epochs": 3})
