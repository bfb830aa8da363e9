"""Temperature, calibration error, abstention threshold, conformal quantile: against values made by hand or drawn."""

import math

import numpy as np
import numpy.typing as npt
import pytest
from scipy.special import softmax
from scipy.stats import binomtest

from training import calibrate


def _draw_classes(probabilities: npt.NDArray[np.float64], random: np.random.Generator) -> npt.NDArray[np.int64]:
    return (random.random((len(probabilities), 1)) > probabilities.cumsum(axis=1)).sum(axis=1)


@pytest.mark.parametrize("factor", [0.5, 1.0, 2.0])
def test_temperature_undoes_the_factor_by_which_logits_are_too_large(factor: float) -> None:
    random = np.random.default_rng(1)
    honest = random.normal(0.0, 2.0, (20_000, 10))
    classes = _draw_classes(softmax(honest, axis=1), random)

    found = calibrate.fit_temperature((honest * factor).astype(np.float32), classes)

    assert found == pytest.approx(factor, rel=0.03)


def test_several_views_are_averaged_as_probabilities_at_the_temperature() -> None:
    logits = np.array([[[2.0, 0.0], [0.0, 2.0]], [[4.0, 0.0], [2.0, 0.0]]], np.float32)
    sure, surer = 1 / (1 + math.exp(-1)), 1 / (1 + math.exp(-2))

    found = calibrate.scale(logits, 2.0)

    # where the views contradict each other, nothing is known, whatever the temperature
    np.testing.assert_allclose(found, [[0.5, 0.5], [(sure + surer) / 2, 1 - (sure + surer) / 2]], rtol=1e-12)


def test_temperature_of_several_views_is_that_of_their_mean() -> None:
    random = np.random.default_rng(1)
    views = random.normal(0.0, 2.0, (20_000, 1, 10)) + random.normal(0.0, 1.0, (20_000, 3, 10))
    classes = _draw_classes(softmax(views, axis=2).mean(axis=1), random)

    assert calibrate.fit_temperature((views * 1.5).astype(np.float32), classes) == pytest.approx(1.5, rel=0.03)


def test_equal_width_bins_add_up_the_gaps_of_each_bin() -> None:
    # 0.95 and 0.97 share the bin above 14/15: |2 - 1.92|; 0.40 and 0.35 share 5/15..6/15: |1 - 0.75|; 0.6 is alone
    confidence = np.array([0.95, 0.97, 0.40, 0.35, 0.60])
    correct = np.array([True, True, True, False, False])

    found = calibrate.calibration_error(confidence, correct, equal_mass=False)

    assert found == pytest.approx((0.08 + 0.25 + 0.60) / 5)


def test_bins_are_those_of_the_calibration_error() -> None:
    random = np.random.default_rng(0)
    confidence = random.random(500) ** 0.5
    judged = calibrate.Judged(confidence, random.random(500) < confidence**2)

    bins = calibrate.reliability(judged)

    assert (len(bins), sum(one.n for one in bins)) == (15, 500)
    error = sum(one.n * abs(one.accuracy - one.confidence) for one in bins if one.n) / 500
    assert error == pytest.approx(calibrate.calibration_error(*judged, equal_mass=False))
    assert all(one.low < one.confidence <= one.high for one in bins if one.n)
    assert math.isnan(calibrate.reliability(calibrate.Judged(np.array([0.9]), np.array([True])))[0].accuracy)


def test_the_two_binnings_differ_where_confidences_crowd() -> None:
    # One bin of equal width, where errors cancel out; 15 bins of equal mass, where they do not
    confidence = np.linspace(0.94, 0.99, 30)
    correct = np.arange(30) >= 1
    pairs = (correct - confidence).reshape(15, 2).sum(axis=1)
    order = np.random.default_rng(0).permutation(30)
    confidence, correct = confidence[order], correct[order]

    equal_width, equal_mass = (calibrate.calibration_error(confidence, correct, equal_mass=x) for x in (False, True))

    assert equal_width == pytest.approx(abs(29 - confidence.sum()) / 30)
    assert equal_mass == pytest.approx(abs(pairs).sum() / 30)


@pytest.mark.parametrize("equal_mass", [False, True])
@pytest.mark.parametrize(("confidence", "correct", "expected"), [(0.0, False, 0.0), (1.0, True, 0.0), (1.0, False, 1)])
def test_confidences_of_exactly_zero_and_one_have_a_bin(
    confidence: float, correct: bool, expected: float, equal_mass: bool
) -> None:
    assert calibrate.calibration_error(np.array([confidence]), np.array([correct]), equal_mass=equal_mass) == expected


def test_a_confidence_on_an_edge_belongs_to_the_bin_below() -> None:
    # In one bin, 5/15 to 6/15, the gaps of -0.6 and 0.35 add up to 0.25; in two bins they would to 0.95
    found = calibrate.calibration_error(np.array([0.4, 0.35]), np.array([True, False]), equal_mass=False)

    assert found == pytest.approx(0.25 / 2)


def test_no_error_in_149_bounds_the_error_rate_at_two_percent() -> None:
    assert calibrate.upper_bound(0, 149, 0.05) == pytest.approx(1.0 - 0.05 ** (1 / 149))
    assert calibrate.upper_bound(0, 149, 0.05) < 0.02 < calibrate.upper_bound(0, 148, 0.05)


@pytest.mark.parametrize(("errors", "n", "delta"), [(0, 30, 0.05), (3, 200, 0.01), (50, 100, 0.1), (7, 7, 0.05)])
def test_the_bound_is_that_of_clopper_and_pearson(errors: int, n: int, delta: float) -> None:
    expected = binomtest(errors, n, alternative="less").proportion_ci(1.0 - delta, method="exact").high

    assert calibrate.upper_bound(errors, n, delta) == pytest.approx(expected, rel=1e-9)


