"""A course network: three 3x3 convolutions, each followed by pooling, and two dense layers.

156,074 parameters for 32x32 pictures of ten classes. Pictures of less than 8 pixels are enlarged.
"""

import keras
from keras import layers

from training.architectures._common import at_least, with_logits

NATIVE = (32, 32, 10)


def build(height: int, width: int, classes: int) -> keras.Model:
    pixels = keras.Input((height, width, 3), name="pixels")
    x = layers.Rescaling(1 / 255)(at_least(pixels, 8))
    for filters in (16, 32, 64):
        x = layers.MaxPooling2D(2)(layers.Conv2D(filters, 3, padding="same", activation="relu")(x))
    embedding = layers.Dense(128, activation="relu")(layers.Flatten()(x))
    return with_logits("workflow", pixels, x, embedding, classes)
