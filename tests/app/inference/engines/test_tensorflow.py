"""TensorFlow on a SavedModel made by hand; that of a trained model is for tests/contract."""

from pathlib import Path

import numpy as np
import pytest

from app.inference.engines import factory
from app.inference.engines.base import EngineError, prove
from app.inference.engines.tensorflow import TensorFlowEngine, sees_gpu, tf
from models.manifest import Manifest
from models.repository import VersionFolder
from tests.app.conftest import manifest, publish, shades


def _version(root: Path, name: str = "cups", signature: str = "serving_default") -> tuple[VersionFolder, Manifest]:
    """The fake engine's function as a SavedModel."""

    class Fake(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = tf.Variable(1 / 255)

        @tf.function(input_signature=[tf.TensorSpec((None, 2, 2, 3), tf.uint8, "images")])
        def serve(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
            bright = tf.cast(images[:, 0, 0, 0], tf.float32) * self.scale
            return {"probabilities": tf.stack([1 - bright, bright, tf.zeros_like(bright)], axis=1)}

    folder = publish(root, name)
    (folder.path / "saved_model.pb").unlink()
    model = Fake()
    tf.saved_model.save(model, str(folder.path), signatures={signature: model.serve})
    return folder, manifest()


def test_probabilities_are_those_of_the_model_at_any_batch_size(tmp_path: Path) -> None:
    folder, read = _version(tmp_path)
    engine = factory("tensorflow", "auto", 1)(folder, read)
    assert (engine.name, engine.device, engine.precision) == ("tensorflow", "GPU" if sees_gpu() else "CPU", "f32")
    prove(engine, folder, read, 2)
    pictures = np.arange(8, dtype=np.uint8)[:, None, None, None] * np.full((1, 2, 2, 3), 20, np.uint8)
    for size in (1, 8, 3):
        found = engine.infer(pictures[:size])
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, shades(pictures[:size]), atol=1e-6)


def test_version_that_cannot_be_loaded_is_refused(tmp_path: Path) -> None:
    without_signature = _version(tmp_path, "cups", "explain")
    damaged, without_model = publish(tmp_path, "mugs"), publish(tmp_path, "jugs")
    (damaged.path / "saved_model.pb").write_bytes(b"\xff" * 100)
    (without_model.path / "saved_model.pb").unlink()
    for version in (without_signature, (damaged, manifest()), (without_model, manifest())):
        with pytest.raises(EngineError, match="TensorFlow can't load serving_default"):
            TensorFlowEngine(*version, "f32")


def test_bf16_is_refused_before_any_model_is_loaded() -> None:
    with pytest.raises(EngineError, match=r"^PRECISION=bf16 needs the OpenVINO engine"):
        factory("tensorflow", "bf16", 1)
