"""A course network for handwritten digits: five convolutions and three dense layers with much dropout.

Pictures are reduced to grey; those of less than 10 pixels are enlarged.
"""

import keras
from keras import layers

from training.architectures._common import at_least, grey, with_logits

NATIVE = (28, 28, 10)


def build(height: int, width: int, classes: int) -> keras.Model:
    pixels = keras.Input((height, width, 3), name="pixels")
    x = grey(layers.Rescaling(1 / 255)(at_least(pixels, 10)))
    for filters, padding, dropout in ((32, "valid", 0.2), (64, "same", 0.25), (128, "same", 0.3)):
        x = layers.Conv2D(filters, 3, padding=padding, activation="relu")(x)
        x = layers.Dropout(dropout)(layers.MaxPooling2D(2)(x))
    x = layers.Dropout(0.4)(layers.Conv2D(256, 3, padding="same", activation="relu")(x))
    features = layers.Conv2D(512, 3, padding="same", activation="relu")(x)
    x = layers.Flatten()(layers.Dropout(0.5)(features))
    x = layers.Dropout(0.35)(layers.Dense(256, activation="relu")(x))
    embedding = layers.Dense(128, activation="relu")(x)
    return with_logits("mnist_horzyk", pixels, features, embedding, classes, dropout=0.25)
