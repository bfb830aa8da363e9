"""The course network 'Traut': four convolutions, two dense layers, dropout of 0.2 and BatchNorm after each.

2,264,458 parameters for 32x32 pictures of ten classes; 155,893,355 for pictures of height 195 and width 396 of 107.
"""

import keras
from keras import layers

from training.architectures._common import with_logits

NATIVE = (32, 32, 10)
# filters of a convolution, and whether pooling follows it
_BLOCKS = ((32, False), (64, True), (64, True), (128, False))


def build(height: int, width: int, classes: int) -> keras.Model:
    return build_with(height, width, classes, "traut", _BLOCKS)


def build_with(height: int, width: int, classes: int, name: str, blocks: tuple[tuple[int, bool], ...]) -> keras.Model:
    """The network with other convolutions: of each its filters, and whether pooling follows it."""
    pixels = keras.Input((height, width, 3), name="pixels")
    x = layers.Rescaling(1 / 255)(pixels)
    for filters, pool in blocks:
        x = _convolution(x, filters, pool=pool)
    features = x
    x = layers.Dropout(0.2)(layers.Flatten()(features))
    return with_logits(name, pixels, features, _dense(_dense(x, 256), 128), classes)


def _convolution(x: keras.KerasTensor, filters: int, *, pool: bool) -> keras.KerasTensor:
    x = layers.Conv2D(filters, 3, padding="same", activation="relu")(x)
    if pool:
        x = layers.MaxPooling2D(2)(x)
    return layers.BatchNormalization()(layers.Dropout(0.2)(x))


def _dense(x: keras.KerasTensor, units: int) -> keras.KerasTensor:
    x = layers.Dense(units, activation="relu", kernel_constraint=keras.constraints.MaxNorm(3))(x)
    return layers.BatchNormalization()(layers.Dropout(0.2)(x))
