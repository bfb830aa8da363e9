"""Xception: depthwise separable convolutions with residual connections.

Chollet 2017 (arXiv:1610.02357), as in keras.applications: 22,910,480 parameters for 1,000 classes; input from -1 to 1.
Pictures of less than 71 pixels are enlarged.
"""

import keras

from training.architectures._common import at_least, averaged, symmetric

NATIVE = (299, 299, 1000)


def build(height: int, width: int, classes: int) -> keras.Model:
    pixels = keras.Input((height, width, 3), name="pixels")
    x = symmetric(at_least(pixels, 71))
    base = keras.applications.Xception(weights=None, include_top=False, input_tensor=x)
    return averaged("xception", pixels, base.output, classes)
