"""Six views of a picture: their logits by hand."""

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
    assert views.stacked(network, 1) is network


def test_the_logits_of_six_views_are_those_of_the_picture_shifted_and_mirrored(network: keras.Model) -> None:
    images = _pictures()
    padded = np.pad(images, [(0, 0), (1, 1), (1, 1), (0, 0)], mode="reflect")
    # what lies at a pixel moves down and right, or up and left, by one
    down_right, up_left = padded[:, :7, :9], padded[:, 2:, 2:]
    np.testing.assert_array_equal(down_right[:, 1:, 1:], images[:, :-1, :-1])
    np.testing.assert_array_equal(up_left[:, :-1, :-1], images[:, 1:, 1:])

    seen = [_output(network, view[:, :, ::step]) for view in (images, down_right, up_left) for step in (1, -1)]

    found = _output(views.stacked(network, 6), images)
    assert found.shape == (5, 6, 3)
    np.testing.assert_allclose(found, np.stack(seen, axis=1), rtol=1e-5, atol=1e-5)
    assert np.abs(found[:, 1:] - found[:, :1]).max(axis=(0, 2)).min() > 0.01


def test_embedding_and_features_are_those_of_the_picture_itself(network: keras.Model) -> None:
    stacked = views.stacked(network, 6)

    for name in ("embedding", "features"):
        expected = _output(network, _pictures(), name)
        np.testing.assert_allclose(_output(stacked, _pictures(), name), expected, rtol=1e-5, atol=1e-6)


def test_the_network_of_six_views_has_the_same_input_and_weights(network: keras.Model) -> None:
    stacked = views.stacked(network, 6)

    assert stacked.name == "small_6_views"
    assert stacked.input_shape == network.input_shape
    assert stacked.count_params() == network.count_params()
