"""Networks: their sizes as published, and what they give out."""

import keras
import numpy as np
import pytest

from training import architectures


def _random_pixels(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape).astype("float32")


def test_traut_has_the_size_of_the_course_network() -> None:
    assert architectures.build("traut", 32, 32, 10).count_params() == 2_264_458


def test_efficientnet_lite0_has_the_published_number_of_trainable_parameters() -> None:
    network = architectures.build("efficientnet_lite0", 224, 224, 1000)

    assert sum(int(np.prod(weight.shape)) for weight in network.trainable_weights) == 4_652_008
    shapes = {key: value.shape for key, value in network.output.items()}
    assert shapes == {"logits": (None, 1000), "embedding": (None, 1280), "features": (None, 7, 7, 1280)}


@pytest.mark.parametrize(
    ("name", "embedding", "features"),
    [("mnist_cnn", 128, (7, 7, 128)), ("traut", 128, (7, 7, 128)), ("efficientnet_lite0", 1280, (1, 1, 1280))],
)
def test_every_network_gives_logits_embedding_and_features(
    name: str, embedding: int, features: tuple[int, ...]
) -> None:
    network = architectures.build(name, 28, 28, 5)

    outputs = network(_random_pixels(2, 28, 28, 3))

    shapes = {key: tuple(value.shape) for key, value in outputs.items()}
    assert shapes == {"logits": (2, 5), "embedding": (2, embedding), "features": (2, *features)}
    assert network.name == name
    # No softmax yet
    assert abs(keras.ops.convert_to_numpy(outputs["logits"]).sum(axis=1) - 1.0).min() > 1e-3


@pytest.mark.parametrize(
    ("name", "ends"), [("mnist_cnn", [-1, 1]), ("traut", [0, 1]), ("efficientnet_lite0", [-127 / 128, 1])]
)
def test_pixels_are_normalised_inside_the_network(name: str, ends: list[float]) -> None:
    rescaling = architectures.build(name, 16, 16, 3).layers[1]

    found = keras.ops.convert_to_numpy(rescaling(np.array([0.0, 255.0], "float32")))

    np.testing.assert_allclose(found, ends, atol=1e-6)


def test_mnist_cnn_sees_a_coloured_picture_as_its_luma() -> None:
    network = architectures.build("mnist_cnn", 16, 16, 3)
    coloured = _random_pixels(2, 16, 16, 3)
    grey = np.repeat(coloured @ np.array([[0.299], [0.587], [0.114]], "float32"), 3, axis=3)

    from_colour, from_grey = (keras.ops.convert_to_numpy(network(x)["logits"]) for x in (coloured, grey))

    np.testing.assert_allclose(from_colour, from_grey, atol=1e-5)
    swapped = keras.ops.convert_to_numpy(network(coloured[..., ::-1])["logits"])
    assert abs(swapped - from_colour).max() > 1e-3
