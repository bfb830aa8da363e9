"""The manifest says all or is refused."""

import json
import math

import pytest
from pydantic import ValidationError

from models.manifest import Calibration, InputSpec, Manifest, Metric

SHA = "0123456789abcdef" * 4
METRIC = {"name": "accuracy", "value": 0.9, "low": 0.88, "high": 0.92, "interval": "wilson", "n": 99, "dataset": "cups"}
FITTED = {"method": "temperature", "temperature": 1.5, "fitted_on": "cups", "n": 500}
ABSTENTION = {"threshold": 0.7, "target_risk": 0.01, "confidence_level": 0.95, "coverage": 0.8}


def document(**changes: object) -> dict[str, object]:
    """A manifest with every part filled in, as `json.loads` gives it."""
    return {
        "schema_version": 1,
        "name": "cups",
        "version": 3,
        "description": "cups and saucers",
        "created_at": "2026-03-01T12:00:00Z",
        "architecture": {"name": "traut", "parameters": 1234},
        "input": {"height": 224, "width": 192, "resize": "crop", "crop_fraction": 0.875, "interpolation": "bilinear"},
        "labels": [{"name": "cup", "id": "n03147509"}, {"name": "saucer", "id": None}],
        "calibration": {
            **FITTED,
            "before": [METRIC],
            "after": [METRIC],
            "reliability": [{"confidence": 0.93, "accuracy": 0.92, "n": 118}],
        },
        "decision": {
            "abstention": {**ABSTENTION, "n": 500, "dataset": "cups"},
            "conformal": {"score": "lac", "alpha": 0.1, "quantile": 0.6, "n": 500, "dataset": "cups"},
        },
        "metrics": [METRIC],
        "provenance": {
            "recipe": "cups",
            "settings": {"epochs": 3, "rates": [0.1, 0.01], "nested": {"on": True, "none": None}},
            "git_commit": "abc123",
            "seed": 7,
            "dataset": {"name": "cups", "source": "a cupboard", "splits": {"train": {"n": 9, "sha256": SHA}}},
            "pretrained": {"source": "elsewhere", "licence": "CC0-1.0", "sha256": SHA},
            "libraries": {"numpy": "2.4.0"},
            "device": "cpu",
            "wall_seconds": 1.25,
        },
        "golden_tolerance": {"f32": 0.0001, "bf16": 0.1},
        "files": {"saved_model.pb": SHA, "variables/variables.index": SHA},
        **changes,
    }


def test_a_manifest_survives_the_way_through_json() -> None:
    manifest = Manifest.model_validate(document())
    text = manifest.model_dump_json(indent=2)
    assert json.loads(text) == document()
    assert Manifest.model_validate_json(text) == manifest
    assert [label.name for label in manifest.labels] == ["cup", "saucer"]
    assert manifest.calibration.reliability[0].n == 118
    assert manifest.input == InputSpec(height=224, width=192, crop_fraction=0.875, interpolation="bilinear")


def test_unknown_fields_are_refused_at_every_depth() -> None:
    with pytest.raises(ValidationError, match="colour"):
        Manifest.model_validate(document(colour="red"))
    with pytest.raises(ValidationError, match=r"input\.colour"):
        Manifest.model_validate(document(input={"height": 2, "width": 2, "colour": "red"}))
    with pytest.raises(ValidationError, match=r"metrics\.0\.colour"):
        Manifest.model_validate(document(metrics=[{**METRIC, "colour": "red"}]))


@pytest.mark.parametrize("field", [name for name in document() if name != "schema_version"])
def test_every_field_is_needed(field: str) -> None:
    incomplete = document()
    del incomplete[field]
    with pytest.raises(ValidationError, match=field):
        Manifest.model_validate(incomplete)


def test_a_manifest_and_its_parts_can_not_be_changed() -> None:
    manifest = Manifest.model_validate(document())
    with pytest.raises(ValidationError, match="frozen"):
        manifest.version = 4
    with pytest.raises(ValidationError, match="frozen"):
        manifest.calibration.temperature = 2.0
    assert (manifest.version, manifest.calibration.temperature) == (3, 1.5)


@pytest.mark.parametrize("schema", [0, 2, "1.1", None])
def test_another_schema_version_is_refused(schema: object) -> None:
    with pytest.raises(ValidationError, match="schema_version"):
        Manifest.model_validate(document(schema_version=schema))


@pytest.mark.parametrize("name", ["", "Cups", "../cups", "cups/1", "-cups", ".cups", "cups ", "cups\n", "c" * 65])
def test_a_name_that_is_no_plain_folder_name_is_refused(name: str) -> None:
    with pytest.raises(ValidationError, match="name"):
        Manifest.model_validate(document(name=name))


@pytest.mark.parametrize("version", [0, -1, 1.5, "one"])
def test_a_version_is_a_positive_integer(version: object) -> None:
    with pytest.raises(ValidationError, match="version"):
        Manifest.model_validate(document(version=version))


OUTSIDE = ["../other/1/x", "variables/../../x", "/etc/passwd", "..", ".", "", "variables\\x", "C:\\x", "a\0b"]
RESPELT = ["manifest.json", "./manifest.json", "variables//x", "variables/"]


