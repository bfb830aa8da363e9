"""A small network for grey pictures: six 3x3 convolutions with BatchNorm, global average pooling, one dense layer."""

import keras
import numpy as np
from keras import layers

# Luma weights of ITU-R BT.601, those by which Pillow makes a picture grey
_LUMA = np.array([0.299, 0.587, 0.114], "float32").reshape(1, 1, 3, 1)


def build(height: int, width: int, classes: int) -> keras.Model:
    pixels = keras.Input((height, width, 3), name="pixels")
    x = layers.Rescaling(1 / 127.5, offset=-1.0)(pixels)
    x = layers.Conv2D(1, 1, use_bias=False, kernel_initializer=_luma, trainable=False, name="grey")(x)
    x = _convolution(_convolution(x, 16), 32)
    x = layers.MaxPooling2D(2)(x)
    x = _convolution(_convolution(x, 64), 64)
    x = layers.MaxPooling2D(2)(x)
    features = _convolution(_convolution(x, 128), 128)
    embedding = layers.GlobalAveragePooling2D()(features)
    logits = layers.Dense(classes)(layers.Dropout(0.3)(embedding))
    return keras.Model(pixels, {"logits": logits, "embedding": embedding, "features": features}, name="mnist_cnn")


def _convolution(x: keras.KerasTensor, filters: int) -> keras.KerasTensor:
    x = layers.Conv2D(filters, 3, padding="same", use_bias=False)(x)
    return layers.ReLU()(layers.BatchNormalization()(x))


def _luma(shape: tuple[int, ...], dtype: str | None = None) -> keras.KerasTensor:
    return keras.ops.convert_to_tensor(np.broadcast_to(_LUMA, shape), dtype=dtype)
