"""Test-time augmentation inside the graph: the logits of several views of a picture."""

import keras
from keras import ops


def stacked(network: keras.Model, views: int) -> keras.Model:
    """A network whose logits are those of six views of the picture, [N, 6, C]; the network itself for one view.

    The six are the picture, the picture shifted by a pixel up and left, the same down and right, and each of these
    mirrored (Jordan 2024, as in cifar10-airbench). Embedding and feature map are those of the picture itself, and so
    are the `own_logits` [N, C]: the views go through one copy of the network, these through another.
    """
    if views == 1:
        return network
    _, height, width, _ = network.input_shape
    pixels = keras.Input(network.input_shape[1:], name="pixels")
    padded = ops.pad(pixels, [[0, 0], [1, 1], [1, 1], [0, 0]], mode="reflect")
    places = [pixels, padded[:, :height, :width], padded[:, 2:, 2:]]
    seen = ops.concatenate([view for place in places for view in (place, ops.flip(place, axis=2))], axis=0)
    classes = network.output["logits"].shape[-1]
    logits = ops.transpose(ops.reshape(network(seen)["logits"], (views, -1, classes)), (1, 0, 2))
    own = network(pixels)
    outputs = {
        "logits": logits,
        "own_logits": own["logits"],
        "embedding": own["embedding"],
        "features": own["features"],
    }
    return keras.Model(pixels, outputs, name=f"{network.name}_{views}_views")
