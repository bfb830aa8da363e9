"""A version exported again: its probabilities and figures, with what exports have today."""

import dataclasses
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import openvino as ov
import pytest
import tensorflow as tf
from scipy.special import softmax

from models.manifest import MANIFEST_FILE
from models.repository import InvalidVersion, ModelRepository
from training import export, views
from training.__main__ import main
from training.commands import versions
from training.evaluate import predict
from training.export import ExportError
from training.reexport import recalibrate, reexport
from training.splits import DataError, Split


@pytest.fixture
def repository(minute: SimpleNamespace, tmp_path: Path) -> ModelRepository:
    shutil.copytree(minute.folder.path.parent, tmp_path / "minute")
    return ModelRepository(tmp_path)


def _edit(repository: ModelRepository, part: str, **values: object) -> None:
    """Change what the manifest of version 1 says."""
    path = repository.root / "minute" / "1" / MANIFEST_FILE
    manifest = json.loads(path.read_text(encoding="utf-8"))
    manifest[part].update(values)
    path.write_text(json.dumps(manifest), encoding="utf-8")


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


def test_reliability_diagram_is_read_where_there_was_none(minute: SimpleNamespace, repository: ModelRepository) -> None:
    folder = reexport(repository, repository.find("minute"), minute.dataset.test)

    found, wanted = (repository.read(one).calibration.reliability for one in (folder, minute.folder))
    assert [one.n for one in found] == [one.n for one in wanted]
    assert [one.accuracy for one in found] == [one.accuracy for one in wanted]
    assert [one.confidence for one in found] == pytest.approx([one.confidence for one in wanted], abs=1e-5)


def test_a_version_of_other_probabilities_than_its_golden_ones_is_not_published(
    minute: SimpleNamespace, repository: ModelRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    def other(network: keras.Model, _: int) -> keras.Model:
        network.layers[-1].set_weights([-weights for weights in network.layers[-1].get_weights()])
        return network

    monkeypatch.setattr(views, "stacked", other)
    with pytest.raises(ExportError, match=r"restored, it is off by 0\.\d+ in a probability"):
        reexport(repository, repository.find("minute"))
    with pytest.raises(ExportError, match=r"restored, it is off by 0\.\d+ in a probability"):
        recalibrate(repository, repository.find("minute"), minute.dataset)
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
        export.save(views.stacked(network, number), 2.0, tmp_path / name)

    images = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), np.uint8)
    class_ids = np.array([0, 1, 2, 0], np.int32)
    one, six = (
        tf.saved_model.load(str(tmp_path / name)).signatures["explain"](
            images=tf.constant(images), class_ids=tf.constant(class_ids)
        )
        for name in ("one", "six")
    )
    np.testing.assert_allclose(six["heatmap"], one["heatmap"], rtol=1e-4, atol=1e-7)
    seen = keras.ops.convert_to_numpy(views.stacked(network, 6)(images.astype("float32"), training=False)["logits"])
    expected = softmax(seen / 2.0, axis=2).mean(axis=1)
    np.testing.assert_allclose(six["probabilities"], expected, rtol=1e-4, atol=1e-6)
    assert np.abs(expected - one["probabilities"]).max() > 0.001
    ir = ov.Core().compile_model(tmp_path / "six" / "openvino" / "model.xml", "CPU")
    found = ir({"images": images, "class_ids": class_ids})
    np.testing.assert_allclose(found["probabilities"], expected, atol=0.02)
    np.testing.assert_allclose(found["heatmap"], one["heatmap"], rtol=0.05, atol=0.05 * np.abs(one["heatmap"]).max())


def test_calibrated_again_it_has_the_figures_of_the_run(
    minute: SimpleNamespace,
    repository: ModelRepository,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _edit(repository, "calibration", n=1, after=[])
    _edit(repository, "decision", abstention=None)
    monkeypatch.setattr(versions, "known_dataset", lambda manifest, path: minute.dataset)

    assert main(["--models", str(repository.root), "export", "minute", "--recalibrate"]) == 0

    assert capsys.readouterr().out.startswith("published minute version 2 in ")
    after = repository.read(repository.find("minute"))
    assert (after.calibration.n, len(after.calibration.after)) == (130, 3)
    assert after.calibration.temperature == pytest.approx(minute.manifest.calibration.temperature, rel=1e-3)
    assert after.decision.conformal.quantile == pytest.approx(minute.manifest.decision.conformal.quantile, abs=1e-3)
    found, wanted = ({one.name: one.value for one in each.metrics} for each in (after, minute.manifest))
    assert found == pytest.approx(wanted, abs=1e-3)
    assert after.provenance == minute.manifest.provenance
    probabilities = predict(repository.find("minute").path, minute.dataset.test.images)
    np.testing.assert_allclose(probabilities, predict(minute.folder.path, minute.dataset.test.images), atol=1e-3)


def test_what_was_held_out_must_be_known_to_calibrate_again(
    minute: SimpleNamespace, repository: ModelRepository
) -> None:
    folder = repository.find("minute")
    test = minute.dataset.test
    mirrored = dataclasses.replace(minute.dataset, test=Split(test.images[:, :, ::-1], test.classes))
    with pytest.raises(DataError, match=r"quarters, made up is not what .*/minute/1 was trained on"):
        recalibrate(repository, folder, mirrored)
    _edit(repository, "provenance", dataset=None)
    with pytest.raises(DataError, match=r"can't be calibrated again, .* it was trained elsewhere"):
        recalibrate(repository, folder, minute.dataset)
    assert len(repository.versions()) == 1


def test_of_a_head_on_a_backbone_it_is_said_at_once_that_it_is_not_calibrated_again(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["export", "caltech101", "--recalibrate", "--data", str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert "caltech101 can't be calibrated again" in said
    assert "a new run does it" in said


def test_where_views_may_be_averaged_in_another_way_it_is_said_what_helps(
    minute: SimpleNamespace, repository: ModelRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = minute.manifest.provenance.settings | {"views": 2}
    _edit(repository, "provenance", settings=settings)

    def blind(network: keras.Model, _: int) -> keras.Model:
        network.layers[-1].set_weights([0 * weights for weights in network.layers[-1].get_weights()])
        return network

    monkeypatch.setattr(views, "stacked", blind)
    with pytest.raises(ExportError, match="and not published; with --recalibrate, it may be"):
        reexport(repository, repository.find("minute"))
