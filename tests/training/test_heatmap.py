"""Heat maps: the gradient is the true one, on every engine; where theory says what they show, they show it."""

from pathlib import Path

import keras
import numpy as np
import openvino as ov
import pytest
import tensorflow as tf
from scipy.stats import spearmanr

from models.repository import ModelRepository
from training import architectures, backbones, export
from training.heatmap import grad_cam

TEMPERATURE = 1.7


def _images(n: int, height: int = 32, width: int = 24) -> np.ndarray:
    return np.random.default_rng(5).integers(0, 256, (n, height, width, 3), dtype=np.uint8)


def _heatmaps(network: keras.Model, images: np.ndarray, class_ids: np.ndarray) -> np.ndarray:
    """Without an export."""

    def explain(pixels: tf.Tensor) -> tf.Tensor:
        outputs = network(pixels, training=False)
        return grad_cam(outputs["logits"], outputs["features"], tf.constant(class_ids, tf.int32))

    found: np.ndarray = tf.function(explain)(images.astype("float32")).numpy()
    return found


def _by_tape(network: keras.Model, images: np.ndarray, class_ids: np.ndarray) -> np.ndarray:
    """Grad-CAM as it is written in Keras's guides: eagerly, and one picture at a time."""
    features, logits = network.output["features"], network.output["logits"]
    body, head = keras.Model(network.input, features), keras.Model(features, logits)
    maps = []
    for image, class_id in zip(images, class_ids, strict=True):
        found = body(image[None].astype("float32"), training=False)
        with tf.GradientTape() as tape:
            tape.watch(found)
            score = head(found, training=False)[0, int(class_id)] / TEMPERATURE
        weights = tf.reduce_mean(tape.gradient(score, found), axis=(0, 1, 2))
        maps.append(np.einsum("hwd,d->hw", found[0], weights))
    return np.stack(maps)


# One of each kind of way from features to logits: mean and dense; maximum and dense; dense layers with ReLU, with
# BatchNorm as well, with tanh
@pytest.mark.parametrize("name", ["mnist_cnn", "airbench", "simple", "traut", "lenet5"])
def test_both_files_of_a_version_give_the_gradient_that_a_tape_records(name: str, tmp_path: Path) -> None:
    keras.utils.set_random_seed(1)
    network = architectures.build(name, 32, 24, 7)
    images, class_ids = _images(5), np.array([0, 6, 3, 3, 1], np.int32)
    expected = _by_tape(network, images, class_ids)

    export.save(network, TEMPERATURE, tmp_path)

    explain = tf.saved_model.load(str(tmp_path)).signatures["explain"]
    by_saved_model = explain(images=tf.constant(images), class_ids=tf.constant(class_ids))["heatmap"]
    ir = ov.Core().compile_model(tmp_path / "openvino" / "model.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    by_ir = ir({"images": images, "class_ids": class_ids})["heatmap"]
    scale = abs(expected).max()
    np.testing.assert_allclose(by_saved_model, expected, atol=1e-4 * scale)
    np.testing.assert_allclose(by_ir, expected, atol=0.01 * scale)  # its weights are rounded to float16


@pytest.mark.parametrize("name", ["mnist_cnn", "efficientnet_lite0"])
def test_of_a_mean_and_a_dense_layer_it_is_the_class_activation_map(name: str) -> None:
    keras.utils.set_random_seed(2)
    network = architectures.build(name, 64, 64, 5)
    images, class_ids = _images(4, 64, 64), np.array([4, 0, 2, 1])
    features = np.asarray(network(images.astype("float32"), training=False)["features"])
    kernel, _ = network.layers[-1].get_weights()

    found = _heatmaps(network, images, class_ids)

    _, height, width, _ = features.shape
    assert height * width >= 4
    activation_map = np.einsum("nhwd,dn->nhw", features, kernel[:, class_ids])
    np.testing.assert_allclose(found * height * width, activation_map, rtol=1e-4, atol=1e-6 * abs(activation_map).max())


def test_shuffled_weights_give_another_map() -> None:
    """The sanity check of Adebayo et al. 2018 (arXiv:1810.03292): a map that stayed would be the picture's alone."""
    repository = ModelRepository(Path(__file__).parents[2] / "models")
    folder = repository.find("caltech101")
    network = backbones.restore(folder, repository.read(folder))
    with np.load(folder.path / "golden.npz") as golden:
        images, class_ids = golden["images"], golden["probabilities"].argmax(axis=1)
    learnt = _heatmaps(network, images, class_ids)

    random, similarity = np.random.default_rng(0), []
    for layers in (network.layers[-1:], network.layers):  # first what knows the classes, then all
        for layer in layers:
            layer.set_weights([random.permutation(w.ravel()).reshape(w.shape) for w in layer.get_weights()])
        shuffled = _heatmaps(network, images, class_ids)
        pairs = zip(learnt, shuffled, strict=True)
        similarity.append(np.mean([spearmanr(a.ravel(), b.ravel()).statistic for a, b in pairs]))

    assert max(similarity) < 0.3
    assert abs(similarity[-1]) < 0.3
