"""The course network 'Traut' as it was trained on CIFAR-100: it begins with 28 filters instead of 32.

2,273,636 parameters for 32x32 pictures of a hundred classes: those of 'Traut' and 90 * 129 for as many more classes,
less 4 * (28 + 4) for the first convolution and its BatchNorm and 4 * 9 * 64 for what reads them.
"""

import keras

from training.architectures import traut

NATIVE = (32, 32, 100)


def build(height: int, width: int, classes: int) -> keras.Model:
    blocks = ((28, False), (64, True), (64, True), (128, False))
    return traut.build_with(height, width, classes, "traut_cifar100", blocks)