def _accuracy_is_confidence(random: np.random.Generator, n: int) -> calibrate.Judged:
    confidence = random.random(n)
    return calibrate.Judged(confidence, random.random(n) < confidence)


def _threshold(confidence: npt.NDArray[np.float64], correct: npt.NDArray[np.bool_], target: float) -> float | None:
    """The same examples as pilot and for the decision."""
    judged = calibrate.Judged(confidence, correct)
    return calibrate.abstention_threshold(judged, judged, target, 0.95)


def test_a_few_examples_all_classified_rightly_do_not_make_every_confidence_one() -> None:
    classes = np.arange(30) % 3
    logits = np.eye(3)[classes] * 2.0

    temperature = calibrate.fit_temperature(logits, classes)

    confidence = calibrate.scale(logits, temperature).max(axis=1)
    # Thirty right ones and one unknown: about 1 - 1 / 31 * 2 / 3 is what they speak for
    assert 0.93 < confidence.mean() < 0.99


def test_the_true_risk_above_the_threshold_exceeds_the_target_in_at_most_five_percent_of_draws() -> None:
    # Confidence is uniform on 0..1 and the chance to be right: the risk above t is (1 - t) / 2, so 0.1 wants t >= 0.8
    random = np.random.default_rng(7)
    draws = [(_accuracy_is_confidence(random, 2000), _accuracy_is_confidence(random, 3000)) for _ in range(400)]
    found = [calibrate.abstention_threshold(pilot, decision, 0.1, 0.95) for pilot, decision in draws]

    thresholds = np.array([1.0 if threshold is None else threshold for threshold in found])
    # 5 % of 400 are 20, with a standard deviation of 4.4
    assert (thresholds < 0.8).sum() <= 20 + 9
    # and half of the time it gives away less than a third of the coverage that the target allows
    assert np.median(thresholds) < 0.8 + 0.2 / 3


def test_the_decision_data_have_the_last_word() -> None:
    pilot = calibrate.Judged(np.linspace(0.0, 1.0, 1000), np.ones(1000, bool))
    decision = calibrate.Judged(np.linspace(0.0, 1.0, 1000), np.linspace(0.0, 1.0, 1000) > 0.5)

    found = calibrate.abstention_threshold(pilot, decision, 0.02, 0.95)

    assert found is None  # the pilot begins with everything, half of which is wrong


def test_the_first_candidate_that_fails_ends_the_search_whatever_would_pass_below_it() -> None:
    # Above 0.7 alone 15 of 490 are wrong, which would do; but at 0.8 it is 15 of 90
    confidence = np.repeat([0.9, 0.8, 0.7], [60, 30, 400])
    wrong = np.repeat([False, True, False, False], [60, 15, 15, 400])
    pilot = calibrate.Judged(confidence, confidence == 0.9)

    found = calibrate.abstention_threshold(pilot, calibrate.Judged(confidence, ~wrong), 0.1, 0.95)

    assert found == 0.9


def test_the_threshold_itself_passes_the_test_and_what_lies_at_it_is_accepted() -> None:
    # 500 wrong ones at 0.3 below 500 right ones at 0.9: nothing in between to choose
    confidence = np.array([0.3] * 500 + [0.9] * 500)

    assert _threshold(confidence, confidence > 0.5, 0.05) == 0.9


@pytest.mark.parametrize("n", [149, 1000])
def test_where_everything_is_right_everything_is_accepted(n: int) -> None:
    assert _threshold(np.linspace(0.2, 1.0, n), np.ones(n, bool), 0.02) == 0.2


@pytest.mark.parametrize(("n", "right"), [(1000, False), (148, True), (1, True)])
def test_there_is_no_threshold_where_the_target_is_out_of_reach(n: int, right: bool) -> None:
    assert _threshold(np.linspace(0.2, 1.0, n), np.full(n, right), 0.02) is None


def test_conformal_quantile_is_the_score_of_the_right_rank() -> None:
    # True classes have 0.9, 0.8, ... 0.1, so scores are 0.1 ... 0.9; of these nine, rank ceil(10 * 0.75) = 8
    true = np.array([0.5, 0.9, 0.1, 0.3, 0.7, 0.8, 0.2, 0.6, 0.4])
    probabilities = np.stack([1.0 - true, true], axis=1)

    assert calibrate.conformal_quantile(probabilities, np.ones(9, np.int64), 0.25) == pytest.approx(0.8)


@pytest.mark.parametrize(("n", "expected"), [(8, 1.0), (9, 0.5)])
def test_too_few_examples_give_the_quantile_that_takes_every_class(n: int, expected: float) -> None:
    assert calibrate.conformal_quantile(np.full((n, 2), 0.5), np.zeros(n, np.int64), 0.1) == expected


def test_conformal_sets_cover_fresh_data_as_often_as_promised() -> None:
    random = np.random.default_rng(5)
    coverages = []
    for _ in range(200):
        probabilities = softmax(random.normal(0.0, 2.0, (400, 5)), axis=1)
        classes = _draw_classes(softmax(random.normal(0.0, 1.0, (400, 5)) + np.log(probabilities), axis=1), random)
        quantile = calibrate.conformal_quantile(probabilities[:200], classes[:200], 0.1)
        true = probabilities[np.arange(200, 400), classes[200:]]
        coverages.append((1.0 - true <= quantile).mean())

    # The mean over draws lies between 1 - alpha and 1 - alpha + 1 / (n + 1); its standard error is 0.0021
    assert 0.9 - 0.0065 < np.mean(coverages) < 0.9 + 1 / 201 + 0.0065