@pytest.mark.parametrize("path", OUTSIDE + RESPELT)
def test_a_path_that_leaves_the_folder_or_has_a_second_spelling_is_refused(path: str) -> None:
    with pytest.raises(ValidationError, match="no path of a file inside"):
        Manifest.model_validate(document(files={path: SHA}))


def test_only_the_manifest_of_the_folder_itself_has_no_checksum() -> None:
    files = {"assets/manifest.json": SHA, "a..b": SHA, "..c": SHA, "with space/é.bin": SHA}
    assert Manifest.model_validate(document(files=files)).files == files


@pytest.mark.parametrize("checksum", ["", "0" * 63, "0" * 65, "g" * 64, "A" * 64])
def test_a_checksum_is_64_lower_case_hexadecimal_digits(checksum: str) -> None:
    with pytest.raises(ValidationError, match="files"):
        Manifest.model_validate(document(files={"saved_model.pb": checksum}))


@pytest.mark.parametrize(
    "tolerance",
    [{"f32": 0.1}, {"bf16": 0.1}, {}, {"f32": 0.0, "bf16": 0.1}, {"f32": 0.1, "bf16": 1.0}, {"f32": -1, "bf16": 0.1}],
)
def test_a_tolerance_is_needed_for_every_precision(tolerance: dict[str, float]) -> None:
    with pytest.raises(ValidationError, match="golden_tolerance needs a value between 0 and 1 for"):
        Manifest.model_validate(document(golden_tolerance=tolerance))


def test_a_tolerance_of_an_unknown_precision_is_refused() -> None:
    with pytest.raises(ValidationError, match="int4"):
        Manifest.model_validate(document(golden_tolerance={"f32": 0.1, "bf16": 0.1, "int4": 0.1}))


@pytest.mark.parametrize(("low", "high"), [(0.91, 0.95), (0.8, 0.89), (0.95, 0.85)])
def test_an_interval_that_leaves_out_its_value_is_refused(low: float, high: float) -> None:
    with pytest.raises(ValidationError, match=r"leaves out its value 0\.9"):
        Metric.model_validate({**METRIC, "low": low, "high": high})


def test_an_interval_may_end_at_its_value() -> None:
    assert Metric.model_validate({**METRIC, "low": 0.9, "high": 0.9}).value == 0.9


def test_stretching_uses_the_whole_picture() -> None:
    assert InputSpec(height=2, width=2, resize="stretch").crop_fraction == 1.0
    with pytest.raises(ValidationError, match="crop_fraction must be 1 where resize is 'stretch'"):
        InputSpec(height=2, width=2, resize="stretch", crop_fraction=0.875)


@pytest.mark.parametrize("change", [{"height": 0}, {"width": 4097}, {"crop_fraction": 0.0}, {"crop_fraction": 1.01}])
def test_an_input_of_no_possible_size_is_refused(change: dict[str, float]) -> None:
    with pytest.raises(ValidationError, match=next(iter(change))):
        InputSpec.model_validate({"height": 224, "width": 224, **change})


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_none_are_refused(number: float) -> None:
    with pytest.raises(ValidationError, match="value"):
        Metric.model_validate({**METRIC, "value": number})
    with pytest.raises(ValidationError, match="temperature"):
        Calibration(method="temperature", temperature=number)
    with pytest.raises(ValidationError, match="golden_tolerance"):
        Manifest.model_validate(document(golden_tolerance={"f32": number, "bf16": 0.1}))
    with pytest.raises(ValidationError, match="value"):  # as json.loads would read it
        Manifest.model_validate(json.loads(json.dumps(document(metrics=[{**METRIC, "value": number}]))))


@pytest.mark.parametrize("change", [{"temperature": 1.5}, {"n": 10}])
def test_a_calibration_without_method_has_nothing_fitted(change: dict[str, float]) -> None:
    with pytest.raises(ValidationError, match="method 'none' has temperature 1 and no n"):
        Calibration.model_validate({"method": "none", **change})
    assert Calibration(method="none").temperature == 1.0


def test_one_label_is_no_classification() -> None:
    with pytest.raises(ValidationError, match="labels"):
        Manifest.model_validate(document(labels=[{"name": "cup"}]))


def test_fractions_lie_between_0_and_1() -> None:
    conformal = {"score": "lac", "alpha": 0.1, "quantile": 1.1, "n": 500, "dataset": "cups"}
    with pytest.raises(ValidationError, match="quantile"):
        Manifest.model_validate(document(decision={"abstention": None, "conformal": conformal}))


def test_a_manifest_from_before_reliability_diagrams_has_none() -> None:
    older = document(calibration={**FITTED, "before": [METRIC], "after": [METRIC]})
    assert Manifest.model_validate(older).calibration.reliability == ()


def test_a_fingerprint_tells_versions_of_one_number_apart() -> None:
    def fingerprint(graph: str, weights: str, description: str = "") -> str:
        files = {"saved_model.pb": graph, "variables/a": weights}
        return Manifest.model_validate(document(files=files, description=description)).fingerprint

    assert fingerprint(SHA, SHA, "first") == fingerprint(SHA, SHA, "second")
    assert len({fingerprint(SHA, SHA), fingerprint(SHA, SHA[::-1]), fingerprint(SHA[::-1], SHA)}) == 3
