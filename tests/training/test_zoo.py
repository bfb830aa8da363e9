"""The table of networks: what a picture costs in each."""

import keras
import pytest
from keras import layers

from training import zoo
from training.recipe import architecture_names


@pytest.fixture(scope="module")
def rows() -> dict[str, zoo.Row]:
    return {row.name: row for row in zoo.table()}


@pytest.mark.parametrize(
    ("name", "published"),
    [
        ("alexnet", 0.71e9),
        ("efficientnet_lite0", 0.39e9),
        ("googlenet", 1.50e9),
        ("inception_v3", 5.71e9),
        ("inception_v4", 12.28e9),
        ("resnet34", 3.66e9),
        ("resnet50", 3.86e9),  # 4.09 where the stride is in the second convolution of a bottleneck
        ("resnext50", 4.23e9),
        ("vgg16", 15.47e9),
        ("vgg19", 19.63e9),
        ("xception", 8.4e9),
    ],
)
def test_multiply_adds_are_those_published(rows: dict[str, zoo.Row], name: str, published: float) -> None:
    assert rows[name].multiply_adds == pytest.approx(published, rel=0.015)


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        (layers.Conv2D(16, 3), 6 * 8 * 3 * 3 * 4 * 16),
        (layers.Conv2D(16, 3, strides=2, padding="same", groups=2), 4 * 5 * 3 * 3 * 2 * 16),
        (layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2), 8 * 10 * 3 * 3 * 4 * 2),
        (layers.SeparableConv2D(16, 3, strides=2, padding="same"), 4 * 5 * (3 * 3 * 4 + 4 * 16)),
        (layers.Dense(7), 8 * 10 * 4 * 7),
        (layers.BatchNormalization(), 0),
        (layers.MaxPooling2D(2), 0),
    ],
)
def test_a_layer_costs_its_kernel_at_every_place_of_its_output(layer: keras.Layer, expected: int) -> None:
    pixels = keras.Input((8, 10, 4))

    assert zoo.multiply_adds(keras.Model(pixels, layer(pixels))) == expected


def test_layers_of_a_network_within_a_network_count() -> None:
    inner = keras.Sequential([keras.Input((8, 8, 3)), layers.Conv2D(4, 1), layers.Flatten()])
    pixels = keras.Input((8, 8, 3))
    outer = keras.Model(pixels, layers.Dense(5)(inner(pixels)))

    assert zoo.multiply_adds(outer) == 64 * 3 * 4 + 256 * 5


def test_an_outline_takes_no_memory_even_when_another_network_is_built_after_it() -> None:
    network = zoo.outline("traut_shallow", 195, 396, 107)

    keras.Sequential([keras.Input((2,)), layers.Dense(1)])

    assert network.count_params() == 314_739_371
    assert [weight.path for weight in network.weights if weight._value is not None] == []


def test_table_has_every_network_at_the_size_it_was_made_for(rows: dict[str, zoo.Row]) -> None:
    assert list(rows) == architecture_names()
    assert rows["simple"] == ("simple", 32, 32, 10, 122_570, 4_548_608)
    assert rows["vgg16"][1:5] == (224, 224, 1000, 138_357_544)
    assert rows["airbench"][1:4] == (32, 32, 10)
    assert min(row.multiply_adds for row in rows.values()) > 400_000
