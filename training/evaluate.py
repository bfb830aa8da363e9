"""What a version reaches: probabilities of the exported model, and figures with n and a 95 % interval."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from scipy.stats import binomtest
from tqdm import tqdm

from models.manifest import Decision, Label, Manifest, Metric
from models.preprocess import FORMATS, ImageError, load_image
from training import calibrate
from training.splits import DataError, Split

CONFIDENCE_LEVEL = 0.95
_BOOTSTRAP_SAMPLES = 500
_BATCH = 64

Probabilities = npt.NDArray[np.float32]


def predict(saved_model: Path, images: npt.NDArray[np.uint8]) -> Probabilities:
    """Probabilities [N, C] of the SavedModel's `serving_default` for uint8 [N, H, W, 3]."""
    model = tf.saved_model.load(str(saved_model))
    serve = model.signatures["serving_default"]
    starts = tqdm(range(0, len(images), _BATCH), desc="predicting", unit=" batches", disable=None)
    batches = [serve(images=tf.constant(images[i : i + _BATCH]))["probabilities"].numpy() for i in starts]
    return np.concatenate(batches)


def figures(probabilities: Probabilities, classes: npt.NDArray[np.int64], dataset: str) -> tuple[Metric, ...]:
    """Accuracy (top 1, and top 5 where there are more than ten classes) and calibration."""
    top = probabilities.argmax(axis=1)
    metrics = [share("accuracy", top == classes, dataset)]
    if probabilities.shape[1] > 10:
        five = np.argpartition(-probabilities, 5, axis=1)[:, :5]
        metrics.append(share("top_5_accuracy", (five == classes[:, None]).any(axis=1), dataset))
    return (*metrics, *calibration_figures(probabilities, classes, dataset))


def calibration_figures(
    probabilities: npt.NDArray[np.floating], classes: npt.NDArray[np.int64], dataset: str
) -> tuple[Metric, ...]:
    """ECE in bins of equal width and of equal mass, and the negative log-likelihood in nats."""
    confidence, correct = probabilities.max(axis=1), probabilities.argmax(axis=1) == classes
    true = np.log(np.clip(probabilities[np.arange(len(classes)), classes].astype(np.float64), 1e-12, 1.0))

    def error(rows: npt.NDArray[np.int64], *, equal_mass: bool) -> float:
        return calibrate.calibration_error(confidence[rows], correct[rows], equal_mass=equal_mass)

    everything, samples = np.arange(len(classes)), _bootstrap_rows(len(classes))
    metrics = []
    for name, equal_mass in (("ece_equal_width", False), ("ece_equal_mass", True)):
        spread = float(np.std([error(rows, equal_mass=equal_mass) for rows in samples]))
        metrics.append(_normal(name, error(everything, equal_mass=equal_mass), spread, len(classes), dataset))
    spread = float(true.std() / np.sqrt(len(true)))
    metrics.append(_normal("negative_log_likelihood", float(-true.mean()), spread, len(classes), dataset))
    return tuple(metrics)


def decision_figures(
    probabilities: Probabilities, classes: npt.NDArray[np.int64], decision: Decision, dataset: str
) -> tuple[Metric, ...]:
    """What the threshold and the conformal quantile do on data that did not choose them."""
    metrics = []
    correct = probabilities.argmax(axis=1) == classes
    if decision.abstention is not None:
        accepted = probabilities.max(axis=1) >= decision.abstention.threshold
        metrics.append(share("coverage_at_threshold", accepted, dataset))
        if accepted.any():
            metrics.append(share("risk_at_threshold", ~correct[accepted], dataset))
    if decision.conformal is not None:
        true = probabilities[np.arange(len(classes)), classes].astype(np.float64)
        metrics.append(share("conformal_coverage", 1.0 - true <= decision.conformal.quantile, dataset))
    return tuple(metrics)


def mean_per_class(predicted: npt.NDArray[np.int64], classes: npt.NDArray[np.int64], dataset: str) -> Metric:
    """The accuracy of each class, averaged: small classes count as much as large ones."""
    shares = [
        (predicted[classes == class_id] == class_id, np.sum(classes == class_id)) for class_id in np.unique(classes)
    ]
    value = float(np.mean([hits.mean() for hits, _ in shares]))
    spread = float(np.sqrt(np.sum([hits.var() / n for hits, n in shares])) / len(shares))
    return Metric(
        name="mean_per_class_accuracy",
        value=value,
        low=max(0.0, value - 1.96 * spread),
        high=min(1.0, value + 1.96 * spread),
        interval="normal",
        n=len(classes),
        dataset=dataset,
    )


def share(name: str, hits: npt.NDArray[np.bool_], dataset: str) -> Metric:
    """The share of hits with its Wilson interval."""
    interval = binomtest(int(hits.sum()), len(hits)).proportion_ci(CONFIDENCE_LEVEL, method="wilson")
    return Metric(
        name=name,
        value=float(hits.mean()),
        low=min(float(interval.low), float(hits.mean())),
        high=max(float(interval.high), float(hits.mean())),
        interval="wilson",
        n=len(hits),
        dataset=dataset,
    )


def load_folder(folder: Path, manifest: Manifest) -> Split:
    """Pictures in a folder for each class, named by label, label id or class id, as the model's input.

    Raises `DataError` for a folder that names no class, and names a file that can't be read.
    """
    images, classes = [], []
    for path in tqdm(_pictures(folder), desc=f"reading {folder}", unit=" files", disable=None):
        class_id = _class_id(path.parent.name, manifest.labels)
        try:
            images.append(load_image(path.read_bytes(), manifest.input))
        except ImageError as error:
            raise DataError(f"{path}: {error}") from error
        classes.append(class_id)
    if not images:
        raise DataError(f"{folder} holds no pictures in folders named after classes of {manifest.name}")
    return Split(np.stack(images), np.asarray(classes, dtype=np.int64))


def _pictures(folder: Path) -> list[Path]:
    suffixes = {f".{name.lower()}" for name in (*FORMATS, "jpg", "tif")}
    return sorted(path for path in folder.glob("*/*") if path.suffix.lower() in suffixes)


def _class_id(name: str, labels: tuple[Label, ...]) -> int:
    wanted = (name.casefold(), name.replace("_", " ").casefold())
    for attribute in ("id", "name"):
        found = [i for i, label in enumerate(labels) if (getattr(label, attribute) or "").casefold() in wanted]
        if len(found) == 1:
            return found[0]
        if found:
            raise DataError(f"'{name}' is the name of {len(found)} classes; name the folder by the label's id")
    if name.isdecimal() and int(name) < len(labels):
        return int(name)
    raise DataError(f"no class is called '{name}'; expected a label such as '{labels[0].name}', its id or its number")


def _bootstrap_rows(n: int) -> list[npt.NDArray[np.int64]]:
    random = np.random.default_rng(0)
    return [random.integers(0, n, n) for _ in range(_BOOTSTRAP_SAMPLES)]


def _normal(name: str, value: float, spread: float, n: int, dataset: str) -> Metric:
    """Normal interval around the value; resampling biases calibration errors upward, so percentiles would not do."""
    reach = 1.96 * spread
    return Metric(
        name=name,
        value=value,
        low=max(0.0, value - reach),
        high=value + reach,
        interval="normal, bootstrap standard error" if name.startswith("ece") else "normal",
        n=n,
        dataset=dataset,
    )
