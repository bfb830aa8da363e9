"""Lists for people to read."""

from types import SimpleNamespace

import pytest

from training import recipe, zoo
from training.__main__ import main


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
