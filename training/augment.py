"""Random changes to training pictures, as a function on batches that runs inside the input pipeline."""

from collections.abc import Callable
from typing import Literal

import keras
import tensorflow as tf

Augmentation = Literal["none", "shift_rotate_zoom"]


def augmenter(name: Augmentation, seed: int) -> Callable[[tf.Tensor], tf.Tensor]:
    """float32 [N, H, W, 3] from 0 to 255 -> the same, changed."""
    if name == "none":
        return lambda images: images
    layers = [
        keras.layers.RandomTranslation(0.1, 0.1, fill_mode="constant", seed=seed),
        keras.layers.RandomRotation(0.04, fill_mode="constant", seed=seed + 1),
        keras.layers.RandomZoom((-0.1, 0.1), fill_mode="constant", seed=seed + 2),
    ]

    def apply(images: tf.Tensor) -> tf.Tensor:
        for layer in layers:
            images = layer(images, training=True)
        return images

    return apply
