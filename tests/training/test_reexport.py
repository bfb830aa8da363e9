"""A version exported again: its probabilities and figures, with what exports have today."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf

from models.repository import InvalidVersion, ModelRepository
from training import export, views
from training.__main__ import main
from training.evaluate import predict
from training.export import ExportError
from training.reexport import reexport


@pytest.fixture
def repository(minute: SimpleNamespace, tmp_path: Path) -> ModelRepository:
    shutil.copytree(minute.folder.path.parent, tmp_path / "minute")
    return ModelRepository(tmp_path)


def test_the_next_version_has_the_same_probabilities_and_figures(
    minute: SimpleNamespace, repository: ModelRepository, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--models", str(repository.root), "export", "minute"]) == 0

    assert capsys.readouterr().out.startswith("published minute version 2 in ")
    first, second = repository.versions()
    images = minute.dataset.test.images[:20]
    np.testing.assert_allclose(predict(second.path, images), predict(first.path, images), atol=1e-6)
    explain = tf.saved_model.load(str(second.path)).signatures["explain"]
    assert "heatmap" in explain.structured_outputs
    kept = ("metrics", "calibration", "decision", "labels", "provenance", "description")
    before, after = (repository.read(folder) for folder in (first, second))
    assert [getattr(after, name) for name in kept] == [getattr(before, name) for name in kept]
    assert after.created_at >= before.created_at


def test_a_version_of_other_probabilities_than_its_golden_ones_is_not_published(
    repository: ModelRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    def other(network: keras.Model, _: int) -> keras.Model:
        network.layers[-1].set_weights([-weights for weights in network.layers[-1].get_weights()])
        return network

    monkeypatch.setattr(views, "averaged", other)
    with pytest.raises(ExportError, match=r"restored, it is off by 0\.\d+ in a probability"):
        reexport(repository, repository.find("minute"))
    assert len(repository.versions()) == 1


def test_damaged_version_is_refused(repository: ModelRepository) -> None:
    folder = repository.find("minute")
    (folder.path / "saved_model.pb").write_bytes(b"")
    with pytest.raises(InvalidVersion):
        reexport(repository, folder)


def test_the_mean_of_views_is_exported_with_the_heat_map_of_the_picture_itself(tmp_path: Path) -> None:
    keras.utils.set_random_seed(0)
    pixels = keras.Input((8, 8, 3))
    features = keras.layers.Conv2D(4, 3, activation="relu")(keras.layers.Rescaling(1 / 255)(pixels))
    embedding = keras.layers.GlobalMaxPooling2D()(features)
    logits = keras.layers.Dense(3)(embedding)
    network = keras.Model(pixels, {"logits": logits, "embedding": embedding, "features": features}, name="small")
    for name, number in (("one", 1), ("six", 6)):
        (tmp_path / name).mkdir()
        export.save(views.averaged(network, number), 1.0, tmp_path / name)

    images = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), np.uint8)
    one, six = (
        tf.saved_model.load(str(tmp_path / name)).signatures["explain"](
            images=tf.constant(images), class_ids=tf.constant([0, 1, 2, 0])
        )["heatmap"]
        for name in ("one", "six")
    )
    np.testing.assert_allclose(six, 0.25 * one, rtol=1e-4, atol=1e-7)  # the weight of that view
