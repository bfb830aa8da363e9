"""A published version, exported again: its weights, in files as they are written today."""

from datetime import UTC, datetime

import keras
import numpy as np
import numpy.typing as npt

from models.manifest import GOLDEN_FILE, Manifest
from models.repository import ModelRepository, VersionFolder
from training import backbones, calibrate, conclude, evaluate, export, run, views
from training.splits import DataError, Dataset, Split, Splits, held_out, split, spread


def reexport(repository: ModelRepository, folder: VersionFolder, test: Split | None = None) -> VersionFolder:
    """Publish the version's network under the next number, with what exports of its time did not have: heat maps.

    `test`, of the version's own data set, is what its reliability diagram is read on; without, that stays as it was.
    Nothing is trained. Raises a `RepositoryError` or a `DataError` where no network can be restored from it,
    `ExportError` where that network does not give the probabilities of its golden examples.
    """
    manifest, network = _restored(repository, folder)
    temperature = manifest.calibration.temperature
    hint = "; with --recalibrate, it may be" if _views(manifest) > 1 else ""
    images = _compare(folder, network, temperature, export.GOLDEN_TOLERANCE["f32"], hint)
    draft = manifest.model_copy(update={"created_at": _now()})
    if test is not None:
        judged = calibrate.judge(evaluate.predict(folder.path, test.images), test.classes)
        bins = {"reliability": conclude.reliability(judged)}
        draft = draft.model_copy(update={"calibration": draft.calibration.model_copy(update=bins)})
    return export.publish(network, temperature, draft, images, repository)


def recalibrate(repository: ModelRepository, folder: VersionFolder, dataset: Dataset) -> VersionFolder:
    """Publish the version's network under the next number, with temperature, decisions and figures made anew.

    They are read on the pictures that its recipe held out of `dataset`, and those for test, as after a run. Raises
    what `reexport` does, and a `DataError` where these pictures can't be told from those it was trained on.
    """
    manifest, network = _restored(repository, folder)
    splits = _splits(folder, manifest, dataset)
    # Several views may have been averaged in another way
    tolerance = export.GOLDEN_TOLERANCE["f32" if _views(manifest) == 1 else "bf16"]
    _compare(folder, network, manifest.calibration.temperature, tolerance)
    conclusion, _ = run.measure(network, splits, dataset.source)
    draft = manifest.model_copy(update={"created_at": _now(), **conclusion._asdict()})
    return export.publish(network, conclusion.temperature, draft, spread(splits.decision.images, 256), repository)


def _restored(repository: ModelRepository, folder: VersionFolder) -> tuple[Manifest, keras.Model]:
    manifest = repository.read(folder)
    repository.verify(folder, manifest)
    return manifest, views.stacked(backbones.restore(folder, manifest), _views(manifest))


def _views(manifest: Manifest) -> int:
    number = manifest.provenance.settings.get("views", 1)
    return number if isinstance(number, int) else 1


def _compare(
    folder: VersionFolder, network: keras.Model, temperature: float, tolerance: float, hint: str = ""
) -> npt.NDArray[np.uint8]:
    """The golden images of the version, whose probabilities are those of the network."""
    with np.load(folder.path / GOLDEN_FILE) as golden:
        images: npt.NDArray[np.uint8] = golden["images"]
        expected = golden["probabilities"]
    difference = float(np.abs(export.probabilities_of(network, temperature, images) - expected).max())
    if not difference <= tolerance:
        raise export.ExportError(
            f"{folder.path}: restored, it is off by {difference:.4f} in a probability, and not published{hint}"
        )
    return images


def _splits(folder: VersionFolder, manifest: Manifest, dataset: Dataset) -> Splits:
    splits = split(dataset, *held_out(manifest))
    if splits.record(dataset) != manifest.provenance.dataset:
        raise DataError(f"{dataset.source} is not what {folder.path} was trained on: their checksums differ")
    return splits


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)
