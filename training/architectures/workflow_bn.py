"""A course network: three pairs of 4x4 convolutions with BatchNorm and dropout, and two dense layers.

1,517,450 parameters for 32x32 pictures of ten classes. Pictures of less than 8 pixels are enlarged.
"""

import keras
from keras import layers

from training.architectures._common import at_least, with_logits

NATIVE = (32, 32, 10)


def build(height: int, width: int, classes: int) -> keras.Model:
    pixels = keras.Input((height, width, 3), name="pixels")
    x = layers.Rescaling(1 / 255)(at_least(pixels, 8))
    for filters, dropout in ((64, 0.2), (128, 0.25), (128, 0.35)):
        for _ in range(2):
            x = layers.BatchNormalization()(layers.Conv2D(filters, 4, padding="same", activation="relu")(x))
        features = layers.MaxPooling2D(2)(x)
        x = layers.Dropout(dropout)(features)
    embedding = layers.BatchNormalization()(layers.Dense(256, activation="relu")(layers.Flatten()(x)))
    return with_logits("workflow_bn", pixels, features, embedding, classes, dropout=0.5)
