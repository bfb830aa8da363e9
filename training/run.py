"""A recipe from its data to a published version, one call a stage."""

import time
from collections.abc import Sequence
from pathlib import Path

import keras
import tensorflow as tf

from models.manifest import Manifest
from models.repository import ModelRepository, VersionFolder
from training import architectures, export, provenance, report, views
from training.checkpoint import REPORT, Checkpoint
from training.conclude import Outputs, conclude
from training.fit import fit
from training.recipe import Recipe
from training.splits import DataError, Dataset, Split, split


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

    trained = fit(build, splits, recipe, checkpoint, strategy, callbacks)
    network = views.averaged(trained.network, recipe.views)
    said = f", mean of {recipe.views} views" if recipe.views > 1 else ""
    test = _outputs(network, splits.test, f"{dataset.source}, test{said}")
    conclusion = conclude(
        _outputs(network, splits.calibration, f"{dataset.source}, held out for calibration{said}"),
        _outputs(network, splits.decision, f"{dataset.source}, held out for decisions{said}"),
        test,
    )
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
            settings=recipe.model_dump(mode="json"),
            seed=recipe.seed,
            dataset=splits.record(dataset),
            pretrained=None,
            wall_seconds=trained.seconds_before + time.monotonic() - started,
        ),
    )
    folder = export.publish(network, conclusion.temperature, draft, splits.decision.images[:256], repository)
    manifest = repository.read(folder)
    if checkpoint is not None:
        findings = report.Findings(manifest, trained.history, splits.test, test.logits, trained.network)
        report.write(findings, checkpoint.folder / REPORT)
    return folder, manifest


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


def _outputs(network: keras.Model, split: Split, source: str) -> Outputs:
    return Outputs(network.predict(split.images, batch_size=256, verbose=0)["logits"], split.classes, source)
