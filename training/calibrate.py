"""Honest confidences: temperature, calibration error, abstention threshold, conformal quantile. Plain arrays.

probabilities are float [N, C], logits [N, C] or, of several views of each picture, [N, V, C]; classes int [N].
"""

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, logsumexp
from scipy.stats import beta

Floats = npt.NDArray[np.floating]
Ints = npt.NDArray[np.int64]

BINS = 15


class Judged(NamedTuple):
    """Confidence float [N] of each example's top class, and bool [N], whether that class is the true one."""

    confidence: Floats
    correct: npt.NDArray[np.bool_]


class Bin(NamedTuple):
    """The examples whose confidence lies in (low, high]; the means are NaN where there is none."""

    low: float
    high: float
    confidence: float
    accuracy: float
    n: int


def judge(probabilities: Floats, classes: Ints) -> Judged:
    return Judged(probabilities.max(axis=1), probabilities.argmax(axis=1) == classes)


def fit_temperature(logits: Floats, classes: Ints) -> float:
    """The T that minimises the negative log-likelihood of what `scale` gives (Guo et al. 2017).

    One more example, of a class that nobody knows, counts too: where all examples are classified rightly, as a few
    photos of unlike things are, the others alone would have T fall without end and every confidence rise to 1.
    """

    def loss(log_temperature: float) -> float:
        scaled = _log_scale(logits, math.exp(log_temperature))
        known = len(classes) * negative_log_likelihood(scaled, classes)
        return (known - float(scaled.mean())) / (len(classes) + 1)

    result = minimize_scalar(loss, bounds=(math.log(0.05), math.log(20.0)), method="bounded")
    return math.exp(float(result.x))


def scale(logits: Floats, temperature: float) -> npt.NDArray[np.float64]:
    """Probabilities `softmax(logits / temperature)`; their mean over the views, where there are several.

    Where views disagree, the mean of their probabilities is unsure. That of their logits is not: on held-out pictures
    of CIFAR-10 its likelihood was lower, and no temperature made up for it.
    """
    return np.asarray(np.exp(_log_scale(logits, temperature)))


def _log_scale(logits: Floats, temperature: float) -> Floats:
    scaled = log_softmax(logits.astype(np.float64) / temperature, axis=-1)
    return np.asarray(scaled if scaled.ndim == 2 else logsumexp(scaled, axis=1) - math.log(scaled.shape[1]))


def negative_log_likelihood(log_probabilities: Floats, classes: Ints) -> float:
    """Mean over the examples, in nats."""
    return float(-log_probabilities[np.arange(len(classes)), classes].mean())


def calibration_error(confidence: Floats, correct: npt.NDArray[np.bool_], *, equal_mass: bool) -> float:
    """Expected calibration error of the top class, in 15 bins of equal width or of equal mass (Naeini et al. 2015)."""
    if equal_mass:
        bins = np.empty(len(confidence), dtype=np.int64)
        bins[np.argsort(confidence, kind="stable")] = np.arange(len(confidence)) * BINS // len(confidence)
    else:
        bins = _of_equal_width(confidence)
    gaps = np.bincount(bins, weights=correct - confidence, minlength=BINS)
    return float(np.abs(gaps).sum() / len(confidence))


def reliability(judged: Judged) -> list[Bin]:
    """The bins of equal width of `calibration_error`, the empty ones too."""
    place = _of_equal_width(judged.confidence)
    members = [place == one for one in range(BINS)]
    return [
        Bin(
            one / BINS,
            (one + 1) / BINS,
            float(judged.confidence[inside].mean()) if inside.any() else math.nan,
            float(judged.correct[inside].mean()) if inside.any() else math.nan,
            int(inside.sum()),
        )
        for one, inside in enumerate(members)
    ]


def _of_equal_width(confidence: Floats) -> Ints:
    """The bin of each confidence, from 0."""
    return np.clip(np.ceil(confidence * BINS).astype(np.int64) - 1, 0, BINS - 1)


def abstention_threshold(pilot: Judged, decision: Judged, target_risk: float, confidence_level: float) -> float | None:
    """A low confidence at which the error rate of what lies at or above it is at most `target_risk`.

    Fixed-sequence testing (Angelopoulos et al. 2021, "Learn then Test"): the pilot data alone set the candidates,
    percentiles of its confidences, and the one to begin with, where its own bound is lowest. From there downwards
    each candidate is tested on the decision data with a Clopper-Pearson bound, up to the first that fails; since the
    order was fixed beforehand, `confidence_level` holds for the last one that passed. None where the first fails.
    """
    delta = 1.0 - confidence_level
    candidates = np.unique(np.percentile(pilot.confidence, np.arange(100), method="higher"))[::-1]
    start = int(np.argmin([_bound_above(pilot, threshold, delta) for threshold in candidates]))
    passed = None
    for threshold in candidates[start:]:
        if _bound_above(decision, threshold, delta) > target_risk:
            break
        passed = float(threshold)
    return passed


def _bound_above(data: Judged, threshold: float, delta: float) -> float:
    accepted = data.confidence >= threshold
    return upper_bound(int((~data.correct[accepted]).sum()), int(accepted.sum()), delta)


def upper_bound(errors: int, n: int, delta: float) -> float:
    """One-sided Clopper-Pearson bound: the error rate is at most this with probability `1 - delta`."""
    return 1.0 if errors >= n else float(beta.ppf(1.0 - delta, errors + 1, n - errors))


def conformal_quantile(probabilities: Floats, classes: Ints, alpha: float) -> float:
    """The quantile of the LAC scores `1 - probability of the true class` for coverage `1 - alpha`.

    Split conformal prediction: the ceil((n + 1)(1 - alpha))-th smallest score, or 1 where n is too small for it.
    """
    scores = np.sort(1.0 - probabilities[np.arange(len(classes)), classes])
    rank = math.ceil((len(scores) + 1) * (1.0 - alpha))
    return 1.0 if rank > len(scores) else float(np.clip(scores[rank - 1], 0.0, 1.0))
