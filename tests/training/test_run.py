"""A whole run: what the manifest says is what happened."""

from types import SimpleNamespace

import keras
import numpy as np
import pytest
from scipy.special import log_softmax

from models.manifest import InputSpec, Label, Metric
from training import calibrate, data, evaluate, run
from training.data import Dataset, Split, Splits


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
    splits = data.split(minute.dataset, 20, 130, 400)
    record = minute.manifest.provenance.dataset

    assert record == splits.record(minute.dataset)
    sizes = {"train": 750, "validation": 20, "calibration": 130, "decision": 400, "test": 150}
    assert {name: split.n for name, split in record.splits.items()} == sizes
    pictures = [image.tobytes() for split in vars(splits).values() for image in split.images]
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


def _see_through() -> keras.Model:
    """Three-class logits that are the three values of a one-pixel picture."""
    pixels = keras.Input((1, 1, 3))
    logits = keras.layers.Flatten()(pixels)
    return keras.Model(pixels, {"logits": logits, "embedding": logits, "features": pixels})


def _split(n: int, temperature: float, seed: int) -> Split:
    """Logits with classes drawn from their probabilities at a temperature."""
    random = np.random.default_rng(seed)
    logits = random.integers(0, 40, (n, 3), dtype=np.uint8)
    drawn = random.random((n, 1)) > calibrate.scale(logits.astype(float), temperature).cumsum(axis=1)
    return Split(logits[:, None, None, :], drawn.sum(axis=1))


def test_a_recipe_whose_input_is_not_the_size_of_the_data_is_refused_before_training(minute: SimpleNamespace) -> None:
    wider = minute.recipe.model_copy(update={"input": InputSpec(height=16, width=17)})

    with pytest.raises(data.DataError, match=r"\(16, 16\), the recipe's input is \(16, 17\)"):
        run.run("minute-recipe", wider, minute.dataset, minute.repository)


def test_the_temperature_is_fitted_on_calibration_and_measured_on_test() -> None:
    empty = _split(1, 1.0, 0)
    splits = Splits(empty, empty, calibration=_split(4000, 4.0, 1), decision=empty, test=_split(3000, 8.0, 2))
    dataset = Dataset("d", "made up", (Label(name="a"), Label(name="b"), Label(name="c")), empty, splits.test)

    temperature, calibration = run.calibrate_on(_see_through(), splits, dataset)

    assert temperature == pytest.approx(4.0, rel=0.06)
    assert (calibration.temperature, calibration.n) == (temperature, 4000)
    before, after = _by_name(calibration.before), _by_name(calibration.after)
    # Test is of temperature 8: of 1, 4 and 8 the calibration error falls with each step
    assert before["ece_equal_width"].value > after["ece_equal_width"].value + 0.02
    assert after["ece_equal_width"].low > 0.02
    assert before["ece_equal_mass"].n == 3000


def test_the_decision_keeps_its_promise_on_the_data_that_chose_it() -> None:
    empty, split = _split(1, 1.0, 0), _split(3000, 2.0, 3)
    splits = Splits(empty, empty, calibration=_split(2000, 2.0, 5), decision=split, test=empty)

    decision = run.decide_on(_see_through(), 2.0, splits, "held out")

    abstention, conformal = decision.abstention, decision.conformal
    assert abstention is not None
    probabilities = calibrate.scale(split.images.reshape(-1, 3), 2.0)
    accepted = probabilities.max(axis=1) >= abstention.threshold
    assert abstention.coverage == accepted.mean() > 0.2
    assert (probabilities.argmax(axis=1) != split.classes)[accepted].mean() < abstention.target_risk == 0.02
    assert (abstention.confidence_level, abstention.n, abstention.dataset) == (0.95, 3000, "held out")
    assert conformal is not None
    covered = 1.0 - probabilities[np.arange(3000), split.classes] <= conformal.quantile
    assert covered.mean() == pytest.approx(0.9, abs=0.01)  # pixels are whole numbers: there are ties
    assert (conformal.alpha, conformal.n, conformal.dataset) == (0.1, 3000, "held out")


def test_a_network_that_is_never_sure_gets_no_threshold_but_a_conformal_quantile() -> None:
    unsure = _split(500, 1000.0, 4)

    decision = run.decide_on(_see_through(), 1000.0, Splits(unsure, unsure, unsure, unsure, unsure), "held out")

    assert decision.abstention is None
    assert decision.conformal is not None
    assert decision.conformal.quantile > 0.6


def test_the_summary_is_one_line_with_the_figures_and_the_place(minute: SimpleNamespace) -> None:
    accuracy = _by_name(minute.manifest.metrics)["accuracy"].value

    line = run.summary(minute.folder, minute.manifest, minute.repository.root)

    assert line.startswith(f"published minute version 1 in {minute.folder.path}: accuracy {accuracy:.2%} (")
    assert line.endswith("n = 150 (quarters, made up, test)")
    assert "\n" not in line
