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
    labels = manifest.labels
    predictions = tuple(Prediction(labels[i].name, int(i), float(probabilities[i])) for i in order[:top_k])
    abstention, conformal = manifest.decision.abstention, manifest.decision.conformal
    reliable = None if abstention is None else bool(probabilities[order[0]] >= abstention.threshold)
    prediction_set = None
    if conformal is not None:
        inside = 1.0 - probabilities[order].astype(np.float64) <= conformal.quantile
        prediction_set = tuple(labels[i].name for i in order[inside])
    return Ranking(predictions, reliable, prediction_set)
