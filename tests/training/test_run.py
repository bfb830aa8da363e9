"""A whole run: what the manifest says is what happened."""

from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from scipy.special import log_softmax

from models.manifest import InputSpec, Metric
from models.repository import ModelRepository
from training import architectures, calibrate, checkpoint, evaluate, history, run, views
from training.splits import DataError, split


def _by_name(metrics: tuple[Metric, ...]) -> dict[str, Metric]:
    return {metric.name: metric for metric in metrics}


def test_the_manifest_tells_what_the_version_is_and_how_to_make_it_again(minute: SimpleNamespace) -> None:
    manifest, provenance = minute.manifest, minute.manifest.provenance

    assert manifest == minute.repository.read(minute.folder)
    assert (manifest.name, manifest.version, manifest.description) == ("minute", 1, "Which quarter is bright")
    assert (manifest.architecture.name, manifest.architecture.parameters) == ("traut", 690_820)
    assert (manifest.input, manifest.labels) == (minute.recipe.input, minute.dataset.labels)
    assert (provenance.recipe, provenance.seed) == ("minute-recipe", 3)
    assert provenance.settings == minute.recipe.model_dump(mode="json")
    assert provenance.libraries["keras"] == keras.__version__
    assert provenance.wall_seconds > 0


def test_the_manifest_records_every_split_and_no_picture_is_in_two_of_them(minute: SimpleNamespace) -> None:
    splits = split(minute.dataset, 20, 130, 400)
    record = minute.manifest.provenance.dataset

    assert record == splits.record(minute.dataset)
    sizes = {"train": 750, "validation": 20, "calibration": 130, "decision": 400, "test": 150}
    assert {name: part.n for name, part in record.splits.items()} == sizes
    pictures = [image.tobytes() for part in vars(splits).values() for image in part.images]
    assert len(pictures) == len(set(pictures)) == 1450


def test_calibration_and_decision_have_data_of_their_own_and_figures_come_from_test(minute: SimpleNamespace) -> None:
    manifest = minute.manifest
    calibration, conformal = manifest.calibration, manifest.decision.conformal

    assert (calibration.fitted_on, calibration.n) == ("quarters, made up, held out for calibration", 130)
    assert (conformal.dataset, conformal.n) == ("quarters, made up, held out for decisions", 400)
    for metric in (*manifest.metrics, *calibration.before, *calibration.after):
        assert metric.dataset == "quarters, made up, test"
        assert metric.n == 150 or (metric.name == "risk_at_threshold" and metric.n < 150)
        assert metric.low <= metric.value <= metric.high


def test_the_figures_of_the_manifest_are_those_of_the_published_files(minute: SimpleNamespace) -> None:
    test = minute.dataset.test
    probabilities = evaluate.predict(minute.folder.path, test.images)

    found = (
        *evaluate.figures(probabilities, test.classes, "quarters, made up, test"),
        *evaluate.decision_figures(probabilities, test.classes, minute.manifest.decision, "quarters, made up, test"),
    )

    assert [metric.name for metric in found] == [metric.name for metric in minute.manifest.metrics]
    for ours, theirs in zip(found, minute.manifest.metrics, strict=True):
        assert (ours.value, ours.n) == (pytest.approx(theirs.value, abs=1e-4), theirs.n), ours.name
    assert _by_name(found)["accuracy"].value > 0.5


def test_the_temperature_of_the_manifest_is_the_one_in_the_graph(minute: SimpleNamespace) -> None:
    calibration, classes = minute.manifest.calibration, minute.dataset.test.classes
    served = np.log(evaluate.predict(minute.folder.path, minute.dataset.test.images).astype(np.float64) + 1e-300)

    # log p is logits / T but for a constant, so that multiplied by T it gives back the uncalibrated network
    before = calibrate.negative_log_likelihood(log_softmax(served * calibration.temperature, axis=1), classes)
    after = calibrate.negative_log_likelihood(served, classes)

    assert before == pytest.approx(_by_name(calibration.before)["negative_log_likelihood"].value, abs=2e-3)
    assert after == pytest.approx(_by_name(calibration.after)["negative_log_likelihood"].value, abs=2e-3)
    assert abs(before - after) > 0.02


def test_a_recipe_whose_input_is_not_the_size_of_the_data_is_refused_before_training(minute: SimpleNamespace) -> None:
    wider = minute.recipe.model_copy(update={"input": InputSpec(height=16, width=17)})

    with pytest.raises(DataError, match=r"\(16, 16\), the recipe's input is \(16, 17\)"):
        run.run("minute-recipe", wider, minute.dataset, minute.repository)


def test_the_folder_of_the_run_holds_its_figures_and_a_report(minute: SimpleNamespace) -> None:
    figures = checkpoint.figures(minute.checkpoint.folder)
    report = (minute.checkpoint.folder / checkpoint.REPORT).read_text(encoding="utf-8")

    assert [epoch.epoch for epoch in figures] == [1]
    assert 0.0 < figures[0].accuracy <= 1.0
    accuracy = _by_name(minute.manifest.metrics)["accuracy"].value
    assert f"{accuracy:.2%}" in report
    assert "Which quarter is bright" in report


def test_a_finished_run_is_published_again_without_training_with_other_views(
    minute: SimpleNamespace, tmp_path: Path
) -> None:
    recipe = minute.recipe.model_copy(update={"views": 6})
    state = checkpoint.Checkpoint(tmp_path)
    for name in (history.FILE, "checkpoint.npz"):
        (tmp_path / name).write_bytes((minute.checkpoint.folder / name).read_bytes())

    folder, manifest = run.run("minute-recipe", recipe, minute.dataset, ModelRepository(tmp_path / "models"), state)

    assert checkpoint.figures(tmp_path) == checkpoint.figures(minute.checkpoint.folder)
    assert {metric.dataset for metric in manifest.metrics} == {"quarters, made up, test, mean of 6 views"}
    assert manifest.calibration.fitted_on == "quarters, made up, held out for calibration, mean of 6 views"
    assert manifest.architecture == minute.manifest.architecture
    assert manifest.provenance.wall_seconds > checkpoint.figures(tmp_path)[0].seconds
    # the figures are those of the published graph, and not those of one view
    test = minute.dataset.test
    logarithms = np.log(evaluate.predict(folder.path, test.images).astype(np.float64) + 1e-300)
    six, one = (_by_name(each.metrics)["negative_log_likelihood"].value for each in (manifest, minute.manifest))
    assert calibrate.negative_log_likelihood(logarithms, test.classes) == pytest.approx(six, abs=2e-3)
    assert abs(six - one) > 5e-3


@pytest.mark.parametrize("count", [1, 6])
def test_held_out_and_test_pictures_are_read_as_keras_would(minute: SimpleNamespace, count: int) -> None:
    network = views.stacked(architectures.build("traut", 16, 16, 4), count)
    splits = split(minute.dataset, 20, 130, 400)

    _, logits = run.measure(network, splits, "made up")

    expected = network.predict(splits.test.images, verbose=0)["logits"]
    assert logits.shape == expected.shape
    np.testing.assert_allclose(logits, expected, atol=1e-4)


def test_the_summary_is_one_line_with_the_figures_and_the_place(minute: SimpleNamespace) -> None:
    accuracy = _by_name(minute.manifest.metrics)["accuracy"].value

    line = run.summary(minute.folder, minute.manifest, minute.repository.root)

    assert line.startswith(f"published minute version 1 in {minute.folder.path}: accuracy {accuracy:.2%} (")
    assert line.endswith("n = 150 (quarters, made up, test)")
    assert "\n" not in line
