"""VGG-19: VGG-16 with three more convolutions.

Simonyan and Zisserman 2015 (arXiv:1409.1556), configuration E, as in keras.applications: 143,667,240 parameters at
224x224 for 1,000 classes; input BGR less ImageNet's mean. Pictures of less than 32 pixels are enlarged.
"""

import keras

from training.architectures import vgg16

NATIVE = (224, 224, 1000)


def build(height: int, width: int, classes: int) -> keras.Model:
    return vgg16.build_with(height, width, classes, "vgg19", keras.applications.VGG19)
