"""AlexNet: five convolutions and three dense layers.

Krizhevsky 2014, "One weird trick for parallelizing convolutional neural networks" (arXiv:1404.5997), as in torchvision:
one tower instead of the two of 2012, no response normalisation. 61,100,840 parameters at 224x224 for 1,000 classes;
input by ImageNet's mean and deviation. Pictures of less than 63 pixels are enlarged.
"""

import keras
from keras import layers

from training.architectures._common import at_least, standardised, with_logits

NATIVE = (224, 224, 1000)


def build(height: int, width: int, classes: int) -> keras.Model:
    pixels = keras.Input((height, width, 3), name="pixels")
    x = layers.ZeroPadding2D(2)(standardised(at_least(pixels, 63)))
    x = layers.Conv2D(64, 11, 4, activation="relu")(x)
    x = _convolution(layers.MaxPooling2D(3, 2)(x), 192, 5)
    x = _convolution(layers.MaxPooling2D(3, 2)(x), 384, 3)
    x = _convolution(_convolution(x, 256, 3), 256, 3)
    features = layers.MaxPooling2D(3, 2)(x)
    x = layers.Dropout(0.5)(layers.Flatten()(features))
    x = layers.Dropout(0.5)(layers.Dense(4096, activation="relu")(x))
    embedding = layers.Dense(4096, activation="relu")(x)
    return with_logits("alexnet", pixels, features, embedding, classes)


def _convolution(x: keras.KerasTensor, filters: int, kernel: int) -> keras.KerasTensor:
    return layers.Conv2D(filters, kernel, padding="same", activation="relu")(x)
