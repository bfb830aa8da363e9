"""Networks that start from a backbone's ImageNet weights and are trained as a whole."""

import math

import keras
import numpy as np
import numpy.typing as npt

from training.splits import spread

_CLASSIFIER = "classifier"
_BATCH = 128
_BATCHES = 8
_TRAINED_FROM = 3  # how often maps have been halved before the first layer that is trained


def adapted(network: keras.Model, backbone: keras.Model, images: npt.NDArray[np.uint8]) -> keras.Model:
    """`network` with the weights of `backbone`, whose layers it shares, and logits of zero.

    BatchNorm's means and variances become those of the network's own `images`, uint8 [N, H, W, 3], of which it looks
    at a thousand (Li et al. 2018, "Adaptive Batch Normalization for practical domain adaptation"): enlarged pictures
    are smoother than the photos that the backbone knows.
    """
    ours = [layer for layer in network.layers if layer.weights]
    for layer, theirs in zip(ours, (layer for layer in backbone.layers if layer.weights), strict=True):
        if layer.name == _CLASSIFIER:
            layer.set_weights([np.zeros(weight.shape) for weight in layer.weights])
        else:
            layer.set_weights(theirs.get_weights())
    norms = batch_norms(network)
    before = [norm.momentum for norm in norms]
    chosen = spread(images, _BATCH * _BATCHES)
    parts = (
        chosen[first::_BATCHES] for first in range(min(_BATCHES, len(chosen)))
    )  # each with pictures of all classes
    for index, part in enumerate(parts):
        for norm in norms:
            norm.momentum = index / (index + 1)  # the mean over the batches so far
        network(part.astype(np.float32), training=True)
    for norm, momentum in zip(norms, before, strict=True):
        norm.momentum = momentum
    return network


def take_over(network: keras.Model, start: keras.Model) -> None:
    """Give `network` the weights of `start`, and freeze BatchNorm and what is near the pixels.

    Both cost more than half of a step: the first layers know edges already, and have the largest maps.
    """
    network.set_weights(start.get_weights())
    maps = [(layer, layer.output.shape[1]) for layer in start.layers if len(layer.output.shape) == 4]
    largest = max(height for _, height in maps)
    near = {layer.name for layer, height in maps if round(math.log2(largest / height)) < _TRAINED_FROM}
    for layer in network.layers:
        if layer.name in near or isinstance(layer, keras.layers.BatchNormalization):
            layer.trainable = False


def batch_norms(network: keras.Model) -> list[keras.layers.BatchNormalization]:
    return [layer for layer in network.layers if isinstance(layer, keras.layers.BatchNormalization)]
