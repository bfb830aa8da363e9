"""A version that OpenVINO computes in no time, and pictures that it tells apart."""

from pathlib import Path

import numpy as np
import openvino as ov
import openvino.opset13 as ops

from models.manifest import Abstention, Conformal, Decision, Manifest
from models.repository import ModelRepository, VersionFolder
from tests.app.conftest import GOLDEN_SHADE, manifest, shades

DECISION = Decision(
    abstention=Abstention(threshold=0.6, target_risk=0.1, confidence_level=0.9, coverage=0.8, n=10, dataset="shades"),
    conformal=Conformal(alpha=0.1, quantile=0.7, n=10, dataset="shades"),
)


def decided() -> Manifest:
    return manifest(decision=DECISION)


def publish_ir(root: Path) -> VersionFolder:
    """The fake engine's function as OpenVINO IR."""
    images = ops.parameter([-1, 2, 2, 3], np.uint8, name="images")
    bright = ops.reduce_mean(ops.divide(ops.convert(images, "f32"), np.float32(255)), np.array([1, 2, 3]))
    column = ops.unsqueeze(bright, np.array(1))
    found = ops.concat([ops.subtract(np.float32(1), column), column, ops.multiply(column, np.float32(0))], axis=1)
    found.output(0).set_names({"probabilities"})
    golden = np.full((2, 2, 2, 3), GOLDEN_SHADE, np.uint8)
    repository = ModelRepository(root)
    with repository.staging() as staged:
        (staged / "openvino").mkdir()
        ov.save_model(ov.Model([ops.result(found)], [images], "fake"), staged / "openvino" / "model.xml")
        np.savez(staged / "golden.npz", images=golden, probabilities=shades(golden))
        return repository.publish(staged, decided())
