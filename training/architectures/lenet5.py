"""LeNet-5: two convolutions, each followed by average pooling, and three dense layers, all with tanh.

LeCun, Bottou, Bengio and Haffner 1998, "Gradient-Based Learning Applied to Document Recognition", in the usual form:
every map of the second convolution reads all six of the first, pooling has no weights, the output is dense. 61,706
trainable parameters for grey 32x32 pictures of ten classes, and the three fixed weights that make colours grey.
Pictures of less than 16 pixels are enlarged.
"""

import keras
from keras import layers

from training.architectures._common import at_least, grey, symmetric, with_logits

NATIVE = (32, 32, 10)


def build(height: int, width: int, classes: int) -> keras.Model:
    pixels = keras.Input((height, width, 3), name="pixels")
    x = grey(symmetric(at_least(pixels, 16)))
    x = layers.AveragePooling2D(2)(layers.Conv2D(6, 5, activation="tanh")(x))
    features = layers.AveragePooling2D(2)(layers.Conv2D(16, 5, activation="tanh")(x))
    x = layers.Dense(120, activation="tanh")(layers.Flatten()(features))
    embedding = layers.Dense(84, activation="tanh")(x)
    return with_logits("lenet5", pixels, features, embedding, classes)
