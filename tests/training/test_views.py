"""Six views of a picture: their mean by hand."""

import keras
import numpy as np
import pytest

from training import views


@pytest.fixture(scope="module")
def network() -> keras.Model:
    """A small network that sees every pixel, at 7 x 9."""
    keras.utils.set_random_seed(0)
    pixels = keras.Input((7, 9, 3))
    features = keras.layers.Conv2D(4, 3, activation="relu")(keras.layers.Rescaling(1 / 255)(pixels))
    embedding = keras.layers.Flatten()(features)
    logits = keras.layers.Dense(3)(embedding)
    return keras.Model(pixels, {"logits": logits, "embedding": embedding, "features": features}, name="small")


def _pictures() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (5, 7, 9, 3)).astype("float32")


def _output(network: keras.Model, images: np.ndarray, name: str = "logits") -> np.ndarray:
    return np.asarray(keras.ops.convert_to_numpy(network(images, training=False)[name]))


def test_one_view_is_the_network_itself(network: keras.Model) -> None:
    assert views.averaged(network, 1) is network


def test_six_views_are_the_weighted_mean_of_the_logits(network: keras.Model) -> None:
    images = _pictures()
    padded = np.pad(images, [(0, 0), (1, 1), (1, 1), (0, 0)], mode="reflect")
    # what lies at a pixel moves down and right, or up and left, by one
    down_right, up_left = padded[:, :7, :9], padded[:, 2:, 2:]
    np.testing.assert_array_equal(down_right[:, 1:, 1:], images[:, :-1, :-1])
    np.testing.assert_array_equal(up_left[:, :-1, :-1], images[:, 1:, 1:])
    weights = ((images, 1 / 4), (down_right, 1 / 8), (up_left, 1 / 8))

    expected = sum(weight * (_output(network, view) + _output(network, view[:, :, ::-1])) for view, weight in weights)

    found = _output(views.averaged(network, 6), images)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    assert abs(found - _output(network, images)).max() > 0.01


def test_embedding_and_features_are_those_of_the_picture_itself(network: keras.Model) -> None:
    averaged = views.averaged(network, 6)

    for name in ("embedding", "features"):
        expected = _output(network, _pictures(), name)
        np.testing.assert_allclose(_output(averaged, _pictures(), name), expected, rtol=1e-5, atol=1e-6)


def test_the_averaged_network_has_the_same_input_and_weights(network: keras.Model) -> None:
    averaged = views.averaged(network, 6)

    assert averaged.name == "small_6_views"
    assert averaged.input_shape == network.input_shape
    assert averaged.count_params() == network.count_params()
