"""A recipe from its data to a published version, one call a stage."""

import time
from datetime import UTC, datetime
from pathlib import Path

import keras
import numpy as np

from models.manifest import (
    Abstention,
    Architecture,
    Calibration,
    Conformal,
    Decision,
    Manifest,
    Provenance,
)
from models.repository import ModelRepository, VersionFolder
from training import architectures, calibrate, data, evaluate, export, provenance
from training.data import Dataset, Split, Splits
from training.fit import fit
from training.recipe import Recipe

TARGET_RISK = 0.02
CONFIDENCE_LEVEL = 0.95
ALPHA = 0.1


def run(name: str, recipe: Recipe, dataset: Dataset, repository: ModelRepository) -> tuple[VersionFolder, Manifest]:
    """Train, calibrate, evaluate and publish. `name` is the recipe's, for the manifest."""
    started = time.monotonic()
    size, wanted = dataset.train.images.shape[1:3], (recipe.input.height, recipe.input.width)
    if size != wanted:
        raise data.DataError(f"{dataset.name} has pictures of {size}, the recipe's input is {wanted} (height, width)")
    keras.utils.set_random_seed(recipe.seed)
    splits = data.split(dataset, recipe.validation_size, recipe.calibration_size, recipe.decision_size)

    def build() -> keras.Model:
        return architectures.build(recipe.architecture, recipe.input.height, recipe.input.width, len(dataset.labels))

    network = fit(build, splits, recipe)

    test = f"{dataset.source}, test"
    temperature, calibration = calibrate_on(network, splits, dataset)
    probabilities = calibrate.scale(_logits(network, splits.test), temperature).astype(np.float32)
    decision = decide_on(network, temperature, splits, f"{dataset.source}, held out for decisions")
    draft = Manifest(
        name=recipe.model,
        version=1,
        description=recipe.description,
        created_at=datetime.now(UTC).replace(microsecond=0),
        architecture=Architecture(name=recipe.architecture, parameters=network.count_params()),
        input=recipe.input,
        labels=dataset.labels,
        calibration=calibration,
        decision=decision,
        metrics=(
            *evaluate.figures(probabilities, splits.test.classes, test),
            *evaluate.decision_figures(probabilities, splits.test.classes, decision, test),
        ),
        provenance=Provenance(
            recipe=name,
            settings=recipe.model_dump(mode="json"),
            git_commit=provenance.git_commit(),
            seed=recipe.seed,
            dataset=splits.record(dataset),
            pretrained=None,
            libraries=provenance.libraries(),
            device=provenance.device(),
            wall_seconds=round(time.monotonic() - started, 1),
        ),
        golden_tolerance=export.GOLDEN_TOLERANCE,
        files={},
    )
    folder = export.publish(network, temperature, draft, splits.decision.images[:256], repository)
    return folder, repository.read(folder)


def calibrate_on(network: keras.Model, splits: Splits, dataset: Dataset) -> tuple[float, Calibration]:
    """The temperature fitted on `splits.calibration`, with the calibration error on test before and after it."""
    temperature = calibrate.fit_temperature(_logits(network, splits.calibration), splits.calibration.classes)
    logits, test = _logits(network, splits.test), f"{dataset.source}, test"
    before, after = (
        evaluate.calibration_figures(calibrate.scale(logits, t), splits.test.classes, test) for t in (1.0, temperature)
    )
    return temperature, Calibration(
        method="temperature",
        temperature=temperature,
        fitted_on=f"{dataset.source}, held out for calibration",
        n=len(splits.calibration),
        before=before,
        after=after,
    )


def decide_on(network: keras.Model, temperature: float, splits: Splits, description: str) -> Decision:
    """Abstention threshold and conformal quantile from `splits.decision`, which chose nothing before.

    `splits.calibration` says where the search for the threshold begins.
    """
    pilot, probabilities = (
        calibrate.scale(_logits(network, split), temperature) for split in (splits.calibration, splits.decision)
    )
    judged = calibrate.judge(probabilities, splits.decision.classes)
    threshold = calibrate.abstention_threshold(
        calibrate.judge(pilot, splits.calibration.classes), judged, TARGET_RISK, CONFIDENCE_LEVEL
    )
    n = len(splits.decision)
    abstention = (
        threshold
        if threshold is None
        else Abstention(
            threshold=threshold,
            target_risk=TARGET_RISK,
            confidence_level=CONFIDENCE_LEVEL,
            coverage=float((judged.confidence >= threshold).mean()),
            n=n,
            dataset=description,
        )
    )
    quantile = calibrate.conformal_quantile(probabilities, splits.decision.classes, ALPHA)
    conformal = Conformal(alpha=ALPHA, quantile=quantile, n=n, dataset=description)
    return Decision(abstention=abstention, conformal=conformal)


def summary(folder: VersionFolder, manifest: Manifest, root: Path) -> str:
    """One line: what was reached and where it lies."""
    figures = {metric.name: metric for metric in manifest.metrics}
    where = f"published {folder.name} version {folder.version} in {root / folder.name / str(folder.version)}"
    if "accuracy" not in figures:
        return f"{where}; no test data came with it, so there are no figures"
    accuracy, error = figures["accuracy"], figures["ece_equal_width"]
    return (
        f"{where}: accuracy {accuracy.value:.2%} ({accuracy.low:.2%} to {accuracy.high:.2%}), "
        f"ECE {error.value:.2%}, n = {accuracy.n:,} ({accuracy.dataset})"
    )


def _logits(network: keras.Model, split: Split) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    outputs = network.predict(split.images, batch_size=256, verbose=0)
    logits: np.ndarray[tuple[int, int], np.dtype[np.float32]] = outputs["logits"]
    return logits
