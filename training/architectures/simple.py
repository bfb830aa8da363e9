"""The simplest course network: three 3x3 convolutions without padding, two dense layers.

That of TensorFlow's tutorial "Convolutional Neural Network (CNN)": 122,570 parameters for 32x32 pictures of ten
classes. Pictures of less than 18 pixels are enlarged.
"""

import keras
from keras import layers

from training.architectures import _common

NATIVE = (32, 32, 10)


def build(height: int, width: int, classes: int) -> keras.Model:
    return build_with(height, width, classes, "simple", grey=False)


def build_with(height: int, width: int, classes: int, name: str, *, grey: bool) -> keras.Model:
    """The network that sees colours or, with `grey`, their luma."""
    pixels = keras.Input((height, width, 3), name="pixels")
    x = layers.Rescaling(1 / 255)(_common.at_least(pixels, 18))
    x = _common.grey(x) if grey else x
    x = layers.MaxPooling2D(2)(layers.Conv2D(32, 3, activation="relu")(x))
    x = layers.MaxPooling2D(2)(layers.Conv2D(64, 3, activation="relu")(x))
    features = layers.Conv2D(64, 3, activation="relu")(x)
    embedding = layers.Dense(64, activation="relu")(layers.Flatten()(features))
    return _common.with_logits(name, pixels, features, embedding, classes)
