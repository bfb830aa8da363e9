"""What an engine is, and how a version proves itself on one."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from models.manifest import GOLDEN_FILE, Manifest, Precision
from models.repository import VersionFolder

Images = npt.NDArray[np.uint8]
ClassIds = npt.NDArray[np.int32]
Probabilities = npt.NDArray[np.float32]

# What exported models call their inputs and outputs
IMAGES, CLASS_IDS = "images", "class_ids"
PROBABILITIES, EMBEDDING, HEATMAP = "probabilities", "embedding", "heatmap"

TOP_CLASS = -1  # in place of a class id


class EngineError(Exception):
    """An engine that can't be had here, or a version that it can't run as its manifest says."""


class Unexplained(EngineError):
    """A version that holds nothing that explains it."""

    def __init__(self) -> None:
        super().__init__("the version was exported without explanations; export it again")


Infer = Callable[[Images], Probabilities]


@dataclass(frozen=True)
class Explanation:
    """What lies behind the answers to N images.

    probabilities float32 [N, C]; embedding float32 [N, D], which the last dense layer reads; heatmap float32 [N, h, w],
    where the evidence for a class lies: against it where negative, and of no scale. Versions that were exported before
    there were heat maps have None.
    """

    probabilities: Probabilities
    embedding: npt.NDArray[np.float32]
    heatmap: npt.NDArray[np.float32] | None


class Engine(Protocol):
    """One version, ready to compute.

    `infer` computes with all that the device has. `lanes` compute side by side, each with a share of the device: under
    load, two batches on a core each are done sooner than one batch on two cores, which wait for each other after every
    layer. An engine without lanes computes one batch at a time. Each function is called by one thread at a time.
    """

    name: str
    device: str
    precision: Precision

    @property
    def lanes(self) -> Sequence[Infer]:
        """Empty where there are none."""

    def infer(self, images: Images) -> Probabilities:
        """uint8 [N, H, W, 3] -> float32 [N, C]."""

    def load_rest(self, check: Callable[[Infer], None]) -> None:
        """Load what it can do without at first, beside all else that computes; nothing, if that is done.

        What takes the place of `infer` is given to `check` before. Raises what that does, or `EngineError`, and all
        stays as it was.
        """

    def load_explanations(self) -> None:
        """Load what `explain` needs, beside all else that computes; nothing, if that is done.

        Raises `Unexplained` where the version has nothing of that, `EngineError` where it can't be loaded.
        """

    def explain(self, images: Images, class_ids: ClassIds) -> Explanation:
        """Explain images uint8 [N, H, W, 3]; class_ids int32 [N] are those of the heat maps, or `TOP_CLASS`.

        Loads what it needs, if that has not been done, and raises as `load_explanations` then.
        """


def batch_sizes(max_batch_size: int) -> tuple[int, ...]:
    """The sizes that engines see: powers of two up to the largest, and that one."""
    powers = [2**i for i in range(max_batch_size.bit_length()) if 2**i < max_batch_size]
    return (*powers, max_batch_size)


def shared_out(max_batch_size: int, lanes: int) -> int:
    """The largest batch of a lane: all lanes together compute `max_batch_size` images at a time."""
    return max(1, max_batch_size // max(1, lanes))


def prove(engine: Engine, folder: VersionFolder, manifest: Manifest, max_batch_size: int) -> None:
    """Compare the engine with golden.npz at every batch size, which warms each of them up as well.

    Raises `EngineError` where shapes, number of classes or probabilities are not as the manifest says.
    """
    check = _check(engine, folder, manifest)
    if not engine.lanes:
        for size in reversed(batch_sizes(max_batch_size)):  # memory taken for the largest does for the others
            check(engine.infer, size)
        return
    check(engine.infer, 1)  # lanes compute whatever is more
    with ThreadPoolExecutor(len(engine.lanes)) as pool:  # at the same time, as later
        for size in reversed(batch_sizes(shared_out(max_batch_size, len(engine.lanes)))):
            list(pool.map(check, engine.lanes, [size] * len(engine.lanes)))


def complete(engine: Engine, folder: VersionFolder, manifest: Manifest) -> None:
    """Have the engine load the rest, which proves itself as well. Raises `EngineError`."""
    engine.load_rest(lambda infer: _check(engine, folder, manifest)(infer, 1))


def _check(engine: Engine, folder: VersionFolder, manifest: Manifest) -> Callable[[Infer, int], None]:
    """What raises `EngineError` where a batch of that size has other probabilities than golden.npz."""
    images, expected = _golden(folder, manifest)
    tolerance = manifest.golden_tolerance[engine.precision]

    def check(infer: Infer, size: int) -> None:
        rows = np.arange(size) % len(images)
        found = infer(np.ascontiguousarray(images[rows]))
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

    return check


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
