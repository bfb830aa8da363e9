"""The files of a version: what loads them finds what was trained, or nothing is published."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import openvino as ov
import pytest
import tensorflow as tf
from openvino import opset13 as opset
from scipy.special import softmax

from models.repository import ModelRepository, VersionFolder
from training import export
from training.evaluate import predict
from training.export import ExportError

TEMPERATURE = 2.5


def _network() -> keras.Model:
    keras.utils.set_random_seed(0)
    pixels = keras.Input((6, 5, 3))
    features = keras.layers.Conv2D(4, 3, activation="relu")(keras.layers.Rescaling(1 / 255)(pixels))
    embedding = keras.layers.GlobalAveragePooling2D()(features)
    logits = keras.layers.Dense(3, kernel_initializer="orthogonal")(keras.layers.Dropout(0.5)(embedding))
    logits = keras.layers.Rescaling(5.0)(logits)
    return keras.Model(pixels, {"logits": logits, "embedding": embedding, "features": features})


def _images(n: int) -> np.ndarray:
    return np.random.default_rng(4).integers(0, 256, (n, 6, 5, 3), dtype=np.uint8)


def test_a_version_holds_the_files_of_the_contract_and_their_checksums_verify(minute: SimpleNamespace) -> None:
    files = {path.relative_to(minute.folder.path).as_posix() for path in minute.folder.path.rglob("*")}

    assert files - {"manifest.json", "openvino", "variables"} == set(minute.manifest.files)
    assert set(minute.manifest.files) == {
        "saved_model.pb", "variables/variables.index", "variables/variables.data-00000-of-00001",
        "openvino/model.xml", "openvino/model.bin", "golden.npz",
    }  # fmt: skip
    minute.repository.verify(minute.folder, minute.repository.read(minute.folder))


_WITHOUT_KERAS = """
import sys
sys.modules["keras"] = sys.modules["tf_keras"] = None
import numpy as np, tensorflow as tf
model = tf.saved_model.load(sys.argv[1])
print(sorted(model.signatures))
images = tf.constant(np.load(sys.argv[2]))
for name in sorted(model.signatures):
    signature = model.signatures[name]
    _, inputs = signature.structured_input_signature
    print(sorted((key, spec.dtype.name, spec.shape.as_list()) for key, spec in inputs.items()))
    given = {key: tf.constant([-1, 0, 2]) for key in inputs if key == "class_ids"}
    outputs = signature(images=images, **given)
    print(sorted((key, value.dtype.name, value.shape.as_list()) for key, value in outputs.items()))
    np.save(sys.argv[2] + name, outputs["probabilities"].numpy())
