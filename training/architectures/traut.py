"""The course network 'Traut': four convolutions, two dense layers, dropout of 0.2 and BatchNorm after each.

2,264,458 parameters for 32x32 pictures of ten classes.
"""

import keras
from keras import layers


def build(height: int, width: int, classes: int) -> keras.Model:
    pixels = keras.Input((height, width, 3), name="pixels")
    x = layers.Rescaling(1 / 255)(pixels)
    x = _convolution(x, 32, pool=False)
    x = _convolution(x, 64, pool=True)
    x = _convolution(x, 64, pool=True)
    features = _convolution(x, 128, pool=False)
    x = layers.Dropout(0.2)(layers.Flatten()(features))
    embedding = _dense(_dense(x, 256), 128)
    logits = layers.Dense(classes)(embedding)
    return keras.Model(pixels, {"logits": logits, "embedding": embedding, "features": features}, name="traut")


def _convolution(x: keras.KerasTensor, filters: int, *, pool: bool) -> keras.KerasTensor:
    x = layers.Conv2D(filters, 3, padding="same", activation="relu")(x)
    if pool:
        x = layers.MaxPooling2D(2)(x)
    return layers.BatchNormalization()(layers.Dropout(0.2)(x))


def _dense(x: keras.KerasTensor, units: int) -> keras.KerasTensor:
    x = layers.Dense(units, activation="relu", kernel_constraint=keras.constraints.MaxNorm(3))(x)
    return layers.BatchNormalization()(layers.Dropout(0.2)(x))
