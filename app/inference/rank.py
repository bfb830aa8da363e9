"""Probabilities to labels: the top k, whether the first can be relied on, and the set that holds the true one."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.manifest import Manifest


@dataclass(frozen=True)
class Prediction:
    label: str
    class_id: int
    confidence: float


@dataclass(frozen=True)
class Ranking:
    """`reliable` and `prediction_set` are None where the manifest has no figure for them."""

    predictions: tuple[Prediction, ...]
    reliable: bool | None
    prediction_set: tuple[str, ...] | None


def rank(probabilities: npt.NDArray[np.float32], manifest: Manifest, top_k: int) -> Ranking:
    """`probabilities` is float32 [C]. Equal ones are ordered by class id."""
    order = np.argsort(-probabilities, kind="stable")
    ordered = probabilities[order]
    labels = manifest.labels
    best = zip(order[:top_k].tolist(), ordered[:top_k].tolist(), strict=True)
    predictions = tuple(Prediction(labels[class_id].name, class_id, confidence) for class_id, confidence in best)
    abstention, conformal = manifest.decision.abstention, manifest.decision.conformal
    reliable = None if abstention is None else bool(ordered[0] >= abstention.threshold)
    prediction_set = None
    if conformal is not None:
        size = np.count_nonzero(1.0 - ordered.astype(np.float64) <= conformal.quantile)
        prediction_set = tuple(labels[class_id].name for class_id in order[:size].tolist())
    return Ranking(predictions, reliable, prediction_set)
