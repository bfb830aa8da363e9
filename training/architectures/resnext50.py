"""ResNeXt-50 (32x4d): the bottlenecks of ResNet-50, wider and with a 3x3 convolution in 32 groups.

Xie, Girshick, Dollar, Tu and He 2017 (arXiv:1611.05431). 25,097,128 parameters for 1,000 classes, as keras_applications
counted it: 25,028,904 trainable ones, torchvision's count, and the moving statistics of 34,112 BatchNorm channels.
keras_applications wrote the grouped convolution as a depthwise one whose outputs are summed by group; that has just as
many weights. Input by ImageNet's mean and deviation.
"""

import keras
from keras import layers

from training.architectures._common import averaged, conv_norm, standardised

NATIVE = (224, 224, 1000)
GROUPS = 32
# repeats, filters of the grouped convolution
_STAGES = ((3, 128), (4, 256), (6, 512), (3, 1024))


def build(height: int, width: int, classes: int) -> keras.Model:
    pixels = keras.Input((height, width, 3), name="pixels")
    x = conv_norm(standardised(pixels), 64, 7, strides=2)
    x = layers.MaxPooling2D(3, 2)(layers.ZeroPadding2D(1)(x))
    for stage, (repeats, filters) in enumerate(_STAGES):
        for repeat in range(repeats):
            x = _block(x, filters, strides=2 if stage > 0 and repeat == 0 else 1)
    return averaged("resnext50", pixels, x, classes)


def _block(x: keras.KerasTensor, filters: int, strides: int) -> keras.KerasTensor:
    outputs, shortcut = 2 * filters, x
    if x.shape[-1] != outputs:
        shortcut = conv_norm(x, outputs, 1, strides=strides, relu=False)
    x = conv_norm(conv_norm(x, filters, 1), filters, 3, strides=strides, groups=GROUPS)
    return layers.ReLU()(layers.Add()([conv_norm(x, outputs, 1, relu=False), shortcut]))
