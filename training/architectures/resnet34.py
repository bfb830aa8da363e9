"""ResNet-34: sixteen residual blocks of two 3x3 convolutions.

He, Zhang, Ren and Sun 2015 (arXiv:1512.03385), as in torchvision: 21,797,672 trainable parameters for 1,000 classes,
which is what torchvision counts; with the moving statistics of its 8,512 BatchNorm channels 21,814,696. Input by
ImageNet's mean and deviation.
"""

import keras
from keras import layers

from training.architectures._common import averaged, conv_norm, standardised

NATIVE = (224, 224, 1000)
# repeats, filters
_STAGES = ((3, 64), (4, 128), (6, 256), (3, 512))


def build(height: int, width: int, classes: int) -> keras.Model:
    pixels = keras.Input((height, width, 3), name="pixels")
    x = conv_norm(standardised(pixels), 64, 7, strides=2)
    x = layers.MaxPooling2D(3, 2)(layers.ZeroPadding2D(1)(x))
    for stage, (repeats, filters) in enumerate(_STAGES):
        for repeat in range(repeats):
            x = _block(x, filters, strides=2 if stage > 0 and repeat == 0 else 1)
    return averaged("resnet34", pixels, x, classes)


def _block(x: keras.KerasTensor, filters: int, strides: int) -> keras.KerasTensor:
    shortcut = x if strides == 1 else conv_norm(x, filters, 1, strides=strides, relu=False)
    x = conv_norm(x, filters, 3, strides=strides)
    return layers.ReLU()(layers.Add()([conv_norm(x, filters, 3, relu=False), shortcut]))
