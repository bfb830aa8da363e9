"""What README says is true: settings, routes, commands, figures."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from fastapi.routing import APIRoute

from app.main import create_app
from app.settings import Settings
from benchmarks import experiments, throughput
from models.manifest import Manifest
from models.repository import ModelRepository
from training import recipe
from training.__main__ import main as training_main

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def _section(title: str) -> str:
    return README.split(f"## {title}\n")[1].split("\n## ")[0]


def settings_table() -> list[str]:
    """The rows that README must hold, from the settings themselves."""
    rows = []
    for name, field in Settings.model_fields.items():
        default = field.default
        if name == "decode_threads":
            shown = "cores"
        elif isinstance(default, Path):
            shown = f"`{default.relative_to(ROOT)}`"
        elif isinstance(default, bool):
            shown = f"`{str(default).lower()}`"
        else:
            shown = "unset" if default is None else f"`{default:g}`" if isinstance(default, float) else f"`{default}`"
        rows.append(f"| `{name.upper()}` | {shown} | {field.description} |")
    return rows


def models_table() -> list[str]:
    """The rows that README must hold, from the manifests."""
    repository = ModelRepository(ROOT / "models")
    rows = []
    for folder in repository.versions():
        manifest = repository.read(folder)
        metrics = {metric.name: metric for metric in manifest.metrics}
        figures = "- | - | -"
        if "accuracy" in metrics:
            accuracy, error = metrics["accuracy"], metrics["ece_equal_width"]
            figures = (
                f"{accuracy.value:.2%} ({accuracy.low:.2%} to {accuracy.high:.2%}) | "
                f"{error.value:.2%} | {accuracy.dataset}, n = {accuracy.n:,}"
            )
        network = f"{manifest.architecture.name} | {manifest.architecture.parameters:,}"
        rows.append(f"| `{folder.name}` {folder.version} | {network} | {figures} |")
    return rows


def course_table() -> list[str]:
    """The rows that README must hold, from the recipes and the manifests of their runs."""
    rows = []
    for name in recipe.names():
        if (theirs := recipe.original(name)) is None:
            continue
        path = ROOT / "training" / "results" / f"{name}.json"
        if not path.exists():
            rows.append(f"| `{name}` | {theirs} | not yet run | - | - |")
            continue
        manifest = Manifest.model_validate_json(path.read_text(encoding="utf-8"))
        accuracy = next(metric for metric in manifest.metrics if metric.name == "accuracy")
        ours = f"{accuracy.value:.2%} ({accuracy.low:.2%} to {accuracy.high:.2%}), {accuracy.dataset}"
        epochs, minutes = manifest.provenance.settings["epochs"], manifest.provenance.wall_seconds / 60
        taken = f"{epochs} epochs, {minutes:.0f} min"
        rows.append(f"| `{name}` | {theirs} | {ours} | {manifest.architecture.parameters:,} | {taken} |")
    return rows


def _told_of_benchmarks(title: str) -> str:
    told = (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")
    return told.split(f"## {title}\n")[1].split("\n## ")[0]


def test_benchmark_figures_are_those_of_the_result_that_is_named() -> None:
    section = _told_of_benchmarks("What a run found")
    result, photos, small = _benchmarked(section)
    assert [line for line in _section("Under load").splitlines() if line.startswith("|")] == photos
    rows = [line for line in section.splitlines() if line.startswith("|")]
    tried = _result(section, 1)
    assert tried["machine"] == result["machine"]
    assert rows == [*small, *experiments.table(tried["experiments"])]
    large = result["throughput"]["large_photo_p50_ms"]
    assert f"{large['demitasse, OpenVINO']:.0f} ms, with the usual FastAPI {large['usual FastAPI']:.0f} ms" in section


@pytest.mark.parametrize(
    ("title", "flags"), [("On an AMD EPYC with AVX512-BF16", {"avx512_bf16"}), ("Without bfloat16", set())]
)
def test_benchmark_figures_of_other_machines_are_those_of_the_result_that_is_named(title: str, flags: set[str]) -> None:
    section = _told_of_benchmarks(title)
    result, photos, small = _benchmarked(section)
    assert {flag for flag in result["machine"]["flags"] if flag.endswith("_bf16")} == flags
    assert [line for line in section.splitlines() if line.startswith("|")] == [*photos, *small]
    large = result["throughput"]["large_photo_p50_ms"]
    assert f"{large['demitasse, OpenVINO']:.0f} ms, with the usual FastAPI {large['usual FastAPI']:.0f} ms" in section


def _benchmarked(section: str) -> tuple[dict[str, Any], list[str], list[str]]:
    """The result that the section names first, and its tables of photos and of small pictures."""
    result = _result(section, 0)
    photos, *small = (list(throughput.table(found)) for found in result["throughput"]["workloads"].values())
    return result, photos, [line for lines in small for line in lines]


def _result(section: str, place: int) -> dict[str, Any]:
    name = re.findall(r"`(results/\S+\.json)`", section)[place]
    result: dict[str, Any] = json.loads((ROOT / "benchmarks" / name).read_text(encoding="utf-8"))
    return result


def test_course_figures_are_those_of_their_runs() -> None:
    section = _section("Train and publish")
    assert [line for line in section.splitlines() if line.startswith("| `")] == course_table()


@pytest.mark.parametrize("name", ["caltech101-frozen", "caltech101-small-epochs", "cifar10-fast", "cifar10-best"])
def test_accuracies_that_are_told_are_those_of_their_runs(name: str) -> None:
    manifest = Manifest.model_validate_json((ROOT / "training" / "results" / f"{name}.json").read_text("utf-8"))
    accuracy = next(metric for metric in manifest.metrics if metric.name == "accuracy")
    value, low, high = (f"{100 * share:.2f}" for share in (accuracy.value, accuracy.low, accuracy.high))
    assert f"{value} % ({low} to {high})" in " ".join(_section("Train and publish").split())


def test_settings_table_is_that_of_the_code() -> None:
    assert [line for line in _section("Settings").splitlines() if line.startswith("| `")] == settings_table()


def test_model_figures_are_those_of_the_manifests() -> None:
    assert [line for line in _section("Models").splitlines() if line.startswith("| `")] == models_table()


def test_routes_are_those_of_the_service() -> None:
    app = create_app(Settings(), load_engine=lambda folder, manifest: pytest.fail("nothing is loaded here"))
    schema = app.openapi()["paths"]
    served = {f"{method.upper()} {path}" for path, methods in schema.items() for method in methods}
    told = set(re.findall(r"^\| `((?:GET|POST) [^`]+)` \|", README, re.MULTILINE))
    assert told == served | {"GET /", "GET /docs"}
    assert app.docs_url == "/docs"
    assert not any(isinstance(route, APIRoute) and route.include_in_schema is False for route in app.routes)


def test_errors_that_are_told_are_those_of_the_code() -> None:
    from app import errors

    told = {int(status) for status in re.findall(r"\b([45]\d\d)\b", _section("A request and its answer"))}
    known = {cls.status for cls in vars(errors).values() if isinstance(cls, type) and issubclass(cls, Exception)}
    assert told <= known


def test_sample_answer_has_the_keys_of_the_schema() -> None:
    from app.api.schemas import PredictBody

    block = _section("A request and its answer").split("```json\n")[1].split("```")[0]
    sample = json.loads(block)
    assert list(PredictBody.model_validate(sample).model_dump()) == list(sample)


def test_training_commands_are_understood(capsys: pytest.CaptureFixture[str]) -> None:
    told = re.findall(r"python -m training (\S+)", README)
    assert set(told) == {
        "list", "run", "photos", "compare", "evaluate", "index", "pointing", "import-imagenet", "export", "label",
        "publish",
    }  # fmt: skip
    for command in sorted(set(told)):
        with pytest.raises(SystemExit) as stopped:
            training_main([command, "--help"])
        assert stopped.value.code == 0
    for name in re.findall(r"training run (\S+)", README):
        assert name in recipe.names()
    assert "usage" in capsys.readouterr().out


def test_columns_that_are_told_are_those_of_the_rows() -> None:
    from app.batch.rows import schema

    told = _section("Millions of pictures").split("a row for each picture:")[1].split("A bad file")[0]
    assert set(re.findall(r"`([a-z_]+)`", told)) - {"code", "message"} == set(schema(ranked=True).names)


def test_make_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert set(re.findall(r"`?make ([a-z]+)", README)) - {"it"} <= targets


def test_files_that_are_named_exist() -> None:
    for name in re.findall(r"`((?:app|training|models|tests)/[\w/.]*)`|@(tests/\S+)", README):
        path = next(filter(None, name))
        assert (ROOT / path).exists(), path


def test_every_recipe_has_a_card() -> None:
    for name in recipe.names():
        card = recipe.card(name)
        assert f"python -m training run {name}" in card
        assert "expected" in card


def test_ci_runs_make_test_and_nothing_else() -> None:
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    commands = [line for line in script if line and not line.startswith(("#", "set ", "cd "))]
    assert commands == ["make test"]
