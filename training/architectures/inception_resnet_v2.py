"""Inception-ResNet v2: Inception modules with residual connections, without auxiliary classifier.

Szegedy, Ioffe, Vanhoucke and Alemi 2016 (arXiv:1602.07261), as in keras.applications: 55,873,736 parameters for 1,000
classes; input from -1 to 1. Pictures of less than 75 pixels are enlarged.
"""

import keras

from training.architectures._common import at_least, averaged, symmetric

NATIVE = (299, 299, 1000)


def build(height: int, width: int, classes: int) -> keras.Model:
    pixels = keras.Input((height, width, 3), name="pixels")
    x = symmetric(at_least(pixels, 75))
    base = keras.applications.InceptionResNetV2(weights=None, include_top=False, input_tensor=x)
    return averaged("inception_resnet_v2", pixels, base.output, classes)
