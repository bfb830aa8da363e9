"""A small network for grey pictures: six 3x3 convolutions with BatchNorm, global average pooling, one dense layer."""

import keras
from keras import layers

from training.architectures._common import conv_norm, grey

NATIVE = (28, 28, 10)


def build(height: int, width: int, classes: int) -> keras.Model:
    pixels = keras.Input((height, width, 3), name="pixels")
    x = grey(layers.Rescaling(1 / 127.5, offset=-1.0)(pixels))
    x = layers.MaxPooling2D(2)(_pair(x, 16, 32))
    x = layers.MaxPooling2D(2)(_pair(x, 64, 64))
    features = _pair(x, 128, 128)
    embedding = layers.GlobalAveragePooling2D()(features)
    logits = layers.Dense(classes)(layers.Dropout(0.3)(embedding))
    return keras.Model(pixels, {"logits": logits, "embedding": embedding, "features": features}, name="mnist_cnn")


def _pair(x: keras.KerasTensor, first: int, second: int) -> keras.KerasTensor:
    return conv_norm(conv_norm(x, first, 3, epsilon=1e-3), second, 3, epsilon=1e-3)
