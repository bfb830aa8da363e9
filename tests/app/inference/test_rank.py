"""Probabilities to labels."""

import numpy as np
import pytest

from app.inference.rank import Prediction, rank
from models.manifest import Abstention, Conformal, Decision
from tests.app.conftest import manifest


def _decision(threshold: float = 0.7, quantile: float = 0.75) -> Decision:
    return Decision(
        abstention=Abstention(
            threshold=threshold, target_risk=0.1, confidence_level=0.9, coverage=0.5, n=10, dataset="made up"
        ),
        conformal=Conformal(alpha=0.1, quantile=quantile, n=10, dataset="made up"),
    )


def _probabilities(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def test_best_come_first_with_their_class_ids() -> None:
    ranking = rank(_probabilities(0.25, 0.125, 0.625), manifest(), 2)
    assert ranking.predictions == (Prediction("never", 2, 0.625), Prediction("dark", 0, 0.25))


def test_equal_probabilities_are_ordered_by_class_id() -> None:
    many = manifest(labels=[{"name": f"class {number}"} for number in range(300)])
    ranking = rank(_probabilities(*[0.001, 0.002] * 150), many, 300)
    expected = [*range(1, 300, 2), *range(0, 300, 2)]
    assert [prediction.class_id for prediction in ranking.predictions] == expected


def test_without_a_decision_nothing_is_claimed() -> None:
    ranking = rank(_probabilities(1, 0, 0), manifest(), 1)
    assert (ranking.reliable, ranking.prediction_set) == (None, None)


@pytest.mark.parametrize(("top", "reliable"), [(0.69, False), (0.7, True), (0.71, True)])
def test_reliable_is_the_threshold_reached(top: float, reliable: bool) -> None:
    assert rank(_probabilities(top, 1 - top, 0), manifest(decision=_decision(0.7)), 1).reliable is reliable


@pytest.mark.parametrize(
    ("probabilities", "inside"),
    [
        ((0.5, 0.25, 0.25), ("dark", "bright", "never")),
        ((0.24, 0.76, 0.0), ("bright",)),
        ((0.375, 0.625, 0.0), ("bright", "dark")),
    ],
)
def test_prediction_set_holds_the_classes_within_the_quantile(
    probabilities: tuple[float, ...], inside: tuple[str, ...]
) -> None:
    ranking = rank(_probabilities(*probabilities), manifest(decision=_decision(quantile=0.75)), 1)
    assert ranking.prediction_set == inside


def test_prediction_set_is_empty_where_even_the_first_is_too_unlikely() -> None:
    assert rank(_probabilities(0.4, 0.3, 0.3), manifest(decision=_decision(quantile=0.5)), 1).prediction_set == ()
