"""Networks side by side: at the size each was made for, its parameters and the work of one picture."""

import importlib
import math
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import keras
from keras import layers

from training import architectures
from training.recipe import architecture_names

_COUNTED = (layers.Conv2D, layers.DepthwiseConv2D, layers.SeparableConv2D, layers.Dense)
_SMALL_PICTURES = (32, 32, 10)


class Row(NamedTuple):
    """One network; `parameters` are all of them, trainable or not, `multiply_adds` those of one picture."""

    name: str
    height: int
    width: int
    classes: int
    parameters: int
    multiply_adds: int


def table() -> list[Row]:
    """All networks at the `NATIVE` height, width and number of classes of their module."""
    rows = []
    for name in architecture_names():
        height, width, classes = native(name)
        network = outline(name, height, width, classes)
        rows.append(Row(name, height, width, classes, network.count_params(), multiply_adds(network)))
    return rows


def native(name: str) -> tuple[int, int, int]:
    """Height, width and number of classes that the network was made for."""
    module = importlib.import_module(f"{architectures.__name__}.{name}")
    size: tuple[int, int, int] = getattr(module, "NATIVE", _SMALL_PICTURES)
    return size


def outline(name: str, height: int, width: int, classes: int) -> keras.Model:
    """The network with weights that have a shape but no values and no memory: to be counted, not to be called.

    It is built in a thread of its own, since Keras keeps by thread which variables are yet to be filled, and would
    fill them when the next network is built.
    """

    def build() -> keras.Model:
        with keras.StatelessScope(initialize_variables=False):
            return architectures.build(name, height, width, classes)

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(build).result()


def multiply_adds(network: keras.Model) -> int:
    """Multiplications, each with its addition, that convolutions and dense layers do for one picture.

    A kernel's weights count once for every place of its layer's output. Biases, normalisation, activations, pooling
    and resizing count nothing. Pictures must have a fixed size, and no layer may be used at two places.
    """
    total = 0
    for layer in network.layers:
        if isinstance(layer, keras.Model):
            total += multiply_adds(layer)
        elif isinstance(layer, _COUNTED):
            kernels = sum(math.prod(weight.shape) for weight in layer.weights if len(weight.shape) > 1)
            total += kernels * math.prod(layer.output.shape[1:-1])
    return total
