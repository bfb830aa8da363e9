"""Inception v4: a deeper stem and more uniform modules than v3, without residual connections.

Szegedy, Ioffe, Vanhoucke and Alemi 2016 (arXiv:1602.07261), as in timm: 42,679,816 trainable parameters for 1,000
classes, which is what timm counts; with the moving statistics of its 31,584 BatchNorm channels 42,742,984. Input from
-1 to 1. Pictures of less than 75 pixels are enlarged.
"""

import keras
from keras import layers

from training.architectures._common import at_least, averaged, conv_norm, symmetric

NATIVE = (299, 299, 1000)
# One convolution: filters, kernel and, where it is not padded, its stride
_Convolution = tuple[int, int | tuple[int, int]] | tuple[int, int, int]
# The branches of a module but for the last, which averages before its only convolution
_A: list[list[_Convolution]] = [[(96, 1)], [(64, 1), (96, 3)], [(64, 1), (96, 3), (96, 3)]]
_B: list[list[_Convolution]] = [
    [(384, 1)],
    [(192, 1), (224, (1, 7)), (256, (7, 1))],
    [(192, 1), (192, (7, 1)), (224, (1, 7)), (224, (7, 1)), (256, (1, 7))],
]


def build(height: int, width: int, classes: int) -> keras.Model:
    pixels = keras.Input((height, width, 3), name="pixels")
    x = _stem(symmetric(at_least(pixels, 75)))
    for _ in range(4):
        x = _joined(*(_chain(x, *branch) for branch in _A), _chain(_average(x), (96, 1)))
    x = _joined(_chain(x, (384, 3, 2)), _chain(x, (192, 1), (224, 3), (256, 3, 2)), layers.MaxPooling2D(3, 2)(x))
    for _ in range(7):
        x = _joined(*(_chain(x, *branch) for branch in _B), _chain(_average(x), (128, 1)))
    deep = _chain(x, (256, 1), (256, (1, 7)), (320, (7, 1)), (320, 3, 2))
    x = _joined(_chain(x, (192, 1), (192, 3, 2)), deep, layers.MaxPooling2D(3, 2)(x))
    for _ in range(3):
        x = _forked(x)
    return averaged("inception_v4", pixels, x, classes, dropout=0.2)


def _stem(x: keras.KerasTensor) -> keras.KerasTensor:
    x = _chain(x, (32, 3, 2), (32, 3, 1), (64, 3))
    x = _joined(layers.MaxPooling2D(3, 2)(x), _chain(x, (96, 3, 2)))
    x = _joined(_chain(x, (64, 1), (96, 3, 1)), _chain(x, (64, 1), (64, (1, 7)), (64, (7, 1)), (96, 3, 1)))
    return _joined(_chain(x, (192, 3, 2)), layers.MaxPooling2D(3, 2)(x))


def _forked(x: keras.KerasTensor) -> keras.KerasTensor:
    """Module C, two of whose branches end in a fork."""
    shallow, deep = _chain(x, (384, 1)), _chain(x, (384, 1), (448, (3, 1)), (512, (1, 3)))
    return _joined(
        _chain(x, (256, 1)),
        *(_chain(shallow, (256, kernel)) for kernel in ((1, 3), (3, 1))),
        *(_chain(deep, (256, kernel)) for kernel in ((3, 1), (1, 3))),
        _chain(_average(x), (256, 1)),
    )


def _chain(x: keras.KerasTensor, *convolutions: _Convolution) -> keras.KerasTensor:
    for filters, kernel, *stride in convolutions:
        padding = "valid" if stride else "same"
        x = conv_norm(x, filters, kernel, strides=sum(stride) or 1, padding=padding, epsilon=1e-3)
    return x


def _average(x: keras.KerasTensor) -> keras.KerasTensor:
    return layers.AveragePooling2D(3, 1, padding="same")(x)


def _joined(*branches: keras.KerasTensor) -> keras.KerasTensor:
    return layers.Concatenate()(branches)
