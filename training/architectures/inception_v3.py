"""Inception v3: factorised convolutions, without auxiliary classifier.

Szegedy et al. 2015 (arXiv:1512.00567), as in keras.applications: 23,851,784 parameters for 1,000 classes; input from
-1 to 1. Pictures of less than 75 pixels are enlarged.
"""

import keras

from training.architectures._common import at_least, averaged, symmetric

NATIVE = (299, 299, 1000)


def build(height: int, width: int, classes: int) -> keras.Model:
    pixels = keras.Input((height, width, 3), name="pixels")
    x = symmetric(at_least(pixels, 75))
    base = keras.applications.InceptionV3(weights=None, include_top=False, input_tensor=x)
    return averaged("inception_v3", pixels, base.output, classes)