"""


def test_the_saved_model_serves_both_endpoints_where_keras_is_not_installed(
    minute: SimpleNamespace, tmp_path: Path
) -> None:
    images = minute.dataset.test.images[:3]
    np.save(tmp_path / "images.npy", images)

    command = [sys.executable, "-c", _WITHOUT_KERAS, str(minute.folder.path), str(tmp_path / "images.npy")]
    done = subprocess.run(command, check=False, capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
    pixels = "('images', 'uint8', [None, 16, 16, 3])"
    assert done.stdout.splitlines() == [
        "['explain', 'serving_default']",
        f"[('class_ids', 'int32', [None]), {pixels}]",
        "[('embedding', 'float32', [3, 128]), ('features', 'float32', [3, 4, 4, 128]), "
        "('heatmap', 'float32', [3, 4, 4]), ('probabilities', 'float32', [3, 4])]",
        f"[{pixels}]",
        "[('probabilities', 'float32', [3, 4])]",
    ]
    explained, served = (np.load(tmp_path / f"images.npy{name}.npy") for name in ("explain", "serving_default"))
    np.testing.assert_allclose(explained, served, atol=1e-6)
    np.testing.assert_allclose(served, predict(minute.folder.path, images), atol=1e-5)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported")
    export.save(_network(), TEMPERATURE, folder)
    return folder


def test_probabilities_are_the_softmax_of_the_logits_over_the_temperature(exported: Path) -> None:
    images = _images(20)
    logits = keras.ops.convert_to_numpy(_network()(images.astype("float32"), training=False)["logits"])

    found = predict(exported, images)

    np.testing.assert_allclose(found, softmax(logits / TEMPERATURE, axis=1), atol=1e-5)
    # The network is sure enough for another temperature to show
    assert abs(found - softmax(logits, axis=1)).max() > 0.05


def _explain(folder: Path, images: np.ndarray, class_ids: list[int]) -> dict[str, np.ndarray]:
    explain = tf.saved_model.load(str(folder)).signatures["explain"]
    found = explain(images=tf.constant(images), class_ids=tf.constant(class_ids))
    return {name: array.numpy() for name, array in found.items()}


def _explain_by_ir(folder: Path, images: np.ndarray, class_ids: list[int]) -> dict[str, np.ndarray]:
    ir = ov.Core().compile_model(folder / "openvino" / "model.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    found = ir({"images": images, "class_ids": np.array(class_ids, np.int32)})
    return {port.get_any_name(): array for port, array in found.items()}


def test_explanations_are_the_embedding_and_the_feature_map_of_the_network(exported: Path) -> None:
    images = _images(3)
    expected = _network()(images.astype("float32"), training=False)

    found = _explain(exported, images, [-1, -1, -1])

    for name in ("embedding", "features"):
        np.testing.assert_allclose(found[name], expected[name], atol=1e-5)


def test_dropout_does_not_act_in_what_is_served(minute: SimpleNamespace) -> None:
    images = minute.dataset.test.images[:16]

    once, again = (_explain(minute.folder.path, images, [-1] * 16) for _ in range(2))

    assert np.array_equal(once["embedding"], again["embedding"])


def test_the_ir_gives_the_same_four_outputs_as_the_saved_model(minute: SimpleNamespace) -> None:
    images, class_ids = minute.dataset.test.images[:32], [-1, 0, 1, 2] * 8
    expected = _explain(minute.folder.path, images, class_ids)

    found = _explain_by_ir(minute.folder.path, images, class_ids)

    assert found.keys() == expected.keys() == {"probabilities", "embedding", "features", "heatmap"}
    np.testing.assert_allclose(found["probabilities"], expected["probabilities"], atol=0.02)
    for name in ("embedding", "features"):
        np.testing.assert_allclose(found[name], expected[name], atol=0.01 * abs(expected[name]).max())
    # A gradient jumps where rounding moves an activation over a ReLU's or a maximum's edge: a few images may differ
    difference = abs(found["heatmap"] - expected["heatmap"]).max(axis=(1, 2)) / abs(expected["heatmap"]).max()
    assert (difference < 0.01).mean() >= 0.75
    assert difference.max() < 0.2


def test_without_a_class_the_heat_map_is_that_of_the_top_one(minute: SimpleNamespace) -> None:
    folder, images = minute.folder.path, minute.dataset.test.images[:20]
    found = _explain(folder, images, [-1] * 20)
    top = found["probabilities"].argmax(axis=1)

    assert len(np.unique(top)) > 1
    np.testing.assert_allclose(found["heatmap"], _explain(folder, images, list(top))["heatmap"], atol=1e-6)
    assert not np.allclose(found["heatmap"], _explain(folder, images, list((top + 1) % 4))["heatmap"], atol=0.01)


def test_golden_examples_reproduce(minute: SimpleNamespace) -> None:
    with np.load(minute.folder.path / "golden.npz", allow_pickle=False) as golden:
        images, probabilities = golden["images"], golden["probabilities"]

    assert (images.dtype, images.shape) == (np.uint8, (8, 16, 16, 3))
    assert (probabilities.dtype, probabilities.shape) == (np.float32, (8, 4))
    np.testing.assert_allclose(predict(minute.folder.path, images), probabilities, atol=1e-5)


def test_golden_examples_are_the_surest_of_every_class_then_the_surest_of_all(minute: SimpleNamespace) -> None:
    candidates = minute.dataset.train.images[:100]
    probabilities = predict(minute.folder.path, candidates)
    confidence, top = probabilities.max(axis=1), probabilities.argmax(axis=1)

    found = export.golden(minute.folder.path, candidates)["probabilities"]

    surest = sorted((confidence[top == i].max() for i in np.unique(top)), reverse=True)
    rest = sorted(confidence, reverse=True)
    for each in surest:
        rest.remove(each)
    assert len(surest) > 1
    assert found.max(axis=1) == pytest.approx((surest + rest)[:8], abs=1e-5)


Publish = Callable[..., VersionFolder]


@pytest.fixture
def publish(minute: SimpleNamespace, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Publish:
    """`export.publish` into `tmp_path`, finding the files of `exported` written (and `ir`) instead of its own."""

    def publish(network: keras.Model, temperature: float, ir: Path | None = None) -> VersionFolder:
        def save(network: keras.Model, temperature: float, folder: Path) -> None:
            shutil.copytree(exported, folder, dirs_exist_ok=True)
            if ir is not None:
                shutil.copytree(ir, folder / "openvino", dirs_exist_ok=True)

        monkeypatch.setattr(export, "save", save)
        return export.publish(network, temperature, minute.manifest, _images(8), ModelRepository(tmp_path))

    return publish


def test_each_publication_takes_the_next_number_and_leaves_no_staging_folder(publish: Publish, tmp_path: Path) -> None:
    folders = [publish(_network(), TEMPERATURE) for _ in range(2)]

    assert [(folder.name, folder.version) for folder in folders] == [("minute", 1), ("minute", 2)]
    assert [path.name for path in tmp_path.iterdir()] == ["minute"]


def test_a_saved_model_of_another_temperature_is_not_published(publish: Publish, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"the SavedModel differs from the trained network by 0\.\d+ in a prob"):
        publish(_network(), TEMPERATURE / 5)
    assert list(tmp_path.iterdir()) == []


def test_a_network_that_diverged_is_not_published(publish: Publish, tmp_path: Path) -> None:
    network = _network()
    network.set_weights([np.full_like(weights, np.nan) for weights in network.get_weights()])

    with pytest.raises(ExportError, match="differs from the trained network by nan"):
        publish(network, TEMPERATURE)
    assert list(tmp_path.iterdir()) == []


def test_an_ir_of_another_network_is_not_published(
    publish: Publish, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    images = opset.parameter([-1, 6, 5, 3], np.uint8, name="images")
    class_ids = opset.parameter([-1], np.int32, name="class_ids")
    first_pixel = opset.convert(opset.gather(opset.gather(images, 0, 1), 0, 1), "f32")
    probabilities = opset.softmax(first_pixel, 1)
    probabilities.output(0).set_names({"probabilities"})
    ir = tmp_path_factory.mktemp("ir")
    ov.save_model(ov.Model([probabilities], [images, class_ids]), ir / "model.xml")

    with pytest.raises(ExportError, match=r"the OpenVINO IR differs from the trained network by [01]\.\d+ in a prob"):
        publish(_network(), TEMPERATURE, ir)
    assert list(tmp_path.iterdir()) == []
