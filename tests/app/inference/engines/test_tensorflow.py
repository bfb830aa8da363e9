"""TensorFlow on a SavedModel made by hand; that of a trained model is for tests/contract."""

from pathlib import Path

import numpy as np
import pytest

from app.inference.engines import factory
from app.inference.engines.base import TOP_CLASS, EngineError, Unexplained, prove
from app.inference.engines.tensorflow import TensorFlowEngine, sees_gpu, tf
from models.manifest import Manifest
from models.repository import VersionFolder
from tests.app.conftest import manifest, publish, shades


def _version(
    root: Path, name: str = "cups", signature: str = "serving_default", *, heatmap: bool = True
) -> tuple[VersionFolder, Manifest]:
    """The fake engine's function as a SavedModel, which can explain it."""
    images = tf.TensorSpec((None, 2, 2, 3), tf.uint8, "images")

    class Fake(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = tf.Variable(1 / 255)

        def serve(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
            bright = tf.cast(images[:, 0, 0, 0], tf.float32) * self.scale
            return {"probabilities": tf.stack([1 - bright, bright, tf.zeros_like(bright)], axis=1)}

        def embed(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
            return {**self.serve(images), "embedding": tf.cast(images[:, 0, 0, :2], tf.float32) * self.scale}

        def explain(self, images: tf.Tensor, class_ids: tf.Tensor) -> dict[str, tf.Tensor]:
            chosen = tf.cast(class_ids, tf.float32)[:, None, None]
            return {**self.embed(images), "heatmap": tf.cast(images[..., 0], tf.float32) * self.scale + chosen}

    folder = publish(root, name)
    (folder.path / "saved_model.pb").unlink()
    model = Fake()
    explain = (
        tf.function(model.explain, input_signature=[images, tf.TensorSpec((None,), tf.int32, "class_ids")])
        if heatmap
        else tf.function(model.embed, input_signature=[images])
    )
    signatures = {"explain": explain, signature: tf.function(model.serve, input_signature=[images])}
    tf.saved_model.save(model, str(folder.path), signatures=signatures)
    return folder, manifest()


def _pictures(count: int) -> np.ndarray:
    return np.arange(count, dtype=np.uint8)[:, None, None, None] * np.full((1, 2, 2, 3), 20, np.uint8)


def test_probabilities_are_those_of_the_model_at_any_batch_size(tmp_path: Path) -> None:
    folder, read = _version(tmp_path)
    engine = factory("tensorflow", "auto", 1)(folder, read)
    assert (engine.name, engine.device, engine.precision) == ("tensorflow", "GPU" if sees_gpu() else "CPU", "f32")
    prove(engine, folder, read, 2)
    pictures = _pictures(8)
    for size in (1, 8, 3):
        found = engine.infer(pictures[:size])
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, shades(pictures[:size]), atol=1e-6)


def test_explanation_has_the_heat_map_of_the_class_that_is_asked_for(tmp_path: Path) -> None:
    engine, pictures = TensorFlowEngine(*_version(tmp_path), "f32"), _pictures(3)
    found = engine.explain(pictures, np.array([2, 0, TOP_CLASS], np.int32))

    bright = shades(pictures)[:, 1]
    np.testing.assert_allclose(found.probabilities, shades(pictures), atol=1e-6)
    np.testing.assert_allclose(found.embedding, np.stack([bright, bright], axis=1), atol=1e-6)
    assert found.heatmap is not None
    assert found.heatmap.shape == (3, 2, 2)
    np.testing.assert_allclose(found.heatmap[:, 1, 0], bright + np.array([2, 0, -1]), atol=1e-6)


def test_explanation_of_a_version_from_before_heat_maps_has_its_embedding(tmp_path: Path) -> None:
    engine = TensorFlowEngine(*_version(tmp_path, heatmap=False), "f32")
    found = engine.explain(_pictures(3), np.zeros(3, np.int32))

    assert found.heatmap is None
    np.testing.assert_allclose(found.embedding[:, 0], shades(_pictures(3))[:, 1], atol=1e-6)


def test_version_that_cannot_explain_says_so(tmp_path: Path) -> None:
    folder, read = _version(tmp_path)
    engine = TensorFlowEngine(folder, read, "f32")
    (folder.path / "saved_model.pb").unlink()
    with pytest.raises(EngineError, match="TensorFlow can't load explain"):
        engine.explain(_pictures(1), np.zeros(1, np.int32))


def test_version_from_before_explanations_says_so(tmp_path: Path) -> None:
    engine = TensorFlowEngine(*_version(tmp_path), "f32")
    tf.saved_model.save(tf.Module(), str(engine._path))
    with pytest.raises(Unexplained):
        engine.load_explanations()


def test_version_that_cannot_be_loaded_is_refused(tmp_path: Path) -> None:
    without_signature = _version(tmp_path, "cups", "other")
    damaged, without_model = publish(tmp_path, "mugs"), publish(tmp_path, "jugs")
    (damaged.path / "saved_model.pb").write_bytes(b"\xff" * 100)
    (without_model.path / "saved_model.pb").unlink()
    for version in (without_signature, (damaged, manifest()), (without_model, manifest())):
        with pytest.raises(EngineError, match="TensorFlow can't load serving_default"):
            TensorFlowEngine(*version, "f32")


def test_bf16_is_refused_before_any_model_is_loaded() -> None:
    with pytest.raises(EngineError, match=r"^PRECISION=bf16 needs the OpenVINO engine"):
        factory("tensorflow", "bf16", 1)
