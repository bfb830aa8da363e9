"""What held-out logits say: the temperature that made them, a threshold and a quantile that keep their promise."""

import numpy as np
import pytest

from models.manifest import Metric
from training import calibrate, conclude
from training.conclude import Outputs


def _by_name(metrics: tuple[Metric, ...]) -> dict[str, Metric]:
    return {metric.name: metric for metric in metrics}


def _outputs(n: int, temperature: float, seed: int, source: str = "held out") -> Outputs:
    """Logits of three classes, with classes drawn from their probabilities at a temperature."""
    random = np.random.default_rng(seed)
    logits = random.uniform(0, 40, (n, 3)).astype(np.float32)
    drawn = random.random((n, 1)) > calibrate.scale(logits, temperature).cumsum(axis=1)
    return Outputs(logits, drawn.sum(axis=1), source)


def test_the_temperature_is_fitted_on_calibration_and_measured_on_test() -> None:
    calibration, test = _outputs(4000, 4.0, 1), _outputs(3000, 8.0, 2, "d, test")

    found = conclude.calibrated(calibration, test)

    assert (found.method, found.n, found.fitted_on) == ("temperature", 4000, "held out")
    assert found.temperature == pytest.approx(4.0, rel=0.06)
    before, after = _by_name(found.before), _by_name(found.after)
    # Test is of temperature 8: of 1, 4 and 8 the calibration error falls with each step
    assert before["ece_equal_width"].value > after["ece_equal_width"].value + 0.02
    assert after["ece_equal_width"].low > 0.02
    assert (before["ece_equal_mass"].n, before["ece_equal_mass"].dataset) == (3000, "d, test")
    bins = found.reliability
    assert sum(one.n for one in bins) == 3000
    gap = sum(one.n * abs(one.accuracy - one.confidence) for one in bins) / 3000
    assert gap == pytest.approx(after["ece_equal_width"].value)


def test_the_decision_keeps_its_promise_on_the_data_that_chose_it() -> None:
    outputs = _outputs(3000, 2.0, 3)

    decision = conclude.decide(_outputs(2000, 2.0, 5), outputs, 2.0)

    abstention, conformal = decision.abstention, decision.conformal
    assert abstention is not None
    probabilities = calibrate.scale(outputs.logits, 2.0)
    accepted = probabilities.max(axis=1) >= abstention.threshold
    assert abstention.coverage == accepted.mean() > 0.2
    assert (probabilities.argmax(axis=1) != outputs.classes)[accepted].mean() < abstention.target_risk == 0.02
    assert (abstention.confidence_level, abstention.n, abstention.dataset) == (0.95, 3000, "held out")
    assert conformal is not None
    covered = 1.0 - probabilities[np.arange(3000), outputs.classes] <= conformal.quantile
    assert covered.mean() == pytest.approx(0.9, abs=0.001)
    assert (conformal.alpha, conformal.n, conformal.dataset) == (0.1, 3000, "held out")


def test_a_network_that_is_never_sure_gets_no_threshold_but_a_conformal_quantile() -> None:
    unsure = _outputs(500, 1000.0, 4)

    decision = conclude.decide(unsure, unsure, 1000.0)

    assert decision.abstention is None
    assert decision.conformal is not None
    assert decision.conformal.quantile > 0.6


def test_each_part_does_its_own_work() -> None:
    calibration = _outputs(4000, 3.0, 6, "d, calibration")
    decision, test = _outputs(2500, 3.0, 7, "d, decision"), _outputs(1500, 3.0, 8, "d, test")

    found = conclude.conclude(calibration, decision, test)

    assert found.temperature == found.calibration.temperature == pytest.approx(3.0, rel=0.08)
    assert (found.calibration.fitted_on, found.calibration.n) == ("d, calibration", 4000)
    assert found.decision == conclude.decide(calibration, decision, found.temperature)
    assert found.decision.conformal is not None
    assert (found.decision.conformal.dataset, found.decision.conformal.n) == ("d, decision", 2500)
    figures = _by_name(found.metrics)
    assert figures["accuracy"].value == (test.logits.argmax(axis=1) == test.classes).mean()
    after = _by_name(found.calibration.after)["ece_equal_width"]
    assert figures["ece_equal_width"].value == pytest.approx(after.value, abs=1e-6)
    assert figures["conformal_coverage"].value == pytest.approx(0.9, abs=0.03)
    assert {metric.dataset for metric in found.metrics} == {"d, test"}
