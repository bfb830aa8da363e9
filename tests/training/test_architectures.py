"""Networks: their sizes as published, and what they give out."""

import functools
import math

import keras
import numpy as np
import pytest

from training import architectures, zoo
from training.architectures import _common, airbench
from training.recipe import architecture_names

# Some have hundreds of layers, so the tests share them
_outline = functools.cache(zoo.outline)

# At height 28 and width 20: length of the embedding, shape of the features
OUTPUTS = {
    "alexnet": (4096, (1, 1, 256)),
    "cifar10_horzyk": (128, (3, 2, 256)),
    "efficientnet_lite0": (1280, (1, 1, 1280)),
    "googlenet": (1024, (1, 1, 1024)),
    "inception_resnet_v2": (1536, (1, 1, 1536)),
    "inception_v3": (2048, (1, 1, 2048)),
    "inception_v4": (1536, (1, 1, 1536)),
    "lenet5": (84, (4, 2, 16)),
    "mnist_cnn": (128, (7, 5, 128)),
    "mnist_horzyk": (128, (3, 2, 512)),
    "resnet34": (512, (1, 1, 512)),
    "resnet50": (2048, (1, 1, 2048)),
    "resnext50": (2048, (1, 1, 2048)),
    "simple": (64, (3, 1, 64)),
    "simple_grey": (64, (3, 1, 64)),
    "traut": (128, (7, 5, 128)),
    "traut_cifar100": (128, (7, 5, 128)),
    "traut_shallow": (128, (14, 10, 64)),
    "vgg16": (4096, (1, 1, 512)),
    "vgg19": (4096, (1, 1, 512)),
    "workflow": (128, (3, 2, 64)),
    "workflow_bn": (256, (3, 2, 128)),
    "xception": (2048, (3, 3, 2048)),
}
GREY = ["lenet5", "mnist_cnn", "mnist_horzyk", "simple_grey"]
LIGHT = [*GREY, "alexnet", "cifar10_horzyk", "simple", "traut", "traut_cifar100", "traut_shallow", "workflow_bn"]


def _random_pixels(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape).astype("float32")


def _trainable(network: keras.Model) -> int:
    return sum(math.prod(weight.shape) for weight in network.trainable_weights)


@pytest.mark.parametrize(
    ("name", "height", "width", "classes", "parameters"),
    [
        ("alexnet", 224, 224, 1000, 61_100_840),
        ("inception_resnet_v2", 299, 299, 1000, 55_873_736),
        ("inception_v3", 299, 299, 1000, 23_851_784),
        ("resnet50", 224, 224, 1000, 25_636_712),
        ("resnext50", 224, 224, 1000, 25_097_128),
        ("vgg16", 224, 224, 1000, 138_357_544),
        ("vgg19", 224, 224, 1000, 143_667_240),
        ("xception", 299, 299, 1000, 22_910_480),
        ("simple", 32, 32, 10, 122_570),
        ("traut", 32, 32, 10, 2_264_458),
        ("traut", 195, 396, 107, 155_893_355),
        ("traut_cifar100", 32, 32, 100, 2_273_636),
        ("traut_shallow", 195, 396, 107, 314_739_371),
        ("workflow", 32, 32, 10, 156_074),
        ("workflow_bn", 32, 32, 10, 1_517_450),
    ],
)
def test_parameters_are_as_many_as_published(
    name: str, height: int, width: int, classes: int, parameters: int
) -> None:  # fmt: skip
    assert _outline(name, height, width, classes).count_params() == parameters


@pytest.mark.parametrize(
    ("name", "trainable", "fixed"),
    [
        # Published without the moving mean and variance of each BatchNorm channel
        ("efficientnet_lite0", 4_652_008, 2 * 21_008),
        ("googlenet", 6_624_904, 2 * 7_280),
        ("inception_v4", 42_679_816, 2 * 31_584),
        ("resnet34", 21_797_672, 2 * 8_512),
        ("resnext50", 25_028_904, 2 * 34_112),
        # Published for grey pictures; three weights make them grey
        ("lenet5", 61_706, 3),
        ("simple_grey", 93_322, 3),
    ],
)
def test_trainable_parameters_are_as_many_as_published(name: str, trainable: int, fixed: int) -> None:
    network = _outline(name, *zoo.native(name))

    assert (_trainable(network), network.count_params()) == (trainable, trainable + fixed)


