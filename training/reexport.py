"""A published version, exported again: its weights and figures, in files as they are written today."""

from datetime import UTC, datetime

import keras
import numpy as np

from models.manifest import GOLDEN_FILE
from models.repository import ModelRepository, VersionFolder
from training import backbones, export, views


def reexport(repository: ModelRepository, folder: VersionFolder) -> VersionFolder:
    """Publish the version's network under the next number, with what exports of its time did not have: heat maps.

    Nothing is trained. Raises a `RepositoryError` or a `DataError` where no network can be restored from it,
    `ExportError` where that network does not give the probabilities of its golden examples.
    """
    manifest = repository.read(folder)
    repository.verify(folder, manifest)
    temperature = manifest.calibration.temperature
    network = views.averaged(backbones.restore(folder, manifest), _views(manifest.provenance.settings))
    with np.load(folder.path / GOLDEN_FILE) as golden:
        images, expected = golden["images"], golden["probabilities"]
    logits = network(images.astype("float32"), training=False)["logits"]
    found = keras.ops.convert_to_numpy(keras.ops.softmax(logits / temperature))
    difference = float(np.abs(found - expected).max())
    if not difference <= export.GOLDEN_TOLERANCE["f32"]:
        raise export.ExportError(f"{folder.path}: restored, it is off by {difference:.4f} in a probability")
    draft = manifest.model_copy(update={"created_at": datetime.now(UTC).replace(microsecond=0)})
    return export.publish(network, temperature, draft, images, repository)


def _views(settings: dict[str, object]) -> int:
    number = settings.get("views", 1)
    return number if isinstance(number, int) else 1
