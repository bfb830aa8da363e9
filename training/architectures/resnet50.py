"""ResNet-50: sixteen residual bottlenecks.

He, Zhang, Ren and Sun 2015 (arXiv:1512.03385), as in keras.applications: 25,636,712 parameters for 1,000 classes;
input BGR less ImageNet's mean.
"""

import keras

from training.architectures._common import averaged, caffe

NATIVE = (224, 224, 1000)


def build(height: int, width: int, classes: int) -> keras.Model:
    pixels = keras.Input((height, width, 3), name="pixels")
    base = keras.applications.ResNet50(weights=None, include_top=False, input_tensor=caffe(pixels))
    return averaged("resnet50", pixels, base.output, classes)
