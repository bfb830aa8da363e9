"""Recipes: found by file name, checked before any work starts, each with its card."""

from pathlib import Path

import pytest

from training import recipe, recipes
from training.recipe import RecipeError


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
    with pytest.raises(RecipeError, match=rf"no recipe '{name}'; there are cifar10, .*mnist"):
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
        ({"epoch": 3}, "epoch: Extra inputs are not permitted, got 3"),
    ],
)
def test_values_out_of_range_are_refused_by_name(change: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        recipe.changed(recipe.load("mnist"), change)
