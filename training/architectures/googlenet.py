"""GoogLeNet (Inception v1): nine modules of four branches, without auxiliary classifiers.

Szegedy et al. 2014 (arXiv:1409.4842), as in torchvision: with BatchNorm instead of biases and response normalisation,
and 3x3 instead of 5x5 convolutions. 6,624,904 trainable parameters for 1,000 classes, which is what torchvision
counts; with the moving statistics of its 7,280 BatchNorm channels 6,639,464. Input from -1 to 1.
"""

import keras
from keras import layers

from training.architectures._common import averaged, conv_norm, symmetric

NATIVE = (224, 224, 1000)
_EPSILON = 1e-3
# filters of: 1x1; 1x1, 3x3; 1x1, 3x3; 1x1 after pooling
_STAGES = (
    ((64, 96, 128, 16, 32, 32), (128, 128, 192, 32, 96, 64)),
    (
        (192, 96, 208, 16, 48, 64),
        (160, 112, 224, 24, 64, 64),
        (128, 128, 256, 24, 64, 64),
        (112, 144, 288, 32, 64, 64),
        (256, 160, 320, 32, 128, 128),
    ),
    ((256, 160, 320, 32, 128, 128), (384, 192, 384, 48, 128, 128)),
)


def build(height: int, width: int, classes: int) -> keras.Model:
    pixels = keras.Input((height, width, 3), name="pixels")
    x = conv_norm(symmetric(pixels), 64, 7, strides=2, epsilon=_EPSILON)
    x = layers.MaxPooling2D(3, 2, padding="same")(x)
    x = conv_norm(conv_norm(x, 64, 1, epsilon=_EPSILON), 192, 3, epsilon=_EPSILON)
    for stage in _STAGES:
        x = layers.MaxPooling2D(3, 2, padding="same")(x)
        for filters in stage:
            x = _module(x, *filters)
    return averaged("googlenet", pixels, x, classes, dropout=0.2)


def _module(
    x: keras.KerasTensor, single: int, reduce3: int, conv3: int, reduce5: int, conv5: int, pooled: int
) -> keras.KerasTensor:
    branches = [
        conv_norm(x, single, 1, epsilon=_EPSILON),
        conv_norm(conv_norm(x, reduce3, 1, epsilon=_EPSILON), conv3, 3, epsilon=_EPSILON),
        conv_norm(conv_norm(x, reduce5, 1, epsilon=_EPSILON), conv5, 3, epsilon=_EPSILON),
        conv_norm(layers.MaxPooling2D(3, 1, padding="same")(x), pooled, 1, epsilon=_EPSILON),
    ]
    return layers.Concatenate()(branches)