def test_resnext50_has_as_many_weights_in_groups_as_a_depthwise_convolution_that_is_summed_by_group() -> None:
    network = _outline("resnext50", 28, 20, 5)
    grouped = [layer for layer in network.layers if isinstance(layer, keras.layers.Conv2D) and layer.groups > 1]

    assert len(grouped) == 16
    for layer in grouped:
        multiplier = layer.filters // 32
        assert math.prod(layer.kernel.shape) == 3 * 3 * layer.filters * multiplier


def test_every_network_is_looked_at_here() -> None:
    assert {name for name in architecture_names() if not name.startswith("airbench")} == set(OUTPUTS)


@pytest.mark.parametrize("name", OUTPUTS)
def test_every_network_gives_logits_embedding_and_features_of_batches_of_any_size(name: str) -> None:
    embedding, features = OUTPUTS[name]

    network = _outline(name, 28, 20, 5)

    assert (network.name, network.input_shape) == (name, (None, 28, 20, 3))
    shapes = {key: value.shape for key, value in network.output.items()}
    assert shapes == {"logits": (None, 5), "embedding": (None, embedding), "features": (None, *features)}


@pytest.mark.parametrize("name", LIGHT)
def test_logits_are_no_probabilities(name: str) -> None:
    network = architectures.build(name, 28, 20, 5)

    outputs = network(_random_pixels(2, 28, 20, 3))

    assert {key: value.shape for key, value in outputs.items()} == {
        key: (2, *value.shape[1:]) for key, value in network.output.items()
    }
    assert abs(keras.ops.convert_to_numpy(outputs["logits"]).sum(axis=1) - 1.0).min() > 1e-5


@pytest.mark.parametrize(("height", "width"), [(5, 50), (101, 64)])
@pytest.mark.parametrize("name", [*LIGHT, "resnet50", "vgg16", "xception"])
def test_pictures_may_have_any_size(name: str, height: int, width: int) -> None:
    network = zoo.outline(name, height, width, 3)

    assert network.input_shape == (None, height, width, 3)
    assert min(network.output["features"].shape[1:]) > 0


@pytest.mark.parametrize(
    ("name", "ends"),
    [
        ("efficientnet_lite0", [-127 / 128, 1]),
        ("googlenet", [-1, 1]),
        ("inception_resnet_v2", [-1, 1]),
        ("inception_v3", [-1, 1]),
        ("inception_v4", [-1, 1]),
        ("lenet5", [-1, 1]),
        ("mnist_cnn", [-1, 1]),
        ("simple", [0, 1]),
        ("traut", [0, 1]),
        ("xception", [-1, 1]),
    ],
)
def test_pixels_are_normalised_inside_the_network(name: str, ends: list[float]) -> None:
    network = _outline(name, 28, 20, 5)
    rescaling = next(layer for layer in network.layers if isinstance(layer, keras.layers.Rescaling))

    found = keras.ops.convert_to_numpy(rescaling(np.array([0.0, 255.0], "float32")))

    np.testing.assert_allclose(found, ends, atol=1e-6)


@pytest.mark.parametrize(
    ("normalise", "expected"),
    [
        # What keras.applications calls the modes 'caffe' and 'torch'
        (_common.caffe, [30 - 103.939, 20 - 116.779, 10 - 123.68]),
        (
            _common.standardised,
            [(10 / 255 - 0.485) / 0.229, (20 / 255 - 0.456) / 0.224, (30 / 255 - 0.406) / 0.225],
        ),
        (_common.symmetric, [10 / 127.5 - 1, 20 / 127.5 - 1, 30 / 127.5 - 1]),
    ],
)
def test_pixels_are_normalised_as_the_published_weights_expect_it(normalise, expected: list[float]) -> None:
    pixels = keras.Input((1, 1, 3))
    network = keras.Model(pixels, normalise(pixels))

    found = keras.ops.convert_to_numpy(network(np.array([[[[10, 20, 30]]]], "float32")))

    np.testing.assert_allclose(found[0, 0, 0], expected, atol=1e-4)


