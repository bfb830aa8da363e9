"""Probabilities to labels: the top k, whether the first can be relied on, and the set that holds the true one."""

from bisect import bisect_right
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from models.manifest import Manifest


class Prediction(NamedTuple):
    label: str
    class_id: int
    confidence: float


class Ranking(NamedTuple):
    """`reliable` and `prediction_set` are None where the manifest has no figure for them."""

    predictions: tuple[Prediction, ...]
    reliable: bool | None
    prediction_set: tuple[str, ...] | None


def rank(probabilities: npt.NDArray[np.float32], manifest: Manifest, top_k: int) -> Ranking:
    """`probabilities` is float32 [C]. Equal ones are ordered by class id."""
    order = (-probabilities).argsort(kind="stable")
    ids, confidences = order.tolist(), probabilities[order].tolist()
    names = [manifest.labels[class_id].name for class_id in ids[:top_k]]
    predictions = tuple(map(Prediction, names, ids, confidences))
    abstention, conformal = manifest.decision.abstention, manifest.decision.conformal
    reliable = None if abstention is None else bool(probabilities[ids[0]] >= abstention.threshold)  # in float32, both
    prediction_set = None
    if conformal is not None:
        size = bisect_right(confidences, conformal.quantile, key=lambda confidence: 1.0 - confidence)
        prediction_set = tuple(manifest.labels[class_id].name for class_id in ids[:size])
    return Ranking(predictions, reliable, prediction_set)
