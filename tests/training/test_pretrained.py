"""Starting from a backbone: what is taken over, what is set anew by the pictures at hand, and what stays."""

import keras
import numpy as np
import pytest
from keras import layers

from training import pretrained

COUNT, SIDE = 1024, 8


def _network(enlarged: int, classes: int) -> keras.Model:
    """Two convolutions with BatchNorm after each; the picture may be enlarged first."""
    pixels = keras.Input((SIDE, SIDE, 3))
    x = layers.UpSampling2D(enlarged)(pixels) if enlarged > 1 else pixels
    for name, filters in (("lower", 4), ("upper", 6)):
        x = layers.Conv2D(filters, 3, padding="same", use_bias=False, name=f"{name}_conv")(x)
        x = layers.ReLU()(layers.BatchNormalization(name=f"{name}_bn")(x))
    embedding = layers.GlobalAveragePooling2D()(x)
    logits = layers.Dense(classes, name="classifier")(layers.Dropout(0.5)(embedding))
    return keras.Model(pixels, {"logits": logits, "embedding": embedding, "features": x})


@pytest.fixture
def backbone() -> keras.Model:
    keras.utils.set_random_seed(1)
    network, random = _network(1, 1000), np.random.default_rng(2)
    for norm in pretrained.batch_norms(network):
        norm.set_weights([random.uniform(0.5, 1.5, len(weight)) for weight in norm.get_weights()])
    return network


@pytest.fixture
def images() -> np.ndarray:
    """The first half dark, the second bright, as classes are in data sets that are sorted by them."""
    pictures = np.random.default_rng(3).integers(0, 100, (COUNT, SIDE, SIDE, 3), dtype=np.uint8)
    pictures[COUNT // 2 :] += 100
    return pictures


def test_all_but_classifier_and_statistics_are_the_backbones(backbone: keras.Model, images: np.ndarray) -> None:
    before = [weight.copy() for weight in backbone.get_weights()]

    network = pretrained.adapted(_network(2, 3), backbone, images)

    for name in ("lower_conv", "upper_conv"):
        np.testing.assert_array_equal(network.get_layer(name).kernel, backbone.get_layer(name).kernel)
    for name in ("lower_bn", "upper_bn"):
        ours, theirs = network.get_layer(name), backbone.get_layer(name)
        np.testing.assert_array_equal(ours.gamma, theirs.gamma)
        np.testing.assert_array_equal(ours.beta, theirs.beta)
        assert np.abs(ours.moving_mean - theirs.moving_mean).min() > 1e-3
        assert ours.momentum == theirs.momentum == 0.99
    assert not any(weight.any() for weight in network.get_layer("classifier").get_weights())
    for weight, same in zip(backbone.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, same)


def test_the_statistics_are_those_of_all_pictures(backbone: keras.Model, images: np.ndarray) -> None:
    network = pretrained.adapted(_network(2, 3), backbone, images)

    seen = keras.Model(network.input, network.get_layer("lower_conv").output).predict(images, verbose=0)
    norm = network.get_layer("lower_bn")
    np.testing.assert_allclose(norm.moving_mean, seen.mean(axis=(0, 1, 2)), rtol=1e-4, atol=1e-3)
    # in batches that hold dark and bright ones alike
    np.testing.assert_allclose(norm.moving_variance, seen.var(axis=(0, 1, 2)), rtol=0.02)


@pytest.mark.parametrize("count", [3, 1500])
def test_few_or_many_pictures_will_do(backbone: keras.Model, images: np.ndarray, count: int) -> None:
    network = pretrained.adapted(_network(1, 3), backbone, np.resize(images, (count, *images.shape[1:])))

    assert all(np.isfinite(weight).all() for weight in network.get_weights())


def test_batch_norm_and_what_is_near_the_pixels_is_frozen_once_the_weights_are_taken_over() -> None:
    def build(classes: int) -> keras.Model:
        x = pixels = keras.Input((SIDE, SIDE, 3))
        x = layers.UpSampling2D(4)(x)
        for name, stride in (("whole", 1), ("half", 2), ("quarter", 2), ("eighth", 2), ("eighth_again", 1)):
            x = layers.Conv2D(2, 3, stride, padding="same", use_bias=False, name=f"{name}_conv")(x)
            x = layers.BatchNormalization(name=f"{name}_bn")(x)
        embedding = layers.GlobalAveragePooling2D()(x)
        logits = layers.Dense(classes, name="classifier")(embedding)
        return keras.Model(pixels, {"logits": logits, "embedding": embedding, "features": x})

    start, network = build(3), build(3)

    pretrained.take_over(network, start)

    for weight, same in zip(network.get_weights(), start.get_weights(), strict=True):
        np.testing.assert_array_equal(weight, same)
    names = {variable.path.split("/")[0] for variable in network.trainable_variables}
    assert names == {"eighth_conv", "eighth_again_conv", "classifier"}
