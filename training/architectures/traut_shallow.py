"""The course network 'Traut' without its last two convolutions, which makes its first dense layer larger.

314,739,371 parameters for pictures of height 195 and width 396 of 107 classes.
"""

import keras

from training.architectures import traut

NATIVE = (195, 396, 107)


def build(height: int, width: int, classes: int) -> keras.Model:
    return traut.build_with(height, width, classes, "traut_shallow", ((32, False), (64, True)))
