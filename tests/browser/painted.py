"""`python -m tests.browser.painted`: the service with an engine that sees nothing but colours.

Its answers follow from the picture's first pixel, its heat maps from where the picture is green. While the file HELD_BY
exists, it computes none but its self-test.
"""

import os
import sys
import time
from pathlib import Path

import numpy as np

from app.inference import engines
from app.inference.engines.base import Explanation
from models.indexes import fingerprint
from models.manifest import Abstention, Calibration, Conformal, Decision, InputSpec, Label, Manifest, ReliabilityBin
from models.repository import ModelRepository, VersionFolder
from tests import indexes
from tests.app.conftest import GOLDEN_SHADE, FakeEngine, publish, shades

HOSTILE = "<img src=x onerror=alert(1)>"
THRESHOLD = 0.55
SET_FROM = 0.3  # confidence from which a class is in the prediction set
INPUT = InputSpec(height=2, width=2)
ONES = (3, 12, 1, 6)  # in each embedding of the index, of 12 numbers


def write_models(root: Path) -> None:
    """`cups`, which knows when it does not know and has an index, and `plain`: never measured, older than heat maps."""
    labels = [Label(name=name) for name in ("dark", "bright", HOSTILE)]
    shown_to = {"n": 100, "dataset": "made up"}
    decision = Decision(
        abstention=Abstention(threshold=THRESHOLD, target_risk=0.02, confidence_level=0.95, coverage=0.9, **shown_to),
        conformal=Conformal(alpha=0.1, quantile=1 - SET_FROM, **shown_to),
    )
    bins = (ReliabilityBin(confidence=0.6, accuracy=0.5, n=20), ReliabilityBin(confidence=0.91, accuracy=0.9, n=80))
    calibration = Calibration(method="temperature", temperature=1.3, fitted_on="made up", n=100, reliability=bins)
    cups = publish(root, "cups", labels=labels, decision=decision, calibration=calibration, input=INPUT)
    publish(root, "plain")
    embeddings = np.array([[place < ones for place in range(INPUT.height * INPUT.width * 3)] for ones in ONES], "f4")
    indexes.publish(root, embeddings, model_sha256=fingerprint(ModelRepository(root).read(cups)))


class PaintedEngine(FakeEngine):
    """'bright' is the first pixel's red as a fraction, 'dark' the rest."""

    def __init__(self, folder: VersionFolder, manifest: Manifest) -> None:
        super().__init__(folder, manifest)
        self._explains = manifest.name == "cups"

    def infer(self, images: np.ndarray) -> np.ndarray:
        while _held_by.exists() and not (images == GOLDEN_SHADE).all():
            time.sleep(0.01)
        return shades(images, self.classes)

    def explain(self, images: np.ndarray, class_ids: np.ndarray) -> Explanation:
        """Evidence for 'bright' is green, for every other class blue; the embedding is the picture."""
        channel = np.where(class_ids == 1, 1, 2)
        evidence = images[np.arange(len(images)), :, :, channel].astype(np.float32) / 255
        embedding = images.reshape(len(images), -1).astype(np.float32)
        return Explanation(shades(images, self.classes), embedding, evidence if self._explains else None)


_held_by = Path(os.environ.get("HELD_BY", os.devnull + "-none"))

if __name__ == "__main__":
    from app.__main__ import main

    engines.choose = lambda *_: "painted"
    engines.lanes = lambda *_: 1
    engines.factory = lambda *_: PaintedEngine
    sys.exit(main())
