"""A course network for small coloured pictures: three pairs of convolutions and three dense layers with much dropout.

Pictures of less than 12 pixels are enlarged.
"""

import keras
from keras import layers

from training.architectures._common import at_least, with_logits

NATIVE = (32, 32, 10)


def build(height: int, width: int, classes: int) -> keras.Model:
    pixels = keras.Input((height, width, 3), name="pixels")
    x = layers.Rescaling(1 / 255)(at_least(pixels, 12))
    for filters, padding, dropout in ((64, "valid", 0.25), (128, "same", 0.25), (256, "same", 0.35)):
        for _ in range(2):
            x = layers.Conv2D(filters, 3, padding=padding, activation="relu")(x)
        features = layers.MaxPooling2D(2)(x)
        x = layers.Dropout(dropout)(features)
    x = layers.Dropout(0.35)(layers.Dense(256, activation="relu")(layers.Flatten()(x)))
    embedding = layers.Dense(128, activation="relu")(x)
    return with_logits("cifar10_horzyk", pixels, features, embedding, classes, dropout=0.25)
