"""A recipe from its data to a published version, one call a stage."""

import time
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from models.manifest import Manifest
from models.repository import ModelRepository, VersionFolder
from training import architectures, export, features, provenance, report, views
from training.checkpoint import REPORT, Checkpoint
from training.conclude import Conclusion, Outputs, conclude
from training.fit import fit
from training.recipe import Recipe
from training.splits import DataError, Dataset, Splits, split, spread


def run(
    name: str,
    recipe: Recipe,
    dataset: Dataset,
    repository: ModelRepository,
    checkpoint: Checkpoint | None = None,
    strategy: tf.distribute.Strategy | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> tuple[VersionFolder, Manifest]:
    """Train, calibrate, evaluate and publish. `name` is the recipe's, for the manifest.

    With a checkpoint, training goes on from it, and the report of the run lies in its folder.
    """
    started = time.monotonic()
    size, wanted = dataset.train.images.shape[1:3], (recipe.input.height, recipe.input.width)
    if size != wanted:
        raise DataError(f"{dataset.name} has pictures of {size}, the recipe's input is {wanted} (height, width)")
    keras.utils.set_random_seed(recipe.seed)
    splits = split(dataset, recipe.validation_size, recipe.calibration_size, recipe.decision_size)

    def build(*, any_size: bool = False) -> keras.Model:
        height, width = (None, None) if any_size else wanted
        return architectures.build(recipe.architecture, height, width, len(dataset.labels))

    devices = 1 if strategy is None else strategy.num_replicas_in_sync
    trained = fit(build, splits, recipe, checkpoint, strategy, callbacks)
    network = views.stacked(trained.network, recipe.views)
    conclusion, test_logits = measure(network, splits, dataset.source)
    draft = export.draft(
        name=recipe.model,
        description=recipe.description,
        architecture=recipe.architecture,
        network=network,
        spec=recipe.input,
        labels=dataset.labels,
        conclusion=conclusion,
        provenance=provenance.record(
            name,
            settings=recipe.model_dump(mode="json") | ({"devices": devices} if devices > 1 else {}),
            seed=recipe.seed,
            dataset=splits.record(dataset),
            pretrained=None,
            wall_seconds=trained.seconds_before + time.monotonic() - started,
        ),
    )
    folder = export.publish(network, conclusion.temperature, draft, spread(splits.decision.images, 256), repository)
    manifest = repository.read(folder)
    if checkpoint is not None:
        with report.after(folder):
            findings = report.Findings(manifest, trained.history, splits.test, test_logits, trained.network)
            report.write(findings, checkpoint.folder / REPORT)
    return folder, manifest


def measure(network: keras.Model, splits: Splits, source: str) -> tuple[Conclusion, npt.NDArray[np.float32]]:
    """What held-out pictures and those for test say of a network of one or several views, and its logits on test."""
    shape = network.output["logits"].shape
    said = f", mean of {shape[1]} views" if len(shape) == 3 else ""
    read = features.reader(network, "logits")
    calibration, decision, test = (
        Outputs(read(part.images, np.arange(len(part))), part.classes, f"{source}, {name}{said}")
        for part, name in (
            (splits.calibration, "held out for calibration"),
            (splits.decision, "held out for decisions"),
            (splits.test, "test"),
        )
    )
    return conclude(calibration, decision, test), test.logits


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
