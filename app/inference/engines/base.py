"""What an engine is, and how a version proves itself on one."""

from typing import Protocol
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from models.manifest import GOLDEN_FILE, Manifest, Precision
from models.repository import VersionFolder

Images = npt.NDArray[np.uint8]
Probabilities = npt.NDArray[np.float32]


class EngineError(Exception):
    """An engine that can't be had here, or a version that it can't run as its manifest says."""


class Engine(Protocol):
    """One version, ready to compute. `infer` is called by one thread at a time."""

    name: str
    device: str
    precision: Precision

    def infer(self, images: Images) -> Probabilities:
        """uint8 [N, H, W, 3] -> float32 [N, C]."""


def prove(engine: Engine, folder: VersionFolder, manifest: Manifest, batch_sizes: tuple[int, ...]) -> None:
    """Compare the engine with golden.npz at every batch size, which warms each of them up as well.

    Raises `EngineError` where shapes, number of classes or probabilities are not as the manifest says.
    """
    images, expected = _golden(folder, manifest)
    tolerance = manifest.golden_tolerance[engine.precision]
    for size in batch_sizes:
        rows = np.arange(size) % len(images)
        found = engine.infer(np.ascontiguousarray(images[rows]))
        if found.shape != (size, len(manifest.labels)):
            raise EngineError(
                f"{folder.path}: the model gives {found.shape[1:]} probabilities, "
                f"the manifest has {len(manifest.labels)} labels"
            )
        difference = float(np.abs(found - expected[rows]).max())
        if not difference <= tolerance:
            raise EngineError(
                f"{folder.path}: a probability of {GOLDEN_FILE} is off by {difference:.4f} on {engine.name} "
                f"({engine.precision}), the manifest allows {tolerance}"
            )


def _golden(folder: VersionFolder, manifest: Manifest) -> tuple[Images, Probabilities]:
    try:
        # Opened here: numpy leaves a file open that it can't make sense of
        with (folder.path / GOLDEN_FILE).open("rb") as opened, np.load(opened) as file:
            images, probabilities = file["images"], file["probabilities"]
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        raise EngineError(f"{folder.path}: {GOLDEN_FILE} is unreadable: {error}") from error
    shape = (manifest.input.height, manifest.input.width, 3)
    if images.dtype != np.uint8 or images.shape[1:] != shape or not 0 < len(images) == len(probabilities):
        raise EngineError(
            f"{folder.path}: {GOLDEN_FILE} holds {images.dtype} {images.shape}, expected uint8 [n, *{shape}]"
        )
    if probabilities.shape[1:] != (len(manifest.labels),):
        raise EngineError(
            f"{folder.path}: {GOLDEN_FILE} has {probabilities.shape[1:]} probabilities, "
            f"the manifest has {len(manifest.labels)} labels"
        )
    return images, probabilities