@pytest.mark.parametrize(
    ("size", "expected"), [((20, 30), (75, 112)), ((300, 50), (450, 75)), ((75, 80), (75, 80)), ((1, 1), (75, 75))]
)
def test_small_pictures_are_enlarged_in_proportion(size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert _common.at_least(keras.Input((*size, 3)), 75).shape == (None, *expected, 3)


@pytest.mark.parametrize("name", GREY)
def test_some_networks_see_a_coloured_picture_as_its_luma(name: str) -> None:
    network = architectures.build(name, 16, 16, 3)
    coloured = _random_pixels(2, 16, 16, 3)
    grey = np.repeat(coloured @ np.array([[0.299], [0.587], [0.114]], "float32"), 3, axis=3)

    from_colour, from_grey, from_swapped = (
        keras.ops.convert_to_numpy(network(x)["logits"]) for x in (coloured, grey, coloured[..., ::-1])
    )

    rounding = abs(from_grey - from_colour).max()
    assert rounding < 1e-5
    assert abs(from_swapped - from_colour).max() > 30 * rounding


def test_airbench_has_the_parameters_that_are_published() -> None:
    network = _outline("airbench", 32, 32, 10)

    # without the frozen stem's 2 x 2 x 3 x 24 and two moving statistics of each BatchNorm channel; the stem's 24 biases
    # are among those published as trainable
    assert _trainable(network) == 1_971_352 - 24
    assert network.count_params() == 1_971_352 + 288 + 2 * 1_152
    assert _outline("airbench_wide", 32, 32, 10).count_params() == 4_608_312


def test_the_stem_of_airbench_whitens_the_pictures_it_was_prepared_with() -> None:
    random = np.random.default_rng(0)
    coarse = random.integers(0, 256, (200, 5, 5, 3)).repeat(3, axis=1).repeat(3, axis=2)  # neighbours are alike
    images = (coarse // 2 + random.integers(0, 128, coarse.shape)).astype(np.uint8)
    network = airbench.build_with("airbench", 15, 15, 3, (4, 6, 6))

    airbench.prepare(network, images)

    stem = network.get_layer("stem")
    seen = keras.Model(network.input, stem.output)(images.astype("float32"))
    outputs = keras.ops.convert_to_numpy(seen).reshape(-1, 24).astype(np.float64)
    covariance = outputs[:, :12].T @ outputs[:, :12] / len(outputs)
    np.testing.assert_allclose(covariance, np.eye(12), atol=0.02)
    # 1 less what the epsilon takes from each
    assert (np.diag(covariance) < 1.0).all()
    np.testing.assert_allclose(outputs[:, 12:], -outputs[:, :12], atol=1e-4)
    assert not stem.trainable_variables


def test_the_stem_of_airbench_is_prepared_with_pictures_of_all_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(airbench, "_STEM_PICTURES", 400)
    images = np.random.default_rng(0).integers(0, 256, (2000, 15, 15, 3)).astype(np.uint8)
    images[:1000] //= 8  # sorted by class, of which the first one is dark
    network = airbench.build_with("airbench", 15, 15, 3, (4, 6, 6))

    airbench.prepare(network, images)

    outputs = network.get_layer("stem")(airbench._normalise(images.astype("float32")))[..., :12].numpy().reshape(-1, 12)
    np.testing.assert_allclose(outputs.T @ outputs / len(outputs), np.eye(12), atol=0.05)


@pytest.mark.parametrize(("inputs", "outputs"), [(3, 5), (4, 4), (6, 2)])
def test_the_first_filters_of_a_partial_identity_hand_on_their_input(inputs: int, outputs: int) -> None:
    layer = keras.layers.Conv2D(outputs, 3, padding="same", kernel_initializer=airbench.PartialIdentity())
    pixels = _random_pixels(2, 6, 7, inputs)

    found = keras.ops.convert_to_numpy(layer(pixels))

    kept = min(inputs, outputs)
    np.testing.assert_array_equal(found[..., :kept], pixels[..., :kept])
    drawn = layer.kernel.numpy()[..., kept:]
    assert abs(drawn).max(initial=0.0) <= 1 / np.sqrt(9 * inputs)
    assert len(np.unique(drawn)) == drawn.size


@pytest.mark.parametrize("name", ["airbench", "airbench_wide"])
def test_airbench_gives_logits_embedding_and_features_as_the_others_do(name: str) -> None:
    network, filters = _outline(name, 32, 32, 10), {"airbench": 256, "airbench_wide": 384}[name]

    shapes = {key: value.shape for key, value in network.output.items()}
    assert (network.name, network.input_shape) == (name, (None, 32, 32, 3))
    assert shapes == {"logits": (None, 10), "embedding": (None, filters), "features": (None, 3, 3, filters)}
