"""What held-out logits say about a network: its temperature, its decisions, its figures on test."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from models.manifest import Abstention, Calibration, Conformal, Decision, Metric, ReliabilityBin
from training import calibrate, evaluate
from training.calibrate import Judged

TARGET_RISK = 0.02
CONFIDENCE_LEVEL = 0.95
ALPHA = 0.1


class Outputs(NamedTuple):
    """Logits float32 [N, C] or [N, V, C] of a network on examples of class ids int64 [N]; `source` says which ones."""

    logits: npt.NDArray[np.float32]
    classes: npt.NDArray[np.int64]
    source: str


class Conclusion(NamedTuple):
    """What goes into the manifest."""

    calibration: Calibration
    decision: Decision
    metrics: tuple[Metric, ...]

    @property
    def temperature(self) -> float:
        return self.calibration.temperature


def conclude(calibration: Outputs, decision: Outputs, test: Outputs) -> Conclusion:
    """The temperature from `calibration`, threshold and quantile from `decision`, all figures from `test`."""
    fitted = calibrated(calibration, test)
    decided = decide(calibration, decision, fitted.temperature)
    probabilities = calibrate.scale(test.logits, fitted.temperature).astype(np.float32)
    metrics = (
        *evaluate.figures(probabilities, test.classes, test.source),
        *evaluate.decision_figures(probabilities, test.classes, decided, test.source),
    )
    return Conclusion(fitted, decided, metrics)


def calibrated(calibration: Outputs, test: Outputs) -> Calibration:
    """The temperature fitted on `calibration`, with the calibration error on `test` before and after it."""
    temperature = calibrate.fit_temperature(calibration.logits, calibration.classes)
    before, after = (
        evaluate.calibration_figures(calibrate.scale(test.logits, t), test.classes, test.source)
        for t in (1.0, temperature)
    )
    return Calibration(
        method="temperature",
        temperature=temperature,
        fitted_on=calibration.source,
        n=len(calibration.classes),
        before=before,
        after=after,
        reliability=reliability(calibrate.judge(calibrate.scale(test.logits, temperature), test.classes)),
    )


def reliability(judged: Judged) -> tuple[ReliabilityBin, ...]:
    """The bins that are not empty."""
    bins = (one for one in calibrate.reliability(judged) if one.n)
    return tuple(ReliabilityBin(confidence=one.confidence, accuracy=one.accuracy, n=one.n) for one in bins)


def decide(calibration: Outputs, decision: Outputs, temperature: float) -> Decision:
    """Abstention threshold and conformal quantile from `decision`, which chose nothing before.

    `calibration` says where the search for the threshold begins.
    """
    pilot, probabilities = (calibrate.scale(part.logits, temperature) for part in (calibration, decision))
    judged = calibrate.judge(probabilities, decision.classes)
    threshold = calibrate.abstention_threshold(
        calibrate.judge(pilot, calibration.classes), judged, TARGET_RISK, CONFIDENCE_LEVEL
    )
    n = len(decision.classes)
    abstention = (
        threshold
        if threshold is None
        else Abstention(
            threshold=threshold,
            target_risk=TARGET_RISK,
            confidence_level=CONFIDENCE_LEVEL,
            coverage=float((judged.confidence >= threshold).mean()),
            n=n,
            dataset=decision.source,
        )
    )
    quantile = calibrate.conformal_quantile(probabilities, decision.classes, ALPHA)
    conformal = Conformal(alpha=ALPHA, quantile=quantile, n=n, dataset=decision.source)
    return Decision(abstention=abstention, conformal=conformal)
