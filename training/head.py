"""Multinomial logistic regression on embeddings, and logits of examples that did not train what judges them."""

import os
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

FOLDS = 5
# For embeddings brought to a mean norm of 10; by cross-validation on Caltech-101's training photos it hardly matters
INVERSE_REGULARISATION = 0.25
_NORM = 10.0
_ITERATIONS = 100
_TOLERANCE = 1e-3

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


class Head(NamedTuple):
    """logits = embeddings @ kernel + bias; float32 [D, C] and [C]."""

    kernel: Floats
    bias: Floats

    def __call__(self, embeddings: Floats) -> Floats:
        return embeddings @ self.kernel + self.bias


def fit(embeddings: Floats, classes: Ints, count: int) -> Head:
    """The head for class ids 0 to `count` - 1, fitted on embeddings float32 [N, D] and classes int64 [N].

    Classes without an example get the lowest logits of all.
    """
    scale = np.float32(_NORM / np.linalg.norm(embeddings, axis=1).mean())
    present = np.unique(classes)
    kernel = np.zeros((embeddings.shape[1], count), np.float32)
    bias = np.full(count, -_NORM, np.float32)
    if len(present) == 1:
        bias[present] = 0.0
        return Head(kernel, bias)
    regression = LogisticRegression(C=INVERSE_REGULARISATION, max_iter=_ITERATIONS, tol=_TOLERANCE)
    with _early_ends():
        regression.fit(embeddings * scale, classes)
    coefficients, intercepts = regression.coef_ * scale, regression.intercept_
    if len(present) == 2:  # one row stands for both
        coefficients = np.concatenate([-coefficients / 2, coefficients / 2])
        intercepts = np.concatenate([-intercepts / 2, intercepts / 2])
    kernel[:, present], bias[present] = coefficients.T, intercepts
    return Head(kernel, bias)


def cross_fitted_logits(embeddings: Floats, classes: Ints, count: int, seed: int) -> Floats:
    """Logits float32 [N, C] of each example from a head that was fitted without its fold (Stone 1974).

    Folds are stratified. Their heads see a fifth less data than one fitted on all: what is concluded from these
    logits errs on the side of caution.
    """
    folds = _folds(classes, seed)
    logits = np.empty((len(classes), count), np.float32)

    def judge(fold: np.int64) -> None:
        inside = folds == fold
        logits[inside] = fit(embeddings[~inside], classes[~inside], count)(embeddings[inside])

    # Two at a time, since large parts of a fit use one core whatever there is, and each takes memory of its own.
    # Warnings are of the process, not of a thread: they are ignored out here, too
    cores = max(1, (os.cpu_count() or 1) // 2)
    with _early_ends(), threadpool_limits(cores), ThreadPoolExecutor(2) as pool:
        list(pool.map(judge, np.unique(folds)))
    return logits


@contextmanager
def _early_ends() -> Iterator[None]:
    """Fits may end before they have converged: by then the loss moves in its fourth digit."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        yield


def halves(classes: Ints, seed: int) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Two stratified halves of the examples, as masks."""
    first = _folds(classes, seed + 1, count=2) == 0
    return first, ~first


def _folds(classes: Ints, seed: int, count: int = FOLDS) -> Ints:
    """A fold for each example; each class is spread evenly, beginning at a fold of its own."""
    random = np.random.default_rng(seed)
    folds = np.empty(len(classes), np.int64)
    for class_id in np.unique(classes):
        rows = random.permutation(np.flatnonzero(classes == class_id))
        folds[rows] = (np.arange(len(rows)) + class_id) % count
    return folds
