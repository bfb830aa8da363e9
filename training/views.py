"""Test-time augmentation inside the graph: the mean of the logits of several views of a picture."""

import keras
import numpy as np
from keras import ops

_PLAIN, _SHIFTED = 0.25, 0.125


def averaged(network: keras.Model, views: int) -> keras.Model:
    """A network whose logits are the mean over one view of the picture (the network itself) or over six.

    The six are the picture, the picture shifted by a pixel up and left, the same down and right, and each of these
    mirrored; the two that are not shifted count twice (Jordan 2024, as in cifar10-airbench). Embedding and feature map
    are those of the picture itself.
    """
    if views == 1:
        return network
    _, height, width, _ = network.input_shape
    pixels = keras.Input(network.input_shape[1:], name="pixels")
    padded = ops.pad(pixels, [[0, 0], [1, 1], [1, 1], [0, 0]], mode="reflect")
    plain = network(pixels)
    logits, weights = [plain["logits"], _mirrored(network, pixels)], [_PLAIN, _PLAIN]
    for shifted in (padded[:, :height, :width], padded[:, 2:, 2:]):
        logits += [network(shifted)["logits"], _mirrored(network, shifted)]
        weights += [_SHIFTED, _SHIFTED]
    # Not a sum of products: OpenVINO can't read the gradient of that, which heat maps need
    mean = ops.tensordot(ops.stack(logits, axis=-1), np.array(weights, np.float32), axes=1)
    outputs = {"logits": mean, "embedding": plain["embedding"], "features": plain["features"]}
    return keras.Model(pixels, outputs, name=f"{network.name}_{views}_views")


def _mirrored(network: keras.Model, pixels: keras.KerasTensor) -> keras.KerasTensor:
    return network(ops.flip(pixels, axis=2))["logits"]
